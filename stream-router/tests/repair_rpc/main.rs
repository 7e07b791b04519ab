//! Holes filled from RPC nodes: recorded replies, random histories with crashes, and real HTTP servers, good and bad.

mod accounts;
#[allow(dead_code)] // More of the histories than these tests need.
#[path = "../router/chain.rs"]
mod chain;
mod crash;
mod history;
mod life;
mod node;
#[path = "../router/on_the_log.rs"]
mod on_the_log;
mod oracle;
mod recorded;
mod server;
#[allow(dead_code)] // More of the model than these tests need.
#[path = "../router/source.rs"]
mod source;
