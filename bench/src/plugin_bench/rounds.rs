//! The timed pass: every subject in turn, every plan, round after round, so that a busy moment of the machine hits all of
//! them. And the pass that counts allocations, in processes of its own.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    allocations::counter_library,
    broker::Broker,
    drive::{Pace, Plan, Until},
    histogram::Histogram,
    host_process::{HostOptions, HostProcess, Measure, Round},
    mix::Kind,
    plugin_metrics::{self, Balance},
    probe::Allocated,
    process_figures::{cpu_seconds, peak_resident_kib},
    subject::Subject,
};

/// How long a plugin may take to bring away what one round gave it.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_STEP: Duration = Duration::from_millis(100);
/// A process that used no more than one tick of the clock in this many steps in a row rests.
const RESTING_STEPS: u32 = 3;
const RESTING_CPU_SECONDS: f64 = 0.011;

/// Which threads and paces are measured, and how long.
#[derive(Debug, Clone)]
pub struct Program {
    pub rounds: usize,
    pub threads: Vec<usize>,
    pub pause_micros: u64,
    /// See [`super::drive::Plan::touched`].
    pub touched: bool,
    /// Transactions per round, at least.
    pub transactions: usize,
}

/// One subject's figures for one plan.
#[derive(Debug)]
pub struct Cell {
    pub plan: Plan,
    /// By kind, as the medians over the rounds; the maximum is that of all rounds.
    pub kinds: Vec<Summary>,
    pub callbacks: u64,
    pub refused: u64,
    pub driving_seconds: f64,
    pub cpu_seconds: f64,
    /// Of the plugin's own account, where it has one.
    pub balance: Option<Balance>,
    pub wire_bytes: Option<u64>,
}

/// Nanoseconds of one kind of callback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// All of one subject.
#[derive(Debug)]
pub struct Outcome {
    pub name: String,
    pub cells: Vec<Cell>,
    pub peak_resident_kib: u64,
    /// By kind; `None` when the counter was not there.
    pub allocated: Option<Vec<Allocated>>,
}

impl Outcome {
    pub fn of(&self, kind: Kind, plan: Plan) -> Summary {
        self.cells
            .iter()
            .find(|cell| cell.plan == plan)
            .map(|cell| cell.kinds[kind as usize])
            .unwrap_or_default()
    }
}

/// What was driven.
#[derive(Debug, Clone, Copy)]
pub struct Recorded {
    pub blocks: usize,
    pub transactions: usize,
    pub votes: usize,
}

impl Program {
    pub fn plans(&self, transactions_per_pass: usize) -> Vec<Plan> {
        let passes = self.transactions.div_ceil(transactions_per_pass.max(1)) as u64;
        let paces = [Pace::Busy, Pace::PauseMicros(self.pause_micros)];
        self.threads
            .iter()
            .flat_map(|threads| {
                paces.map(|pace| Plan {
                    threads: *threads,
                    pace,
                    until: Until::Passes(passes),
                    touched: self.touched,
                })
            })
            .collect()
    }
}

/// A subject in its process while it is measured.
struct Stand<'a> {
    subject: &'a Subject,
    host: HostProcess,
    rounds: Vec<Vec<Taken>>,
}

struct Taken {
    round: Round,
    cpu_seconds: f64,
    balance: Option<Balance>,
    wire_bytes: Option<u64>,
}

/// Measures all subjects by the program.
pub fn measure(
    subjects: &[Subject],
    blocks: &Path,
    program: &Program,
    broker: &Broker,
    scratch: &Path,
    say: &dyn Fn(&str),
) -> anyhow::Result<(Recorded, Vec<Outcome>)> {
    let mut stands = Vec::new();
    for subject in subjects {
        let host = HostProcess::start(subject, blocks, scratch, &HostOptions::default())?;
        stands.push(Stand {
            subject,
            host,
            rounds: Vec::new(),
        });
    }
    let first = &stands.first().context("nothing to measure")?.host;
    let recorded = Recorded {
        blocks: first.blocks,
        transactions: first.transactions,
        votes: first.votes,
    };
    let plans = program.plans(recorded.transactions);
    for stand in &mut stands {
        stand.rounds.resize_with(plans.len(), Vec::new);
        // Buffers have grown and topics are there after the round with the most threads.
        say(&format!("warming {}", stand.subject.name));
        for plan in [plans.last(), plans.first()].into_iter().flatten() {
            stand.take(*plan, broker)?;
        }
    }
    for round in 0..program.rounds.max(1) {
        say(&format!("round {} of {}", round + 1, program.rounds.max(1)));
        for (index, plan) in plans.iter().enumerate() {
            for stand in &mut stands {
                let taken = stand.take(*plan, broker)?;
                stand.rounds[index].push(taken);
            }
        }
    }
    let mut outcomes = Vec::new();
    for stand in stands {
        outcomes.push(Outcome {
            name: stand.subject.name.clone(),
            peak_resident_kib: peak_resident_kib(stand.host.pid()),
            cells: plans
                .iter()
                .zip(&stand.rounds)
                .map(|(plan, taken)| cell(*plan, taken))
                .collect(),
            allocated: None,
        });
        stand.host.stop()?;
    }
    count_allocations(
        subjects,
        &mut outcomes,
        &plans,
        blocks,
        broker,
        scratch,
        say,
    )?;
    Ok((recorded, outcomes))
}

