//! Heliograph's Geyser plugin: what a validator reports becomes numbered, sealed records in Kafka.
//!
//! It is a guest in the process that earns its owner's money. Callbacks encode in place into a bounded ring; they never wait,
//! never do I/O, allocate nothing and let no panic out. What cannot be kept is counted, and the slot's seals state it:
//! readers know exactly what they have. The ring outlives a process that is killed, and the next instance goes on from it.
//!
//! ```text
//! callback → filter → encode → ring ──▶ worker: number, seal ──▶ Kafka
//!                              full: loss   └─ Kafka away ──▶ spill on disk ─┘
//! ```
//!
//! Reading order: [`interface_4_2`] (what the validator calls), [`filter`], [`encode`], [`handoff`], [`ring`],
//! [`startup_rate`], [`shared_memory`], [`observation`] (how a record lies there), [`worker`], [`pacing`], [`slot_ledger`] (pure: sequences and seals),
//! [`placing`], [`loss`], [`spill`], [`outlet`], [`recovery`], [`instance`] (wiring), [`threads`], [`config`], [`filter_watch`],
//! [`host_check`], [`constructor`].
//!
//! What it deliberately does not do: decide forks or commitment, deduplicate, decode programs, or serve subscribers.

pub mod config;
pub mod config_reference;
pub mod constructor;
pub mod counters;
pub mod drain_book;
pub mod encode;
pub mod endpoint;
pub mod filter;
pub mod filter_watch;
pub mod handoff;
pub mod histogram;
pub mod host_check;
pub mod instance;
pub mod interface_4_2;
pub mod lane;
pub mod loss;
pub mod observation;
pub mod outlet;
pub mod pacing;
pub mod placing;
pub mod recovery;
pub mod ring;
pub mod shared_memory;
pub mod slot_ledger;
pub mod spill;
pub mod startup_rate;
pub mod threads;
pub mod topic_check;
pub mod worker;

pub use interface_4_2::Plugin;

/// Target of this plugin's log lines: an Agave validator shows targets that begin with `agave` or `solana` unless told
/// otherwise, and a warning nobody sees warns nobody.
pub const LOG_TARGET: &str = "agave_geyser_plugin_heliograph";
