//! The plugin's figures: plain atomics, raised by callbacks and threads, rendered as Prometheus text.
//!
//! The balance that must hold once all is quiet: for observations, `callbacks == delivered + spilled and not yet drained +
//! lost`. Seals are counted apart.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use event_schema::Kind;

/// Why an observation did not reach the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum LossReason {
    /// The queue held its number of records.
    QueueRecords,
    /// The queue held its number of bytes.
    QueueBytes,
    /// The record is larger than Kafka may accept.
    Oversize,
    /// The validator reported with an older struct version, or with a key of the wrong length.
    Unreadable,
    /// The callback panicked.
    Panic,
    /// Kafka refused the record for good.
    Delivery,
    /// The plugin was unloaded while Kafka was away and the spill could not take the rest.
    Unload,
}

impl LossReason {
    const ALL: [Self; 7] = [
        Self::QueueRecords,
        Self::QueueBytes,
        Self::Oversize,
        Self::Unreadable,
        Self::Panic,
        Self::Delivery,
        Self::Unload,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::QueueRecords => "queue_records",
            Self::QueueBytes => "queue_bytes",
            Self::Oversize => "oversize",
            Self::Unreadable => "unreadable",
            Self::Panic => "panic",
            Self::Delivery => "delivery",
            Self::Unload => "unload",
        }
    }
}

#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module. One per plugin instance: two instances in one process do not mix.
#[derive(Debug, Default)]
pub struct Counters {
    callbacks: [Count; 9],
    delivered: [Count; 9],
    lost: [Count; LossReason::ALL.len()],
    /// Losses whose slot could not be written down and which the newest slot's seals state.
    pub lost_unplaced: Count,
    pub panics: Count,
    /// Observations and seals of this instance written to the spill, in total.
    pub spilled: Count,
    pub spilled_seals: Count,
    /// Of those, how many have been handed on to Kafka.
    pub drained: Count,
    pub drained_seals: Count,
    /// Records an earlier instance left in the spill, handed on to Kafka.
    pub inherited: Count,
    pub inherited_lost: Count,
    pub spill_bytes: Count,
    pub spill_errors: Count,
    pub queue_records: Count,
    pub queue_bytes: Count,
    pub kafka_in_flight: Count,
    pub kafka_errors: Count,
    pub kafka_ready: Count,
    pub kafka_latency_micros: Count,
    pub seals_sealed: Count,
    pub seals_amended: Count,
    /// Records of slots so old that no seal counts them any more.
    pub unsealed: Count,
}

impl Counters {
    pub fn callback(&self, kind: Kind) {
        self.callbacks[kind as usize].add(1);
    }

    pub fn delivered(&self, kind: Kind) {
        self.delivered[kind as usize].add(1);
    }

    pub fn lost(&self, reason: LossReason, count: u64) {
        self.lost[reason as usize].add(count);
    }

    pub fn lost_for(&self, reason: LossReason) -> u64 {
        self.lost[reason as usize].get()
    }

    pub fn callbacks_total(&self) -> u64 {
        self.callbacks.iter().map(Count::get).sum()
    }

    /// Observations on the log, acknowledged by all replicas.
    pub fn delivered_total(&self) -> u64 {
        self.delivered.iter().map(Count::get).sum::<u64>() - self.delivered_seals()
    }

    pub fn delivered_seals(&self) -> u64 {
        self.delivered[Kind::Seal as usize].get()
    }

    pub fn lost_total(&self) -> u64 {
        self.lost.iter().map(Count::get).sum()
    }

    /// Observations of this instance that wait on disk.
    pub fn spill_pending(&self) -> u64 {
        self.spilled.get().saturating_sub(self.drained.get())
    }

