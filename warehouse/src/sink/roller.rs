//! Rolls up windows of final rows, one at a time, between batches, in a tenth of the sink's time.
//!
//! What fails is told and tried again later: a rollup saves time, and must never hold up the stream.

use std::time::{Duration, Instant};

use super::{
    decided::Decided,
    rollups::{Job, ROLLUPS, Rollup, WINDOW, Work, next_job, window_begin},
    store::{Store, StoreError},
    writer::BatchWriter,
};
use crate::{
    engine::quote_text,
    retention::{self, NoteState, Place, epoch_of},
};

/// Rests so many times as long as it worked.
const REST: u32 = 9;
/// Between looks while there is nothing to do.
const LOOK: Duration = Duration::from_secs(2);
/// Before a window that failed is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// A question that was planned just before a window was called stale may yet begin to read what was rolled up of it.
const PLANNING: Duration = Duration::from_secs(3);
/// Works that are looked at together.
const WORKS: usize = 1_000;

/// See the module.
pub struct Roller {
    rest_until: Instant,
    /// Rollups above the bound may still be read until then.
    read_until: Instant,
    rolled_below: u64,
    job: Option<Job>,
}

/// What a step came to.
enum Step {
    Did,
    Nothing,
}

impl Roller {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            rest_until: now,
            read_until: now + PLANNING,
            rolled_below: 0,
            job: None,
        }
    }

    /// One window, if one is due.
    pub async fn step(&mut self, writer: &BatchWriter, decided: &mut Decided) {
        let begun = Instant::now();
        let rolled_below = decided.told().rolled_below;
        if rolled_below < self.rolled_below {
            self.read_until = begun + PLANNING;
        }
        self.rolled_below = rolled_below;
        if begun < self.rest_until {
            return;
        }
        let step = self.work(writer, decided).await;
        self.rolled_below = decided.told().rolled_below;
        self.rest_until = match step {
            Ok(Step::Nothing) => begun + LOOK,
            Ok(Step::Did) => Instant::now() + begun.elapsed() * REST,
            Err(error) => {
                writer.metrics.retries.inc();
                tracing::warn!(%error, "a window could not be rolled up; it is counted meanwhile, and tried again");
                Instant::now() + AFTER_FAILURE
            }
        };
    }

    async fn work(
        &mut self,
        writer: &BatchWriter,
        decided: &mut Decided,
    ) -> Result<Step, StoreError> {
        match self.next_window(writer, decided).await? {
            Step::Nothing => self.again(writer, decided.told().rolled_below).await,
            did @ Step::Did => Ok(did),
        }
    }

    /// The first window that was never rolled up, or not since the bound was taken back.
    async fn next_window(
        &self,
        writer: &BatchWriter,
        decided: &mut Decided,
    ) -> Result<Step, StoreError> {
        let told = decided.told();
        let (from, to) = (told.rolled_below, window_begin(told.below));
        if from >= to {
            return Ok(Step::Nothing);
        }
        // Windows without a block, such as those before the first one, are passed over.
        let next = format!(
            "SELECT slot FROM blocks WHERE slot >= {from} AND slot < {to} ORDER BY slot LIMIT 1"
        );
        let found = writer.store.fetch::<u64>(&next).await?;
        let Some(window) = found.first().map(|slot| window_begin(*slot)) else {
            decided.rolled_up(to);
            return Ok(Step::Did);
        };
        if !roll(writer, window, Instant::now() >= self.read_until).await? {
            return Ok(Step::Nothing);
        }
        decided.rolled_up(window + WINDOW);
        Ok(Step::Did)
    }

    /// A window of past slots that were written since.
    async fn again(&mut self, writer: &BatchWriter, rolled_below: u64) -> Result<Step, StoreError> {
        if self.job.is_none() {
            let works = works(writer).await?;
            self.job = next_job(&works, rolled_below);
        }
        let Some(job) = &mut self.job else {
            return Ok(Step::Nothing);
        };
        if let Some(window) = job.windows.front().copied() {
            roll(writer, window, true).await?;
            job.windows.pop_front();
        }
        if job.windows.is_empty() {
            forget(writer, &job.works).await?;
            self.job = None;
        }
        Ok(Step::Did)
    }
}

