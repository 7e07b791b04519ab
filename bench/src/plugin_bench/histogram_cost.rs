//! `--histogram-cost`: what the callback histogram costs the callbacks.
//!
//! The plugin times one callback in 64 of each kind. Which ones is known, so one run shows both: the callbacks in turn
//! against the others of the same kind and size. The same is done with the histogram switched off, in a process of its own and
//! in turn: what is left there is the workload's, for those in turn are always the same ones, and is taken off.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{
    broker::Broker,
    drive::{Pace, Plan, Until},
    host_process::{HostOptions, HostProcess, Measure},
    probe::{TIMED_ONE_IN, Turns},
    rounds::settle,
    subject::{Settings, Subject},
    table,
};
use crate::report::{Check, Report};

/// The promise.
const SHARE_PERCENT_MAX: f64 = 2.0;

pub struct Options<'a> {
    pub plugin: &'a Path,
    pub blocks: PathBuf,
    pub rounds: usize,
    /// Per round, at least.
    pub transactions: usize,
}

pub fn run(options: &Options<'_>, broker: &Broker, scratch: &Path) -> anyhow::Result<Report> {
    let stand = |name: &str, callback_times: bool| {
        let settings = Settings {
            brokers: broker.address().into(),
            others: json!({"metrics": {"callback_times": callback_times}}),
        };
        let subject = Subject::ours(name, options.plugin, scratch, &settings)?;
        let host = HostProcess::start(&subject, &options.blocks, scratch, &HostOptions::default())?;
        anyhow::Ok((subject, host))
    };
    let mut stands = [stand("timed", true)?, stand("untimed", false)?];
    let plan = plan(options, stands[0].1.transactions);
    let mut measured = [Turns::default(), Turns::default()];
    for round in 0..=options.rounds.max(1) {
        for nth in [round % 2, 1 - round % 2] {
            let (subject, host) = &mut stands[nth];
            let turns = host.round(plan, Measure::Turns)?.turns;
            settle(host.pid(), subject);
            // The first warms caches and buffers.
            if round > 0 {
                measured[nth].add(&turns);
            }
        }
    }
    for (_, host) in stands {
        host.stop()?;
    }
    let (clock, _) = table::timer_cost();
    Ok(report(options, clock, &measured))
}

fn plan(options: &Options<'_>, transactions_per_pass: usize) -> Plan {
    let passes = options.transactions.div_ceil(transactions_per_pass.max(1));
    Plan {
        // Whose turn it is can only be told of one thread.
        threads: 1,
        pace: Pace::Busy,
        until: Until::Passes(passes as u64),
        touched: true,
    }
}

/// What those in turn take longer than the others of their kind.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Excess {
    /// Nanoseconds, on average over those in turn.
    each: f64,
    /// Nanoseconds of a callback that is not in turn, on average, without the bench's own reading of the clock.
    callback: f64,
}

impl Excess {
    fn of(turns: &Turns, clock: u64) -> Self {
        let (mut excess, mut in_turn_total) = (0.0, 0);
        let (mut time, mut callbacks) = (0.0, 0);
        for (_, [in_turn, others]) in turns.times() {
            if in_turn.callbacks > 0 && others.callbacks > 0 {
                excess += (in_turn.mean() - others.mean()) * in_turn.callbacks as f64;
                in_turn_total += in_turn.callbacks;
            }
            time += others.nanoseconds as f64;
            callbacks += others.callbacks;
        }
        Self {
            each: excess / in_turn_total.max(1) as f64,
            callback: time / callbacks.max(1) as f64 - clock as f64,
        }
    }
}

fn share_percent(timed: Excess, untimed: Excess) -> f64 {
    (timed.each - untimed.each) / TIMED_ONE_IN as f64 / timed.callback * 100.0
}

fn report(options: &Options<'_>, clock: u64, measured: &[Turns; 2]) -> Report {
    let [timed, untimed] = [0, 1].map(|nth| Excess::of(&measured[nth], clock));
    let share = share_percent(timed, untimed);
    println!(
        "one callback in {TIMED_ONE_IN} is timed by the plugin: {:.0} ns longer than the others ({:+.0} ns with the histogram off); \
         a callback takes {:.0} ns on average, so the histogram is {share:.2} % of it",
        timed.each, untimed.each, timed.callback
    );
    let mut report = Report::new(
        "plugin",
        json!({
            "mode": "histogram-cost", "blocks": options.blocks, "rounds": options.rounds,
            "transactions": options.transactions, "timer_p50_ns": clock,
        }),
    );
    report.figure("callback_mean_ns", timed.callback);
    report.figure("timed_callback_excess_ns", timed.each);
    report.figure("same_callbacks_excess_ns_without", untimed.each);
    report.checks.push(Check::at_most(
        "histogram_share_of_callbacks_percent",
        (share * 100.0).round() / 100.0,
        SHARE_PERCENT_MAX,
    ));
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_what_timing_adds_to_all_callbacks_together() {
        let timed = Excess {
            each: 70.0,
            callback: 200.0,
        };
        let untimed = Excess {
            each: 6.0,
            callback: 210.0,
        };
        // 64 ns, once in 64 callbacks of 200 ns.
        assert_eq!(share_percent(timed, untimed), 0.5);
    }

    #[test]
    fn nothing_measured_is_no_excess() {
        let excess = Excess::of(&Turns::default(), 0);
        assert_eq!((excess.each, excess.callback), (0.0, 0.0));
    }
}
