//! Several validators report the same chain, each behind by its own time that changes; beside it, one of them alone. What is
//! published must be the same, and cost little more.

use std::time::{Duration, Instant};

use anyhow::Context;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{Scene, throughput::median};
use crate::{
    observed::{
        audit::Findings,
        chain::{Chain, Moment, Temper},
        contents::{Contents, Shape},
        log::Stage,
        services::{Router, RouterOptions},
        source::Source,
        truth::Truth,
    },
    report::{Check, Report},
};

const FIRST_SLOT: u64 = 1_000;
const SLOT: Duration = Duration::from_millis(50);
/// A validator is behind by the same time for so many slots.
const SLOTS_PER_SKEW: usize = 8;
const QUIET: Duration = Duration::from_secs(20);
const COST_OF_ONE: f64 = 1.3;

/// Blocks of 10,000 events per second.
const BLOCKS: Shape = Shape {
    transactions: 110,
    entries: 60,
};

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub sources: u8,
    pub skew_seconds: f64,
    pub rounds: usize,
    pub slots: usize,
}

struct Outcome {
    events: u64,
    cpu_seconds: f64,
    digest: String,
    findings: Findings,
}

pub fn run(scene: &mut Scene<'_>, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let contents = scene.contents.reshaped(BLOCKS);
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    println!(
        "\n{:<28}{:>12}{:>16}{:>14}  output",
        format!("validators, 0–{} s behind", options.skew_seconds),
        "events",
        "CPU-s/million",
        "wrong rows"
    );
    for round in 0..options.rounds.max(1) {
        for sources in [1, options.sources] {
            let outcome = observe(scene, &contents, options, sources, round)?;
            println!(
                "{sources:<28}{:>12}{:>16.2}{:>14}  {}",
                outcome.events,
                outcome.cpu_per_million(),
                outcome.findings.wrong_rows(),
                outcome.digest
            );
            if sources == 1 {
                alone.push(outcome);
            } else {
                together.push(outcome);
            }
        }
    }
    let cost = |outcomes: &[Outcome]| median(outcomes.iter().map(Outcome::cpu_per_million));
    let ratio = cost(&together) / cost(&alone);
    report.figure(
        "sources",
        json!({
            "sources": options.sources, "skew_seconds": options.skew_seconds,
            "events": alone.iter().map(|outcome| outcome.events).sum::<u64>(),
            "cpu_seconds_per_million_events_alone": cost(&alone),
            "cpu_seconds_per_million_events_together": cost(&together),
        }),
    );
    let differing = alone
        .iter()
        .zip(&together)
        .filter(|(one, many)| one.digest != many.digest);
    report.checks.push(Check::at_most(
        "sources_output_unlike_one_source",
        differing.count() as f64,
        0.0,
    ));
    report.checks.push(Check::at_most(
        "sources_cost_of_one",
        (ratio * 1000.0).round() / 1000.0,
        COST_OF_ONE,
    ));
    let outcomes = alone.iter().chain(&together);
    let wrong: u64 = outcomes.map(|outcome| outcome.findings.wrong_rows()).sum();
    report
        .checks
        .push(Check::at_most("sources_wrong_rows", wrong as f64, 0.0));
    Ok(())
}

impl Outcome {
    fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.events.max(1) as f64
    }
}

/// What one validator reports, and how late.
struct Reporter {
    source: Source,
    /// When it reports the moments of each slot; never sooner than those before.
    due: Vec<Duration>,
    next: usize,
}

fn observe(
    scene: &Scene<'_>,
    contents: &Contents,
    options: &Options,
    sources: u8,
    round: usize,
) -> anyhow::Result<Outcome> {
    let prefix = format!("sources-{sources}-{round}");
    let brokers = scene.broker.brokers();
    let stage = scene.runtime.block_on(Stage::open(&brokers, &prefix))?;
    let seed = scene.seed.wrapping_add(round as u64);
    let mut chain = Chain::new(seed, FIRST_SLOT, Temper::RESTLESS);
    let mut lived: Vec<Vec<Moment>> = (0..options.slots).map(|_| chain.slot()).collect();
    lived.push(chain.finish());
    let mut reporters: Vec<Reporter> = (0..sources)
        .map(|number| Reporter {
            source: Source::new(number, &stage.topics),
            due: due_times(seed, number, lived.len(), options.skew_seconds),
            next: 0,
        })
        .collect();
    let router_options = RouterOptions::new(scene.router, &brokers, &prefix, scene.scratch);
    let mut router = Router::start(&router_options)?;
    let before = router.cpu_seconds();
    let mut truth = Truth::default();
    scene.runtime.block_on(async {
        let begin = Instant::now();
        while let Some(reporter) = earliest(&mut reporters) {
            let due = reporter.due[reporter.next];
            let moments = &lived[reporter.next];
            reporter.next += 1;
            let mut written = Vec::new();
            for moment in moments {
                let values = reporter.source.live(moment, contents, &mut written);
                if let (Moment::Block(block), Some(values)) = (moment, values) {
                    truth.add(block, &values, true);
                }
            }
            tokio::time::sleep(due.saturating_sub(begin.elapsed())).await;
            stage.append(written).await?;
        }
        anyhow::Ok(())
    })?;
    let audit = stage.audit(&truth, QUIET, &mut router);
    let audit = scene.runtime.block_on(audit).context("the audit")?;
    Ok(Outcome {
        events: truth.events(),
        digest: audit.digest(),
        findings: audit.findings(),
        cpu_seconds: router.cpu_seconds() - before,
    })
}

/// The one that reports next.
fn earliest(reporters: &mut [Reporter]) -> Option<&mut Reporter> {
    let waiting = reporters.iter_mut();
    waiting
        .filter(|reporter| reporter.next < reporter.due.len())
        .min_by_key(|reporter| reporter.due[reporter.next])
}

fn due_times(seed: u64, number: u8, slots: usize, skew_seconds: f64) -> Vec<Duration> {
    let random = &mut StdRng::seed_from_u64(seed ^ (u64::from(number) << 32));
    let mut behind = Duration::ZERO;
    let mut last = Duration::ZERO;
    let due = (0..slots).map(|nth| {
        if nth % SLOTS_PER_SKEW == 0 {
            behind = Duration::from_secs_f64(random.random_range(0.0..=skew_seconds));
        }
        last = last.max(SLOT * nth as u32 + behind);
        last
    });
    due.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_are_behind_but_never_out_of_order() {
        let (one, two) = (due_times(1, 0, 200, 2.0), due_times(1, 1, 200, 2.0));
        for due in [&one, &two] {
            assert!(due.is_sorted());
            let late = due.iter().zip(0..).map(|(due, nth)| *due - SLOT * nth);
            assert!(late.clone().max().unwrap() <= Duration::from_secs(2));
            assert!(late.max().unwrap() > Duration::from_secs(1));
        }
        let ahead = one.iter().zip(&two).filter(|(one, two)| one < two).count();
        assert!((20..180).contains(&ahead), "{ahead}");
    }
}
