//! The metrics page: Prometheus' text format.

use super::*;

impl Counters {
    /// Prometheus text format, version 0.0.4. Names are promises: add, never repurpose.
    pub fn render(&self, name: &str) -> String {
        let mut page = Page {
            text: String::with_capacity(4096),
            instance: escape(name),
        };
        page.family(
            "callbacks_total",
            "counter",
            "Callbacks from the validator that report something to record.",
        );
        for kind in OBSERVED {
            page.value(
                "callbacks_total",
                &[("kind", kind.as_str())],
                self.callbacks_of(kind),
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
        let plain: [(&str, &str, &str, &Count); 27] = [
            (
                "lost_unplaced_total",
                "counter",
                "Of the lost, those the newest slot's seals state instead of their own.",
                &self.lost_unplaced,
            ),
            (
                "lost_beside_total",
                "counter",
                "Of the lost, those of no block (deshredded transactions, contact info), which no seal states.",
                &self.lost_beside,
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
                "copies_total",
                "counter",
                "Copies of callbacks that more than one output records.",
                &self.copies,
            ),
            (
                "spill_age_seconds",
                "gauge",
                "Age of the oldest record that waits on disk.",
                &self.spill_age_seconds,
            ),
            (
                "recovered_total",
                "counter",
                "Records taken over from the memory of an instance that was killed.",
                &self.recovered,
            ),
            (
                "predecessor_lost_total",
                "counter",
                "What a killed instance had counted as lost, and its records that could not be taken over.",
                &self.predecessor_lost,
            ),
            (
                "killed_lost_total",
                "counter",
                "Lost by all instances that were killed one after the other before this one, the last of them included.",
                &self.killed_lost,
            ),
            (
                "queue_survives_kill",
                "gauge",
                "1 when the queue lies in named memory and outlives the validator.",
                &self.queue_named,
            ),
            (
                "filter_generation",
                "gauge",
                "How often filters were read anew since loading.",
                &self.filter_generation,
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
                "dropped_seals_total",
                "counter",
                "Seals given up because ring and disk were full for too long; readers tell their slots as gaps.",
                &self.seals_dropped,
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
        page.family(
            "filtered_total",
            "counter",
            "Callbacks that no output records.",
        );
        page.value("filtered_total", &[], self.filtered_total());
        page.family(
            "callback_seconds",
            "histogram",
            "Time in a callback; one in 64 is timed.",
        );
        for kind in OBSERVED {
            page.histogram(
                "callback_seconds",
                &[("kind", kind.as_str())],
                &self.durations[kind as usize],
            );
        }
        for (metric, help, histogram) in [
            (
                "kafka_delivery_seconds",
                "From hand-over to Kafka to its acknowledgement.",
                &self.kafka_latency,
            ),
            (
                "seal_lag_seconds",
                "From a block's metadata to the slot's first seal.",
                &self.seal_lag,
            ),
        ] {
            page.family(metric, "histogram", help);
            page.histogram(metric, &[], histogram);
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

    fn histogram(&mut self, metric: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let taken = histogram.take_stock();
        let bucket = format!("{metric}_bucket");
        let mut below = 0;
        for (seconds, count) in taken.buckets() {
            below += count;
            let bound = seconds.map_or_else(|| "+Inf".to_owned(), |seconds| format!("{seconds:e}"));
            let with_bound: Vec<(&str, &str)> = labels
                .iter()
                .copied()
                .chain([("le", bound.as_str())])
                .collect();
            self.value(&bucket, &with_bound, below);
        }
        self.value(&format!("{metric}_count"), labels, below);
        let _ = write!(
            self.text,
            "heliograph_plugin_{metric}_sum{{plugin=\"{}\"",
            self.instance
        );
        for (label, content) in labels {
            let _ = write!(self.text, ",{label}=\"{content}\"");
        }
        let _ = writeln!(self.text, "}} {:e}", taken.seconds());
    }
}

fn escape(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