impl Stand<'_> {
    /// One round, and the wait until its records are away.
    fn take(&mut self, plan: Plan, broker: &Broker) -> anyhow::Result<Taken> {
        let pid = self.host.pid();
        let (cpu, wire) = (cpu_seconds(pid), broker.topic_bytes());
        let before = self.balance();
        let round = self.host.round(plan, Measure::Times)?;
        settle(pid, self.subject);
        Ok(Taken {
            round,
            cpu_seconds: cpu_seconds(pid) - cpu,
            balance: self
                .balance()
                .zip(before)
                .map(|(now, before)| now.since(&before)),
            wire_bytes: broker
                .topic_bytes()
                .zip(wire)
                .map(|(now, before)| now.saturating_sub(before)),
        })
    }

    fn balance(&self) -> Option<Balance> {
        plugin_metrics::read(self.subject.metrics?).ok()
    }
}

/// Waits until the process rests and, where the plugin tells, every callback has come to its end.
pub fn settle(pid: u32, subject: &Subject) {
    let begin = Instant::now();
    let (mut resting, mut used) = (0, cpu_seconds(pid));
    while begin.elapsed() < SETTLE_LIMIT {
        if let Some(address) = subject.metrics {
            match plugin_metrics::read(address) {
                Ok(balance) if balance.is_settled() => return,
                _ => thread::sleep(SETTLE_STEP),
            }
            continue;
        }
        thread::sleep(SETTLE_STEP);
        let now = cpu_seconds(pid);
        resting = if now - used < RESTING_CPU_SECONDS {
            resting + 1
        } else {
            0
        };
        used = now;
        if resting >= RESTING_STEPS {
            return;
        }
    }
}

fn cell(plan: Plan, taken: &[Taken]) -> Cell {
    let kinds = Kind::ALL
        .map(|kind| {
            let of = |figure: fn(&Histogram) -> u64| -> Vec<u64> {
                taken
                    .iter()
                    .map(|taken| figure(taken.round.latencies.of(kind)))
                    .collect()
            };
            Summary {
                count: of(Histogram::count).into_iter().sum(),
                p50: median(of(|histogram| histogram.quantile(0.5))),
                p99: median(of(|histogram| histogram.quantile(0.99))),
                max: of(Histogram::max).into_iter().max().unwrap_or(0),
            }
        })
        .into();
    let mut balance = None;
    for taken in taken {
        balance = add(balance, taken.balance);
    }
    Cell {
        plan,
        kinds,
        callbacks: taken.iter().map(|taken| taken.round.driven.callbacks).sum(),
        refused: taken.iter().map(|taken| taken.round.driven.refused).sum(),
        driving_seconds: taken.iter().map(|taken| taken.round.driven.seconds).sum(),
        cpu_seconds: taken.iter().map(|taken| taken.cpu_seconds).sum(),
        balance,
        wire_bytes: taken.iter().map(|taken| taken.wire_bytes).sum(),
    }
}

fn add(sum: Option<Balance>, part: Option<Balance>) -> Option<Balance> {
    let Some(part) = part else { return sum };
    let sum = sum.unwrap_or_default();
    Some(Balance {
        callbacks: sum.callbacks + part.callbacks,
        delivered: sum.delivered + part.delivered,
        lost: sum.lost + part.lost,
        ..part
    })
}

pub fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn count_allocations(
    subjects: &[Subject],
    outcomes: &mut [Outcome],
    plans: &[Plan],
    blocks: &Path,
    broker: &Broker,
    scratch: &Path,
    say: &dyn Fn(&str),
) -> anyhow::Result<()> {
    let Some(library) = counter_library() else {
        say(
            "allocations are not counted: the counter is not built. Fix: cargo build -p bench --example allocation_counter",
        );
        return Ok(());
    };
    let Some(plan) = plans.first() else {
        return Ok(());
    };
    let options = HostOptions {
        preload: Some(&library),
        ..HostOptions::default()
    };
    for (subject, outcome) in subjects.iter().zip(outcomes) {
        say(&format!("counting allocations of {}", subject.name));
        let mut stand = Stand {
            subject,
            host: HostProcess::start(subject, blocks, scratch, &options)?,
            rounds: Vec::new(),
        };
        for _ in 0..2 {
            stand.take(*plan, broker)?;
        }
        let round = stand.host.round(*plan, Measure::Allocations)?;
        outcome.allocated = Some(round.allocated);
        settle(stand.host.pid(), subject);
        stand.host.stop()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_every_number_of_threads_in_both_paces() {
        let program = Program {
            rounds: 5,
            threads: vec![1, 2],
            pause_micros: 100,
            touched: true,
            transactions: 1_000,
        };
        let plans = program.plans(300);
        assert_eq!(plans.len(), 4);
        assert!(plans.iter().all(|plan| plan.until == Until::Passes(4)));
        assert_eq!(plans[3].pace, Pace::PauseMicros(100));
        assert_eq!(plans[3].threads, 2);
    }

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median(vec![9, 1, 5]), 5);
        assert_eq!(median(vec![]), 0);
    }
}
