//! Takes signed transactions, stores them, and sends them to the leaders until they land or are proven expired.
//!
//! Promises: a transaction that was answered with its signature is on disk, and survives any crash; the same key or
//! signature never makes a second transaction; `expired` is never said of one that can still land, and `landed` only of
//! one in a block.
//!
//! ```text
//! caller ─▶ server ─▶ transaction (check) ─▶ store ─▶ engine ─▶ book ─▶ quic ─▶ current and next leader
//!                                                       ▲ ▲                        │
//!                         leaders (slots, schedule) ────┘ └──── ends of attempts ◀─┘
//!            canonical stream ─▶ outcomes ─▶ chain, book ─▶ store (states and positions together)
//! ```
//!
//! Reading order: [`transaction`], [`delivery`], [`chain`], [`book`] and [`schedule`] are pure; [`quic`], [`tls`],
//! [`pace`], [`leaders`], [`validator`], [`inquiry`] and [`outcomes`] touch the world; [`store`] remembers; [`engine`]
//! is the loop; [`jsonrpc`] and [`server`] are the door; [`pipeline`] wires them.
//!
//! What it deliberately does not do: it signs nothing and never re-signs, simulates nothing, proxies no other RPC method,
//! and keeps no opinion about fees. Who may send is decided before it: it belongs behind `auth-edge`, not on the internet.

pub mod book;
pub mod chain;
pub mod config;
pub mod delivery;
pub mod engine;
pub mod inquiry;
pub mod jsonrpc;
pub mod leaders;
pub mod metrics;
pub mod outcomes;
pub mod pace;
pub mod pipeline;
pub mod quic;
pub mod schedule;
pub mod server;
pub mod store;
pub mod tls;
pub mod transaction;
pub mod validator;
