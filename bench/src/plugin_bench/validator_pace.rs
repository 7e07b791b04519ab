//! `--validator-pace`: what a plugin's own threads cost while nothing much happens, which is most of a validator's life.
//!
//! Slots of 240 callbacks each 400 ms: what a test validator reports under some load. The figures are processor time and
//! wake-ups per slot of each of the plugin's threads, and how long a record takes from its callback to a reader of the log.
//! All subjects are driven in turn, round after round, each in its own process; the reader is in the bench's.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Context;
use event_log::{LogReader, Record};
use event_schema::{Kind as RecordKind, ObservedHeader};
use prost::Message as _;
use serde_json::{Value, json};
use yellowstone_grpc_proto::geyser::{SubscribeUpdate, subscribe_update::UpdateOneof};

use super::{
    broker::Broker,
    drive::{Pace, Plan, Until, unix_micros},
    histogram::Histogram,
    host_process::{HostOptions, HostProcess, Measure, Round},
    mix::Kind,
    process_figures::{ThreadUse, cpu_seconds, thread_use},
    subject::Subject,
    throughput::reader,
    workload::SlotCut,
};
use crate::report::{Check, Report};

const IN_ONE_RECORD: [Kind; 4] = [
    Kind::AccountEmpty,
    Kind::Account165,
    Kind::Account1k,
    Kind::Account10k,
];
const POLL_RECORDS: usize = 4_096;
const POLL_WAIT: Duration = Duration::from_millis(20);
/// What is still under way when the driver ends is waited for.
const TAIL: Duration = Duration::from_millis(500);
/// One percent of a slot of one processor: what the threads of a guest may take before the validator's own slot time, which
/// may differ by one percent, could.
const CPU_SHARE_MAX: f64 = 0.01;
/// Of the way from a callback to a reader, in milliseconds: the quiet stream's target of the router's bench.
const LATENCY_P50_MAX_MS: f64 = 3.0;

pub struct Options {
    pub blocks: PathBuf,
    pub rounds: usize,
    pub seconds: u64,
    pub slot: SlotCut,
}

/// One subject while it is measured, and what was seen of it.
struct Stand<'a> {
    subject: &'a Subject,
    host: HostProcess,
    reader: Option<Box<dyn LogReader>>,
    seconds: f64,
    callbacks: u64,
    /// Of those, accounts that go in one record.
    accounts: u64,
    threads: BTreeMap<String, ThreadUse>,
    broker_cpu_seconds: f64,
    /// Of callbacks, in nanoseconds, and from a callback to the reader, in microseconds.
    callback: Histogram,
    latency_micros: Histogram,
}

/// The first subject is the one that has promised something.
pub fn run(
    options: &Options,
    subjects: &[Subject],
    broker: &Broker,
    scratch: &Path,
) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut stands = Vec::new();
    for subject in subjects {
        let host = HostProcess::start(
            subject,
            &options.blocks,
            scratch,
            &HostOptions {
                slot_callbacks: Some(options.slot.callbacks),
                ..HostOptions::default()
            },
        )?;
        let reader = match &subject.topic_prefix {
            Some(prefix) => Some(runtime.block_on(reader(broker.address(), prefix))?),
            None => None,
        };
        stands.push(Stand {
            subject,
            host,
            reader,
            seconds: 0.0,
            callbacks: 0,
            accounts: 0,
            threads: BTreeMap::new(),
            broker_cpu_seconds: 0.0,
            callback: Histogram::default(),
            latency_micros: Histogram::default(),
        });
    }
    for stand in &mut stands {
        eprintln!("warming {}", stand.subject.name);
        stand.drive(options, 3_000, broker, &runtime, false)?;
    }
    for round in 0..options.rounds.max(1) {
        eprintln!("round {} of {}", round + 1, options.rounds.max(1));
        for stand in &mut stands {
            stand.drive(options, options.seconds * 1_000, broker, &runtime, true)?;
        }
    }
    print(options, &stands);
    Ok(report(options, &stands))
}

