//! Router and broker die by SIGKILL again and again while a validator goes on reporting. Then the canonical topic is audited
//! against what was reported.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{SMALL, Scene};
use crate::{
    observed::{
        chain::{Chain, Moment, Temper},
        contents::Contents,
        log::Stage,
        services::{Router, RouterOptions},
        source::Source,
        truth::Truth,
    },
    report::{Check, Report},
};

const FIRST_SLOT: u64 = 1_000;
/// Longer than a broker takes to come back on a busy machine, so that nothing is given up meanwhile.
const GAP_AFTER_MS: u64 = 60_000;
/// Longer than a transaction that died may hold up readers.
const QUIET: Duration = Duration::from_secs(45);

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub kills: usize,
    pub events_per_second: u64,
}

/// One kill, so long after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    pub after_ms: u64,
    pub victim: Victim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Router,
    /// It returns after so long.
    Broker {
        away_ms: u64,
    },
}

/// The same seed makes the same plan. Every fifth kill or so is the broker's, and one of the first three is.
pub fn plan(seed: u64, kills: usize) -> Vec<Kill> {
    let random = &mut StdRng::seed_from_u64(seed);
    let plan = (0..kills).map(|nth| {
        let is_broker = nth == 2 || random.random_bool(0.2);
        let victim = if is_broker {
            Victim::Broker {
                away_ms: random.random_range(0..800),
            }
        } else {
            Victim::Router
        };
        // Some die while they start, some after a while of work.
        let longest = if random.random_bool(0.3) { 250 } else { 1_800 };
        Kill {
            after_ms: random.random_range(5..longest),
            victim,
        }
    });
    plan.collect()
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    router_kills: u64,
    broker_kills: u64,
    ended_by_itself: u64,
}

pub fn run(scene: &mut Scene<'_>, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let contents = scene.contents.reshaped(SMALL);
    let brokers = scene.broker.brokers();
    let stage = scene.runtime.block_on(Stage::open(&brokers, "kills"))?;
    let router_options = RouterOptions {
        gap_after_ms: Some(GAP_AFTER_MS),
        ..RouterOptions::new(scene.router, &brokers, "kills", scene.scratch)
    };
    let mut router = Router::start(&router_options)?;
    let stop = AtomicBool::new(false);
    let (handle, seed) = (scene.runtime.handle().clone(), scene.seed);
    let begin = Instant::now();
    let (done, truth) = thread::scope(|scope| {
        let reporting =
            scope.spawn(|| handle.block_on(report_slots(&stage, &contents, seed, options, &stop)));
        let done = kill(scene, &mut router, &plan(seed, options.kills));
        stop.store(true, Ordering::Release);
        let truth = reporting
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, anyhow::Error>((done?, truth?))
    })?;
    let killing = begin.elapsed();
    let audit = stage.findings(&truth, QUIET, &mut router);
    let findings = scene.runtime.block_on(audit)?;
    println!(
        "\n{} SIGKILLs of the router and {} of the broker in {:.0} s; {} slots with {} events: {} lost, {} duplicated, {} out of order",
        done.router_kills,
        done.broker_kills,
        killing.as_secs_f64(),
        findings.blocks,
        findings.events,
        findings.lost_events,
        findings.duplicated_events,
        findings.out_of_order_events
    );
    report.figure(
        "kills",
        json!({
            "router": done.router_kills, "broker": done.broker_kills, "seconds": killing.as_secs_f64(),
            "blocks": findings.blocks, "events": findings.events,
            "events_per_second": options.events_per_second,
            "settled_after_seconds": (begin.elapsed() - killing).as_secs_f64(),
        }),
    );
    report.checks.push(Check::at_least(
        "kills",
        (done.router_kills + done.broker_kills) as f64,
        options.kills as f64,
    ));
    report.checks.push(Check::at_most(
        "router_ended_by_itself",
        done.ended_by_itself as f64,
        0.0,
    ));
    findings.report("kills", report);
    Ok(())
}

/// A validator that goes on until it is told to stop, and then roots all it has.
async fn report_slots(
    stage: &Stage,
    contents: &Contents,
    seed: u64,
    options: &Options,
    stop: &AtomicBool,
) -> anyhow::Result<Truth> {
    let mut source = Source::new(1, &stage.topics);
    let mut chain = Chain::new(seed, FIRST_SLOT, Temper::RESTLESS);
    let mut truth = Truth::default();
    let begin = Instant::now();
    let mut ended = false;
    while !ended {
        ended = stop.load(Ordering::Acquire);
        let moments = if ended { chain.finish() } else { chain.slot() };
        let mut written = Vec::new();
        for moment in moments {
            let values = source.live(&moment, contents, &mut written);
            if let (Moment::Block(block), Some(values)) = (moment, values) {
                truth.add(&block, &values, true);
            }
        }
        stage.append(written).await?;
        let due = Duration::from_secs_f64(truth.events() as f64 / options.events_per_second as f64);
        tokio::time::sleep(due.saturating_sub(begin.elapsed())).await;
    }
    Ok(truth)
}

fn kill(scene: &mut Scene<'_>, router: &mut Router, plan: &[Kill]) -> anyhow::Result<Done> {
    let mut done = Done::default();
    for (nth, kill) in plan.iter().enumerate() {
        if nth % 20 == 0 && nth > 0 {
            eprintln!("{nth} kills");
        }
        thread::sleep(Duration::from_millis(kill.after_ms));
        if !router.is_running() {
            eprintln!("the router ended by itself:\n{}", router.log_tail());
            done.ended_by_itself += 1;
            if done.ended_by_itself > 10 {
                bail!("the router ends by itself again and again");
            }
            router.respawn()?;
        }
        match kill.victim {
            Victim::Router => {
                router.kill_and_respawn()?;
                done.router_kills += 1;
            }
            Victim::Broker { away_ms } => {
                scene.broker.kill();
                done.broker_kills += 1;
                thread::sleep(Duration::from_millis(away_ms));
                scene.broker.restart().context("the broker's next life")?;
            }
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_its_seeds_and_kills_both() {
        for kills in [3, 200] {
            let plan = super::plan(7, kills);
            assert_eq!(plan.len(), kills);
            assert_eq!(plan, super::plan(7, kills));
            let brokers = plan.iter().filter(|kill| kill.victim != Victim::Router);
            let brokers = brokers.count();
            assert!((1..=kills / 3 + 1).contains(&brokers), "{brokers}");
        }
        assert_ne!(plan(7, 200), plan(8, 200));
    }
}
