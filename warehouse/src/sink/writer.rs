//! Stores one batch: plan, check, delete, insert, done. Every step may be repeated; together they count once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    witness::Witness,
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
            let blocks: Vec<Block> = rows.tables().into_iter().zip(rows.witnesses()).collect();
            (blocks, Highest::of(&rows))
        });
        // Its plan was written by an earlier life, which may have tried any of its inserts.
        let repeated = before.is_none();
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
        let (statuses, gaps) = (statuses(&batch), gaps(&batch));
        let beside = tables.iter().chain([&gaps]);
        try_join_all(beside.map(|block| self.insert(block, plan, repeated))).await?;
        // Last, so that a slot with a status has its rows.
        self.insert(&statuses, plan, repeated).await?;
        let rows: usize = tables
            .iter()
            .chain([&gaps, &statuses])
            .map(|(block, _)| block.rows)
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

    /// `tried`: an attempt under the same token may have been made already.
    async fn insert(
        &self,
        (block, witness): &Block,
        plan: &Plan,
        tried: bool,
    ) -> Result<(), JournalError> {
        if block.rows == 0 {
            return Ok(());
        }
        let token = plan.token(block.table);
        let fence = self.journal.fence();
        let tried = AtomicBool::new(tried);
        self.until_done(block.table, || async {
            let tried = tried.swap(true, Ordering::Relaxed);
            self.store.insert_if(&fence, block, &token).await?;
            if tried {
                self.insert_lost(block, witness, &token).await?;
            }
            Ok(())
        })
        .await?;
        self.metrics
            .rows
            .with_label_values(&[block.table])
            .inc_by(block.rows as u64);
        Ok(())
    }

    /// ClickHouse may have taken a repetition for stored of which it has no rows: see [`super::witness`]. Those are inserted
    /// under a token of their own, once no attempt is left that could still bring them.
    async fn insert_lost(
        &self,
        block: &TableBlock,
        witness: &Witness,
        token: &str,
    ) -> Result<(), JournalError> {
        let table = block.table;
        let question = witness.question(table);
        let are_there = || self.store.row(&question, witness.parts());
        if are_there().await?.iter().all(|answer| answer == "1") {
            return Ok(());
        }
        // An attempt whose connection broke may still be between noting its token and storing its rows.
        let attempts = format!("startsWith(Settings['insert_deduplication_token'], '{token}')");
        self.store
            .wait_for_statements(&attempts, "this sink")
            .await?;
        let answers = are_there().await?;
        if answers.iter().all(|answer| answer == "1") {
            return Ok(());
        }
        let fence = self.journal.fence();
        if answers.iter().any(|answer| answer == "1") {
            let rows = witness.condition();
            let statement = format!("DELETE FROM {table} WHERE ({rows}) AND {fence}");
            self.store.execute(&statement).await?;
        }
        tracing::warn!(
            table,
            rows = block.rows,
            "ClickHouse knew the insert but not its rows, as after a kill: they are inserted again"
        );
        let again = format!("{token}-{}", uuid::Uuid::new_v4());
        Ok(self.store.insert_if(&fence, block, &again).await?)
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

/// Rows of one table, and what tells them from all others.
type Block = (TableBlock, Witness);

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

fn statuses(batch: &Batch) -> Block {
    let rows = status_rows(batch);
    let keys = rows.iter().map(|row| (row.slot, row.version));
    let witness = Witness::of_keys(["slot", "version"], keys);
    (TableBlock::of(&rows), witness)
}

fn gaps(batch: &Batch) -> Block {
    let rows = gap_rows(batch);
    let keys = rows.iter().map(|row| (row.partition, row.offset));
    let witness = Witness::of_keys(["partition", "offset"], keys);
    (TableBlock::of(&rows), witness)
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
