//! Exactly once, under fire: broker, door and sink die by SIGKILL again and again while a router publishes a chain with forks,
//! abandoned slots, gaps and poison. Then every table and view is compared with a warehouse that only saw the final chain.
//!
//! ```text
//! history ─▶ contents ─▶ publisher ─▶ broker ─▶ sink ─▶ door ─▶ audit
//!  (pure)    (recorded    (exactly     └─ killed by stage ─┘      ▲
//!   chain)  transactions)   once)                                 │
//!       └── final chain only ─▶ a topic of its own ─▶ a sink that is never killed, a fresh door
//! ```

mod audit;
mod compare;
mod contents;
mod expected;
mod history;
mod outcome;
mod publisher;
mod stage;
mod trace;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bench::report::Report;
use clap::Args;
use event_log::NewRecord;
use event_schema::Topics;
use serde_json::json;

use audit::{Door, Reading};
use compare::compare;
use contents::Contents;
use expected::Expected;
use history::{Chain, Event, Truth};
use outcome::Outcome;
use publisher::Publisher;
use stage::{Progress, Stage, WINDOW};

/// Slots that the router may be ahead of what is stored.
const AHEAD_MAX: u64 = 3_000;
/// Without any news for so long, what is missing will not come.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(500);
const TELL: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Args)]
pub struct Options {
    /// SIGKILLs of sink, door and broker
    #[arg(long, default_value_t = 200)]
    pub kills: u64,
    /// Go on until so many rows are stored
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: u64,
    /// Makes chain and kills
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Everything small, so that it takes less than a minute: for tests
    #[arg(long)]
    pub quick: bool,
    /// Transactions per block, on average
    #[arg(long, default_value_t = 40)]
    pub transactions: u64,
    /// Slots per second
    #[arg(long, default_value_t = 16)]
    pub slots_per_second: u64,
}

impl Options {
    fn sized(&self) -> Self {
        if self.quick {
            Self {
                kills: self.kills.min(6),
                rows: 0,
                transactions: 8,
                ..self.clone()
            }
        } else {
            self.clone()
        }
    }
}

pub fn run(folder: &Path, options: &Options, as_json: bool) -> anyhow::Result<()> {
    let options = options.sized();
    let outcome = measure(folder, &options)?;
    outcome.print();
    let mut report = Report::new(
        "warehouse crash",
        json!({"data": folder, "kills": options.kills, "rows": options.rows, "seed": options.seed, "window": WINDOW,
               "transactions": options.transactions, "slots_per_second": options.slots_per_second}),
    );
    let done = &outcome.done;
    report.figure(
        "kills",
        json!({"sink": done.sink, "door": done.door, "broker": done.broker, "seconds": outcome.killing_seconds}),
    );
    report.figure("sink_lives", done.sink_lives);
    report.figure("zombies", done.zombies);
    report.figure("slots", outcome.slots);
    report.figure("blocks_abandoned", outcome.abandoned);
    report.figure("transactions", outcome.plain.expected);
    report.figure("rows", outcome.rows);
    report.figure("poison", outcome.letters.poison);
    report.figure("letters_repeated", outcome.letters.repeated);
    report.figure("tables_compared", outcome.tables.len());
    report.figure("views_compared", outcome.views.len());
    report.figure("windows_rolled_up", outcome.windows_rolled_up);
    report.checks = outcome.checks();
    print!("{}", bench::plugin_bench::table::checks(&report));
    if as_json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// One run, as `options` say.
pub fn measure(folder: &Path, options: &Options) -> anyhow::Result<Outcome> {
    let contents = Arc::new(Contents::read(folder, options.seed, options.transactions)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let scratch = tempfile::Builder::new()
        .prefix("heliograph-bench-crash-")
        .tempdir()?;
    let progress = Arc::new(Progress::default());
    let interrupted = Arc::clone(&progress);
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.interrupted.store(true, Ordering::Relaxed);
        }
    });
    let topics = Topics::new("crash");
    let mut stage = Stage::open(scratch.path(), "crash")?;
    let publisher = runtime.block_on(Publisher::open(&stage.broker.brokers(), &topics))?;
    stage.lower_window()?;
    let door = stage.door();
    let telling = runtime.spawn(tell(door.clone(), Arc::clone(&progress)));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let telling_chain = runtime.spawn(tell_chain(
        publisher,
        topics.clone(),
        Arc::clone(&contents),
        options.clone(),
        Arc::clone(&progress),
        stopped,
    ));
    let begin = Instant::now();
    let plan = stage::plan(options.seed, options.kills);
    stage.perform(&plan, options.rows, &progress)?;
    let killing_seconds = begin.elapsed().as_secs_f64();
    let _ = stop.send(true);
    let told = wait_for(telling_chain, &mut stage, &runtime, &progress)??;
    let drained = drain(&door, &mut stage, &told.truth, &progress)?;
    telling.abort();
    let stopped_well = stage.stop_sink();
    let letters = runtime.block_on(audit::letters(&told.publisher.log, &topics, &told.poison))?;

    eprintln!("the final chain alone, for comparison");
    let expected = Expected::store(&stage, &told.truth, &contents, &runtime, &progress)?;
    let slots = (history::FIRST_SLOT, told.last_slot);
    let middle = told.truth.finals.keys().nth(told.truth.finals.len() / 2);
    let asked = [middle.copied().unwrap_or(0), told.last_slot];
    let compared = compare(&door, &expected.door, slots, &asked, &progress)?;
    let wrong = compared.tables_plain.iter().chain(&compared.tables);
    let wrong = wrong.flat_map(|one| &one.slots);
    let wrong: BTreeSet<u64> = wrong.filter_map(|slot| slot.parse().ok()).collect();
    runtime.block_on(trace::tell(&told.publisher.log, &topics, &door, &wrong))?;
    let signatures = |reading| audit::signatures(&door, reading, &told.truth, &contents, slots);
    Ok(Outcome {
        done: stage.done,
        slots: told.truth.finals.len() as u64,
        abandoned: told.truth.abandoned.len() as u64,
        abandoned_after_confirmation: told.truth.abandoned_after_confirmation,
        rows: compared.tables_plain.iter().map(|one| one.stored.0).sum(),
        drained,
        plain: signatures(Reading::Plain)?,
        collapsed: signatures(Reading::Final)?,
        tables_plain: compared.tables_plain,
        tables: compared.tables,
        views: compared.views,
        windows_rolled_up: door.number(
            "SELECT uniqExact(slot) FROM token_volume_rollup WHERE slot < (SELECT raw_from * 600 FROM rollup_state)",
        )?,
        letters,
        stopped_well,
        killing_seconds,
    })
}

