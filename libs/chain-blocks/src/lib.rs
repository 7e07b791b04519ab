//! Blocks of the chain from where others keep them, as the messages a plugin writes: RPC nodes ([`rpc`]), block files
//! ([`file`]), Old Faithful archives ([`car`]).
//!
//! ```text
//! getBlock ─▶ rpc::reply ─▶ convert ─┐
//! file ─▶ file ─▶ stored ────────────┼─▶ ChainBlock
//! archive ─▶ car ─▶ stored ──────────┘
//! ```
//!
//! * What the source does not say stays absent. None of them tells account updates; only archives tell entries, which are
//!   not taken over.
//! * A block that contradicts itself is refused whole. Whether it is of the right chain is for the caller to say.
//!
//! Reading order: `block`, `rpc::reply`, `json_meta`, `convert`, `stored`, `car`, `file`, `rpc::nodes`.

mod block;
pub mod car;
mod convert;
pub mod file;
mod json_meta;
pub mod rpc;
mod stored;

pub use block::{ChainBlock, Disbelief};
pub use convert::{block, is_vote};
