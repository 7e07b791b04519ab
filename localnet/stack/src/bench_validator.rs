//! `bench validator`: does a real validator notice the plugin? The same traffic with and without it, in turns.
//!
//! Every run starts a fresh validator. Runs come in pairs whose order alternates (off on, on off, …), so that a machine that
//! gets slower or faster does not favour one side; the broker runs beside both. A pair's difference is one sample, and the
//! confidence interval is over pairs: slots of one run are not independent of one another.
//!
//! What it does not measure: the node leads every slot itself, so replay of another leader's blocks is not in it; accounts
//! are few and small; the validator is a development build.

mod look;
mod report;
mod run;
mod statistics;
mod validator_log;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use local_services::{Kafka, KafkaOptions};

use crate::{layout, layout::RunDir, progress::Say};
use run::Round;

#[derive(Parser, Clone, Debug)]
#[command(
    name = "heliograph bench validator",
    about = "A real validator with the plugin and without it, in turns: slot time, transactions, commit time"
)]
pub struct Options {
    /// Pairs of runs, one without the plugin and one with it
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How long each run is measured, once its traffic flows
    #[arg(long, default_value_t = 18, value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub seconds: u64,
    /// Transactions per second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub tps: u32,
    /// Another build of the plugin [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub plugin: Option<PathBuf>,
    /// The last line is one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `arguments` as they stood after the name of the bench.
pub async fn run(
    root: PathBuf,
    json: bool,
    arguments: &[String],
    say: &Say,
) -> anyhow::Result<ExitCode> {
    let words =
        std::iter::once("heliograph bench validator").chain(arguments.iter().map(String::as_str));
    let mut options = match Options::try_parse_from(words) {
        Ok(options) => options,
        // Help is an error to clap and a success to the caller.
        Err(error) => {
            error.print()?;
            return Ok(ExitCode::from(error.exit_code() as u8));
        }
    };
    options.json |= json;
    let validator = layout::validator_binary().context(
        "the validator is not built; `./heliograph build --validator` does (about 26 CPU-minutes)",
    )?;
    let plugin = match &options.plugin {
        Some(plugin) => plugin
            .canonicalize()
            .with_context(|| format!("--plugin {}", plugin.display()))?,
        None => layout::plugin_library()?,
    };
    let root = root.join("bench-validator");
    let _ = std::fs::remove_dir_all(&root);
    let dir = RunDir::create(root)?;
    say.step("starting Kafka");
    let kafka = Kafka::start(KafkaOptions {
        dir: Some(dir.data("kafka")),
        ..KafkaOptions::default()
    })?;
    say.ready("Kafka");

    let mut pairs = Vec::new();
    for number in 0..options.rounds {
        let (mut off, mut on) = (None, None);
        for with_plugin in [number % 2 == 1, number % 2 == 0] {
            let round = Round {
                dir: &dir,
                validator: &validator,
                plugin: with_plugin.then_some(plugin.as_path()),
                brokers: &kafka.brokers(),
                seconds: options.seconds,
                tps: options.tps,
                // The same for both of a pair.
                seed: u64::from(number) + 1,
                name: format!("{number}-{}", if with_plugin { "on" } else { "off" }),
            };
            let figures = round.run(say).await.with_context(|| {
                format!(
                    "run {} (logs in {})",
                    round.name,
                    dir.root.join("logs").display()
                )
            })?;
            say.line(&format!("run {}: {figures}", round.name));
            *(if with_plugin { &mut on } else { &mut off }) = Some(figures);
        }
        if let (Some(off), Some(on)) = (off, on) {
            pairs.push((off, on));
        }
    }
    drop(kafka);
    let report = report::new(&options, &plugin, &pairs);
    print!("{}", report::table(&report));
    if options.json {
        println!("{report}");
    }
    let _ = std::fs::remove_dir_all(&dir.root);
    Ok(ExitCode::SUCCESS)
}