/// What the router has told in the end.
struct Told {
    publisher: Publisher,
    truth: Truth,
    poison: Vec<NewRecord>,
    last_slot: u64,
}

/// A router that goes on until it is told to stop, and then ends what it began.
async fn tell_chain(
    mut publisher: Publisher,
    topics: Topics,
    contents: Arc<Contents>,
    options: Options,
    progress: Arc<Progress>,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> anyhow::Result<Told> {
    let mut chain = Chain::new(options.seed);
    let mut poison = Vec::new();
    let mut due = tokio::time::interval(Duration::from_secs(1) / options.slots_per_second as u32);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut publish = async |events: Vec<Event>, publisher: &mut Publisher| {
        let mut records = Vec::new();
        for event in events {
            let told = contents.records(&topics, event);
            if matches!(event, Event::Poison { .. }) {
                poison.extend(told.last().cloned());
            }
            records.extend(told);
        }
        publisher.publish(records).await
    };
    while !*stopped.borrow() {
        due.tick().await;
        let stored = progress.stored_slot.load(Ordering::Relaxed);
        if stored > 0 && chain.slot() > stored + AHEAD_MAX {
            continue;
        }
        publish(chain.next(), &mut publisher).await?;
        progress.slot.store(chain.slot(), Ordering::Relaxed);
        progress.published.fetch_add(1, Ordering::Relaxed);
    }
    for events in chain.finish() {
        publish(events, &mut publisher).await?;
    }
    Ok(Told {
        publisher,
        last_slot: chain.slot(),
        truth: chain.truth,
        poison,
    })
}

/// What is stored so far, for the router's pace and for whoever watches.
async fn tell(door: Door, progress: Arc<Progress>) {
    let mut told = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let sql = "SELECT (SELECT sum(total_rows) FROM system.tables WHERE database = 'heliograph'), (SELECT max(slot) FROM slot_status)";
        if let Ok(answer) = door.ask(sql).await
            && let Some((rows, slot)) = String::from_utf8_lossy(&answer).trim_end().split_once('\t')
            && let (Ok(rows), Ok(slot)) = (rows.parse(), slot.parse())
        {
            progress.rows.store(rows, Ordering::Relaxed);
            progress.stored_slot.store(slot, Ordering::Relaxed);
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            eprintln!(
                "{} slots told, {} behind, {} rows",
                progress.published.load(Ordering::Relaxed),
                progress
                    .slot
                    .load(Ordering::Relaxed)
                    .saturating_sub(progress.stored_slot.load(Ordering::Relaxed)),
                progress.rows.load(Ordering::Relaxed)
            );
        }
    }
}

fn wait_for<T>(
    task: tokio::task::JoinHandle<T>,
    stage: &mut Stage,
    runtime: &tokio::runtime::Runtime,
    progress: &Progress,
) -> anyhow::Result<T> {
    while !task.is_finished() {
        stage::pause(Duration::from_millis(50), progress)?;
        stage.replace_one_that_ended()?;
    }
    Ok(runtime.block_on(task)?)
}

/// Waits until the fate of every block is stored. `false`: it does not come.
fn drain(
    door: &Door,
    stage: &mut Stage,
    truth: &Truth,
    progress: &Progress,
) -> anyhow::Result<bool> {
    let wanted = format!("{}\t{}", truth.finals.len(), truth.abandoned.len());
    let sql = "SELECT countIf(status = 'finalized'), countIf(status = 'abandoned') FROM slot_status FINAL";
    let (mut seen, mut changed) = (String::new(), Instant::now());
    while changed.elapsed() < PATIENCE {
        stage::pause(Duration::from_millis(100), progress)?;
        stage.replace_one_that_ended()?;
        let Ok(now) = door.text(sql) else { continue };
        if now == wanted {
            return Ok(true);
        }
        if now != seen {
            (seen, changed) = (now, Instant::now());
        }
    }
    eprintln!("finalized and abandoned blocks: {seen:?} are stored, {wanted:?} were told");
    Ok(false)
}
