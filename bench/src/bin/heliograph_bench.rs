//! `heliograph-bench NAME [--json]`: one named measurement; the table is for people, the last line for machines.

use std::{path::PathBuf, process::Command};

use anyhow::bail;
use bench::throughput::{self, Subject, Throughput};
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

/// Transactions per second that a replay must pass to outrun mainnet, votes included.
const MAINNET_TRANSACTIONS_PER_SECOND: f64 = 5_000.0;

#[derive(Parser)]
#[command(
    version,
    about = "Measures Heliograph; every figure is a median of interleaved runs"
)]
struct Args {
    #[arg(value_enum)]
    name: Name,
    /// End with one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Folder of block files [default: $HELIOGRAPH_DATA/blocks, else localnet/blocks]
    #[arg(long)]
    blocks: Option<PathBuf>,
    /// Measure this plugin too (needs --config)
    #[arg(long, requires = "config")]
    plugin: Option<PathBuf>,
    /// Configuration of the plugin
    #[arg(long, requires = "plugin")]
    config: Option<PathBuf>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Decoding recorded blocks and driving them through a plugin
    Replay,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.name {
        Name::Replay => replay(&args),
    }
}

fn replay(args: &Args) -> anyhow::Result<()> {
    let blocks = blocks_folder(args)?;
    let subject = args
        .plugin
        .clone()
        .zip(args.config.clone())
        .map(|(plugin, config)| Subject { plugin, config });
    let measured = throughput::measure(&blocks, subject.as_ref(), args.rounds)?;
    table(&measured);
    if args.json {
        println!("{}", report(args, &measured, &blocks));
    }
    Ok(())
}

fn blocks_folder(args: &Args) -> anyhow::Result<PathBuf> {
    let data = std::env::var_os("HELIOGRAPH_DATA").map(|data| PathBuf::from(data).join("blocks"));
    for folder in [args.blocks.clone(), data, Some("localnet/blocks".into())] {
        if let Some(folder) = folder.filter(|folder| folder.exists()) {
            return Ok(folder);
        }
    }
    bail!(
        "no block files. Fix: name a folder by --blocks or by HELIOGRAPH_DATA, or run from the repository's root"
    )
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
        ("unload, real plugin", measured.unload_seconds),
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

fn report(args: &Args, measured: &Throughput, blocks: &std::path::Path) -> Value {
    let transactions = measured.transactions as f64;
    let both = per_second(
        transactions,
        measured.decode_seconds + measured.null_seconds,
    );
    let mut checks = vec![check(
        "decode_and_drive_transactions_per_second",
        both,
        MAINNET_TRANSACTIONS_PER_SECOND,
    )];
    if let Some(seconds) = measured.plugin_seconds {
        checks.push(check(
            "plugin_transactions_per_second",
            per_second(transactions, seconds),
            MAINNET_TRANSACTIONS_PER_SECOND,
        ));
    }
    json!({
        "bench": "replay",
        "commit": commit(),
        "machine": machine(),
        "params": {
            "blocks": blocks.display().to_string(),
            "rounds": args.rounds,
            "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
            "plugin": args.plugin.as_ref().map(|plugin| plugin.display().to_string()),
        },
        "figures": {
            "blocks": measured.blocks,
            "transactions": measured.transactions,
            "file_bytes": measured.file_bytes,
            "decode_seconds": measured.decode_seconds,
            "null_plugin_seconds": measured.null_seconds,
            "plugin_seconds": measured.plugin_seconds,
            "plugin_unload_seconds": measured.unload_seconds,
        },
        "checks": checks,
    })
}

fn check(name: &str, value: f64, target: f64) -> Value {
    json!({"name": name, "value": value.round(), "op": ">=", "target": target, "ok": value >= target})
}

fn commit() -> Value {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            json!(String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => Value::Null,
    }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.into());
    format!("{processor}, {cores} cores")
}
