//! `heliograph-bench NAME [--json]`: one named measurement; the table is for people, the last line for machines.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bench::{
    fanout_bench::{self, FanoutArgs},
    plugin_bench::{
        host_process::{self, HostArgs},
        options::{self, PluginArgs},
    },
    plugin_crash::{self, CrashArgs},
    report::{Check, Report},
    resume_bench::{self, ResumeArgs},
    router_bench::{self, RouterArgs},
    throughput::{self, Subject, Throughput},
    warehouse_door::{self, DoorArgs},
};
use clap::{CommandFactory, Parser, Subcommand};
use local_services::{Kafka, KafkaOptions};
use serde_json::json;

/// Transactions per second that a replay must pass to outrun mainnet, votes included.
const MAINNET_TRANSACTIONS_PER_SECOND: f64 = 5_000.0;

#[derive(Parser)]
#[command(
    version,
    about = "Measures Heliograph; every figure is a median of interleaved runs"
)]
struct Args {
    #[command(subcommand)]
    name: Name,
}

#[derive(Subcommand)]
enum Name {
    /// The benches there are
    List,
    /// Decoding recorded blocks, and driving them through a plugin that does nothing and through the real one
    Replay(ReplayArgs),
    /// What a plugin costs the validator: time and allocations per callback, beside a plain alternative and other plugins
    Plugin(PluginArgs),
    /// A process with one plugin, for the bench itself
    #[command(hide = true)]
    PluginHost(HostArgs),
    /// What a plugin and its readers still have when host and broker are killed again and again
    PluginCrash(CrashArgs),
    /// A process that is killed, for the bench itself
    #[command(hide = true)]
    PluginCrashHost(plugin_crash::host::HostArgs),
    /// Observed records into the router: speed, and whether what it publishes is right after kills, losses and forks
    Router(RouterArgs),
    /// Callback → gRPC subscriber: latency, many subscribers, a very large filter, one that stops reading
    Fanout(FanoutArgs),
    /// Subscribers that begin in the past or come back: nothing is missing, nothing comes twice, nobody else notices
    Resume(ResumeArgs),
    /// The embedded ClickHouse engine behind its door: time to start, memory when idle, a backup and its restore
    WarehouseDoor(DoorArgs),
}

#[derive(clap::Args)]
struct ReplayArgs {
    /// End with one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Folder of block files [default: $HELIOGRAPH_DATA/blocks, else localnet/blocks]
    #[arg(long)]
    blocks: Option<PathBuf>,
    /// The real plugin [default: libgeyser_plugin.so beside this program, when it has been built]
    #[arg(long)]
    plugin: Option<PathBuf>,
    /// Kafka for the real plugin [default: a broker of its own for as long as the bench runs]
    #[arg(long)]
    brokers: Option<String>,
    /// How often everything is measured, in turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().name {
        Name::List => {
            list();
            Ok(())
        }
        Name::Replay(args) => replay(&args),
        Name::Plugin(args) => options::run(&args),
        Name::PluginHost(args) => host_process::serve(&args),
        Name::PluginCrash(args) => plugin_crash::run(&args),
        Name::PluginCrashHost(args) => plugin_crash::host::serve(&args),
        Name::Router(args) => router_bench::run(&args),
        Name::Fanout(args) => fanout_bench::run(&args),
        Name::Resume(args) => resume_bench::run(&args),
        Name::WarehouseDoor(args) => warehouse_door::run(&args),
    }
}

fn list() {
    for bench in Args::command().get_subcommands() {
        if bench.is_hide_set() || bench.get_name() == "list" {
            continue;
        }
        let about = bench.get_about().map(ToString::to_string);
        println!("{:<16}{}", bench.get_name(), about.unwrap_or_default());
    }
}

fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let blocks = bench::replay::blocks_folder(args.blocks.as_deref())?;
    let scratch = tempfile::tempdir().context("a folder for the plugin's spill")?;
    let plugin = match &args.plugin {
        Some(plugin) => Some(plugin.clone()),
        None => Some(local_services::workspace_binary("libgeyser_plugin.so"))
            .filter(|plugin| plugin.is_file()),
    };
    let mut own_broker = None;
    let subject = match plugin {
        Some(plugin) => {
            let brokers = match &args.brokers {
                Some(brokers) => brokers.clone(),
                None => {
                    let broker = Kafka::start(KafkaOptions::default())?;
                    own_broker.insert(broker).brokers()
                }
            };
            let config = plugin_config(scratch.path(), &plugin, &brokers)?;
            Some(Subject { plugin, config })
        }
        None => {
            eprintln!("the real plugin is not measured: it has not been built");
            None
        }
    };
    let measured = throughput::measure(&blocks, subject.as_ref(), args.rounds)?;
    drop(own_broker);
    table(&measured);
    if args.json {
        let report = report(args, &measured, &blocks);
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn plugin_config(scratch: &Path, plugin: &Path, brokers: &str) -> anyhow::Result<PathBuf> {
    let config = scratch.join("plugin.json");
    let text = json!({
        "libpath": plugin,
        "name": "bench-replay",
        // Nobody's key: the identity only names the source in the records.
        "validator_identity": "Be11iograph11111111111111111111111111111111",
        "kafka": {"brokers": brokers},
        "topic_prefix": "bench-replay",
        "spill": {"dir": scratch.join("spill")},
        "metrics": {"listen": null},
        "unload_seconds": 60,
    });
    std::fs::write(&config, text.to_string())?;
    Ok(config)
}

fn per_second(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

fn table(measured: &Throughput) {
    let transactions = measured.transactions as f64;
    println!(
        "{} blocks, {} transactions, {} KiB of files",
        measured.blocks,
        measured.transactions,
        measured.file_bytes / 1024
    );
    println!(
        "{:<34}{:>12}{:>16}",
        "median of the rounds", "seconds", "transactions/s"
    );
    let rows = [
        ("decode and prove", Some(measured.decode_seconds)),
        (
            "drive, plugin that does nothing",
            Some(measured.null_seconds),
        ),
        ("drive, real plugin", measured.plugin_seconds),
        (
            "drive and unload, real plugin",
            measured.delivered_seconds(),
        ),
    ];
    for (what, seconds) in rows {
        if let Some(seconds) = seconds {
            println!(
                "{what:<34}{seconds:>12.4}{:>16.0}",
                per_second(transactions, seconds)
            );
        }
    }
}

fn report(args: &ReplayArgs, measured: &Throughput, blocks: &Path) -> Report {
    let transactions = measured.transactions as f64;
    let mut report = Report::new("replay", json!({"blocks": blocks, "rounds": args.rounds}));
    report.figure("blocks", measured.blocks);
    report.figure("transactions", measured.transactions);
    report.figure("file_bytes", measured.file_bytes);
    report.figure("decode_seconds", measured.decode_seconds);
    report.figure("null_plugin_seconds", measured.null_seconds);
    report.figure("plugin_seconds", measured.plugin_seconds);
    report.figure("plugin_delivered_seconds", measured.delivered_seconds());
    report.checks.push(Check::at_least(
        "decode_and_drive_transactions_per_second",
        per_second(
            transactions,
            measured.decode_seconds + measured.null_seconds,
        )
        .round(),
        MAINNET_TRANSACTIONS_PER_SECOND,
    ));
    if let Some(seconds) = measured.plugin_seconds {
        report.checks.push(Check::at_least(
            "plugin_transactions_per_second",
            per_second(transactions, seconds).round(),
            MAINNET_TRANSACTIONS_PER_SECOND,
        ));
    }
    report
}
