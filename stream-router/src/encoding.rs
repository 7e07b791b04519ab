//! Pure: events as subscribers see them. Accounts, errors, transactions and blocks go through Agave's own encoders, so that
//! values equal the validator's; what the validator looks up in its bank is taken from the stream here.

mod accounts;
mod blocks;
mod failures;
mod gaps;
mod logs;
mod mints;
mod native;
mod slots;
#[cfg(test)]
mod tests;
mod votes;

pub use accounts::{BankAccount, keyed_account, ui_account};
pub use blocks::{ShownTransaction, block_update};
pub use failures::ui_error;
pub use gaps::gap_value;
pub use logs::logs_value;
pub use mints::Mints;
pub use native::{Unreadable, native_transaction};
pub use slots::{FrozenSlots, slot_update};
pub use votes::{LandedVote, ToldVotes};

/// `value` is written as JSON.
pub fn in_context(slot: event_schema::Slot, value: impl std::fmt::Display) -> String {
    format!(r#"{{"context":{{"slot":{slot}}},"value":{value}}}"#)
}
