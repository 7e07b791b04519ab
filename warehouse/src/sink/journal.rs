//! The sink's own table of batches: a batch's extent is stored before its rows and confirmed after them, through the same
//! door, so that any machine can take over. Position is nothing but the last batch that is done.
//!
//! A sink that was replaced may not know it yet: its process stood still, or its request was long under way. So every
//! statement that changes something carries [`Journal::fence`], which ClickHouse evaluates when the statement begins: what
//! begins after another sink's claim changes nothing. What began before is waited for by the one that claims. No clock and no
//! timeout is part of this.

use event_schema::{Blockhash, Slot};

use super::{
    decided::Told,
    native::Seconds,
    planner::Extents,
    store::{Store, StoreError},
};

/// Batches that stay in the journal.
const KEPT: u64 = 8_192;
/// What [`Journal::fence`] reads, in every statement that has one.
const FENCE: &str = "(SELECT argMax(owner, (generation, owner)) FROM sink_owners)";

/// A batch whose extent is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub id: u64,
    pub extents: Extents,
}

/// What the journal says at the start.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The last batch that is done; 0 when none is.
    pub done: u64,
    /// Where the partitions stood after it.
    pub extents: Extents,
    /// A later batch that was planned; its rows may be stored in part.
    pub unfinished: Option<Plan>,
    /// What was decided after the last one that is done.
    pub told: Told,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "sink_batches is damaged: {0}. Restore the table from a backup; without it the position is not known"
    )]
    Damaged(String),
    #[error(
        "another warehouse-sink has taken over (generation {theirs}, ours is {ours}). Run one at a time"
    )]
    Superseded { ours: u64, theirs: u64 },
}

/// See the module.
pub struct Journal {
    store: Store,
    owner: String,
    generation: u64,
}

/// What a finished batch brought.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub rows: u64,
    pub highest_slot: Option<u64>,
    pub highest_block_time: Option<Seconds>,
}

impl Plan {
    /// Names the rows of one table of this batch. Another extent under the same number is another token.
    pub fn token(&self, table: &str) -> String {
        format!("{table}-{}-{:016x}", self.id, self.fingerprint())
    }

    /// FNV-1a over the extents.
    fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for (partition, extent) in &self.extents {
            for number in [i64::from(*partition), extent.applied_to, extent.resume_at] {
                for byte in number.to_le_bytes() {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
        }
        hash
    }
}

impl Journal {
    /// Takes over from any earlier sink. Afterwards no statement of an earlier one changes anything.
    pub async fn claim(store: Store) -> Result<Self, JournalError> {
        let newest = newest_generation(&store).await?;
        let owner = uuid::Uuid::new_v4().to_string();
        let generation = newest.map_or(1, |(generation, _)| generation + 1);
        let statement = format!(
            "INSERT INTO sink_owners (generation, owner, recorded_at) VALUES ({generation}, '{owner}', now64(3, 'UTC'))"
        );
        store.execute(&statement).await?;
        let journal = Self {
            store,
            owner,
            generation,
        };
        journal.wait_for_earlier_statements().await?;
        Ok(journal)
    }

    /// Statements that found the fence open before the claim may still be at work.
    async fn wait_for_earlier_statements(&self) -> Result<(), JournalError> {
        let others = format!(
            "position(query, '{FENCE}') > 0 AND position(query, '{}') = 0",
            self.owner
        );
        Ok(self
            .store
            .wait_for_statements(&others, "an earlier sink")
            .await?)
    }

    /// A condition that ClickHouse finds false once another sink has taken over.
    pub fn fence(&self) -> String {
        format!("{FENCE} = '{}'", self.owner)
    }

    /// Stops a sink that another one has replaced.
    pub async fn still_ours(&self) -> Result<(), JournalError> {
        match newest_generation(&self.store).await? {
            Some((theirs, owner)) if owner != self.owner => Err(JournalError::Superseded {
                ours: self.generation,
                theirs,
            }),
            _ => Ok(()),
        }
    }

