//! The warehouse: canonical blocks in ClickHouse tables, and a door to query them.
//!
//! Two processes. [`door`] serves ClickHouse's HTTP interface over the engine embedded in it ([`engine`]). [`sink`] reads
//! the canonical topic and writes tables through any ClickHouse URL, that door's or a real server's: the same code, the
//! same statements.
//!
//! People ask by [`sql`], a prompt and a one-shot command over the same interface; [`archive`] writes slot ranges to Parquet
//! files and reads them back; [`retention`] drops and moves old epochs by a policy.
//!
//! What this crate deliberately does not do: it decides no forks and no commitment (the router did), keeps no books (the
//! ledger does), and asks no earlier part of the system for anything.

pub mod archive;
pub mod decode;
pub mod door;
pub mod engine;
pub mod history;
mod in_work;
pub mod retention;
pub mod sink;
pub mod sql;
