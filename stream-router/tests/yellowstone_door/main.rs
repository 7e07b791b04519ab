//! The Yellowstone door on real sockets, with Yellowstone's own client, unmodified. What is in the streams comes from an
//! engine that each test plays itself.

mod access;
#[path = "../at_a_door/mod.rs"]
mod at_a_door;
mod beside;
mod certificates;
mod hostile;
mod raw;
mod rig;
mod slow;
mod snapshot;
mod subscribe;
mod unary;