    /// Prometheus text format, version 0.0.4. Names are promises: add, never repurpose.
    pub fn render(&self, name: &str) -> String {
        let mut page = Page {
            text: String::with_capacity(4096),
            instance: escape(name),
        };
        const OBSERVED: [Kind; 5] = [
            Kind::Account,
            Kind::Slot,
            Kind::Transaction,
            Kind::Entry,
            Kind::BlockMeta,
        ];
        page.family(
            "callbacks_total",
            "counter",
            "Callbacks from the validator that report something to record.",
        );
        for kind in OBSERVED {
            page.value(
                "callbacks_total",
                &[("kind", kind.as_str())],
                self.callbacks[kind as usize].get(),
            );
        }
        page.family(
            "delivered_total",
            "counter",
            "Records acknowledged by Kafka.",
        );
        for kind in OBSERVED.into_iter().chain([Kind::Seal]) {
            page.value(
                "delivered_total",
                &[("kind", kind.as_str())],
                self.delivered[kind as usize].get(),
            );
        }
        page.family(
            "lost_total",
            "counter",
            "Callbacks whose record did not and will not reach Kafka.",
        );
        for reason in LossReason::ALL {
            page.value(
                "lost_total",
                &[("reason", reason.as_str())],
                self.lost_for(reason),
            );
        }
        let plain: [(&str, &str, &str, &Count); 19] = [
            (
                "lost_unplaced_total",
                "counter",
                "Of the lost, those the newest slot's seals state instead of their own.",
                &self.lost_unplaced,
            ),
            (
                "panics_total",
                "counter",
                "Panics contained in callbacks.",
                &self.panics,
            ),
            (
                "spilled_total",
                "counter",
                "Observations written to the spill.",
                &self.spilled,
            ),
            (
                "spilled_seals_total",
                "counter",
                "Seals written to the spill.",
                &self.spilled_seals,
            ),
            (
                "drained_total",
                "counter",
                "Observations read back from the spill and handed to Kafka.",
                &self.drained,
            ),
            (
                "drained_seals_total",
                "counter",
                "Seals read back from the spill and handed to Kafka.",
                &self.drained_seals,
            ),
            (
                "inherited_total",
                "counter",
                "Records an earlier instance had spilled, handed to Kafka.",
                &self.inherited,
            ),
            (
                "inherited_lost_total",
                "counter",
                "Records an earlier instance had spilled that could not be handed to Kafka.",
                &self.inherited_lost,
            ),
            (
                "spill_bytes",
                "gauge",
                "Bytes on disk that wait for Kafka.",
                &self.spill_bytes,
            ),
            (
                "spill_errors_total",
                "counter",
                "Failed writes or reads of the spill.",
                &self.spill_errors,
            ),
            (
                "queue_records",
                "gauge",
                "Records between callbacks and worker.",
                &self.queue_records,
            ),
            (
                "queue_bytes",
                "gauge",
                "Bytes between callbacks and worker.",
                &self.queue_bytes,
            ),
            (
                "kafka_in_flight",
                "gauge",
                "Records handed to the Kafka client and not yet acknowledged.",
                &self.kafka_in_flight,
            ),
            (
                "kafka_errors_total",
                "counter",
                "Failed deliveries, refused sends and failed topic checks.",
                &self.kafka_errors,
            ),
            (
                "kafka_ready",
                "gauge",
                "1 when Kafka answered and has the topics.",
                &self.kafka_ready,
            ),
            (
                "kafka_delivery_micros_total",
                "counter",
                "Sum of microseconds from hand-over to acknowledgement.",
                &self.kafka_latency_micros,
            ),
            (
                "seals_total",
                "counter",
                "Slots sealed for the first time.",
                &self.seals_sealed,
            ),
            (
                "amended_seals_total",
                "counter",
                "Slots sealed again, because a record came late.",
                &self.seals_amended,
            ),
            (
                "unsealed_total",
                "counter",
                "Records of slots too old for a seal.",
                &self.unsealed,
            ),
        ];
        for (metric, kind, help, count) in plain {
            page.family(metric, kind, help);
            page.value(metric, &[], count.get());
        }
        page.text
    }
}

struct Page {
    text: String,
    instance: String,
}

impl Page {
    fn family(&mut self, metric: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.text,
            "# HELP heliograph_plugin_{metric} {help}\n# TYPE heliograph_plugin_{metric} {kind}"
        );
    }

    fn value(&mut self, metric: &str, labels: &[(&str, &str)], value: u64) {
        let _ = write!(
            self.text,
            "heliograph_plugin_{metric}{{plugin=\"{}\"",
            self.instance
        );
        for (label, content) in labels {
            let _ = write!(self.text, ",{label}=\"{content}\"");
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

fn escape(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
