//! The WebSocket door over real sockets: who may come in, how much they get, and what nobody should send.

mod access;
mod crowd;
mod hostile;
mod rig;
