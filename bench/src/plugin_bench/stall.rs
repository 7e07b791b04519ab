//! `--stall`: what the validator notices when Kafka stands still and the plugin's queue and spill are full.
//!
//! Healthy for a while; then the broker is stopped (SIGSTOP: it holds its connections and answers nothing), the plugin fills,
//! and only then the stall is measured; then the broker goes on, and every callback must be accounted for. Beside the
//! plugin's callbacks a thread reads the clock at the same rate and for as long: what it waits, the scheduler made it wait.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{
    broker::Broker,
    drive::{Pace, Plan, Until},
    histogram::Histogram,
    host_process::{HostOptions, HostProcess, Measure, Round},
    mix::Kind,
    plugin_metrics::{self, Balance},
    process_figures::resident_kib,
    subject::{Settings, Subject},
};
use crate::report::{Check, Report};

/// Small, so that it fills in seconds: the point is what happens when it is full. Yet a second's worth, so that a broker in
/// good health loses nothing.
const QUEUE_RECORDS: usize = 65_536;
const QUEUE_MEGABYTES: usize = 96;
const SPILL_MEGABYTES: usize = 64;
/// The plugin counts as full when this share of a second's callbacks is lost.
const FULL_SHARE: f64 = 0.9;
const FILL_LIMIT: Duration = Duration::from_secs(300);
const HEALTHY_SECONDS_MAX: u64 = 20;
const RECOVERY_LIMIT: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(250);

const P99_OF_HEALTHY: f64 = 1.5;
/// Above this, a callback was interrupted, or the plugin is at fault; the clock's reader tells which.
const LONG_NS: u64 = 50_000;
/// The last third of the stall against the first.
const GROWTH_MAX: f64 = 1.02;

pub struct Options<'a> {
    pub plugin: &'a Path,
    pub blocks: PathBuf,
    pub seconds: u64,
    pub events_per_second: u32,
}

/// What was seen.
struct Seen {
    healthy: Round,
    stalled: Round,
    /// Resident KiB over the stall.
    resident: Vec<u64>,
    /// How long until the plugin was full; `None` if it was not within the limit.
    filled_after: Option<Duration>,
    /// Before the stall, at its end, and after the recovery.
    before: Balance,
    full: Balance,
    after: Balance,
}

pub fn run(options: &Options<'_>, broker: &Broker, scratch: &Path) -> anyhow::Result<Report> {
    let Some(pid) = broker.pid() else {
        bail!("--stall stops the broker, so it must be the bench's own. Fix: leave out --brokers");
    };
    let settings = Settings {
        brokers: broker.address().into(),
        others: json!({
            "queue": {"records": QUEUE_RECORDS, "megabytes": QUEUE_MEGABYTES},
            "spill": {"megabytes": SPILL_MEGABYTES},
        }),
    };
    let subject = Subject::ours("heliograph", options.plugin, scratch, &settings)?;
    let seen = observe(options, &subject, pid, scratch)?;
    print(options, &seen);
    Ok(report(options, &seen))
}

