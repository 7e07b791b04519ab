//! Command line of `heliograph-bench plugin`, and what it runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{
    broker::Broker,
    histogram_cost,
    rounds::{self, Program},
    stall,
    subject::{Origin, Settings, Subject},
    table, throughput, validator_pace,
    workload::SlotCut,
};
use crate::report::Report;

/// Our plugin's name in tables.
pub const OURS: &str = "heliograph";
/// A `--config` that means: what our plugin gets.
const OUR_CONFIG: &str = "default";

#[derive(Debug, Clone, Args)]
pub struct PluginArgs {
    /// End with one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Folder of block files [default: $HELIOGRAPH_DATA/blocks, else localnet/blocks]
    #[arg(long)]
    blocks: Option<PathBuf>,
    /// Our plugin [default: libgeyser_plugin.so beside this program]
    #[arg(long)]
    plugin: Option<PathBuf>,
    /// A further plugin for interface 4.2, built by the same compiler; repeat with --config for each
    #[arg(long)]
    so: Vec<PathBuf>,
    /// Configuration of the --so at the same place; BENCH_BROKERS in it becomes the broker's address, and the word `default`
    /// stands for what our plugin gets
    #[arg(long)]
    config: Vec<PathBuf>,
    /// Measure only what --so names (beside floor, clock and baseline)
    #[arg(long, requires = "so")]
    without_ours: bool,
    /// Kafka for the plugins [default: a broker of its own for as long as the bench runs]
    #[arg(long)]
    brokers: Option<String>,
    /// How often everything is measured, in turn; figures are medians over the rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of threads to call from
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    threads: Vec<usize>,
    /// Microseconds that a paced thread sleeps after each transaction
    #[arg(long, default_value_t = 100)]
    pause_micros: u64,
    /// Leave what is reported wherever it lies in memory. By default it is read just before the callback, for a validator
    /// calls back from the thread that has just executed or built it
    #[arg(long)]
    cold: bool,
    /// Let our plugin also ask for deshredded transactions and contact info
    #[arg(long)]
    beside: bool,
    /// Transactions per round, at least; three account updates come with each
    #[arg(long, default_value_t = 4_000)]
    transactions: usize,
    /// Instead: stop the broker, fill queue and spill, and measure so many seconds of callbacks
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60", conflicts_with_all = ["throughput", "so"])]
    stall: Option<u64>,
    /// Callbacks per second of --stall
    #[arg(long, default_value_t = 50_000)]
    rate: u32,
    /// Instead: so many seconds of slots as a small cluster has them, and what the plugin's own threads take of each
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "20", conflicts_with_all = ["throughput", "stall", "histogram_cost"])]
    validator_pace: Option<u64>,
    /// Callbacks of a slot of --validator-pace
    #[arg(long, default_value_t = 240)]
    slot_callbacks: usize,
    /// Length of a slot of --validator-pace
    #[arg(long, default_value_t = 400)]
    slot_millis: u64,
    /// Measure our plugin once more, under this name and with these members of its configuration; repeat for each. As
    /// NAME=JSON, such as patient='{"linger_ms": 5}'
    #[arg(long, value_name = "NAME=JSON", value_parser = Variant::parse)]
    variant: Vec<Variant>,
    /// Instead: what the callback histogram costs, over so many rounds with it and without
    #[arg(long, value_name = "ROUNDS", num_args = 0..=1, default_missing_value = "20", conflicts_with_all = ["throughput", "stall", "so"])]
    histogram_cost: Option<usize>,
    /// Instead: callback → Kafka → reader in events per second, beside plain ways to Kafka
    #[arg(long, conflicts_with = "so")]
    throughput: bool,
    /// Seconds of each round of --throughput
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Threads that make the callbacks of --throughput
    #[arg(long, default_value_t = 1)]
    callers: usize,
    /// Callbacks of --throughput that may be ahead of the reader
    #[arg(long, default_value_t = 16_384)]
    ahead: u64,
}

/// Our plugin, configured otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    pub name: String,
    pub others: Value,
}

impl Variant {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, members) = text
            .split_once('=')
            .ok_or("no `=` in it. Fix: write NAME=JSON")?;
        let others: Value =
            serde_json::from_str(members).map_err(|e| format!("{e}. Fix: write NAME=JSON"))?;
        if !others.is_object() {
            return Err("no JSON object. Fix: write NAME={\"key\": value}".into());
        }
        Ok(Self {
            name: name.into(),
            others,
        })
    }
}

