//! Yellowstone gRPC: the door that Solana's streaming clients know, over the canonical stream.

pub mod beside;
pub mod catch_up;
pub mod config;
pub mod cursor;
pub mod door;
pub mod engine;
pub mod filter;
pub mod gap;
pub mod outbox;
pub mod tips;
