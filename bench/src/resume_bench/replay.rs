//! `from_slot` far back, everything asked for, at each commitment, while the chain goes on and another subscriber listens.

use std::{
    collections::HashMap,
    sync::{
        PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use event_schema::Slot;
use serde_json::json;
use yellowstone_grpc_proto::geyser::{
    CommitmentLevel, SubscribeRequest, SubscribeRequestFilterAccounts,
    SubscribeRequestFilterBlocks, SubscribeRequestFilterBlocksMeta, SubscribeRequestFilterEntry,
    SubscribeRequestFilterSlots, SubscribeRequestFilterTransactions, subscribe_update::UpdateOneof,
};

use super::{
    Scene,
    ledger::{Balance, Ledger},
    live::{self, Arrivals},
};
use crate::{
    fanout_bench::{
        latency::milliseconds,
        subscriber::{RequestExtension, Subscriber, connect},
    },
    observed::truth::Truth,
    report::{Check, Report},
};

const LEVELS: [CommitmentLevel; 3] = [
    CommitmentLevel::Processed,
    CommitmentLevel::Confirmed,
    CommitmentLevel::Finalized,
];
/// The live chain's slots: shorter than real ones, so that there are enough to take quantiles of.
const PACE: Duration = Duration::from_millis(100);
/// The live subscriber alone, before anyone replays.
const ALONE: Duration = Duration::from_secs(8);
/// Without an update of an old slot for so long, a replay is over.
const QUIET: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(60);
const FIRST_BYTE_MS: f64 = 100.0;
const RESIDENT_GROWTH: f64 = 1.1;
const P99_OF_ALONE: f64 = 1.1;

/// One replay.
struct Replayed {
    level: CommitmentLevel,
    first_ms: f64,
    seconds: f64,
    updates: u64,
    balance: Balance,
}

pub fn run(scene: &mut Scene<'_>, slots: usize, report: &mut Report) -> anyhow::Result<()> {
    let begin = Instant::now();
    let (stage, reporter) = (scene.stage, &mut *scene.reporter);
    // Some more: there is something before the first slot that is asked for.
    let filled = slots + slots / 10 + 10;
    scene.runtime.block_on(reporter.fill(stage, filled))?;
    let events = reporter.truth.events();
    let counted = stage.count_events(events, Duration::from_secs(20), scene.router);
    scene.runtime.block_on(counted)?;
    eprintln!(
        "{filled} slots with {events} events are published after {:.0?}",
        begin.elapsed()
    );
    let (clock, address, last) = (reporter.clock, scene.router.grpc, reporter.newest());
    // Of what was filled; the live chain goes on from there, so that all of it is rooted soon.
    let truth = reporter.truth.clone();
    let from = Slot(last.0 + 1 - slots as u64);
    let arrivals = Arrivals::default();
    let listening = scene
        .runtime
        .spawn(live::listen(address, clock, arrivals.clone()));
    let stop = AtomicBool::new(false);
    let (peak, pid) = (AtomicU64::new(0), scene.router.pid());
    let handle = scene.runtime.handle().clone();
    let resident = || crate::plugin_bench::process_figures::resident_kib(pid);
    let (replays, resident_before, alone, beside) = thread::scope(|scope| {
        let reporting = scope.spawn(|| handle.block_on(reporter.go_on(stage, PACE, &stop)));
        let measured = (|| {
            // The first slots find cold caches.
            thread::sleep(ALONE / 4);
            let alone_from = clock.now();
            thread::sleep(ALONE);
            let resident_before = resident();
            let beside_from = clock.now();
            let watching = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    peak.fetch_max(resident(), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(50));
                }
            });
            let mut replays = Vec::new();
            for level in LEVELS {
                let replay = replay(address, level, from..=last, &truth);
                let replay = scene.runtime.block_on(replay);
                replays.push(replay.with_context(|| format!("{level:?}"))?);
            }
            let end = clock.now();
            stop.store(true, Ordering::Relaxed);
            let _ = watching.join();
            anyhow::Ok((
                replays,
                resident_before,
                alone_from..beside_from,
                beside_from..end,
            ))
        })();
        stop.store(true, Ordering::Relaxed);
        reporting
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        measured
    })?;
    listening.abort();
    scene.router.must_run()?;
    let arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    let of = |between| live::latencies(&scene.reporter.reported, &arrivals, between);
    let (alone, beside) = (of(alone), of(beside));
    let resident_max = peak.load(Ordering::Relaxed);
    let p99 = |of: &[u64]| milliseconds(live::quantile(of, 0.99));
    println!(
        "{:<28}{:>14}{:>12}{:>12}{:>12}{:>10}{:>10}{:>10}{:>14}",
        format!("from_slot {slots} slots back"),
        "first byte ms",
        "all after s",
        "updates",
        "due",
        "missing",
        "repeated",
        "foreign",
        "wrong blocks"
    );
    let mut figures = serde_json::Map::new();
    for replay in &replays {
        let balance = replay.balance;
        let name = name_of(replay.level);
        println!(
            "{name:<28}{:>14.3}{:>12.2}{:>12}{:>12}{:>10}{:>10}{:>10}{:>14}",
            replay.first_ms,
            replay.seconds,
            replay.updates,
            balance.due,
            balance.missing,
            balance.repeated,
            balance.foreign,
            balance.wrong_blocks
        );
        figures.insert(
            name.to_owned(),
            json!({
                "first_byte_ms": replay.first_ms, "seconds": replay.seconds, "updates": replay.updates,
                "balance": balance,
            }),
        );
        report.checks.push(Check::at_most(
            format!("replay_{name}_first_byte_ms"),
            replay.first_ms,
            FIRST_BYTE_MS,
        ));
        report.checks.push(Check::at_least(
            format!("replay_{name}_events_due"),
            balance.due as f64,
            1.0,
        ));
        report.checks.push(Check::at_most(
            format!("replay_{name}_faults"),
            balance.faults() as f64,
            0.0,
        ));
    }
    println!(
        "the live subscriber, ms: p50 {} p99 {} alone ({} slots), p50 {} p99 {} beside replays ({} slots); router's resident MiB {} before, {} at most",
        milliseconds(live::quantile(&alone, 0.5)),
        p99(&alone),
        alone.len(),
        milliseconds(live::quantile(&beside, 0.5)),
        p99(&beside),
        beside.len(),
        resident_before / 1024,
        resident_max / 1024
    );
    report.figure(
        "replay",
        json!({
            "slots": slots, "levels": figures, "live_p99_ms_alone": p99(&alone), "live_p99_ms_beside": p99(&beside),
            "resident_kib_before": resident_before, "resident_kib_max": resident_max,
        }),
    );
    let mut at_most = |name: &'static str, value: f64, target: f64| {
        let value = (value * 1000.0).round() / 1000.0;
        report.checks.push(Check::at_most(name, value, target));
    };
    at_most(
        "replay_live_p99_of_alone",
        p99(&beside) / p99(&alone).max(0.001),
        P99_OF_ALONE,
    );
    at_most(
        "replay_resident_growth",
        resident_max as f64 / resident_before.max(1) as f64,
        RESIDENT_GROWTH,
    );
    Ok(())
}

