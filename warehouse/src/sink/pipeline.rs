//! Wiring: the log in, batches out. One loop owns the planner; one batch is stored at a time, and the log waits meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use event_log::{
    Action, EventLog, LogReader, LogWriter, Position, ReaderSpec, Record, Start, dead_letter,
};
use event_schema::Topics;
use service_host::Host;

use super::{
    config::SinkConfig,
    decided::Decided,
    journal::{Plan, now_ms},
    pace::Pace,
    planner::{Batch, Extents, Planner, Pushed},
    roller::Roller,
    writer::BatchWriter,
};

/// Longest wait for records when no batch is open.
const IDLE: Duration = Duration::from_millis(500);
/// How often a sink that stores nothing asks whether it is still the owner.
const OWNER: Duration = Duration::from_secs(5);
/// How often the log is asked for what is left to read: a question per partition, while nothing is read.
const LAG: Duration = Duration::from_secs(1);
/// Pause after the log did not answer.
const PAUSE: Duration = Duration::from_secs(1);

pub struct Pipeline {
    pub log: Arc<dyn EventLog>,
    pub topics: Topics,
    pub config: SinkConfig,
    pub writer: BatchWriter,
    pub host: Host,
}

/// Where the sink stands after its last batch.
struct Place {
    done: u64,
    extents: Extents,
    decided: Decided,
}

/// Why reading ended without an error.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Drained,
    /// The log failed in a way that a new reader may mend.
    ReaderLost,
}

