//! JSON-RPC: `getBlock` and what else tells which blocks there are; `getMultipleAccounts`.

pub mod accounts;
pub mod nodes;
pub mod reply;

pub use accounts::AccountsReply;
pub use nodes::{Nodes, NodesConfig};
pub use reply::Reply;
