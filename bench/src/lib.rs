//! Recorded blocks, driven through the plugin as a validator would drive them.
//!
//! ```text
//! file ─▶ block_file ─▶ Block ─▶ replay ─▶ host (four threads per source) ─▶ plugin (.so, or in process)
//!         decode, prove          order,      the validator's threads and
//!                                sources     the order of their callbacks
//! ```
//!
//! What this crate deliberately does not do: it invents no chain data. Messages, metadata and rewards are those of the file,
//! and every message is proven by its signatures before a plugin sees it. Only *entries* are the host's own, because the
//! recorded formats carry none ([`entries`]). It never talks to Kafka: that is the plugin's part.

pub use chain_blocks::file as block_file;
pub mod entries;
pub mod fanout_bench;
pub mod host;
pub mod observed;
pub mod plugin_bench;
pub mod plugin_crash;
pub mod plugin_library;
pub mod replay;
pub mod replica;
pub mod report;
pub mod resume_bench;
pub mod router_bench;
pub mod throughput;
pub mod warehouse_door;
