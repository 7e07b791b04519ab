//! `--histogram-cost`: what the callback histogram costs the callbacks.
//!
//! Our plugin twice, with the histogram and without, each in a process of its own, driven in turn with the same callbacks: the
//! mean of one against the mean of the other, pair by pair. The order in a pair alternates, and the processes are started
//! anew several times, for where a process's memory happens to lie makes a difference of its own.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{
    broker::Broker,
    drive::{Pace, Plan, Until},
    host_process::{HostProcess, Measure},
    probe::TotalTime,
    rounds::settle,
    subject::{Settings, Subject},
    table,
};
use crate::report::{Check, Report};

/// Pairs before both processes are started anew.
const PAIRS_PER_START: usize = 10;
/// The promise.
const SHARE_PERCENT_MAX: f64 = 2.0;

pub struct Options<'a> {
    pub plugin: &'a Path,
    pub blocks: PathBuf,
    pub pairs: usize,
    /// Per round, at least.
    pub transactions: usize,
}

/// Both means of one pair, in nanoseconds, the reading of the clock around each callback taken off.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pair {
    timed: f64,
    untimed: f64,
}

impl Pair {
    fn share_percent(self) -> f64 {
        (self.timed - self.untimed) * 100.0 / self.untimed
    }
}

pub fn run(options: &Options<'_>, broker: &Broker, scratch: &Path) -> anyhow::Result<Report> {
    let subject = |name: &str, callback_times: bool| {
        let settings = Settings {
            brokers: broker.address().into(),
            others: json!({"metrics": {"callback_times": callback_times}}),
        };
        Subject::ours(name, options.plugin, scratch, &settings)
    };
    let subjects = [subject("timed", true)?, subject("untimed", false)?];
    let (clock, _) = table::timer_cost();
    let mut pairs = Vec::new();
    while pairs.len() < options.pairs.max(1) {
        let mut stands = Vec::new();
        for subject in &subjects {
            let host = HostProcess::start(subject, &options.blocks, scratch, None)?;
            stands.push((subject, host));
        }
        let plan = plan(options, stands[0].1.transactions);
        let measure = |(subject, host): &mut (&Subject, HostProcess)| {
            let round = host.round(plan, Measure::Total)?;
            settle(host.pid(), subject);
            anyhow::Ok(round.total)
        };
        for stand in &mut stands {
            measure(stand)?;
        }
        for nth in 0..PAIRS_PER_START.min(options.pairs.max(1) - pairs.len()) {
            let first = nth % 2;
            let one = measure(&mut stands[first])?;
            let other = measure(&mut stands[1 - first])?;
            let (timed, untimed) = if first == 0 {
                (one, other)
            } else {
                (other, one)
            };
            pairs.push(Pair {
                timed: mean(timed, clock),
                untimed: mean(untimed, clock),
            });
        }
        for (_, host) in stands {
            host.stop()?;
        }
        eprintln!("{} of {} pairs", pairs.len(), options.pairs.max(1));
    }
    Ok(report(options, clock, &pairs))
}

fn plan(options: &Options<'_>, transactions_per_pass: usize) -> Plan {
    let passes = options.transactions.div_ceil(transactions_per_pass.max(1));
    Plan {
        threads: 1,
        pace: Pace::Busy,
        until: Until::Passes(passes as u64),
        touched: true,
    }
}

fn mean(total: TotalTime, clock: u64) -> f64 {
    total.nanoseconds as f64 / total.callbacks.max(1) as f64 - clock as f64
}

fn report(options: &Options<'_>, clock: u64, pairs: &[Pair]) -> Report {
    let share = middle(pairs.iter().map(|pair| pair.share_percent()).collect());
    let untimed = middle(pairs.iter().map(|pair| pair.untimed).collect());
    println!(
        "callbacks with their histogram against the same without it, {} pairs of rounds: {:+.2} % ({:+.2} % to {:+.2} %, 95 % of \
         medians) of {:.0} ns on average",
        pairs.len(),
        share.median,
        share.from,
        share.to,
        untimed.median
    );
    let mut report = Report::new(
        "plugin",
        json!({
            "mode": "histogram-cost", "blocks": options.blocks, "pairs": pairs.len(),
            "transactions": options.transactions, "timer_p50_ns": clock,
            "pairs_per_start": PAIRS_PER_START,
        }),
    );
    report.figure("callback_mean_ns_without", untimed.median);
    report.figure("histogram_share_percent", share.median);
    report.figure("histogram_share_percent_95", json!([share.from, share.to]));
    report.checks.push(Check::at_most(
        "histogram_share_of_callbacks_percent",
        (share.median * 100.0).round() / 100.0,
        SHARE_PERCENT_MAX,
    ));
    report
}

/// A median and where it lies with 95 % confidence, by order statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Middle {
    median: f64,
    from: f64,
    to: f64,
}

fn middle(mut values: Vec<f64>) -> Middle {
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len();
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    // 1.96 standard deviations of a binomial with chance one half.
    let half_width = (0.98 * (count as f64).sqrt()).ceil() as usize;
    Middle {
        median: at(count / 2),
        from: at((count / 2).saturating_sub(half_width)),
        to: at((count / 2 + half_width).min(count.saturating_sub(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_the_callback_without_the_histogram() {
        let pair = Pair {
            timed: 204.0,
            untimed: 200.0,
        };
        assert_eq!(pair.share_percent(), 2.0);
        let total = TotalTime {
            nanoseconds: 25_000,
            callbacks: 100,
            left_out: 3,
        };
        assert_eq!(mean(total, 50), 200.0);
    }

    #[test]
    fn a_median_lies_between_its_bounds() {
        let middle = middle((0..100).rev().map(f64::from).collect());
        assert_eq!((middle.from, middle.median, middle.to), (40.0, 50.0, 60.0));
        let one = super::middle(vec![3.0]);
        assert_eq!((one.from, one.median, one.to), (3.0, 3.0, 3.0));
    }
}
