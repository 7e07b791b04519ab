//! Bench `resume`: subscribers that begin in the past, and subscribers that come back.
//!
//! ```text
//! reporter (a chain known in full) ─▶ broker of its own ─▶ the real router, killed ─▶ gRPC ─▶ ledger: what is due, what came
//! ```
//!
//! Reading order: [`reporter`], [`ledger`], [`live`]; the parts, each by itself or all in turn: [`replay`], [`reconnect`].

pub mod ledger;
pub mod live;
pub mod reconnect;
pub mod replay;
pub mod reporter;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use local_services::{Kafka, KafkaOptions};
use serde_json::json;
use tokio::runtime::Runtime;

use self::reporter::Reporter;
use crate::{
    observed::{
        contents::{Contents, Shape},
        log::Stage,
        services::{Router, RouterOptions, built},
    },
    plugin_bench::table,
    report::Report,
};

/// Arguments of the bench.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// End with one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Everything small, so that it takes seconds: for tests, its figures say little
    #[arg(long)]
    quick: bool,
    /// Folder of block files [default: $HELIOGRAPH_DATA/blocks, else localnet/blocks]
    #[arg(long)]
    blocks: Option<PathBuf>,
    /// The router [default: stream-router beside this program]
    #[arg(long)]
    router: Option<PathBuf>,
    /// What everything random follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the parts that are named: a replay from so many slots back, blocks included, at each commitment
    #[arg(long, value_name = "SLOTS", num_args = 0..=1, default_missing_value = "1500")]
    replay: Option<usize>,
    /// Transactions of a slot on average; three account updates come with each
    #[arg(long, default_value_t = 20)]
    transactions: u64,
    /// Only the parts that are named: subscribers that reconnect so many times
    #[arg(long, value_name = "TIMES", num_args = 0..=1, default_missing_value = "40")]
    reconnects: Option<usize>,
    /// SIGKILLs of the router among the reconnections
    #[arg(long)]
    kills: Option<usize>,
}

/// What the parts have in common.
pub struct Scene<'a> {
    pub runtime: &'a Runtime,
    pub router: &'a mut Router,
    pub stage: &'a Stage,
    pub reporter: &'a mut Reporter,
    pub seed: u64,
}

const PREFIX: &str = "resume";

pub fn run(args: &ResumeArgs) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!(
            "warning: a development build says little about a deployed one; build with --release"
        );
    }
    let binary = built(args.router.as_deref(), "stream-router", "stream-router")?;
    let blocks = crate::replay::blocks_folder(args.blocks.as_deref())?;
    let shape = Shape {
        transactions: args.transactions,
        entries: 4,
    };
    let contents = Contents::load(&blocks, shape)?;
    let scratch = tempfile::Builder::new()
        .prefix("heliograph-bench-resume-")
        .tempdir()?;
    let runtime = Runtime::new()?;
    let broker = Kafka::start(KafkaOptions {
        heap_mb: 768,
        ..KafkaOptions::default()
    })?;
    let brokers = broker.brokers();
    let stage = runtime.block_on(Stage::open(&brokers, PREFIX))?;
    let options = RouterOptions::new(&binary, &brokers, PREFIX, scratch.path());
    let mut router = Router::start(&options)?;
    let mut scene = Scene {
        runtime: &runtime,
        router: &mut router,
        stage: &stage,
        reporter: &mut Reporter::new(args.seed, contents, &stage.topics),
        seed: args.seed,
    };
    let named = [args.replay.is_some(), args.reconnects.is_some()];
    let all = !named.contains(&true);
    let quick = args.quick;
    let mut report = Report::new(
        "resume",
        json!({
            "blocks": blocks, "seed": args.seed, "quick": quick, "transactions_per_slot": args.transactions,
            "account_mix": table::mix(),
        }),
    );
    let slots = args
        .replay
        .or(all.then_some(if quick { 60 } else { 1_500 }));
    if let Some(slots) = slots {
        replay::run(&mut scene, slots, &mut report).context("replay")?;
    }
    let reconnects = args
        .reconnects
        .or(all.then_some(if quick { 4 } else { 40 }));
    if let Some(reconnects) = reconnects {
        let options = reconnect::Options {
            reconnects,
            kills: args.kills.unwrap_or(if quick { 1 } else { 6 }),
        };
        reconnect::run(&mut scene, options, &mut report).context("reconnect")?;
    }
    print!("\n{}", table::checks(&report));
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}