/// `false`: something of it was rolled up before, and may not be replaced yet.
async fn roll(writer: &BatchWriter, window: u64, may_replace: bool) -> Result<bool, StoreError> {
    for rollup in ROLLUPS {
        if is_rolled_up(writer, rollup, window).await? {
            if !may_replace {
                return Ok(false);
            }
            if source_was_dropped(writer, rollup, window).await? {
                continue;
            }
            delete(writer, rollup, window).await?;
        }
        let fence = writer.journal.fence();
        roll_up(&writer.store, rollup, window, &fence).await?;
    }
    writer.metrics.windows_rolled.inc();
    Ok(true)
}

async fn works(writer: &BatchWriter) -> Result<Vec<Work>, StoreError> {
    let statement = format!(
        "SELECT work, first_slot, last_slot, ended AND recorded_at < now64(3, 'UTC') - INTERVAL {} SECOND AS settled \
         FROM slots_in_work FINAL ORDER BY first_slot, last_slot, work",
        PLANNING.as_secs()
    );
    let rows: Vec<(String, u64, u64, bool)> = writer.store.fetch(&statement).await?;
    let work = |(name, first_slot, last_slot, settled)| Work {
        name,
        first_slot,
        last_slot,
        settled,
    };
    Ok(rows.into_iter().map(work).collect())
}

async fn forget(writer: &BatchWriter, works: &[Work]) -> Result<(), StoreError> {
    for works in works.chunks(WORKS) {
        let keys: Vec<String> = works
            .iter()
            .map(|work| {
                format!(
                    "({}, {}, {})",
                    quote_text(&work.name),
                    work.first_slot,
                    work.last_slot
                )
            })
            .collect();
        let statement = format!(
            "DELETE FROM slots_in_work WHERE (work, first_slot, last_slot) IN ({}) AND {}",
            keys.join(", "),
            writer.journal.fence()
        );
        writer.store.execute(&statement).await?;
    }
    Ok(())
}

async fn is_rolled_up(
    writer: &BatchWriter,
    rollup: &Rollup,
    window: u64,
) -> Result<bool, StoreError> {
    let statement = format!(
        "SELECT 1 FROM {} WHERE slot = {window} LIMIT 1",
        rollup.table
    );
    let found: Vec<u8> = writer.store.fetch(&statement).await?;
    Ok(!found.is_empty())
}

/// Retention took the rows that were summed up; the sums stay what they were.
async fn source_was_dropped(
    writer: &BatchWriter,
    rollup: &Rollup,
    window: u64,
) -> Result<bool, StoreError> {
    let place = Place {
        epoch: epoch_of(window),
        table: rollup.source.to_owned(),
    };
    let notes = retention::notes(&writer.store).await?;
    Ok(notes
        .get(&place)
        .is_some_and(|note| note.state != NoteState::Returned))
}

async fn delete(writer: &BatchWriter, rollup: &Rollup, window: u64) -> Result<(), StoreError> {
    let statement = format!(
        "DELETE FROM {} WHERE slot = {window} AND {}",
        rollup.table,
        writer.journal.fence()
    );
    writer.store.execute(&statement).await
}

/// Sums up the window that begins with `slot`, where `condition` holds when ClickHouse begins.
pub async fn roll_up(
    store: &Store,
    rollup: &Rollup,
    slot: u64,
    condition: &str,
) -> Result<(), StoreError> {
    let statement = format!(
        "INSERT INTO {} SELECT window * {WINDOW}, * EXCEPT (window) FROM {} WHERE window = {} AND {condition} \
         SETTINGS insert_deduplicate = 0",
        rollup.table,
        rollup.view,
        slot / WINDOW
    );
    store.execute(&statement).await
}
