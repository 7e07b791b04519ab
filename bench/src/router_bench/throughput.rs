//! Observed records that wait in the log, into a router that has just started: until a reader of committed records has every
//! event of them. Then everything is audited.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Scene;
use crate::{
    observed::{
        audit::Findings,
        chain::{Chain, Temper},
        contents::{Contents, Shape},
        log::Stage,
        services::{Router, RouterOptions},
        source::Source,
        truth::Truth,
    },
    plugin_bench::process_figures::cpu_seconds,
    report::{Check, Report},
};

const EVENTS_PER_SECOND: f64 = 100_000.0;
const QUIET: Duration = Duration::from_secs(20);
const FIRST_SLOT: u64 = 1_000;

/// A slot of the public cluster, but for its number of entries.
pub const LIKE_MAINNET: Shape = Shape {
    transactions: 500,
    entries: 72,
};

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub events: u64,
    pub rounds: usize,
    pub shape: Shape,
}

#[derive(Debug, Clone, Copy, Default)]
struct Round {
    events: u64,
    bytes: u64,
    /// From the router's start until it was ready; from then until the last event was read.
    ready_seconds: f64,
    seconds: f64,
    cpu_seconds: f64,
    broker_cpu_seconds: f64,
    peak_resident_kib: u64,
    findings: Findings,
}

pub fn run(scene: &mut Scene<'_>, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let contents = scene.contents.reshaped(options.shape);
    let mut rounds = Vec::new();
    println!(
        "{:<28}{:>12}{:>10}{:>12}{:>16}{:>12}{:>14}{:>14}",
        "ingest → canonical",
        "events",
        "MB",
        "events/s",
        "CPU-s/million",
        "broker's",
        "peak RSS MiB",
        "start, s"
    );
    for nth in 0..options.rounds.max(1) {
        let round = round(scene, &contents, options.events, nth)?;
        println!(
            "{:<28}{:>12}{:>10}{:>12.0}{:>16.2}{:>12.2}{:>14}{:>14.2}",
            format!("round {}", nth + 1),
            round.events,
            round.bytes / 1_000_000,
            round.events as f64 / round.seconds,
            round.cpu_seconds * 1e6 / round.events as f64,
            round.broker_cpu_seconds * 1e6 / round.events as f64,
            round.peak_resident_kib / 1024,
            round.ready_seconds
        );
        rounds.push(round);
    }
    let rate = median(rounds.iter().map(|r| r.events as f64 / r.seconds));
    report.figure(
        "throughput",
        json!({
            "events": rounds.iter().map(|r| r.events).collect::<Vec<_>>(),
            "observed_bytes": rounds.iter().map(|r| r.bytes).collect::<Vec<_>>(),
            "events_per_second": rate.round(),
            "cpu_seconds_per_million_events":
                median(rounds.iter().map(|r| r.cpu_seconds * 1e6 / r.events as f64)),
            "broker_cpu_seconds_per_million_events":
                median(rounds.iter().map(|r| r.broker_cpu_seconds * 1e6 / r.events as f64)),
            "peak_resident_kib": rounds.iter().map(|r| r.peak_resident_kib).max(),
            "ready_seconds": median(rounds.iter().map(|r| r.ready_seconds)),
        }),
    );
    report.checks.push(Check::at_least(
        "events_per_second",
        rate.round(),
        EVENTS_PER_SECOND,
    ));
    let wrong = rounds.iter().map(|r| r.findings.wrong_rows()).sum::<u64>();
    report
        .checks
        .push(Check::at_most("throughput_wrong_rows", wrong as f64, 0.0));
    Ok(())
}

fn round(scene: &Scene<'_>, contents: &Contents, events: u64, nth: usize) -> anyhow::Result<Round> {
    let prefix = format!("throughput-{nth}");
    let brokers = scene.broker.brokers();
    let stage = scene.runtime.block_on(Stage::open(&brokers, &prefix))?;
    let mut source = Source::new(1, &stage.topics);
    let mut chain = Chain::new(
        scene.seed.wrapping_add(nth as u64),
        FIRST_SLOT,
        Temper::RESTLESS,
    );
    let mut truth = Truth::default();
    let mut bytes = 0;
    let mut filled = false;
    while !filled {
        filled = truth.events() >= events;
        let moments = if filled { chain.finish() } else { chain.slot() };
        let mut written = Vec::new();
        for moment in moments {
            let values = source.live(&moment, contents, &mut written);
            if let (crate::observed::chain::Moment::Block(block), Some(values)) = (moment, values) {
                truth.add(&block, &values, true);
            }
        }
        bytes += written
            .iter()
            .map(|w| w.record.value.len() as u64)
            .sum::<u64>();
        scene.runtime.block_on(stage.append(written))?;
    }
    let broker = scene.broker.pid();
    let broker_cpu = cpu_seconds(broker);
    let begin = Instant::now();
    let options = RouterOptions::new(scene.router, &brokers, &prefix, scene.scratch);
    let mut router = Router::start(&options)?;
    let ready = Instant::now();
    let count = stage.count_events(truth.events(), QUIET, &mut router);
    let counted = scene.runtime.block_on(count)?;
    let (cpu, peak) = (router.cpu_seconds(), router.peak_resident_kib());
    let broker_cpu_seconds = cpu_seconds(broker) - broker_cpu;
    let audit = stage.findings(&truth, QUIET, &mut router);
    let findings = scene.runtime.block_on(audit)?;
    Ok(Round {
        events: truth.events(),
        bytes,
        ready_seconds: (ready - begin).as_secs_f64(),
        seconds: counted
            .last
            .map_or(f64::NAN, |last| (last - ready).as_secs_f64()),
        cpu_seconds: cpu,
        broker_cpu_seconds,
        peak_resident_kib: peak,
        findings,
    })
}

/// 0 of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
