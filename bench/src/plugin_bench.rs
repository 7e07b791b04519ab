//! Bench `plugin`: what a Geyser plugin costs the validator that calls it.
//!
//! ```text
//! block files ─▶ workload ─┐
//!                    mix ──┴▶ drive (threads, pace) ─▶ plugin, one per process ─▶ broker
//!                               probe: time or allocations
//! rounds: all subjects in turn ─▶ histograms ─▶ table, checks
//! ```
//!
//! Subjects are our plugin, any other `.so` for the same interface, an empty callback (the floor: driver and clock), one that
//! only reads the clock ([`clock_plugin`]: what the scheduler does to any callback) and the plain alternative in [`baseline`]. Reading order: [`mix`], [`workload`], [`drive`], [`probe`], [`histogram`];
//! [`subject`], [`host_process`], [`rounds`], [`table`]; [`stall`]; [`histogram_cost`]; [`validator_pace`]; [`throughput`], [`tally`].

pub mod allocations;
pub mod baseline;
pub mod broker;
pub mod clock_plugin;
pub mod drive;
pub mod floor_thread;
pub mod histogram;
pub mod histogram_cost;
pub mod host_process;
pub mod mix;
pub mod options;
pub mod plain_kafka;
pub mod plugin_metrics;
pub mod probe;
pub mod process_figures;
pub mod rounds;
pub mod stall;
pub mod subject;
pub mod table;
pub mod tally;
pub mod throughput;
pub mod touch;
pub mod validator_pace;
pub mod workload;