fn observe(
    options: &Options<'_>,
    subject: &Subject,
    broker: u32,
    scratch: &Path,
) -> anyhow::Result<Seen> {
    let address = subject.metrics.context("our plugin tells its metrics")?;
    let balance = || plugin_metrics::read(address).context("the plugin's /metrics");
    let plan = |milliseconds| Plan {
        threads: 1,
        pace: Pace::PerSecond(options.events_per_second),
        until: Until::Milliseconds(milliseconds),
        touched: false,
    };
    let mut host = HostProcess::start(subject, &options.blocks, scratch, &HostOptions::default())?;
    eprintln!("warming");
    let warm = host.round(plan(3_000), Measure::Times)?;
    let beside = Measure::TimesBesideFloor(warm.latencies.all().mean());
    let healthy_seconds = options.seconds.clamp(1, HEALTHY_SECONDS_MAX);
    eprintln!("healthy for {healthy_seconds} s");
    let healthy = host.round(plan(healthy_seconds * 1_000), beside)?;
    let before = balance()?;

    let stopped = Stopped::stop(broker)?;
    eprintln!("the broker stands still; filling");
    let filling = Instant::now();
    let mut filled_after = None;
    while filled_after.is_none() && filling.elapsed() < FILL_LIMIT {
        let lost = balance()?.lost;
        let round = host.round(plan(1_000), Measure::Times)?;
        let share = (balance()?.lost - lost) as f64 / round.driven.callbacks.max(1) as f64;
        if share >= FULL_SHARE {
            filled_after = Some(filling.elapsed());
        }
    }
    eprintln!(
        "full after {filled_after:?}; measuring for {} s",
        options.seconds
    );
    host.begin(plan(options.seconds * 1_000), beside)?;
    let (stalled, resident) = sampled(host.pid(), || host.answer::<Round>());
    let stalled = stalled?;
    let full = balance()?;
    stopped.go_on();

    eprintln!("the broker goes on; waiting until every callback is accounted for");
    let begin = Instant::now();
    let mut after = balance()?;
    while begin.elapsed() < RECOVERY_LIMIT && !(after.is_settled() && after.spill_pending == 0) {
        thread::sleep(LOOK);
        after = balance()?;
    }
    host.stop()?;
    Ok(Seen {
        healthy,
        stalled,
        resident,
        filled_after,
        before,
        full,
        after,
    })
}

/// What `work` returns, and the process's memory while it lasted.
fn sampled<T>(pid: u32, work: impl FnOnce() -> T) -> (T, Vec<u64>) {
    let (ended, samples) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                if let Ok(mut samples) = samples.lock() {
                    samples.push(resident_kib(pid));
                }
                thread::sleep(LOOK);
            }
        });
        let outcome = work();
        ended.store(true, Ordering::Release);
        outcome
    });
    (outcome, samples.into_inner().unwrap_or_default())
}

