//! The WebSocket door over real sockets: who may come in, how much they get, and what nobody should send.

mod access;
#[path = "../at_a_door/mod.rs"]
mod at_a_door;
mod crowd;
#[path = "../crowd_of/mod.rs"]
mod crowd_of;
mod hostile;
mod rig;
