//! `heliograph warehouse`: blocks that are past. Fetch what is missing, prove what is there, decode again.
//!
//! ```text
//! RPC, files, archives ─▶ source ─▶ fill ─▶ tables, the block's own row and status last
//!                                    ▲
//! tables ─▶ shelf (what is stored) ─▶ audit (what is wrong) ─▶ verify
//! transactions_raw ─▶ redecode ─▶ tables
//! ```
//!
//! * The stream goes on meanwhile: slots near the sink's newest are left to it ([`LEFT_TO_THE_STREAM`]).
//! * A block that is stored whole is left alone; one that is not is deleted and stored again. So everything here may be
//!   repeated, and a run that broke off is ended by the next.
//! * What retention dropped by policy is not missed, not fetched and not decoded again, unless that is asked for.
//! * Finalized blocks alone: nothing here decides forks. A block that contradicts a stored finalized one is refused.
//!
//! Reading order: `shelf`, `audit` (pure), `source`, `fill`, `verify`, `redecode`.

mod audit;
mod fill;
mod progress;
mod redecode;
mod shelf;
mod source;
mod verify;
mod withheld;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use chain_blocks::rpc::{Nodes, NodesConfig};
use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use crate::{archive::Server, sink::load_idls};
use shelf::Range;
pub(crate) use shelf::schema_is_current;

/// Slots below the newest stored one that the sink may still be writing: its partitions run apart by a few batches.
pub(crate) const LEFT_TO_THE_STREAM: u64 = 512;

#[derive(Parser, Debug)]
#[command(
    name = "warehouse-history",
    bin_name = "heliograph warehouse",
    version,
    about = "Past blocks of the warehouse: fetch what is missing, prove what is there, decode again"
)]
pub struct Options {
    #[command(flatten)]
    pub server: Server,
    /// End with one JSON object on the last line
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Store finalized blocks that are missing, from RPC nodes, block files or Old Faithful archives
    Backfill(Backfill),
    /// Prove that every finalized block is stored, whole and linked to its parent; with --repair, store what is not
    Verify(Verify),
    /// Decode stored transactions again from their raw form, with this version's decoders
    Redecode(Redecode),
}

#[derive(Args, Debug, Clone)]
pub struct Span {
    /// The first slot
    #[arg(long)]
    pub from: u64,
    /// The last slot
    #[arg(long)]
    pub to: u64,
}

#[derive(Args, Debug, Clone)]
pub struct Rpc {
    /// JSON-RPC address of a node that keeps these blocks (http or https); repeat for others, asked in turn
    #[arg(
        long = "rpc",
        value_name = "URL",
        env = "HELIOGRAPH_RPC_URLS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub urls: Vec<String>,
    /// Requests per second, to all nodes together
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub requests_per_second: u32,
    /// Blocks asked for at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,
    /// A node that has not sent its whole reply after so many seconds is given up for this time
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout_seconds: u64,
    /// A longer reply is not read
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub reply_mebibytes: u16,
    /// PEM file of a certificate authority that is trusted beside the system's
    #[arg(long)]
    pub ca_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Backfill {
    #[command(flatten)]
    pub span: Span,
    #[command(flatten)]
    pub rpc: Rpc,
    /// Block file, or folder of block files: protobuf ConfirmedBlock (*.bincode) and getBlock replies (*.json), plain, .gz or .zst
    #[arg(long = "file", value_name = "PATH", conflicts_with = "urls")]
    pub files: Vec<PathBuf>,
    /// Old Faithful archive (*.car)
    #[arg(long = "archive", value_name = "PATH", conflicts_with_all = ["urls", "files"])]
    pub archives: Vec<PathBuf>,
    /// Folder of IDLs, as the sink's `idl_folder`
    #[arg(long)]
    pub idl_folder: Option<PathBuf>,
    /// Also slots that the stream may still be storing
    #[arg(long)]
    pub beside_the_stream: bool,
    /// Also blocks of epochs that retention dropped by policy
    #[arg(long)]
    pub refetch_dropped: bool,
}

#[derive(Args, Debug)]
pub struct Verify {
    #[command(flatten)]
    pub span: Span,
    #[command(flatten)]
    pub rpc: Rpc,
    /// Fetch and store what is missing or damaged; needs --rpc
    #[arg(long, requires = "urls")]
    pub repair: bool,
    /// Folder of IDLs, as the sink's `idl_folder`; for --repair
    #[arg(long)]
    pub idl_folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Redecode {
    #[command(flatten)]
    pub span: Span,
    /// Folder of IDLs, as the sink's `idl_folder`
    #[arg(long)]
    pub idl_folder: Option<PathBuf>,
}

impl Span {
    fn range(&self) -> anyhow::Result<Range> {
        anyhow::ensure!(
            self.from <= self.to,
            "--from {} is behind --to {}",
            self.from,
            self.to
        );
        Ok(Range {
            from: self.from,
            to: self.to,
        })
    }
}

impl Rpc {
    fn nodes(&self) -> anyhow::Result<Nodes> {
        let read = |file: &PathBuf| {
            std::fs::read(file).with_context(|| format!("--ca-file {}", file.display()))
        };
        Nodes::new(&NodesConfig {
            urls: self.urls.clone(),
            timeout: Duration::from_secs(self.timeout_seconds),
            requests_per_second: self.requests_per_second,
            reply_mebibytes: self.reply_mebibytes.into(),
            reply_field: "--reply-mebibytes",
            ca_pem: self.ca_file.as_ref().map(read).transpose()?,
        })
    }
}

/// What a verb did, and whether all is well.
struct Outcome {
    text: String,
    json: Value,
    well: bool,
}

pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start")?;
    let store = options.server.store();
    let idls = |folder: &Option<PathBuf>| load_idls(folder.as_deref().unwrap_or(Path::new("")));
    let outcome = runtime.block_on(async {
        schema_is_current(&store).await?;
        match &options.verb {
            Verb::Backfill(backfill) => {
                fill::backfill(&store, backfill, idls(&backfill.idl_folder)?).await
            }
            Verb::Verify(verify) => verify::verify(&store, verify, idls(&verify.idl_folder)?).await,
            Verb::Redecode(redecode) => {
                redecode::redecode(&store, redecode.span.range()?, idls(&redecode.idl_folder)?)
                    .await
            }
        }
    })?;
    println!("{}", outcome.text);
    if options.json {
        println!("{}", outcome.json);
    }
    Ok(if outcome.well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