/// A broker that stands still until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn stop(pid: u32) -> anyhow::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.context("the broker's process id")?;
        kill_process(pid, Signal::STOP).context("stopping the broker")?;
        Ok(Self(pid))
    }

    fn go_on(self) {
        drop(self);
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // A broker that is gone needs no signal.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Means of the first and the last third.
fn thirds(samples: &[u64]) -> (f64, f64) {
    let third = (samples.len() / 3).max(1).min(samples.len());
    let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len().max(1) as f64;
    (
        mean(&samples[..third]),
        mean(&samples[samples.len() - third..]),
    )
}

fn print(options: &Options<'_>, seen: &Seen) {
    println!(
        "{} callbacks/s; queue {QUEUE_RECORDS} records and {QUEUE_MEGABYTES} MiB, spill {SPILL_MEGABYTES} MiB; stalled for {} s",
        options.events_per_second, options.seconds
    );
    println!(
        "{:<28}{:>12}{:>10}{:>10}{:>12}{:>14}",
        "ns", "count", "p50", "p99", "max", "above 50 µs"
    );
    let row = |name: &str, of: &Histogram| {
        println!(
            "{name:<28}{:>12}{:>10}{:>10}{:>12}{:>14}",
            of.count(),
            of.quantile(0.5),
            of.quantile(0.99),
            of.max(),
            of.above(LONG_NS)
        );
    };
    row("healthy: callbacks", &seen.healthy.latencies.all());
    row("healthy: clock's reader", &seen.healthy.floor);
    row("stalled: callbacks", &seen.stalled.latencies.all());
    row("stalled: clock's reader", &seen.stalled.floor);
    for kind in [
        Kind::Account165,
        Kind::VoteTransaction,
        Kind::NonVoteTransaction,
    ] {
        row(
            &format!("stalled: {}", kind.as_str()),
            seen.stalled.latencies.of(kind),
        );
    }
    let (first, last) = thirds(&seen.resident);
    println!("resident KiB, first and last third of the stall: {first:.0}, {last:.0}");
    for (when, balance) in [
        ("before", seen.before),
        ("full", seen.full),
        ("after", seen.after),
    ] {
        println!(
            "{when:<8}callbacks {:>12}  delivered {:>12}  in the spill {:>9}  lost {:>12}",
            balance.callbacks, balance.delivered, balance.spill_pending, balance.lost
        );
    }
}

fn report(options: &Options<'_>, seen: &Seen) -> Report {
    let mut report = Report::new(
        "plugin --stall",
        json!({
            "blocks": options.blocks, "seconds": options.seconds,
            "events_per_second": options.events_per_second,
            "queue_records": QUEUE_RECORDS, "queue_megabytes": QUEUE_MEGABYTES,
            "spill_megabytes": SPILL_MEGABYTES, "account_mix": super::table::mix(),
        }),
    );
    let (healthy, stalled) = (seen.healthy.latencies.all(), seen.stalled.latencies.all());
    let figures = |of: &Histogram| {
        json!({
            "count": of.count(), "p50_ns": of.quantile(0.5), "p99_ns": of.quantile(0.99),
            "max_ns": of.max(), "above_50_us": of.above(LONG_NS),
        })
    };
    report.figure("healthy", figures(&healthy));
    report.figure("healthy_floor", figures(&seen.healthy.floor));
    report.figure("stalled", figures(&stalled));
    report.figure("stalled_floor", figures(&seen.stalled.floor));
    let kinds: serde_json::Map<_, _> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let both = json!({
                "healthy": figures(seen.healthy.latencies.of(kind)),
                "stalled": figures(seen.stalled.latencies.of(kind)),
            });
            (kind.as_str().to_owned(), both)
        })
        .collect();
    report.figure("kinds", kinds);
    report.figure(
        "filled_after_seconds",
        seen.filled_after.map(|after| after.as_secs_f64()),
    );
    let (first, last) = thirds(&seen.resident);
    report.figure("resident_kib_first_third", first);
    report.figure("resident_kib_last_third", last);
    report.figure("callbacks", seen.after.callbacks);
    report.figure("delivered", seen.after.delivered);
    report.figure("in_spill", seen.after.spill_pending);
    report.figure("lost", seen.after.lost);

    report.checks.push(Check::at_most(
        "lost_while_healthy",
        seen.before.lost as f64,
        0.0,
    ));
    // Nothing else than what the spill holds says that it was used at all.
    let full = seen.filled_after.is_some() && seen.full.spill_pending > 0;
    report.checks.push(Check::at_least(
        "queue_and_spill_were_full",
        f64::from(u8::from(full)),
        1.0,
    ));
    let ratio = stalled.quantile(0.99) as f64 / healthy.quantile(0.99).max(1) as f64;
    report.checks.push(Check::at_most(
        "p99_of_healthy",
        (ratio * 1000.0).round() / 1000.0,
        P99_OF_HEALTHY,
    ));
    report.checks.push(Check::at_most(
        "max_ns_or_scheduler",
        stalled.max() as f64,
        seen.stalled.floor.max().max(LONG_NS) as f64,
    ));
    let growth = if first > 0.0 { last / first } else { 1.0 };
    report.checks.push(Check::at_most(
        "resident_growth",
        (growth * 1000.0).round() / 1000.0,
        GROWTH_MAX,
    ));
    let unaccounted = seen.after.callbacks.abs_diff(seen.after.accounted());
    report.checks.push(Check::at_most(
        "unaccounted_callbacks",
        unaccounted as f64,
        0.0,
    ));
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirds_are_means_of_the_ends() {
        assert_eq!(thirds(&[10, 20, 0, 0, 30, 50]), (15.0, 40.0));
        assert_eq!(thirds(&[7]), (7.0, 7.0));
        assert_eq!(thirds(&[]), (0.0, 0.0));
    }
}
