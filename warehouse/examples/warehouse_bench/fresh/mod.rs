//! How fresh the warehouse is: from a transaction's callback in the validator to a client's answer that has its row, through
//! the real plugin, broker, router, sink and door.
//!
//! ```text
//! validator ─▶ plugin ─▶ broker ─▶ router ─▶ broker ─▶ sink ─▶ door ◀─ watch (a client that asks and asks)
//!  (schedule)              └──────── timeline, afterwards ────────┘  ◀─ audit, afterwards
//! ```
//!
//! A transaction's row is stored with its block, when the block is confirmed. So the promise's latency has in it the wait for
//! the end of the slot, half a slot on average, and for the confirmation, which the replay gives `--confirm-ms` after the
//! slot's last callback. What the pipeline itself takes is told beside it, from the confirming callback on.
//!
//! A row is queryable when a client has an answer that counts all of its slot's transactions: the time between two questions and the
//! answer's own are part of the figure. No accounts are written: recorded blocks hold none.

mod audit;
mod outcome;
mod schedule;
mod stage;
mod timeline;
mod validator;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use bench::{
    block_file::RecordedTransaction, fanout_bench::stamp::Clock,
    plugin_bench::histogram::Histogram, report::Report,
};
use clap::Args;
use clickhouse::Client;
use serde_json::json;

use crate::decode_proof::recorded;
pub use outcome::Outcome;
use schedule::Schedule;
use stage::{PREFIX, Stage};
use timeline::{Ends, Timeline};
use validator::{Driven, Validator};
use watch::Watch;

/// Without any news for so long, what is missing will not come.
const PATIENCE: Duration = Duration::from_secs(60);
const TELL: Duration = Duration::from_secs(5);
/// For what a question costs, when nothing else is asked.
const QUESTIONS: u32 = 200;
/// The engine merges what was stored; a question is not to be charged with it.
const MERGE_LIMIT: Duration = Duration::from_secs(20);
const MERGE_LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Transactions per second
    #[arg(long, default_value_t = 5_000)]
    pub rate: u64,
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Seconds before them that are driven and counted, but not timed
    #[arg(long, default_value_t = 5)]
    pub warm_seconds: u64,
    /// How long a slot takes
    #[arg(long, default_value_t = 400)]
    pub slot_ms: u64,
    /// When a slot is told as confirmed, after its last other callback
    #[arg(long, default_value_t = 0)]
    pub confirm_ms: u64,
    /// Between two questions of the client
    #[arg(long, default_value_t = 20)]
    pub poll_ms: u64,
    /// Everything small, so that it takes seconds: for tests, its figures say little
    #[arg(long)]
    pub quick: bool,
}

impl Options {
    fn sized(&self) -> Self {
        if self.quick {
            Self {
                rate: self.rate.min(200),
                seconds: self.seconds.min(3),
                warm_seconds: self.warm_seconds.min(1),
                ..self.clone()
            }
        } else {
            self.clone()
        }
    }

    fn schedule(&self) -> Schedule {
        let slots = |seconds: u64| (seconds * 1_000).div_ceil(self.slot_ms);
        Schedule {
            slot_ms: self.slot_ms,
            rate: self.rate,
            warm_slots: slots(self.warm_seconds),
            slots: slots(self.warm_seconds) + slots(self.seconds),
        }
    }
}

