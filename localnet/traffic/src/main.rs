//! Real traffic for a validator by its JSON-RPC, and recordings of the blocks that come of it.
//!
//! ```text
//! drive ─▶ scene (wallets, mints, table) ─▶ act (a transaction of some kind) ─▶ rpc ─▶ validator
//!             ▲                                                                          │
//!             └──────────────── what landed changes what can be done next ◀── statuses ──┘
//! record ◀─ rpc getBlock          fund ─▶ rpc
//! ```
//!
//! It speaks JSON-RPC alone and never a client library of the validator, so that it also works against any other one.

mod act;
mod drive;
mod record;
mod rpc;
mod scene;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;

#[derive(Parser)]
#[command(
    version,
    about = "Drives real transactions at a validator and records its blocks"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send transactions of every kind at a steady rate
    Drive(DriveArgs),
    /// Write the blocks of a range of slots to files that replay-blocks reads
    Record(RecordArgs),
    /// Send lamports from the mint to an account
    Fund(FundArgs),
}

#[derive(Args)]
struct Node {
    /// JSON-RPC of the validator
    #[arg(long, default_value = "http://127.0.0.1:8899")]
    rpc: String,
}

#[derive(Args)]
struct Mint {
    /// Keypair file that holds the genesis lamports
    #[arg(long)]
    mint_keypair: PathBuf,
}

#[derive(Args)]
struct DriveArgs {
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    mint: Mint,
    /// End after this many seconds
    #[arg(long, conflicts_with = "until_slot")]
    seconds: Option<u64>,
    /// End when the validator has reached this slot
    #[arg(long)]
    until_slot: Option<u64>,
    /// Transactions per second
    #[arg(long, default_value_t = 20)]
    tps: u32,
    /// Decides the order of the kinds and the amounts [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// End with a summary as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RecordArgs {
    #[command(flatten)]
    node: Node,
    /// First slot
    #[arg(long)]
    from: u64,
    /// Last slot; the recording waits until it is confirmed
    #[arg(long)]
    to: u64,
    /// Folder for the files; created when absent
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct FundArgs {
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    mint: Mint,
    /// Who receives
    #[arg(long)]
    to: Pubkey,
    /// How much
    #[arg(long)]
    lamports: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Drive(args) => run_drive(args).await,
        Command::Record(args) => record::run(&args.node.rpc, args.from, args.to, &args.out).await,
        Command::Fund(args) => run_fund(args).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_drive(args: DriveArgs) -> anyhow::Result<()> {
    let end = match (args.seconds, args.until_slot) {
        (Some(seconds), _) => drive::End::Seconds(seconds),
        (None, Some(slot)) => drive::End::Slot(slot),
        (None, None) => drive::End::Never,
    };
    let plan = drive::Plan {
        end,
        transactions_per_second: args.tps.clamp(1, 5_000),
        seed: args.seed.unwrap_or_else(rand::random),
    };
    let mint = read_keypair(&args.mint.mint_keypair)?;
    let summary = drive::run(&rpc::Rpc::new(&args.node.rpc), mint, plan).await?;
    eprintln!("{}", summary.table());
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    }
    anyhow::ensure!(
        summary.landed > 0,
        "no transaction landed; the validator at {} does not take traffic",
        args.node.rpc
    );
    Ok(())
}

async fn run_fund(args: FundArgs) -> anyhow::Result<()> {
    let mint = read_keypair(&args.mint.mint_keypair)?;
    let rpc = rpc::Rpc::new(&args.node.rpc);
    let draft = act::fund(mint, &[args.to], args.lamports);
    let signature = drive::send_and_confirm(&rpc, &draft).await?;
    println!(
        "{}",
        serde_json::json!({
            "signature": signature.to_string(), "to": args.to.to_string(), "lamports": args.lamports.to_string(),
        })
    );
    Ok(())
}

fn read_keypair(path: &std::path::Path) -> anyhow::Result<Keypair> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("--mint-keypair {}", path.display()))?;
    let bytes: Vec<u8> = serde_json::from_str(&text).with_context(|| {
        format!(
            "--mint-keypair {}: not a JSON list of 64 bytes",
            path.display()
        )
    })?;
    Keypair::try_from(bytes.as_slice())
        .map_err(|e| anyhow!("--mint-keypair {}: {e}", path.display()))
}
