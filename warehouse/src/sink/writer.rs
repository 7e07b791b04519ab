//! Stores one batch: plan, check, delete, insert, done. Every step may be repeated; together they count once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use event_schema::{Commitment, Slot};
use futures::future::try_join_all;

use crate::decode::idl::Idls;

use super::{
    decided::Told,
    journal::{Done, Journal, JournalError, Plan, now_ms},
    metrics::SinkMetrics,
    native::{Millis, Seconds, TableBlock},
    planner::{Batch, gap_reason},
    rows::BlockRows,
    store::Store,
    tables::{SlotStatusRow, StreamGapRow},
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// See the module.
pub struct BatchWriter {
    pub store: Store,
    pub journal: Journal,
    pub metrics: SinkMetrics,
    pub idls: Arc<Idls>,
}

impl BatchWriter {
    /// Returns when the batch is stored whole. `before` and `after`: what is decided while it is being stored, and then;
    /// without `before`, its plan is in the journal already.
    pub async fn commit(
        &self,
        plan: &Plan,
        batch: Batch,
        before: Option<Told>,
        after: Told,
    ) -> Result<(), JournalError> {
        let started = Instant::now();
        let (blocks, idls) = (batch.blocks.clone(), Arc::clone(&self.idls));
        // Built while the journal is asked.
        let building = tokio::task::spawn_blocking(move || {
            let mut rows = BlockRows::default();
            blocks.iter().for_each(|block| rows.add(block, &idls));
            (rows.tables(), Highest::of(&rows))
        });
        if let Some(before) = before {
            self.until_done("plan", || self.journal.planned(plan, &before))
                .await?;
        }
        self.until_done("owner", || self.journal.still_ours())
            .await?;
        self.delete(&batch.deletes).await?;
        let (tables, highest) = building
            .await
            .map_err(|error| JournalError::Damaged(format!("rows could not be built: {error}")))?;
        let (statuses, gaps) = (status_rows(&batch), gap_rows(&batch));
        let (statuses, gaps) = (TableBlock::of(&statuses), TableBlock::of(&gaps));
        let beside = tables.iter().chain([&gaps]);
        try_join_all(beside.map(|block| self.insert(block, plan))).await?;
        // Last, so that a slot with a status has its rows.
        self.insert(&statuses, plan).await?;
        let rows: usize = tables
            .iter()
            .chain([&gaps, &statuses])
            .map(|block| block.rows)
            .sum();
        let done = Done {
            rows: rows as u64,
            highest_slot: highest.slot,
            highest_block_time: highest.block_time,
        };
        self.until_done("done", || self.journal.done(plan, done, &after))
            .await?;
        let gauge = |slot: u64| i64::try_from(slot).unwrap_or(i64::MAX);
        self.metrics.decided_below_slot.set(gauge(after.below));
        self.metrics
            .rolled_below_slot
            .set(gauge(after.rolled_below));
        self.observe(&batch, done, started);
        Ok(())
    }

    /// Fenced: later, the slot may have another block's rows.
    async fn delete(&self, slots: &[Slot]) -> Result<(), JournalError> {
        if slots.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = slots.iter().map(|slot| slot.0.to_string()).collect();
        let list = list.join(", ");
        let fence = self.journal.fence();
        let tables = BlockRows::TABLES.iter().map(|table| {
            let statement = format!("DELETE FROM {table} WHERE slot IN ({list}) AND {fence}");
            async move {
                self.until_done("delete", || async {
                    Ok(self.store.execute(&statement).await?)
                })
                .await
            }
        });
        try_join_all(tables).await?;
        tracing::info!(slots = list, "abandoned blocks' rows were deleted");
        Ok(())
    }

    async fn insert(&self, block: &TableBlock, plan: &Plan) -> Result<(), JournalError> {
        if block.rows == 0 {
            return Ok(());
        }
        let token = plan.token(block.table);
        let fence = self.journal.fence();
        self.until_done(block.table, || async {
            Ok(self.store.insert_if(&fence, block, &token).await?)
        })
        .await?;
        self.metrics
            .rows
            .with_label_values(&[block.table])
            .inc_by(block.rows as u64);
        Ok(())
    }

    /// Repeats a step until it succeeds or no repetition can help. Steps are named in the log, once per outage.
    pub async fn until_done<T, F>(
        &self,
        step: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, JournalError>
    where
        F: Future<Output = Result<T, JournalError>>,
    {
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            match attempt().await {
                Err(JournalError::Store(error)) if error.retry_helps() => {
                    self.metrics.retries.inc();
                    if !told {
                        tracing::warn!(step, %error, "trying again until it succeeds");
                        told = true;
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => {
                    if told && outcome.is_ok() {
                        tracing::info!(step, "succeeded after trying again");
                    }
                    return outcome;
                }
            }
        }
    }

    fn observe(&self, batch: &Batch, done: Done, started: Instant) {
        let metrics = &self.metrics;
        metrics.batches.inc();
        metrics
            .insert_seconds
            .observe(started.elapsed().as_secs_f64());
        let now = now_ms();
        for status in &batch.statuses {
            let gauge = match status.commitment {
                Commitment::Confirmed => {
                    metrics
                        .freshness
                        .observe((now - status.timestamp_ms).max(0) as f64 / 1000.0);
                    &metrics.confirmed_slot
                }
                Commitment::Finalized => &metrics.finalized_slot,
                Commitment::Abandoned => continue,
            };
            gauge.set(
                gauge
                    .get()
                    .max(i64::try_from(status.slot.0).unwrap_or(i64::MAX)),
            );
        }
        tracing::debug!(
            rows = done.rows,
            blocks = batch.blocks.len(),
            elapsed_ms = started.elapsed().as_millis() as u64,
            "batch stored"
        );
    }
}

/// The newest of a batch's blocks.
struct Highest {
    slot: Option<u64>,
    block_time: Option<Seconds>,
}

impl Highest {
    fn of(rows: &BlockRows) -> Self {
        let times = rows.blocks.iter().filter_map(|block| block.block_time);
        Self {
            slot: rows.blocks.iter().map(|block| block.slot).max(),
            block_time: times.max_by_key(|time| time.0),
        }
    }
}

fn status_rows(batch: &Batch) -> Vec<SlotStatusRow> {
    let row = |status: &super::planner::StatusChange| SlotStatusRow {
        slot: status.slot.0,
        blockhash: status.blockhash.0,
        status: match status.commitment {
            Commitment::Confirmed => "confirmed",
            Commitment::Finalized => "finalized",
            Commitment::Abandoned => "abandoned",
        },
        // All news of a slot are in one partition, so their offsets are their order.
        version: u64::try_from(status.offset).unwrap_or(0),
        recorded_at: Millis(status.timestamp_ms),
    };
    batch.statuses.iter().map(row).collect()
}

fn gap_rows(batch: &Batch) -> Vec<StreamGapRow> {
    let row = |found: &super::planner::FoundGap| StreamGapRow {
        first_slot: found.gap.first_slot,
        last_slot: found.gap.last_slot,
        records: Some(found.gap.records).filter(|records| *records > 0),
        reason: gap_reason(&found.gap),
        source: found.gap.source.clone(),
        detail: found.gap.detail.clone(),
        partition: found.partition,
        offset: u64::try_from(found.offset).unwrap_or(0),
        recorded_at: Millis(found.timestamp_ms),
    };
    batch.gaps.iter().map(row).collect()
}