pub fn name_of(level: CommitmentLevel) -> &'static str {
    match level {
        CommitmentLevel::Processed => "processed",
        CommitmentLevel::Confirmed => "confirmed",
        CommitmentLevel::Finalized => "finalized",
    }
}

/// Everything there is, at this level; whole blocks if wanted.
pub fn everything(level: CommitmentLevel, with_blocks: bool) -> SubscribeRequest {
    let name = || "all".to_owned();
    let blocks = SubscribeRequestFilterBlocks {
        include_transactions: Some(true),
        include_accounts: Some(true),
        include_entries: Some(true),
        ..SubscribeRequestFilterBlocks::default()
    };
    SubscribeRequest {
        accounts: HashMap::from([(name(), SubscribeRequestFilterAccounts::default())]),
        transactions: HashMap::from([(name(), SubscribeRequestFilterTransactions::default())]),
        slots: HashMap::from([(name(), SubscribeRequestFilterSlots::default())]),
        entry: HashMap::from([(name(), SubscribeRequestFilterEntry::default())]),
        blocks_meta: HashMap::from([(name(), SubscribeRequestFilterBlocksMeta::default())]),
        blocks: if with_blocks {
            HashMap::from([(name(), blocks)])
        } else {
            HashMap::new()
        },
        commitment: Some(level as i32),
        ..SubscribeRequest::default()
    }
}

async fn replay(
    address: std::net::SocketAddr,
    level: CommitmentLevel,
    slots: std::ops::RangeInclusive<Slot>,
    truth: &Truth,
) -> anyhow::Result<Replayed> {
    let channel = connect(address).await?;
    let request = SubscribeRequest {
        from_slot: Some(slots.start().0),
        ..everything(level, true)
    };
    let begin = Instant::now();
    let extension = RequestExtension::default();
    let mut subscriber = Subscriber::subscribe(&channel, &request, &extension).await?;
    let mut ledger = Ledger::default();
    let (mut first, mut last) = (None, begin);
    while last.elapsed() < QUIET && begin.elapsed() < LIMIT {
        let Ok(update) = tokio::time::timeout(QUIET, subscriber.next()).await else {
            break;
        };
        let Some(update) = update? else {
            bail!("the router ended the stream");
        };
        let slot = slot_of(&update.update.update_oneof);
        // What the live chain brings meanwhile is not part of the replay.
        if slot.is_some_and(|slot| slots.contains(&slot)) {
            last = Instant::now();
            first.get_or_insert(last);
            ledger.add(&update.update);
        }
    }
    let Some(first) = first else {
        bail!("nothing of the past came");
    };
    Ok(Replayed {
        level,
        first_ms: milliseconds((first - begin).as_nanos() as u64),
        seconds: (last - begin).as_secs_f64(),
        updates: ledger.updates,
        balance: ledger.balance(truth, level, slots, true),
    })
}

fn slot_of(update: &Option<UpdateOneof>) -> Option<Slot> {
    match update.as_ref()? {
        UpdateOneof::Account(update) => Some(Slot(update.slot)),
        UpdateOneof::Transaction(update) => Some(Slot(update.slot)),
        UpdateOneof::Entry(update) => Some(Slot(update.slot)),
        UpdateOneof::BlockMeta(update) => Some(Slot(update.slot)),
        UpdateOneof::Block(update) => Some(Slot(update.slot)),
        _ => None,
    }
}