impl Stand<'_> {
    fn drive(
        &mut self,
        options: &Options,
        milliseconds: u64,
        broker: &Broker,
        runtime: &tokio::runtime::Runtime,
        counts: bool,
    ) -> anyhow::Result<()> {
        let plan = Plan {
            threads: 1,
            pace: Pace::PerSecond(options.slot.callbacks_per_second()),
            until: Until::Milliseconds(milliseconds),
            touched: true,
        };
        let pid = self.host.pid();
        let before = thread_use(pid);
        let broker_before = broker.pid().map_or(0.0, cpu_seconds);
        self.host.begin(plan, Measure::Times)?;
        let (host, reader) = (&mut self.host, &mut self.reader);
        let mut latency = Histogram::default();
        let ended = AtomicBool::new(false);
        let round = thread::scope(|scope| {
            let answer = scope.spawn(|| {
                let answer = host.answer::<Round>();
                thread::sleep(TAIL);
                ended.store(true, Ordering::Release);
                answer
            });
            while !ended.load(Ordering::Acquire) {
                let Some(reader) = reader else {
                    thread::sleep(POLL_WAIT);
                    continue;
                };
                let records = runtime.block_on(reader.poll(POLL_RECORDS, POLL_WAIT))?;
                let now = unix_micros();
                records
                    .iter()
                    .filter_map(stamp)
                    .for_each(|stamp| latency.record(now.saturating_sub(stamp)));
            }
            answer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .context(self.subject.name.clone())?;
        if !counts {
            return Ok(());
        }
        for (name, now) in thread_use(pid) {
            let used = now.since(before.get(&name).copied().unwrap_or_default());
            self.threads.entry(name).or_default().add(used);
        }
        self.broker_cpu_seconds += broker.pid().map_or(0.0, cpu_seconds) - broker_before;
        self.seconds += round.driven.seconds;
        self.callbacks += round.driven.callbacks;
        self.accounts += IN_ONE_RECORD
            .map(|kind| round.latencies.of(kind).count())
            .iter()
            .sum::<u64>();
        self.callback.merge(&round.latencies.all());
        self.latency_micros.merge(&latency);
        Ok(())
    }

    fn slots(&self, options: &Options) -> f64 {
        self.seconds * 1_000.0 / options.slot.millis as f64
    }

    /// Of the threads that are not the driver's: those have the process's own name, or none.
    fn own_threads(&self) -> impl Iterator<Item = (&String, &ThreadUse)> {
        let host = host_thread_name();
        self.threads.iter().filter(move |(name, _)| **name != host)
    }

    fn own_cpu_millis_per_slot(&self, options: &Options) -> f64 {
        let seconds: f64 = self.own_threads().map(|(_, used)| used.cpu_seconds).sum();
        seconds * 1_000.0 / self.slots(options)
    }

    fn own_wakeups_per_slot(&self, options: &Options) -> f64 {
        let wakeups: u64 = self.own_threads().map(|(_, used)| used.wakeups).sum();
        wakeups as f64 / self.slots(options)
    }
}

/// As the kernel keeps it: 15 bytes.
fn host_thread_name() -> String {
    std::fs::read_to_string("/proc/self/comm")
        .map_or_else(|_| String::new(), |name| name.trim().into())
}

/// When the callback of this record was made, in microseconds since 1970, as [`super::drive`] writes it.
fn stamp(record: &Record) -> Option<u64> {
    let header = ObservedHeader::decode(&record.header).ok()?;
    if header.kind != RecordKind::Account {
        return None;
    }
    let update = SubscribeUpdate::decode(&record.value[..]).ok()?;
    match update.update_oneof? {
        UpdateOneof::Account(update) => Some(update.account?.write_version),
        _ => None,
    }
}

fn print(options: &Options, stands: &[Stand<'_>]) {
    println!(
        "slots of {} ms with about {} callbacks, {} rounds of {} s",
        options.slot.millis, options.slot.callbacks, options.rounds, options.seconds
    );
    println!(
        "{:<24}{:>12}{:>14}{:>14}{:>14}{:>24}{:>26}",
        "",
        "callbacks/s",
        "CPU ms/slot",
        "wake-ups/slot",
        "broker's CPU",
        "callback ns p50/p99",
        "to the reader ms p50/p99"
    );
    for stand in stands {
        let ms = |quantile| stand.latency_micros.quantile(quantile) as f64 / 1_000.0;
        println!(
            "{:<24}{:>12.0}{:>14.2}{:>14.0}{:>14.2}{:>24}{:>26}",
            stand.subject.name,
            stand.callbacks as f64 / stand.seconds,
            stand.own_cpu_millis_per_slot(options),
            stand.own_wakeups_per_slot(options),
            stand.broker_cpu_seconds * 1_000.0 / stand.slots(options),
            format!(
                "{} / {}",
                stand.callback.quantile(0.5),
                stand.callback.quantile(0.99)
            ),
            if stand.latency_micros.count() == 0 {
                "no reader".into()
            } else {
                format!("{:.2} / {:.2}", ms(0.5), ms(0.99))
            },
        );
    }
    for stand in stands {
        let threads: Vec<String> = stand
            .own_threads()
            .map(|(name, used)| {
                format!(
                    "{name} {:.2} ms, {:.0}",
                    used.cpu_seconds * 1_000.0 / stand.slots(options),
                    used.wakeups as f64 / stand.slots(options)
                )
            })
            .collect();
        println!(
            "{}: CPU and wake-ups per slot: {}",
            stand.subject.name,
            threads.join("; ")
        );
    }
}

fn report(options: &Options, stands: &[Stand<'_>]) -> Report {
    let mut report = Report::new(
        "plugin --validator-pace",
        json!({
            "blocks": options.blocks, "rounds": options.rounds, "seconds": options.seconds,
            "slot_callbacks": options.slot.callbacks, "slot_millis": options.slot.millis,
        }),
    );
    for stand in stands {
        let threads: serde_json::Map<String, Value> = stand
            .own_threads()
            .map(|(name, used)| {
                let figures = json!({
                    "cpu_ms_per_slot": used.cpu_seconds * 1_000.0 / stand.slots(options),
                    "wakeups_per_slot": used.wakeups as f64 / stand.slots(options),
                });
                (name.clone(), figures)
            })
            .collect();
        report.figure(
            &stand.subject.name,
            json!({
                "callbacks": stand.callbacks,
                "cpu_ms_per_slot": stand.own_cpu_millis_per_slot(options),
                "wakeups_per_slot": stand.own_wakeups_per_slot(options),
                "broker_cpu_ms_per_slot": stand.broker_cpu_seconds * 1_000.0 / stand.slots(options),
                "callback_p50_ns": stand.callback.quantile(0.5),
                "callback_p99_ns": stand.callback.quantile(0.99),
                "to_reader_p50_us": stand.latency_micros.quantile(0.5),
                "to_reader_p99_us": stand.latency_micros.quantile(0.99),
                "records_read": stand.latency_micros.count(),
                "threads": threads,
            }),
        );
    }
    if let Some(ours) = stands.first().filter(|stand| stand.reader.is_some()) {
        report.checks.push(Check::at_most(
            "accounts_not_read",
            ours.accounts.saturating_sub(ours.latency_micros.count()) as f64,
            0.0,
        ));
        let share = ours.own_cpu_millis_per_slot(options) / options.slot.millis as f64;
        report.checks.push(Check::at_most(
            "cpu_share_of_one_processor",
            (share * 10_000.0).round() / 10_000.0,
            CPU_SHARE_MAX,
        ));
        report.checks.push(Check::at_most(
            "to_reader_p50_ms",
            ours.latency_micros.quantile(0.5) as f64 / 1_000.0,
            LATENCY_P50_MAX_MS,
        ));
    }
    report
}
