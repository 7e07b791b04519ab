//! JSON-RPC: `getBlock` and what else tells which blocks there are.

pub mod nodes;
pub mod reply;

pub use nodes::{Nodes, NodesConfig};
pub use reply::Reply;