pub fn run(folder: &Path, options: &Options, as_json: bool) -> anyhow::Result<()> {
    let options = options.sized();
    if cfg!(debug_assertions) {
        eprintln!(
            "warning: a development build says little about a deployed one; build with --release"
        );
    }
    let outcome = measure(folder, &options)?;
    outcome.print(&options);
    let mut report = Report::new(
        "warehouse fresh",
        json!({"data": folder, "rate": options.rate, "seconds": options.seconds, "warm_seconds": options.warm_seconds,
               "slot_ms": options.slot_ms, "confirm_ms": options.confirm_ms, "poll_ms": options.poll_ms}),
    );
    outcome.figures(&mut report);
    report.checks = outcome.checks(&options);
    print!("{}", bench::plugin_bench::table::checks(&report));
    if as_json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// One run, as `options` say.
pub fn measure(folder: &Path, options: &Options) -> anyhow::Result<Outcome> {
    let options = options.sized();
    anyhow::ensure!(
        options.slot_ms > 0 && options.rate > 0 && options.seconds > 0 && options.poll_ms > 0,
        "--slot-ms, --rate, --seconds and --poll-ms must be 1 or more"
    );
    let pool = pool(folder)?;
    let votes = pool.iter().filter(|recorded| recorded.is_vote).count();
    let votes_percent = votes as f64 * 100.0 / pool.len() as f64;
    let schedule = options.schedule();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let scratch = tempfile::Builder::new()
        .prefix("heliograph-bench-fresh-")
        .tempdir()?;
    let mut stage = Stage::open(scratch.path(), &runtime)?;
    let client = Client::default()
        .with_url(stage.door_url())
        .with_database("heliograph");
    let (clock, unix_at_start_ms) = (Clock::start(), unix_ms());
    let told: &AtomicU64 = Box::leak(Box::default());
    let watch = Watch::new(schedule);
    let every = Duration::from_millis(options.poll_ms);
    let asking = runtime.spawn(watch.clone().run(client.clone(), clock, every));
    let telling = runtime.spawn(tell(watch.clone(), told, schedule));

    let (cpu, begin) = (stage.cpu_seconds(), Instant::now());
    let driven = Validator {
        plugin: &stage.plugin,
        clock,
        pool,
        schedule,
        confirm_after: Duration::from_millis(options.confirm_ms),
        told,
    }
    .drive()?;
    let backlog = watch.with(|seen| {
        let whole = seen.whole.keys().map(|slot| schedule.expected(*slot));
        schedule.transactions() - whole.sum::<u64>()
    });
    let sink_lag = stage.sink_figure(&runtime, "heliograph_warehouse_lag_records");
    wait_for_all(&watch, &mut stage)?;
    let cpu_span_seconds = begin.elapsed().as_secs_f64();
    let cpu = since(cpu, stage.cpu_seconds());
    let drain_seconds = (clock.now().saturating_sub(driven.ended)) as f64 / 1e9;
    asking.abort();
    telling.abort();

    let account = runtime.block_on(audit::audit(&client, &schedule))?;
    let figure = |name| stage.sink_figure(&runtime, name);
    let (batches, rows) = (
        figure("heliograph_warehouse_batches_total"),
        figure("heliograph_warehouse_rows_total"),
    );
    let question_cpu_ms = runtime.block_on(question_cpu_ms(&stage, &client, &schedule))?;
    let whole = watch.with(|seen| seen.whole.clone());
    let (from_callback, from_confirmation) = latencies(&driven, &whole, &schedule);
    let ends = ends(&driven, &whole, &schedule, unix_at_start_ms);
    let brokers = stage.brokers();
    let timeline = Timeline::read(&brokers, PREFIX, &client, &ends);
    let timeline = runtime.block_on(timeline).context("the stages' times")?;
    Ok(Outcome {
        transactions: schedule.transactions(),
        votes_percent,
        rate: schedule.transactions() as f64 * 1e9 / (driven.ended - driven.begun).max(1) as f64,
        latest: driven.latest,
        from_callback,
        from_confirmation,
        timeline,
        account,
        plugin_lost: stage.balance().lost,
        backlog,
        sink_lag,
        drain_seconds,
        batches,
        rows,
        cpu,
        cpu_span_seconds,
        answers: watch.with(|seen| seen.answers.clone()),
        answers_failed: watch.with(|seen| seen.failed),
        question_cpu_ms,
        stopped_well: stage.stop_sink(),
    })
}

/// The transactions of the recorded blocks, in their order.
fn pool(folder: &Path) -> anyhow::Result<Vec<RecordedTransaction>> {
    let mut slots = BTreeSet::new();
    let mut pool = Vec::new();
    for (_, block) in recorded::read(folder).blocks {
        // Some blocks are recorded in more than one encoding.
        if slots.insert(block.slot) {
            pool.extend(block.transactions);
        }
    }
    anyhow::ensure!(
        !pool.is_empty(),
        "{}: no recorded blocks. Fix: name a folder of block files by --data",
        folder.display()
    );
    Ok(pool)
}

/// Of the slots after the warm-up, in nanoseconds.
fn latencies(
    driven: &Driven,
    whole: &BTreeMap<u64, u64>,
    schedule: &Schedule,
) -> (Histogram, Histogram) {
    let (mut from_callback, mut from_confirmation) = (Histogram::default(), Histogram::default());
    for slot in driven.slots.iter().skip(schedule.warm_slots as usize) {
        let Some(seen) = whole.get(&slot.slot) else {
            continue;
        };
        for entered in &slot.entered {
            from_callback.record(seen.saturating_sub(*entered));
        }
        from_confirmation.record(seen.saturating_sub(slot.confirmed));
    }
    (from_callback, from_confirmation)
}

fn ends(
    driven: &Driven,
    whole: &BTreeMap<u64, u64>,
    schedule: &Schedule,
    unix_at_start_ms: i64,
) -> Ends {
    let unix = |at: u64| unix_at_start_ms + (at / 1_000_000) as i64;
    let timed = driven.slots.iter().skip(schedule.warm_slots as usize);
    timed
        .filter_map(|slot| {
            let seen = whole.get(&slot.slot)?;
            Some((slot.slot, (unix(slot.confirmed), unix(*seen))))
        })
        .collect()
}

/// Returns when every slot was seen whole, or when nothing comes any more: then the audit tells what is missing.
fn wait_for_all(watch: &Watch, stage: &mut Stage) -> anyhow::Result<()> {
    let (mut seen, mut changed) = (0, Instant::now());
    while !watch.with(|seen| seen.has_all()) {
        stage.must_run()?;
        let now = watch.with(|seen| seen.whole.len());
        if now != seen {
            (seen, changed) = (now, Instant::now());
        }
        if changed.elapsed() > PATIENCE {
            eprintln!("only {now} slots became queryable");
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

async fn tell(watch: Watch, told: &AtomicU64, schedule: Schedule) {
    loop {
        tokio::time::sleep(TELL).await;
        let whole = watch.with(|seen| seen.whole.len());
        eprintln!(
            "{} of {} transactions told, {whole} of {} slots queryable",
            told.load(Ordering::Relaxed),
            schedule.transactions(),
            schedule.slots
        );
    }
}

/// The client's question, asked alone, about the last slot.
async fn question_cpu_ms(
    stage: &Stage,
    client: &Client,
    schedule: &Schedule,
) -> anyhow::Result<f64> {
    let last = schedule.slot(schedule.slots - 1);
    let question =
        format!("SELECT slot, count() FROM transactions WHERE slot >= {last} GROUP BY slot");
    let begin = Instant::now();
    let merges = "SELECT count() FROM system.merges";
    while client.query(merges).fetch_one::<u64>().await? > 0 && begin.elapsed() < MERGE_LIMIT {
        tokio::time::sleep(MERGE_LOOK).await;
    }
    let before = stage.door_cpu_seconds();
    for _ in 0..QUESTIONS {
        client.query(&question).fetch_all::<(u64, u64)>().await?;
    }
    Ok((stage.door_cpu_seconds() - before) * 1e3 / f64::from(QUESTIONS))
}

fn since(
    before: Vec<(&'static str, f64)>,
    now: Vec<(&'static str, f64)>,
) -> Vec<(&'static str, f64)> {
    now.into_iter()
        .zip(before)
        .map(|((name, now), (_, before))| (name, now - before))
        .collect()
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
