//! Heliograph's Geyser plugin: what a validator reports becomes numbered, sealed records in Kafka.
//!
//! It is a guest in the process that earns its owner's money. Callbacks encode into a pooled buffer and push it into a
//! bounded queue; they never wait, never do I/O and let no panic out. What cannot be kept is counted, and the slot's seals
//! state it: readers know exactly what they have.
//!
//! ```text
//! callback → encode → hand-off ──▶ worker: number, seal ──▶ Kafka
//!                     full: loss        └─ Kafka away ──▶ spill on disk ─┘
//! ```
//!
//! Reading order: [`interface_4_2`] (what the validator calls), [`encode`], [`handoff`], [`worker`], [`slot_ledger`] (pure:
//! sequences and seals), [`loss`], [`spill`], [`outlet`], [`instance`] (wiring), [`config`], [`host_check`], [`constructor`].
//!
//! What it deliberately does not do: decide forks or commitment, deduplicate, decode programs, or serve subscribers.

pub mod config;
pub mod constructor;
pub mod counters;
pub mod encode;
pub mod endpoint;
pub mod filter;
pub mod handoff;
pub mod host_check;
pub mod instance;
pub mod interface_4_2;
pub mod lane;
pub mod loss;
pub mod observation;
pub mod outlet;
pub mod slot_ledger;
pub mod spill;
pub mod topic_check;
pub mod worker;

pub use interface_4_2::Plugin;

/// Target of this plugin's log lines: an Agave validator shows targets that begin with `agave` or `solana` unless told
/// otherwise, and a warning nobody sees warns nobody.
pub const LOG_TARGET: &str = "agave_geyser_plugin_heliograph";
