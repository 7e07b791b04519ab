//! Bench `plugin-crash`: hosts of the plugin, and the broker, die by SIGKILL again and again; then everything is counted.
//!
//! ```text
//! plan (seed) ─▶ supervisor ─▶ host, killed ─▶ plugin ─▶ broker, killed ─▶ audit of the observed topics ─┐
//!                                └▶ count sheet: callbacks begun, returned ─────────────────────────────┴▶ verdict
//!                                                                          └─▶ router ─▶ canonical ──────┘
//! ```
//!
//! For every life of a host: callbacks returned == records in the log + losses it counted, but for callbacks that were under
//! way when it died, of which either may be true.
//!
//! Reading order: [`chain`], [`count_sheet`], [`host`] (what dies); [`plan`], [`supervisor`]; [`audit`], [`readers`],
//! [`verdict`].

pub mod audit;
pub mod chain;
pub mod count_sheet;
pub mod host;
pub mod plan;
pub mod readers;
pub mod supervisor;
pub mod verdict;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use local_services::{Kafka, KafkaOptions, workspace_binary};

/// Arguments of the bench.
#[derive(Debug, Clone, Args)]
pub struct CrashArgs {
    /// End with one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// How many processes are killed
    #[arg(long, default_value_t = 200)]
    kills: usize,
    /// What is killed when follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long a slot of 73 callbacks takes, in microseconds
    #[arg(long, default_value_t = 12_000)]
    slot_micros: u64,
    /// The plugin [default: libgeyser_plugin.so beside this program]
    #[arg(long)]
    plugin: Option<PathBuf>,
    /// The router [default: stream-router beside this program]
    #[arg(long)]
    router: Option<PathBuf>,
    /// Keep logs, configurations and counts in this folder, which must be empty
    #[arg(long)]
    keep: Option<PathBuf>,
}

pub fn run(args: &CrashArgs) -> anyhow::Result<()> {
    let plugin = built(
        args.plugin.as_deref(),
        "libgeyser_plugin.so",
        "geyser-plugin",
    )?;
    let router = built(args.router.as_deref(), "stream-router", "stream-router")?;
    let own = tempfile::tempdir().context("a folder for the hosts")?;
    let scratch = args.keep.as_deref().unwrap_or(own.path());
    std::fs::create_dir_all(scratch)?;
    // Memory with a name, as the plugin has it by default.
    let memory = tempfile::Builder::new()
        .prefix("heliograph-bench-crash-")
        .tempdir_in("/dev/shm")
        .context("a folder for the plugin's queue in /dev/shm")?;
    let begin = Instant::now();
    let mut broker = Kafka::start(KafkaOptions::default())?;
    let acts = plan::acts(args.seed, args.kills);
    let slot_time = Duration::from_micros(args.slot_micros);
    let settings = supervisor::Settings {
        plugin: &plugin,
        scratch,
        memory: memory.path(),
        slot_micros: args.slot_micros,
        // Until the router has decided about all that came before.
        last: readers::GAP_AFTER * readers::SILENCE
            + slot_time * (readers::UNSEALED_SLOTS as u32 + 40)
            + Duration::from_secs(1),
    };
    let run = supervisor::run(&settings, &mut broker, &acts)?;
    let killing = begin.elapsed();
    eprintln!("{} kills in {killing:.0?}; counting", run.kills());
    let runtime = tokio::runtime::Runtime::new()?;
    let audit = runtime.block_on(readers::audit(&broker.brokers()))?;
    eprintln!("the router reads");
    let canonical = runtime.block_on(readers::canonical(
        &broker.brokers(),
        &router,
        scratch,
        run.decided(),
    ))?;
    let verdict = verdict::judge(run, &audit, canonical);
    verdict.print();
    let report = verdict.report(args, killing, begin.elapsed());
    for check in report.checks.iter().filter(|check| !check.ok) {
        println!(
            "MISSED {}: {} {} {}",
            check.name, check.value, check.op, check.target
        );
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn built(given: Option<&Path>, name: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = given.map_or_else(|| workspace_binary(name), Path::to_owned);
    if !path.is_file() {
        bail!(
            "{}: no such file. Fix: cargo build -p {package}, in the same profile",
            path.display()
        );
    }
    Ok(path)
}