impl Pipeline {
    /// Runs until drained.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let Some(partitions) = self.wait_for_topic().await? else {
            return Ok(());
        };
        let dead_letters = self.log.writer().await?;
        let resume = self
            .writer
            .until_done("journal", || self.writer.journal.resume())
            .await?;
        tracing::info!(
            batch = resume.done,
            unfinished = resume.unfinished.is_some(),
            "resuming"
        );
        let open = self
            .writer
            .until_done("open blocks", || {
                self.writer.journal.open_blocks(resume.told.below)
            })
            .await?;
        let mut place = Place {
            done: resume.done,
            extents: resume.extents,
            decided: Decided::new(partitions, resume.told, open),
        };
        if let Some(plan) = resume.unfinished
            && !self.replay(plan, &mut place, partitions).await?
        {
            return Ok(());
        }
        self.host.ready("log", true);
        self.host.started();
        let mut roller = Roller::new();
        loop {
            match self
                .follow(&mut place, &mut roller, partitions, dead_letters.as_ref())
                .await?
            {
                Ended::Drained => return Ok(()),
                Ended::ReaderLost => {
                    self.host.ready("log", false);
                    if self.drained_within(PAUSE).await {
                        return Ok(());
                    }
                    self.host.ready("log", true);
                }
            }
        }
    }

    /// The router creates the canonical topic; until then there is nothing to do but wait and say so.
    async fn wait_for_topic(&self) -> anyhow::Result<Option<u32>> {
        let mut told = false;
        loop {
            match self.log.partitions(&self.topics.canonical).await {
                Ok(partitions) => return Ok(Some(partitions)),
                Err(error @ event_log::Error::UnknownTopic { .. }) => {
                    if !told {
                        tracing::info!(%error, "waiting for the router to create the topic");
                    }
                }
                Err(error) if error.action() == Action::Retry => {
                    if !told {
                        tracing::warn!(%error, "waiting for the log");
                    }
                }
                Err(error) => return Err(error.into()),
            }
            told = true;
            if self.drained_within(PAUSE).await {
                return Ok(None);
            }
        }
    }

    async fn drained_within(&self, pause: Duration) -> bool {
        tokio::select! {
            () = self.host.drain() => true,
            () = tokio::time::sleep(pause) => false,
        }
    }

    async fn reader(
        &self,
        extents: &Extents,
        partitions: u32,
    ) -> event_log::Result<Box<dyn LogReader>> {
        let start = |partition: u32| {
            extents
                .get(&partition)
                .map_or(Start::Earliest, |extent| Start::At(extent.resume_at))
        };
        let partitions = (0..partitions)
            .map(|partition| (self.topics.canonical.clone(), partition, start(partition)))
            .collect();
        self.log
            .reader(ReaderSpec {
                partitions,
                read_committed: true,
            })
            .await
    }

    /// Repeats a batch that was planned and may be stored in part: the same records, so the same rows under the same tokens.
    /// `false`: asked to drain before it was done.
    async fn replay(&self, plan: Plan, place: &mut Place, partitions: u32) -> anyhow::Result<bool> {
        tracing::info!(batch = plan.id, "repeating the unfinished batch");
        let mut planner = Planner::new(&place.extents);
        let mut reader = loop {
            match self.reader(&place.extents, partitions).await {
                Ok(reader) => break reader,
                Err(error) if error.action() == Action::Retry => {
                    tracing::warn!(%error, "the log cannot be read");
                    if self.drained_within(PAUSE).await {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        let wanted = |position: &Position| {
            plan.extents
                .get(&position.partition)
                .is_some_and(|extent| position.offset < extent.applied_to)
        };
        while reader.positions().iter().any(wanted) {
            if self.host.draining() {
                return Ok(false);
            }
            let records = match reader.poll(self.config.poll_records, IDLE).await {
                Ok(records) => records,
                Err(error) if error.action() == Action::Retry => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for record in records.iter().filter(|record| wanted(&record.position)) {
                // Damaged records were put aside when the batch was planned.
                if planner.push(record) == Pushed::CommitFirst {
                    anyhow::bail!(
                        "batch {} of sink_batches cannot be rebuilt: it mixes deletes and inserts. It was written by another version; use that one once",
                        plan.id
                    );
                }
            }
        }
        let batch = planner.take_batch();
        self.store(place, plan, batch, true).await?;
        Ok(true)
    }

    async fn follow(
        &mut self,
        place: &mut Place,
        roller: &mut Roller,
        partitions: u32,
        dead_letters: &dyn LogWriter,
    ) -> anyhow::Result<Ended> {
        let mut planner = Planner::new(&place.extents);
        let mut reader = match self.reader(&place.extents, partitions).await {
            Ok(reader) => reader,
            Err(error) if error.action() == Action::Retry => {
                tracing::warn!(%error, "the log cannot be read");
                return Ok(Ended::ReaderLost);
            }
            Err(error) => return Err(error.into()),
        };
        let mut pace = Pace::new(Duration::from_millis(self.config.flush_ms));
        let mut due: Option<Instant> = None;
        let mut lag_told: Option<Instant> = None;
        let mut owner_asked = Instant::now();
        loop {
            let wait = due.map_or(IDLE, |due| {
                due.saturating_duration_since(Instant::now()).min(IDLE)
            });
            let polled = tokio::select! {
                () = self.host.drain() => None,
                polled = reader.poll(self.config.poll_records, wait) => Some(polled),
            };
            let Some(polled) = polled else {
                self.commit(&mut planner, place).await?;
                return Ok(Ended::Drained);
            };
            let records = match polled {
                Ok(records) => records,
                Err(error) if error.action() == Action::Retry => {
                    tracing::warn!(%error, "the log cannot be read");
                    return Ok(Ended::ReaderLost);
                }
                Err(error) => return Err(error.into()),
            };
            for record in &records {
                self.push(&mut planner, record, place, dead_letters).await?;
            }
            let now = Instant::now();
            due = pace.due(planner.batch(), now, now_ms());
            let is_full = planner.batch().transactions() >= self.config.batch_transactions;
            if due.is_some_and(|due| due <= now || is_full) {
                pace.begin(now);
                self.commit(&mut planner, place).await?;
                due = None;
                owner_asked = Instant::now();
            } else if owner_asked.elapsed() >= OWNER {
                self.writer
                    .until_done("owner", || self.writer.journal.still_ours())
                    .await?;
                owner_asked = Instant::now();
            }
            roller.step(&self.writer, &mut place.decided).await;
            self.writer.metrics.held_blocks.set(planner.held() as i64);
            if lag_told.is_none_or(|told| told.elapsed() >= LAG)
                && let Ok(lag) = reader.lag().await
            {
                lag_told = Some(Instant::now());
                self.writer
                    .metrics
                    .lag_records
                    .set(i64::try_from(lag).unwrap_or(i64::MAX));
            }
        }
    }

    async fn push(
        &self,
        planner: &mut Planner,
        record: &Record,
        place: &mut Place,
        dead_letters: &dyn LogWriter,
    ) -> anyhow::Result<()> {
        loop {
            match planner.push(record) {
                Pushed::Taken => return Ok(()),
                Pushed::CommitFirst => self.commit(planner, place).await?,
                Pushed::Damaged(reason) => {
                    tracing::warn!(position = %record.position, reason, "a record was put aside");
                    self.put_aside(record, &reason, dead_letters).await?;
                    return Ok(());
                }
            }
        }
    }

    async fn put_aside(
        &self,
        record: &Record,
        reason: &str,
        dead_letters: &dyn LogWriter,
    ) -> anyhow::Result<()> {
        loop {
            match dead_letters.append(vec![dead_letter(record, reason)]).await {
                Ok(_) => break,
                Err(error) if error.action() == Action::Retry => tokio::time::sleep(PAUSE).await,
                // The stream goes on: the record stays in the log, and the loss of its copy is told.
                Err(error) => {
                    tracing::error!(position = %record.position, %error, "a damaged record could not be copied to the dead letters");
                    break;
                }
            }
        }
        self.writer.metrics.dead_letters.inc();
        Ok(())
    }

    async fn commit(&self, planner: &mut Planner, place: &mut Place) -> anyhow::Result<()> {
        if planner.batch().is_empty() {
            return Ok(());
        }
        let plan = Plan {
            id: place.done + 1,
            extents: planner.extents(),
        };
        let batch = planner.take_batch();
        self.store(place, plan, batch, false).await
    }

    /// `planned`: its plan is in the journal already.
    async fn store(
        &self,
        place: &mut Place,
        plan: Plan,
        batch: Batch,
        planned: bool,
    ) -> anyhow::Result<()> {
        let before = (!planned).then(|| place.decided.before(&batch));
        let after = place.decided.after(&batch);
        self.writer.commit(&plan, batch, before, after).await?;
        place.done = plan.id;
        place.extents = plan.extents;
        Ok(())
    }
}
