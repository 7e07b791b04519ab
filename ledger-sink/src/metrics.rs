//! What the ledger tells Prometheus. Names are promises.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

use crate::store::Written;

#[derive(Clone)]
pub struct Metrics {
    pub blocks: IntCounter,
    pub transactions: IntCounter,
    pub postings: IntCounter,
    pub reversed_blocks: IntCounter,
    pub repeated_blocks: IntCounter,
    pub broken_transactions: IntCounter,
    pub dead_letters: IntCounter,
    pub gaps: IntCounter,
    pub held_blocks: IntGauge,
    pub lag_offsets: IntGauge,
    pub slot: IntGauge,
    pub commit_seconds: Histogram,
}

impl Metrics {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let commit_seconds = Histogram::with_opts(HistogramOpts::new(
            "ledger_commit_seconds",
            "Time of one database transaction.",
        ))?;
        registry.register(Box::new(commit_seconds.clone()))?;
        Ok(Self {
            blocks: counter("ledger_blocks_total", "Blocks written.")?,
            transactions: counter("ledger_transactions_total", "Transactions written.")?,
            postings: counter(
                "ledger_postings_total",
                "Postings written, reversals excluded.",
            )?,
            reversed_blocks: counter(
                "ledger_reversed_blocks_total",
                "Written blocks that were abandoned and reversed.",
            )?,
            repeated_blocks: counter(
                "ledger_repeated_blocks_total",
                "Blocks met again and left alone.",
            )?,
            broken_transactions: counter(
                "ledger_broken_transactions_total",
                "Transactions that break an identity: recorded, not posted, dead-lettered.",
            )?,
            dead_letters: counter(
                "ledger_dead_letters_total",
                "Records put on the dead-letter topic.",
            )?,
            gaps: counter("ledger_gaps_total", "Gap events read.")?,
            held_blocks: gauge("ledger_held_blocks", "Blocks waiting to be confirmed.")?,
            lag_offsets: gauge(
                "ledger_lag_offsets",
                "Offsets between the reader and the end of the canonical topic.",
            )?,
            slot: gauge("ledger_slot", "Highest slot written.")?,
            commit_seconds,
        })
    }

    pub fn wrote(&self, written: Written) {
        self.blocks.inc_by(written.blocks);
        self.transactions.inc_by(written.transactions);
        self.postings.inc_by(written.postings);
        self.reversed_blocks.inc_by(written.reversed_blocks);
        self.repeated_blocks.inc_by(written.repeated_blocks);
    }
}
