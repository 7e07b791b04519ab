//! The double-entry ledger of a chain: what every transaction of every confirmed block moved.
//!
//! It promises: every transaction it is given is recorded once, at any crash; its postings sum to zero per asset; both
//! identities (lamports, tokens) are checked before the commit, and a transaction that breaks one is recorded as broken,
//! dead-lettered and not posted; entries are never changed, an abandoned block is answered by reversals.
//!
//! ```text
//! canonical topic ─▶ book (hold until confirmed) ─▶ entry (identities, postings) ─▶ store (one database transaction
//! with the position) ─▶ server (read-only HTTP API)
//! ```
//!
//! What it deliberately does not do: choose forks or commitment (the router did), decode programs beyond the token
//! programs, value anything in another currency, or know the balances from before its first block.
//!
//! Reading order: `chain`, `token_instructions`, `identity`, `postings`, `entry`, `book` (all pure), `store`, `pipeline`,
//! `server`, `service`.

pub mod book;
pub mod chain;
pub mod config;
pub mod entry;
pub mod identity;
pub mod metrics;
pub mod pipeline;
pub mod postings;
pub mod server;
pub mod service;
pub mod store;
pub mod token_instructions;
