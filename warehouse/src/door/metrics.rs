//! What the door counts. Names are promises to dashboards.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::engine::ffi::Progress;

pub struct DoorMetrics {
    answered: IntCounter,
    failed: IntCounterVec,
    seconds: Histogram,
    read_rows: IntCounter,
    written_rows: IntCounter,
    written_bytes: IntCounter,
    /// Rows of the query log that were not written: its queue was full, or the insert failed.
    pub log_dropped: IntCounter,
    /// Engine sessions open, in use or idle.
    pub sessions: IntGauge,
}

impl DoorMetrics {
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let failed = IntCounterVec::new(
            Opts::new(
                "heliograph_door_queries_failed_total",
                "Queries refused or failed, by ClickHouse error code",
            ),
            &["code"],
        )?;
        registry.register(Box::new(failed.clone()))?;
        let buckets = vec![
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 30.0,
            60.0,
        ];
        let seconds = Histogram::with_opts(
            HistogramOpts::new(
                "heliograph_door_query_seconds",
                "From request to the first byte of its answer",
            )
            .buckets(buckets),
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let sessions = IntGauge::new(
            "heliograph_door_engine_sessions",
            "Engine sessions open, in use or idle",
        )?;
        registry.register(Box::new(sessions.clone()))?;
        Ok(Self {
            answered: counter(
                "heliograph_door_queries_answered_total",
                "Queries whose answer began",
            )?,
            read_rows: counter(
                "heliograph_door_rows_read_total",
                "Rows read from storage when answers began",
            )?,
            written_rows: counter(
                "heliograph_door_rows_written_total",
                "Rows written by inserts, materialized views included",
            )?,
            written_bytes: counter(
                "heliograph_door_bytes_written_total",
                "Bytes written by inserts, before compression",
            )?,
            log_dropped: counter(
                "heliograph_door_query_log_dropped_total",
                "Rows of the query log lost because its queue was full or their insert failed",
            )?,
            failed,
            seconds,
            sessions,
        })
    }

    pub fn answered(&self, progress: &Progress, elapsed: Duration) {
        self.answered.inc();
        self.seconds.observe(elapsed.as_secs_f64());
        self.read_rows.inc_by(progress.read_rows);
        self.written_rows.inc_by(progress.written_rows);
        self.written_bytes.inc_by(progress.written_bytes);
    }

    pub fn failed(&self, code: u32, elapsed: Duration) {
        self.failed.with_label_values(&[&code.to_string()]).inc();
        self.seconds.observe(elapsed.as_secs_f64());
    }
}
