//! What the sink counts. Names are promises to dashboards.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

pub struct SinkMetrics {
    pub batches: IntCounter,
    pub rows: IntCounterVec,
    pub freshness: Histogram,
    pub insert_seconds: Histogram,
    pub dead_letters: IntCounter,
    pub retries: IntCounter,
    pub held_blocks: IntGauge,
    pub lag_records: IntGauge,
    pub confirmed_slot: IntGauge,
    pub finalized_slot: IntGauge,
    pub decided_below_slot: IntGauge,
    pub rolled_below_slot: IntGauge,
    pub windows_rolled: IntCounter,
}

impl SinkMetrics {
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
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
        // An edge on each objective: 1 s and 5 s of freshness.
        let histogram = |name: &str, help: &str| -> prometheus::Result<Histogram> {
            let buckets = vec![
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
            ];
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let rows = IntCounterVec::new(
            Opts::new("heliograph_warehouse_rows_total", "Rows stored, by table"),
            &["table"],
        )?;
        registry.register(Box::new(rows.clone()))?;
        Ok(Self {
            batches: counter("heliograph_warehouse_batches_total", "Batches stored whole")?,
            rows,
            freshness: histogram(
                "heliograph_warehouse_freshness_seconds",
                "From the router's confirmation of a block to its rows being queryable",
            )?,
            insert_seconds: histogram(
                "heliograph_warehouse_batch_seconds",
                "Time to store one batch",
            )?,
            dead_letters: counter(
                "heliograph_warehouse_dead_letters_total",
                "Records put aside as undecodable",
            )?,
            retries: counter(
                "heliograph_warehouse_retries_total",
                "Requests to ClickHouse that were tried again",
            )?,
            held_blocks: gauge(
                "heliograph_warehouse_held_blocks",
                "Blocks published and not yet confirmed",
            )?,
            lag_records: gauge(
                "heliograph_warehouse_lag_records",
                "Canonical records not read yet",
            )?,
            confirmed_slot: gauge(
                "heliograph_warehouse_confirmed_slot",
                "Highest confirmed slot stored",
            )?,
            finalized_slot: gauge(
                "heliograph_warehouse_finalized_slot",
                "Highest finalized slot recorded",
            )?,
            decided_below_slot: gauge(
                "heliograph_warehouse_decided_below_slot",
                "Slots below it are final; far behind the highest finalized one, questions for final rows are slow",
            )?,
            rolled_below_slot: gauge(
                "heliograph_warehouse_rolled_below_slot",
                "Windows of slots below it are rolled up; far behind the decided ones, volumes and candles are slow",
            )?,
            windows_rolled: counter(
                "heliograph_warehouse_windows_rolled_total",
                "Windows of slots rolled up, again ones too",
            )?,
        })
    }
}
