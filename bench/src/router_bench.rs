//! Bench `router`: what several validators observed becomes one canonical stream: how fast, and whether it is the right one.
//!
//! ```text
//! observed (a chain known in full) ─▶ broker of its own ─▶ the real router, killed, starved, alone or doubly fed ─▶ audit
//! ```
//!
//! Parts, each by itself or all in turn: [`throughput`]; [`kills`]; [`sources`]; [`losses`] and [`damage`]; [`forks`] and
//! [`traces`]; [`idle`].

pub mod damage;
pub mod forks;
pub mod idle;
pub mod kills;
pub mod losses;
pub mod sources;
pub mod throughput;
pub mod traces;
pub mod websocket;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use local_services::{Kafka, KafkaOptions};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{
    observed::{
        audit::Findings,
        contents::{Contents, Shape},
        services::built,
    },
    plugin_bench::table,
    report::{Check, Report},
};

/// Arguments of the bench.
#[derive(Debug, Clone, Args)]
pub struct RouterArgs {
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
    /// Only the parts that are named: observed records into an empty router, without the accounts topic and with it, so many events a round
    #[arg(long, value_name = "EVENTS", num_args = 0..=1, default_missing_value = "400000")]
    throughput: Option<u64>,
    /// Rounds of --throughput and of --sources; figures are medians
    #[arg(long)]
    rounds: Option<usize>,
    /// Only the parts that are named: so many SIGKILLs of router and broker while they work
    #[arg(long, value_name = "KILLS", num_args = 0..=1, default_missing_value = "12")]
    kills: Option<usize>,
    /// Events per second while processes are killed
    #[arg(long, default_value_t = 4_000)]
    rate: u64,
    /// Only the parts that are named: so many validators beside a single one
    #[arg(long, value_name = "SOURCES", num_args = 0..=1, default_missing_value = "2")]
    sources: Option<u8>,
    /// Seconds that a validator of --sources is behind at most
    #[arg(long, default_value_t = 2.0)]
    skew: f64,
    /// Only the parts that are named: so many losses of records before the log and in it
    #[arg(long, value_name = "LOSSES", num_args = 0..=1, default_missing_value = "120")]
    losses: Option<usize>,
    /// Only the parts that are named: so many random fork traces after the scripted ones
    #[arg(long, value_name = "TRACES", num_args = 0..=1, default_missing_value = "60")]
    forks: Option<usize>,
    /// Only the parts that are named: a router without work and with ten clients, so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "20")]
    idle: Option<u64>,
}

/// What the parts have in common.
pub struct Scene<'a> {
    pub router: &'a Path,
    pub scratch: &'a Path,
    pub runtime: &'a Runtime,
    /// The recorded material; each part has blocks of its own size.
    pub contents: &'a Contents,
    pub broker: &'a mut Kafka,
    pub seed: u64,
}

/// Blocks for the parts that count faults rather than speed.
pub const SMALL: Shape = Shape {
    transactions: 10,
    entries: 4,
};

pub fn run(args: &RouterArgs) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!(
            "warning: a development build says little about a deployed one; build with --release"
        );
    }
    let binary = built(args.router.as_deref(), "stream-router", "stream-router")?;
    let blocks = crate::replay::blocks_folder(args.blocks.as_deref())?;
    let contents = Contents::load(&blocks, SMALL)?;
    let scratch = tempfile::Builder::new()
        .prefix("heliograph-bench-router-")
        .tempdir()?;
    let runtime = Runtime::new()?;
    let mut broker = Kafka::start(KafkaOptions {
        heap_mb: 768,
        ..KafkaOptions::default()
    })?;
    let mut scene = Scene {
        router: &binary,
        scratch: scratch.path(),
        runtime: &runtime,
        contents: &contents,
        broker: &mut broker,
        seed: args.seed,
    };
    let parts = args.parts();
    let mut report = Report::new(
        "router",
        json!({"blocks": blocks, "seed": args.seed, "quick": args.quick, "account_mix": table::mix()}),
    );
    if let Some(options) = &parts.throughput {
        throughput::run(&mut scene, options, &mut report).context("throughput")?;
    }
    if let Some(options) = &parts.sources {
        sources::run(&mut scene, options, &mut report).context("sources")?;
    }
    if let Some(losses) = parts.losses {
        losses::run(&mut scene, losses, &mut report).context("losses")?;
    }
    if let Some(traces) = parts.forks {
        forks::run(&mut scene, traces, &mut report).context("forks")?;
    }
    if let Some(seconds) = parts.idle {
        idle::run(&mut scene, seconds, &mut report).context("idle")?;
    }
    // Last: the broker has been killed then.
    if let Some(options) = &parts.kills {
        kills::run(&mut scene, options, &mut report).context("kills")?;
    }
    print!("\n{}", table::checks(&report));
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// What is run, and how large.
struct Parts {
    throughput: Option<throughput::Options>,
    kills: Option<kills::Options>,
    sources: Option<sources::Options>,
    losses: Option<usize>,
    forks: Option<usize>,
    idle: Option<u64>,
}

impl RouterArgs {
    /// Those that are named; all when none is.
    fn parts(&self) -> Parts {
        let named = [
            self.throughput.is_some(),
            self.kills.is_some(),
            self.sources.is_some(),
            self.losses.is_some(),
            self.forks.is_some(),
            self.idle.is_some(),
        ];
        let all = !named.contains(&true);
        let quick = self.quick;
        Parts {
            throughput: chosen(self.throughput, all, if quick { 6_000 } else { 400_000 }).map(
                |events| throughput::Options {
                    events,
                    rounds: self.rounds.unwrap_or(if quick { 1 } else { 2 }),
                    shape: if quick {
                        SMALL
                    } else {
                        throughput::LIKE_MAINNET
                    },
                },
            ),
            kills: chosen(self.kills, all, if quick { 3 } else { 12 }).map(|kills| {
                kills::Options {
                    kills,
                    events_per_second: self.rate,
                }
            }),
            sources: chosen(self.sources, all, 2).map(|sources| sources::Options {
                sources,
                skew_seconds: if quick { 0.3 } else { self.skew },
                rounds: self.rounds.unwrap_or(1),
                slots: if quick { 30 } else { 160 },
            }),
            losses: chosen(self.losses, all, if quick { 30 } else { 120 }),
            forks: chosen(self.forks, all, if quick { 8 } else { 60 }),
            idle: chosen(self.idle, all, if quick { 2 } else { 20 }),
        }
    }
}

fn chosen<T>(named: Option<T>, all: bool, default: T) -> Option<T> {
    named.or(all.then_some(default))
}

impl Findings {
    /// A check for each kind of fault, and what was looked at.
    fn report(&self, part: &str, report: &mut Report) {
        report.checks.push(Check::at_least(
            format!("{part}_blocks_audited"),
            self.blocks as f64,
            1.0,
        ));
        for (fault, count) in [
            ("lost_events", self.lost_events),
            ("duplicated_events", self.duplicated_events),
            ("out_of_order_events", self.out_of_order_events),
            ("foreign_events", self.foreign_events),
            ("wrong_standings", self.wrong_standings),
            ("broken_records", self.broken_records),
            ("unfounded_gaps", self.gaps.unfounded),
        ] {
            let name = format!("{part}_{fault}");
            report.checks.push(Check::at_most(name, count as f64, 0.0));
        }
    }
}
