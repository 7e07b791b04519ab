//! A real Agave 4.2.2 validator that loads Heliograph's plugin by its own loader.
//!
//! One node, all stake, loopback only. When the first slot is there, it writes one JSON line to standard output (the only
//! line that starts with a brace): `{"rpc": …, "pubsub": …, "tpu_quic": …, "identity": …, "mint": …}`. It ends on SIGTERM or
//! SIGINT.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::{Command, Stdio},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use solana_keypair::{Keypair, read_keypair_file, write_keypair_file};
use solana_net_utils::SocketAddrSpace;
use solana_pubkey::Pubkey;
use solana_rpc::{rpc::JsonRpcConfig, rpc_pubsub_service::PubSubConfig};
use solana_signer::Signer;
use solana_test_validator::{TestValidator, TestValidatorGenesis};

/// The kernel cuts thread names to 15 bytes.
const SCHEDULER_THREAD: &str = "solBnkTxSched";
/// About a tenth of a core when all are busy.
const SCHEDULER_NICENESS: &str = "10";

#[derive(Parser)]
#[command(
    version,
    about = "A single-node Agave 4.2.2 cluster with Geyser plugins"
)]
struct Args {
    /// Directory of the ledger; created when absent, continued when present
    #[arg(long)]
    ledger: PathBuf,
    /// JSON-RPC port; PubSub listens on the next one
    #[arg(long, default_value_t = 8899)]
    rpc_port: u16,
    /// Gossip port
    #[arg(long, default_value_t = 8000)]
    gossip_port: u16,
    /// First port of the range for everything else (TPU, TVU, repair …)
    #[arg(long, default_value_t = 8001)]
    dynamic_port: u16,
    /// Geyser plugin configuration file (repeatable)
    #[arg(long = "geyser-plugin-config")]
    geyser_plugin_configs: Vec<PathBuf>,
    /// Keypair that receives the genesis lamports; created when absent
    #[arg(long)]
    mint_keypair: PathBuf,
    /// Ticks per slot at 6.25 ms each (64 → 400 ms, 32 → 200 ms)
    #[arg(long)]
    ticks_per_slot: Option<u64>,
    /// Feature to leave inactive at genesis (repeatable)
    #[arg(long = "deactivate-feature")]
    deactivated_features: Vec<String>,
    /// Keep at most this many shreds in the ledger
    #[arg(long, default_value_t = 2_000_000)]
    ledger_shreds_max: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    agave_logger::setup_with_default("warn,solana_geyser_plugin_manager=info");

    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // The second signal means now.
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }

    let mint = mint_keypair(&args.mint_keypair)?;
    let validator = start(&args, &mint)?;
    if let Err(error) = yield_scheduler() {
        eprintln!("the transaction scheduler keeps its priority: {error}");
    }
    println!(
        "{}",
        serde_json::json!({
            "rpc": validator.rpc_url(),
            "pubsub": validator.rpc_pubsub_url(),
            "tpu_quic": validator.tpu_quic().to_string(),
            "identity": validator.cluster_info().id().to_string(),
            "mint": mint.pubkey().to_string(),
        })
    );

    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    // Dropping asks the validator to exit, unloads the plugins and joins the threads.
    drop(validator);
    Ok(())
}

fn start(args: &Args, mint: &Keypair) -> anyhow::Result<TestValidator> {
    let mut deactivated = Vec::new();
    for feature in &args.deactivated_features {
        deactivated.push(
            Pubkey::from_str(feature)
                .map_err(|e| anyhow!("--deactivate-feature {feature}: not a public key: {e}"))?,
        );
    }
    for config in &args.geyser_plugin_configs {
        if !config.is_file() {
            bail!("--geyser-plugin-config {}: no such file", config.display());
        }
    }

    let mut genesis = TestValidatorGenesis::default();
    genesis
        .ledger_path(&args.ledger)
        .rpc_port(args.rpc_port)
        .gossip_host(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .gossip_port(args.gossip_port)
        .bind_ip_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .port_range((args.dynamic_port, args.dynamic_port.saturating_add(100)))
        .deactivate_features(&deactivated)
        .rpc_config(JsonRpcConfig {
            enable_rpc_transaction_history: true,
            enable_extended_tx_metadata_storage: true,
            ..JsonRpcConfig::default_for_test()
        })
        .pubsub_config(PubSubConfig {
            enable_block_subscription: true,
            enable_vote_subscription: true,
            ..PubSubConfig::default_for_tests()
        });
    if let Some(ticks) = args.ticks_per_slot {
        genesis.ticks_per_slot(ticks);
    }
    genesis.max_ledger_shreds = Some(args.ledger_shreds_max);
    if !args.geyser_plugin_configs.is_empty() {
        genesis.geyser_plugin_config_files = Some(args.geyser_plugin_configs.clone());
    }
    genesis
        .start_with_mint_address(mint.pubkey(), SocketAddrSpace::new(true))
        .map_err(|e| anyhow!("the validator did not start: {e}"))
}

/// Agave's transaction scheduler polls without pause while its node leads, and this node always leads: it would take one
/// core for itself. A lower priority leaves that core to whoever has work; on an idle machine nothing changes.
fn yield_scheduler() -> anyhow::Result<()> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?;
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else {
            continue; // The thread has ended.
        };
        if name.trim_end() != SCHEDULER_THREAD {
            continue;
        }
        let status = Command::new("renice")
            .args(["-n", SCHEDULER_NICENESS, "-p"])
            .arg(task.file_name())
            .stdout(Stdio::null())
            .status()
            .context("renice (package util-linux)")?;
        if !status.success() {
            bail!("renice ended with {status}");
        }
    }
    Ok(())
}

fn mint_keypair(path: &PathBuf) -> anyhow::Result<Keypair> {
    if path.exists() {
        return read_keypair_file(path)
            .map_err(|e| anyhow!("--mint-keypair {}: {e}", path.display()));
    }
    let mint = Keypair::new();
    write_keypair_file(&mint, path)
        .map_err(|e| anyhow!("{e}"))
        .with_context(|| format!("--mint-keypair {}", path.display()))?;
    Ok(mint)
}
