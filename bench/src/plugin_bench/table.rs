//! What the timed pass came to: for people, and as figures and checks.

use std::{fmt::Write as _, time::Instant};

use serde_json::{Value, json};

use super::{
    drive::{Pace, Plan},
    histogram::Histogram,
    mix::{ACCOUNTS_PER_CYCLE, Kind, SIZES},
    rounds::{Cell, Outcome},
};
use crate::report::{Check, Report};

/// Kinds with a promise: p50 and p99 in nanoseconds, the two readings of the clock included.
const PROMISED: [(Kind, u64, u64); 3] = [
    (Kind::Account165, 150, 2_000),
    (Kind::VoteTransaction, 700, 5_000),
    (Kind::NonVoteTransaction, 2_500, 15_000),
];
/// They hold with at most this many threads.
const PROMISED_THREADS_MAX: usize = 2;
const P50_OF_BASELINE: f64 = 0.4;
const P99_OF_BASELINE: f64 = 0.2;

/// What two readings of the clock cost when nothing is between them: p50 and p99 in nanoseconds.
pub fn timer_cost() -> (u64, u64) {
    let mut histogram = Histogram::default();
    for _ in 0..200_000 {
        let begin = Instant::now();
        histogram.record(begin.elapsed().as_nanos() as u64);
    }
    (histogram.quantile(0.5), histogram.quantile(0.99))
}

/// The mix of accounts in words.
pub fn mix() -> String {
    let shares = SIZES.map(|size| {
        let percent = size.share as f64 * 100.0 / ACCOUNTS_PER_CYCLE as f64;
        format!("{percent} % of {} B", size.bytes)
    });
    shares.join(", ")
}

pub fn plan_name(plan: Plan) -> String {
    let threads = plan.threads;
    match plan.pace {
        Pace::Busy => format!("busy_{threads}_threads"),
        Pace::PauseMicros(_) => format!("paced_{threads}_threads"),
        Pace::PerSecond(rate) => format!("{rate}_per_second_{threads}_threads"),
    }
}

/// The whole table.
pub fn text(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (index, plan) in plans(outcomes).into_iter().enumerate() {
        let _ = write!(text, "\n{:<22}", plan_name(plan));
        for outcome in outcomes {
            let _ = write!(text, " | {:^30}", outcome.name);
        }
        let _ = write!(text, "\n{:<22}", "ns per callback");
        for _ in outcomes {
            let _ = write!(text, " | {:>8} {:>9} {:>11}", "p50", "p99", "max");
        }
        text.push('\n');
        for kind in Kind::ALL {
            // Some only come to plugins that ask for them.
            if outcomes.iter().all(|of| of.of(kind, plan).count == 0) {
                continue;
            }
            let _ = write!(text, "{:<22}", kind.as_str());
            for outcome in outcomes {
                let of = outcome.of(kind, plan);
                let _ = match of.count {
                    0 => write!(text, " | {:>30}", "not asked for"),
                    _ => write!(text, " | {:>8} {:>9} {:>11}", of.p50, of.p99, of.max),
                };
            }
            text.push('\n');
        }
        for (what, figure) in RUN_FIGURES {
            let _ = write!(text, "{what:<22}");
            for outcome in outcomes {
                let _ = write!(text, " | {:>30}", figure(&outcome.cells[index]));
            }
            text.push('\n');
        }
    }
    let _ = write!(text, "\n{:<22}", "allocations/callback");
    for outcome in outcomes {
        let _ = write!(text, " | {:^30}", outcome.name);
    }
    text.push('\n');
    for kind in Kind::ALL {
        let callbacks = |outcome: &Outcome| {
            let allocated = outcome.allocated.as_ref();
            allocated.map_or(1, |allocated| allocated[kind as usize].callbacks)
        };
        if outcomes.iter().all(|outcome| callbacks(outcome) == 0) {
            continue;
        }
        let _ = write!(text, "{:<22}", kind.as_str());
        for outcome in outcomes {
            let stated = match &outcome.allocated {
                Some(_) if callbacks(outcome) == 0 => "not asked for".into(),
                Some(allocated) => {
                    let of = &allocated[kind as usize];
                    format!("{:.4} (most {})", of.per_callback(), of.most)
                }
                None => "not counted".into(),
            };
            let _ = write!(text, " | {stated:>30}");
        }
        text.push('\n');
    }
    let _ = write!(text, "{:<22}", "peak resident KiB");
    for outcome in outcomes {
        let _ = write!(text, " | {:>30}", outcome.peak_resident_kib);
    }
    text.push('\n');
    text
}

