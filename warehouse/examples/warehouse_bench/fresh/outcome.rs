//! What a run came to: for people, and as figures and checks.

use bench::{
    plugin_bench::histogram::Histogram,
    report::{Check, Report},
};
use serde_json::{Value, json};

use super::{Options, audit::Account, timeline::Timeline};

/// Of the warehouse's page.
const P50_MS: f64 = 250.0;
const P99_MS: f64 = 1_000.0;
/// Of the rate that is asked for: less is another measurement.
const RATE_KEPT: f64 = 0.99;

/// See the module.
#[derive(Debug)]
pub struct Outcome {
    pub transactions: u64,
    /// Of them simple votes, in percent.
    pub votes_percent: f64,
    /// As it was driven, per second.
    pub rate: f64,
    /// By how much a callback came later than planned at most, in nanoseconds.
    pub latest: u64,
    /// Callback of a transaction → its slot seen whole.
    pub from_callback: Histogram,
    /// Callback that confirms a slot → the slot seen whole.
    pub from_confirmation: Histogram,
    pub timeline: Timeline,
    pub account: Account,
    /// Lost by the plugin's own account.
    pub plugin_lost: u64,
    /// When the last slot was told as confirmed: transactions that were not seen yet.
    pub backlog: u64,
    /// Canonical records that the sink had not read then.
    pub sink_lag: f64,
    /// From the last callback until everything was seen.
    pub drain_seconds: f64,
    pub batches: f64,
    pub rows: f64,
    pub cpu: Vec<(&'static str, f64)>,
    pub cpu_span_seconds: f64,
    /// How long the client's questions took.
    pub answers: Histogram,
    pub answers_failed: u64,
    /// What a question costs the door, in milliseconds of processor time, after the run.
    pub question_cpu_ms: f64,
    /// Asked to end, the sink drained.
    pub stopped_well: bool,
}

impl Outcome {
    pub fn checks(&self, options: &Options) -> Vec<Check> {
        let from_callback = |quantile| rounded(ms(self.from_callback.quantile(quantile)));
        let account = &self.account;
        let dropped = account.lost + account.duplicated + account.foreign;
        vec![
            Check::at_most("callback_to_queryable_p50_ms", from_callback(0.5), P50_MS),
            Check::at_most("callback_to_queryable_p99_ms", from_callback(0.99), P99_MS),
            Check::at_most("lost_duplicated_or_foreign", dropped as f64, 0.0),
            Check::at_least(
                "transactions_per_second",
                rounded(self.rate),
                options.rate as f64 * RATE_KEPT,
            ),
            Check::at_least("sink_drained", f64::from(self.stopped_well), 1.0),
        ]
    }

    pub fn print(&self, options: &Options) {
        println!(
            "{} transactions ({:.0} % votes) in slots of {} ms at {:.0}/s, the latest callback {:.1} ms late; confirmed {} ms after a slot's end",
            self.transactions,
            self.votes_percent,
            options.slot_ms,
            self.rate,
            ms(self.latest),
            options.confirm_ms,
        );
        println!(
            "\n{:<48}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "ms", "mean", "p50", "p90", "p99", "max"
        );
        line("transaction's callback -> queryable", &self.from_callback);
        line("confirmed callback -> queryable", &self.from_confirmation);
        for (name, histogram) in &self.timeline.stages {
            line(&format!("  {name}"), histogram);
        }
        line(
            "  (the sink's batch: planned -> done)",
            &self.timeline.batches,
        );
        println!(
            "\nbatches {}, rows {} ({:.1} per transaction); at the last callback {} transactions were not queryable, the sink had {} records to read; {:.2} s later none",
            self.batches,
            self.rows,
            self.rows / self.transactions as f64,
            self.backlog,
            self.sink_lag,
            self.drain_seconds
        );
        let account = &self.account;
        println!(
            "driven {}, stored {}: lost {}, duplicated {}, foreign {}; lost by the plugin's account {}",
            account.driven,
            account.stored,
            account.lost,
            account.duplicated,
            account.foreign,
            self.plugin_lost
        );
        let cpu: Vec<String> = self
            .cpu
            .iter()
            .map(|(name, seconds)| format!("{name} {seconds:.1}"))
            .collect();
        println!(
            "processor seconds in {:.0} s: {}",
            self.cpu_span_seconds,
            cpu.join(", ")
        );
        println!(
            "the client asked {} times ({} failed), p50 {:.1} ms, p99 {:.1} ms; a question costs the door {:.1} ms of processor time\n",
            self.answers.count(),
            self.answers_failed,
            ms(self.answers.quantile(0.5)),
            ms(self.answers.quantile(0.99)),
            self.question_cpu_ms
        );
    }

    pub fn figures(&self, report: &mut Report) {
        report.figure("callback_to_queryable_ms", of(&self.from_callback));
        report.figure("confirmed_to_queryable_ms", of(&self.from_confirmation));
        let stages: serde_json::Map<String, Value> = self
            .timeline
            .stages
            .iter()
            .map(|(name, histogram)| ((*name).to_owned(), of(histogram)))
            .collect();
        report.figure("stages_ms", stages);
        report.figure("batch_ms", of(&self.timeline.batches));
        report.figure("transactions", self.transactions);
        report.figure("votes_percent", rounded(self.votes_percent));
        report.figure("transactions_per_second", rounded(self.rate));
        report.figure("latest_callback_ms", rounded(ms(self.latest)));
        report.figure("batches", self.batches);
        report.figure("rows", self.rows);
        report.figure(
            "at_the_last_callback",
            json!({"transactions_not_queryable": self.backlog, "sink_lag_records": self.sink_lag, "drain_seconds": self.drain_seconds}),
        );
        let account = &self.account;
        report.figure(
            "account",
            json!({"driven": account.driven, "stored": account.stored, "lost": account.lost,
                   "duplicated": account.duplicated, "foreign": account.foreign, "plugin_lost": self.plugin_lost}),
        );
        let cpu: serde_json::Map<String, Value> = self
            .cpu
            .iter()
            .map(|(name, seconds)| ((*name).to_owned(), json!(rounded(*seconds))))
            .collect();
        report.figure("cpu_seconds", cpu);
        report.figure("cpu_span_seconds", rounded(self.cpu_span_seconds));
        report.figure(
            "question",
            json!({"asked": self.answers.count(), "failed": self.answers_failed, "ms": of(&self.answers),
                   "door_cpu_ms": rounded(self.question_cpu_ms)}),
        );
    }
}

fn line(name: &str, histogram: &Histogram) {
    println!(
        "{name:<48}{:>10.1}{:>10.1}{:>10.1}{:>10.1}{:>10.1}",
        ms(histogram.mean()),
        ms(histogram.quantile(0.5)),
        ms(histogram.quantile(0.9)),
        ms(histogram.quantile(0.99)),
        ms(histogram.max())
    );
}

fn of(histogram: &Histogram) -> Value {
    let ms = |nanoseconds| rounded(ms(nanoseconds));
    json!({
        "count": histogram.count(), "mean": ms(histogram.mean()), "p50": ms(histogram.quantile(0.5)),
        "p90": ms(histogram.quantile(0.9)), "p99": ms(histogram.quantile(0.99)), "max": ms(histogram.max()),
    })
}

fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
