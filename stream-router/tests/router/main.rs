//! The router against an oracle that knows the whole history: the pure core, the publication on the in-memory log with
//! crashes, the real binary on a real broker, and subscribers.

mod account_state;
mod chain;
mod chunks;
mod crash;
mod crowd;
#[path = "../crowd_of/mod.rs"]
mod crowd_of;
mod kafka;
mod leadership;
mod on_the_log;
mod oracle;
mod oversize;
mod repair;
mod retention;
mod source;
mod standby;
mod subscribers;
mod yellowstone;
