//! The warehouse: canonical blocks in ClickHouse tables, and a door to query them.
//!
//! Two processes. [`door`] serves ClickHouse's HTTP interface over the engine embedded in it ([`engine`]). [`sink`] reads
//! the canonical topic and writes tables through any ClickHouse URL, that door's or a real server's: the same code, the
//! same statements.
//!
//! What this crate deliberately does not do: it decides no forks and no commitment (the router did), keeps no books (the
//! ledger does), and asks no earlier part of the system for anything.

pub mod decode;
pub mod door;
pub mod engine;
pub mod sink;
