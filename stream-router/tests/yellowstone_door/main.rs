//! The Yellowstone door on real sockets, with Yellowstone's own client, unmodified. What is in the streams comes from an
//! engine that each test plays itself.

mod access;
mod beside;
mod certificates;
mod hostile;
mod raw;
mod rig;
mod slow;
mod snapshot;
mod subscribe;
mod unary;