type RunFigure = (&'static str, fn(&Cell) -> String);

const RUN_FIGURES: [RunFigure; 5] = [
    ("callbacks (refused)", |cell| {
        format!("{} ({})", cell.callbacks, cell.refused)
    }),
    ("callbacks/s driven", |cell| {
        format!("{:.0}", cell.callbacks as f64 / cell.driving_seconds)
    }),
    ("CPU-s per million", |cell| {
        format!("{:.2}", cpu_per_million(cell))
    }),
    ("delivered, lost", |cell| match cell.balance {
        Some(balance) => format!("{}, {}", balance.delivered, balance.lost),
        None => "does not say".into(),
    }),
    ("bytes on the wire", |cell| match cell.wire_bytes {
        Some(bytes) => {
            let each = bytes as f64 / cell.callbacks.max(1) as f64;
            format!("{bytes} ({each:.0}/callback)")
        }
        None => "foreign broker".into(),
    }),
];

fn cpu_per_million(cell: &Cell) -> f64 {
    cell.cpu_seconds * 1e6 / cell.callbacks.max(1) as f64
}

fn plans(outcomes: &[Outcome]) -> Vec<Plan> {
    outcomes
        .first()
        .map(|outcome| outcome.cells.iter().map(|cell| cell.plan).collect())
        .unwrap_or_default()
}

/// Figures of every subject, and the checks of the one called `ours` against its promises and against `baseline`.
pub fn fill(report: &mut Report, outcomes: &[Outcome], ours: &str) {
    for outcome in outcomes {
        report.figure(&outcome.name, figures(outcome));
    }
    let find = |name: &str| outcomes.iter().find(|outcome| outcome.name == name);
    let Some(plugin) = find(ours) else { return };
    if let Some(allocated) = &plugin.allocated {
        let made: u64 = allocated.iter().map(|kind| kind.allocations).sum();
        report.checks.push(Check::at_most(
            "allocations_in_steady_callbacks",
            made as f64,
            0.0,
        ));
    }
    for plan in plans(outcomes) {
        if plan.threads > PROMISED_THREADS_MAX {
            continue;
        }
        for (kind, p50_max, p99_max) in PROMISED {
            let (of, name) = (plugin.of(kind, plan), plan_name(plan));
            let mut at_most = |figure: &str, value: f64, target: f64| {
                report.checks.push(Check::at_most(
                    format!("{figure}_{}_{name}", kind.as_str()),
                    value,
                    target,
                ));
            };
            at_most("p50_ns", of.p50 as f64, p50_max as f64);
            at_most("p99_ns", of.p99 as f64, p99_max as f64);
            if let Some(baseline) = find("baseline").map(|baseline| baseline.of(kind, plan)) {
                at_most(
                    "p50_of_baseline",
                    ratio(of.p50, baseline.p50),
                    P50_OF_BASELINE,
                );
                at_most(
                    "p99_of_baseline",
                    ratio(of.p99, baseline.p99),
                    P99_OF_BASELINE,
                );
            }
        }
    }
}

/// To three decimals.
pub fn ratio(value: u64, of: u64) -> f64 {
    (value as f64 * 1000.0 / of.max(1) as f64).round() / 1000.0
}

fn figures(outcome: &Outcome) -> Value {
    let mut cells = serde_json::Map::new();
    for cell in &outcome.cells {
        let mut kinds = serde_json::Map::new();
        for kind in Kind::ALL {
            let of = cell.kinds[kind as usize];
            kinds.insert(
                kind.as_str().into(),
                json!({"count": of.count, "p50_ns": of.p50, "p99_ns": of.p99, "max_ns": of.max}),
            );
        }
        cells.insert(
            plan_name(cell.plan),
            json!({
                "kinds": kinds,
                "callbacks": cell.callbacks,
                "refused": cell.refused,
                "driving_seconds": cell.driving_seconds,
                "cpu_seconds_per_million": cpu_per_million(cell),
                "delivered": cell.balance.map(|balance| balance.delivered),
                "lost": cell.balance.map(|balance| balance.lost),
                "wire_bytes": cell.wire_bytes,
            }),
        );
    }
    let allocated = outcome.allocated.as_ref().map(|allocated| {
        Kind::ALL
            .map(|kind| (kind.as_str().to_owned(), json!(allocated[kind as usize])))
            .into_iter()
            .collect::<serde_json::Map<_, _>>()
    });
    json!({"runs": cells, "allocations": allocated, "peak_resident_kib": outcome.peak_resident_kib})
}

/// One line per check.
pub fn checks(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let mark = if check.ok { "held  " } else { "missed" };
        let _ = writeln!(
            text,
            "{mark} {:<52} {:>14} {} {}",
            check.name, check.value, check.op, check.target
        );
    }
    text
}
