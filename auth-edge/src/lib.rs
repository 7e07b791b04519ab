//! The public door for what users do: they register a passkey, log in, and approve transfers of SOL with it.
//!
//! The promise: no transfer leaves here unless a passkey of its owner signed a challenge that commits to exactly its bytes,
//! the policy allows it, and it fits the owner's daily limit; and each approval moves money at most once.
//!
//! ```text
//! browser ─▶ guard ─▶ api ─▶ passkeys     who is it, and what did they sign?
//!                      │ └─▶ policy       is it allowed?
//!                      ├───▶ approvals    one step at a time; limit reserved under a row lock; audit in the same transaction
//!                      └───▶ outbox ─▶ custody ─▶ sender     sign, hand over, follow until final
//! ```
//!
//! Deliberately not here: passwords and recovery codes, broadcasting (tx-sender does), balances (the ledger knows), keys in
//! hardware (custody keeps a master secret in a file), and any action but sending SOL.
//!
//! Reading order: `challenge`, `intent`, `client_data`, `passkeys`, `policy`, `custody`, `approvals`, `outbox`, `api`,
//! `guard`, `service`.

pub mod accounts;
pub mod api;
pub mod approvals;
pub mod audit;
pub mod chain;
pub mod challenge;
pub mod client_data;
pub mod config;
pub mod custody;
pub mod edge;
pub mod guard;
pub mod intent;
pub mod json_rpc;
pub mod metrics;
pub mod outbox;
mod page;
pub mod passkeys;
pub mod policy;
pub mod refusal;
pub mod sender;
mod service;
pub mod sessions;
pub mod store;

pub use service::AuthEdge;