pub fn run(args: &PluginArgs) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!(
            "warning: a development build says little about a deployed one; build with --release"
        );
    }
    let blocks = crate::replay::blocks_folder(args.blocks.as_deref())?;
    let scratch = tempfile::Builder::new()
        .prefix("heliograph-bench-")
        .tempdir()?;
    let broker = Broker::start(args.brokers.as_deref())?;
    let report = if let Some(seconds) = args.stall {
        let options = stall::Options {
            plugin: &args.our_plugin()?,
            blocks,
            seconds,
            events_per_second: args.rate,
        };
        stall::run(&options, &broker, scratch.path())?
    } else if let Some(rounds) = args.histogram_cost {
        let options = histogram_cost::Options {
            plugin: &args.our_plugin()?,
            blocks,
            rounds,
            transactions: args.transactions,
        };
        histogram_cost::run(&options, &broker, scratch.path())?
    } else if let Some(seconds) = args.validator_pace {
        let subjects: Vec<Subject> = args
            .subjects(&broker, scratch.path())?
            .into_iter()
            .filter(|subject| matches!(subject.origin, Origin::SharedObject { .. }))
            .collect();
        let options = validator_pace::Options {
            blocks,
            rounds: args.rounds,
            seconds,
            slot: SlotCut {
                callbacks: args.slot_callbacks,
                millis: args.slot_millis,
            },
        };
        validator_pace::run(&options, &subjects, &broker, scratch.path())?
    } else if args.throughput {
        let options = throughput::Options {
            plugin: &args.our_plugin()?,
            variants: &args.variant,
            blocks,
            rounds: args.rounds,
            seconds: args.seconds,
            threads: args.callers,
            ahead_max: args.ahead,
        };
        throughput::run(&options, &broker, scratch.path())?
    } else {
        args.compare(&blocks, &broker, scratch.path())?
    };
    print!("\n{}", table::checks(&report));
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

impl PluginArgs {
    /// All subjects in turn.
    fn compare(&self, blocks: &Path, broker: &Broker, scratch: &Path) -> anyhow::Result<Report> {
        let subjects = self.subjects(broker, scratch)?;
        let program = Program {
            rounds: self.rounds,
            threads: self.threads.clone(),
            pause_micros: self.pause_micros,
            touched: !self.cold,
            transactions: self.transactions,
        };
        let say = |line: &str| eprintln!("{line}");
        let (recorded, outcomes) =
            rounds::measure(&subjects, blocks, &program, broker, scratch, &say)?;
        let (timer_p50, timer_p99) = table::timer_cost();
        println!(
            "{} blocks, {} transactions ({} votes); 3 accounts per transaction: {}",
            recorded.blocks,
            recorded.transactions,
            recorded.votes,
            table::mix()
        );
        println!(
            "medians of {} rounds, max of all; two readings of the clock cost {timer_p50} ns (p99 {timer_p99}) and are included",
            self.rounds
        );
        print!("{}", table::text(&outcomes));
        let mut report = Report::new(
            "plugin",
            json!({
                "blocks": blocks, "rounds": self.rounds, "threads": self.threads,
                "pause_micros": self.pause_micros, "cold": self.cold, "beside": self.beside,
                "transactions": self.transactions,
                "account_mix": table::mix(), "timer_p50_ns": timer_p50, "timer_p99_ns": timer_p99,
            }),
        );
        report.figure("recorded_blocks", recorded.blocks);
        report.figure("recorded_transactions", recorded.transactions);
        report.figure("recorded_votes", recorded.votes);
        table::fill(&mut report, &outcomes, OURS);
        Ok(report)
    }

    fn subjects(&self, broker: &Broker, scratch: &Path) -> anyhow::Result<Vec<Subject>> {
        if self.so.len() != self.config.len() {
            bail!(
                "{} --so but {} --config. Fix: give each --so its own --config (`default` for a build of our plugin)",
                self.so.len(),
                self.config.len()
            );
        }
        let mut subjects = vec![Subject::floor(), Subject::clock(), Subject::baseline()];
        let settings = Settings {
            brokers: broker.address().into(),
            others: json!({"deshred": self.beside, "contact_info": self.beside}),
        };
        if !self.without_ours {
            let plugin = self.our_plugin()?;
            subjects.push(Subject::ours(OURS, &plugin, scratch, &settings)?);
            for Variant { name, others } in &self.variant {
                let settings = Settings {
                    others: others.clone(),
                    ..settings.clone()
                };
                subjects.push(Subject::ours(name, &plugin, scratch, &settings)?);
            }
        }
        for (number, (so, config)) in self.so.iter().zip(&self.config).enumerate() {
            let stem = so.file_stem().context("--so names no file")?;
            let stem = stem.to_string_lossy();
            let name = format!("{}-{}", stem.trim_start_matches("lib"), number + 1);
            subjects.push(if config.as_os_str() == OUR_CONFIG {
                Subject::ours(&name, so, scratch, &settings)?
            } else {
                Subject::foreign(name, so, config, broker.address(), scratch)?
            });
        }
        Ok(subjects)
    }

    fn our_plugin(&self) -> anyhow::Result<PathBuf> {
        let plugin = self
            .plugin
            .clone()
            .unwrap_or_else(|| local_services::workspace_binary("libgeyser_plugin.so"));
        if !plugin.is_file() {
            bail!(
                "plugin {}: no such file. Fix: build it (cargo build --release -p geyser-plugin) or name it by --plugin",
                plugin.display()
            );
        }
        Ok(plugin)
    }
}
