//! Observed records that wait in the log, into a router that has just started: until a reader of committed records has every
//! event of them. Then everything is audited. The same records once more into a router that also keeps the accounts topic.

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
    /// Records that the accounts topic has in the end, markers of transactions among them.
    account_states: u64,
    findings: Findings,
}

pub fn run(scene: &mut Scene<'_>, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let contents = scene.contents.reshaped(options.shape);
    println!(
        "{:<28}{:>12}{:>10}{:>12}{:>16}{:>12}{:>14}{:>14}{:>16}",
        "ingest → canonical",
        "events",
        "MB",
        "events/s",
        "CPU-s/million",
        "broker's",
        "peak RSS MiB",
        "start, s",
        "account states"
    );
    let (mut plain, mut with_accounts) = (Vec::new(), Vec::new());
    for nth in 0..options.rounds.max(1) {
        for (kind, rounds) in [
            (Kind::Plain, &mut plain),
            (Kind::AccountsTopic, &mut with_accounts),
        ] {
            let round = round(scene, &contents, options.events, (kind, nth))?;
            println!(
                "{:<28}{:>12}{:>10}{:>12.0}{:>16.2}{:>12.2}{:>14}{:>14.2}{:>16}",
                format!("round {}{}", nth + 1, kind.label()),
                round.events,
                round.bytes / 1_000_000,
                round.rate(),
                round.cpu_per_million(),
                round.broker_cpu_seconds * 1e6 / round.events as f64,
                round.peak_resident_kib / 1024,
                round.ready_seconds,
                round.account_states
            );
            rounds.push(round);
        }
    }
    let rate = median(plain.iter().map(Round::rate));
    let rate_with_accounts = median(with_accounts.iter().map(Round::rate));
    let cpu =
        [&plain, &with_accounts].map(|rounds| median(rounds.iter().map(Round::cpu_per_million)));
    report.figure("throughput", figure(&plain));
    report.figure("throughput_with_accounts_topic", figure(&with_accounts));
    report.figure(
        "accounts_topic_cost",
        json!({
            "cpu_ratio": cpu[1] / cpu[0],
            "rate_ratio": rate_with_accounts / rate,
        }),
    );
    report.checks.push(Check::at_least(
        "events_per_second",
        rate.round(),
        EVENTS_PER_SECOND,
    ));
    let states = with_accounts.iter().map(|r| r.account_states).min();
    report.checks.push(Check::at_least(
        "throughput_account_states",
        states.unwrap_or(0) as f64,
        1.0,
    ));
    let rounds = plain.iter().chain(&with_accounts);
    let wrong = rounds.map(|r| r.findings.wrong_rows()).sum::<u64>();
    report
        .checks
        .push(Check::at_most("throughput_wrong_rows", wrong as f64, 0.0));
    Ok(())
}

fn figure(rounds: &[Round]) -> serde_json::Value {
    json!({
        "events": rounds.iter().map(|r| r.events).collect::<Vec<_>>(),
        "observed_bytes": rounds.iter().map(|r| r.bytes).collect::<Vec<_>>(),
        "events_per_second": median(rounds.iter().map(Round::rate)).round(),
        "cpu_seconds_per_million_events": median(rounds.iter().map(Round::cpu_per_million)),
        "broker_cpu_seconds_per_million_events":
            median(rounds.iter().map(|r| r.broker_cpu_seconds * 1e6 / r.events as f64)),
        "peak_resident_kib": rounds.iter().map(|r| r.peak_resident_kib).max(),
        "ready_seconds": median(rounds.iter().map(|r| r.ready_seconds)),
        "account_states": rounds.iter().map(|r| r.account_states).collect::<Vec<_>>(),
    })
}

/// What the router keeps beside the canonical topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    AccountsTopic,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::AccountsTopic => ", accounts topic",
        }
    }

    fn toml(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::AccountsTopic => "[accounts_topic]\nenabled = true\n",
        }
    }
}

impl Round {
    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.events as f64
    }
}

fn round(
    scene: &Scene<'_>,
    contents: &Contents,
    events: u64,
    (kind, nth): (Kind, usize),
) -> anyhow::Result<Round> {
    let prefix = format!("throughput-{kind:?}-{nth}").to_lowercase();
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
    let options = RouterOptions {
        more: kind.toml(),
        ..RouterOptions::new(scene.router, &brokers, &prefix, scene.scratch)
    };
    let mut router = Router::start(&options)?;
    let ready = Instant::now();
    let count = stage.count_events(truth.events(), QUIET, &mut router);
    let counted = scene.runtime.block_on(count)?;
    let (cpu, peak) = (router.cpu_seconds(), router.peak_resident_kib());
    let broker_cpu_seconds = cpu_seconds(broker) - broker_cpu;
    let audit = stage.findings(&truth, QUIET, &mut router);
    let findings = scene.runtime.block_on(audit)?;
    let account_states = match kind {
        Kind::Plain => 0,
        Kind::AccountsTopic => scene.runtime.block_on(stage.account_states())?,
    };
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
        account_states,
        findings,
    })
}

/// 0 of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