    pub async fn resume(&self) -> Result<Resume, JournalError> {
        let rows = self.store.rows("SELECT batch_id, phase, partitions, decided_below, final_to, rolled_below FROM sink_batches ORDER BY batch_id DESC, recorded_at DESC LIMIT 16").await?;
        let mut resume = Resume::default();
        let damaged = |problem: &str| JournalError::Damaged(problem.to_owned());
        for row in &rows {
            let [id, phase, partitions, below, final_to, rolled_below] = row.as_slice() else {
                return Err(damaged("a row has not six columns"));
            };
            let id: u64 = id.parse().map_err(|_| damaged("batch_id is no number"))?;
            let extents: Extents = serde_json::from_str(partitions)
                .map_err(|error| damaged(&format!("partitions of batch {id}: {error}")))?;
            if phase == "done" {
                if resume.unfinished.as_ref().is_some_and(|plan| plan.id <= id) {
                    resume.unfinished = None;
                }
                let told = Told {
                    below: below
                        .parse()
                        .map_err(|_| damaged("decided_below is no number"))?,
                    final_to: serde_json::from_str(final_to)
                        .map_err(|error| damaged(&format!("final_to of batch {id}: {error}")))?,
                    rolled_below: rolled_below
                        .parse()
                        .map_err(|_| damaged("rolled_below is no number"))?,
                };
                return Ok(Resume {
                    done: id,
                    extents,
                    unfinished: resume.unfinished,
                    told,
                });
            }
            // Rows come newest first: the newest plan of the highest number is the one that may have begun to store rows.
            resume.unfinished.get_or_insert(Plan { id, extents });
        }
        match &resume.unfinished {
            Some(plan) if plan.id > 1 => Err(damaged(&format!(
                "batch {} is planned, but no earlier one is done",
                plan.id
            ))),
            _ => Ok(resume),
        }
    }

    /// Blocks from the slot `from` on that are stored and may still be abandoned.
    pub async fn open_blocks(&self, from: u64) -> Result<Vec<(Slot, Blockhash)>, JournalError> {
        let statement = format!(
            "SELECT slot, hex(blockhash) FROM slot_status FINAL WHERE slot >= {from} AND status = 'confirmed'"
        );
        let rows = self.store.rows(&statement).await?;
        let block = |row: &Vec<String>| match row.as_slice() {
            [slot, blockhash] => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(blockhash, &mut bytes).ok()?;
                Some((Slot(slot.parse().ok()?), Blockhash(bytes)))
            }
            _ => None,
        };
        let blocks: Option<Vec<_>> = rows.iter().map(block).collect();
        blocks.ok_or_else(|| JournalError::Damaged("slot_status names no blocks".to_owned()))
    }

    pub async fn planned(&self, plan: &Plan, told: &Told) -> Result<(), JournalError> {
        self.write(plan, "planned", Done::default(), told).await
    }

    pub async fn done(&self, plan: &Plan, done: Done, told: &Told) -> Result<(), JournalError> {
        self.write(plan, "done", done, told).await?;
        if plan.id.is_multiple_of(KEPT / 8) {
            self.forget(plan.id.saturating_sub(KEPT)).await?;
        }
        Ok(())
    }

    /// Only the newest batches tell anything. A year of them would be read with every question for what is final.
    async fn forget(&self, below: u64) -> Result<(), JournalError> {
        let statement = format!(
            "DELETE FROM sink_batches WHERE batch_id < {below} AND {}",
            self.fence()
        );
        Ok(self.store.execute(&statement).await?)
    }

    /// Writes nothing when another sink has taken over, which [`Self::still_ours`] then says.
    async fn write(
        &self,
        plan: &Plan,
        phase: &'static str,
        done: Done,
        told: &Told,
    ) -> Result<(), JournalError> {
        let json = |error: serde_json::Error| JournalError::Damaged(error.to_string());
        let final_to = serde_json::to_string(&told.final_to).map_err(json)?;
        let partitions = serde_json::to_string(&plan.extents).map_err(json)?;
        let or_null = |value: Option<String>| value.unwrap_or_else(|| "NULL".into());
        let slot = or_null(done.highest_slot.map(|slot| slot.to_string()));
        let time = or_null(
            done.highest_block_time
                .map(|Seconds(time)| format!("toDateTime({time}, 'UTC')")),
        );
        let statement = format!(
            "INSERT INTO sink_batches (batch_id, phase, owner, partitions, rows, highest_slot, highest_block_time, decided_below, final_to, rolled_below, recorded_at) \
             SETTINGS insert_deduplicate = 0 \
             SELECT {}, '{phase}', '{}', '{partitions}', {}, {slot}, {time}, {}, '{final_to}', {}, fromUnixTimestamp64Milli({}, 'UTC') WHERE {}",
            plan.id,
            self.owner,
            done.rows,
            told.below,
            told.rolled_below,
            now_ms(),
            self.fence(),
        );
        Ok(self.store.execute(&statement).await?)
    }
}

async fn newest_generation(store: &Store) -> Result<Option<(u64, String)>, StoreError> {
    let rows = store.rows("SELECT generation, owner FROM sink_owners ORDER BY generation DESC, owner DESC LIMIT 1").await?;
    Ok(rows
        .into_iter()
        .next()
        .and_then(|row| match row.as_slice() {
            [generation, owner] => Some((generation.parse().ok()?, owner.clone())),
            _ => None,
        }))
}

pub fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
