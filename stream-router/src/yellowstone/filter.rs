//! Pure: what Yellowstone subscribers ask for, and who gets an event. A request is compiled once ([`Filters`]); all of them
//! lie in one inverted index ([`FilterIndex`]), so that an event costs by what is in it and by who gets it, not by how
//! many listen.
//!
//! Every filter is listed under the one value that tells it apart best: an account, an owner, bytes at an offset, a
//! signature, a transaction's account. An event looks up the values it has; what a filter asks besides is checked only
//! after it was found. Only filters that have no such value (no condition at all, `lamports != n`, a cuckoo set alone)
//! lie in lists that are walked.
//!
//! What it deliberately does not do: it encodes no events (but account updates cut to slices) and keeps no queue.
//!
//! Reading order: `limits`, `error`, `keys`, `cuckoo`, `slices`; `accounts`, `transactions`, `blocks` (one filter each),
//! `compile` (a request); `postings`, `state_index`, `account_index`, `transaction_index`, `matches`, `index`.

mod account_index;
mod accounts;
mod blocks;
mod compile;
mod cuckoo;
mod error;
mod index;
mod keys;
mod limits;
mod matches;
mod postings;
mod slices;
mod state_index;
#[cfg(test)]
mod tests;
mod transaction_index;
mod transactions;

use bytes::Bytes;

pub use blocks::BlockFilter;
pub use compile::Filters;
pub use error::FilterError;
pub use index::{FilterIndex, Wants};
pub use limits::{AccountLimits, BlockLimits, CountLimits, FilterLimits, TransactionLimits};
pub use matches::{BlockMatch, Match};
pub use slices::{DataSlice, cut, sliced_account};
pub use transactions::TransactionFacts;

pub type SubscriberId = u64;

/// A filter's name as field 1 (`filters`) of a `SubscribeUpdate`: written before an encoded update it is part of it.
fn head(name: &String) -> Bytes {
    let mut head = Vec::with_capacity(name.len() + 3);
    prost::encoding::string::encode(1, name, &mut head);
    head.into()
}
