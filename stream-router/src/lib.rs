//! Several validators' observations become one canonical stream; live subscribers get it at once.
//!
//! ```text
//! observed topics ─▶ intake ─▶ observation ─▶ router (pure) ─▶ publication ─▶ canonical topic   (one Kafka transaction)
//!                                                      ├─▶ fan-out ─▶ WebSocket subscribers    (at once)
//!                                                      └─▶ yellowstone ─▶ gRPC subscribers     (at once, and after the commit)
//!                                                                     └─▶ resumption ─▶ WebSocket subscribers with cursors
//! ```
//!
//! * A block is published once, whole, in canonical order, when a source's seals prove that all of it is here.
//! * When no source has it whole but several together provably have, it is published from them and marked as repaired.
//! * Then its standing: confirmed, finalized or abandoned, inferred from reports, descendants and roots.
//! * A value longer than a record comes and goes in chunks; in between it is one event.
//! * A hole is a gap record with its exact extent, never a silent publication.
//! * What no source has is asked of RPC nodes, if any are configured, and published behind the gap record, marked as repaired.
//! * After SIGKILL at any point the next life continues: nothing lost, nothing twice.
//! * Of several routers one publishes; the others serve subscribers from the log, and one of them takes over in its place.
//!
//! What this crate deliberately does not do: it asks no validator for anything it can have from a log, keeps no history beyond
//! what fork choice and deduplication need, never re-encodes an event, and never takes one account's updates from two sources.
//!
//! Reading order: `slot_tree`, `commitment`, `sequence`, `wire`, `scan`, `lazy`, `observation`, `chunk_sets`, `assembly`, `dedup`, `announce`,
//! `router` (all pure); `canonical`, `account_state`, `state`, `publication`; `repair`; `subscription`, `encoding`, `live`, `fanout`; `archive`,
//! `yellowstone`, `resumption`; `leadership`; `intake`, `commits`, `pipeline`; `access`, `jsonrpc`, `server`, `board`, `metrics`.

pub mod access;
pub mod account_state;
pub mod announce;
pub mod archive;
pub mod assembly;
pub mod board;
pub mod canonical;
pub mod chunk_sets;
pub mod commitment;
pub mod commits;
pub mod config;
pub mod dedup;
pub mod encoding;
pub mod fanout;
pub mod intake;
pub mod jsonrpc;
pub mod lazy;
pub mod leadership;
pub mod live;
pub mod metrics;
pub mod observation;
pub mod pipeline;
pub mod publication;
pub mod repair;
pub mod resumption;
pub mod router;
pub mod scan;
pub mod sequence;
pub mod server;
pub mod service;
pub mod slot_tree;
pub mod state;
pub mod subscription;
pub mod wire;
pub mod yellowstone;
