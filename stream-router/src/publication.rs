//! The router and its transaction: observed records in, canonical records out, each exactly once.
//!
//! Every commit carries, in one Kafka transaction, canonical records, dead letters, what the router remembers, and the
//! positions from which a next life must read again: for each partition the oldest record of a slot that is still open.
//! A next life fences this one, reads the state and continues there. What it reads twice it recognises.

mod batch;
mod opening;
mod settings;
mod telling;

use std::collections::{BTreeMap, HashMap};

use event_log::{EventLog, Position, ReaderSpec, Record, Start, TransactionalWriter, dead_letter};
use event_schema::{ObservedTopic, Slot};
use tracing::warn;

use crate::{
    account_state::{AccountStates, Answer, LostCounts, Wanted},
    archive::Archive,
    assembly::Block,
    canonical::CanonicalWriter,
    observation::{self, Lane, Place},
    router::{Effect, Mended, Router},
    slot_tree::BlockId,
    state::{Earlier, History, StateWriter},
};

pub use batch::{Batch, Committer, Told};
pub use settings::Settings;

use batch::{Pending, Telling};

/// See the module.
pub struct Publication {
    settings: Settings,
    router: Router,
    canonical: CanonicalWriter,
    state: StateWriter,
    accounts: Option<AccountStates>,
    writer: Option<Box<dyn TransactionalWriter>>,
    /// Next offset of every partition.
    next: BTreeMap<Lane, i64>,
    committed: BTreeMap<Lane, i64>,
    pending: Pending,
    /// Of the published blocks that are remembered.
    histories: HashMap<BlockId, History>,
    restored: Earlier,
    /// Found while it was opened, and not told to live subscribers yet.
    found: Vec<Effect>,
    /// Could not be committed by [`Publication::commit`].
    unsent: Option<Batch>,
    dead_letters: u64,
}

impl Publication {
    /// What earlier lives told; given away once.
    pub fn take_restored(&mut self) -> Earlier {
        std::mem::take(&mut self.restored)
    }

    /// Gaps between what earlier lives read and what the log still has; given away once, to be told to live subscribers.
    pub fn take_found(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.found)
    }

    /// The one who writes the transactions. Without it, [`Publication::commit`] does.
    pub fn take_committer(&mut self) -> Option<Committer> {
        self.writer.take().map(|writer| Committer { writer })
    }

    /// One reader per topic, so that each can be paused by itself.
    pub fn reader_spec(&self, topic: ObservedTopic) -> ReaderSpec {
        let name = self.settings.topics.observed(topic);
        ReaderSpec {
            partitions: self
                .next
                .iter()
                .filter(|(lane, _)| lane.topic == topic)
                .map(|(lane, offset)| (name.clone(), lane.partition, Start::At(*offset)))
                .collect(),
            read_committed: false,
        }
    }

    /// Takes records of any observed topic, each partition in order. Returns what live subscribers may be told at once.
    pub fn absorb(&mut self, records: &[Record]) -> Vec<Effect> {
        let mut effects = Vec::new();
        for record in records {
            let Some(topic) = self
                .settings
                .topics
                .observed_by_name(&record.position.topic)
            else {
                continue;
            };
            let lane = Lane {
                topic,
                partition: record.position.partition,
            };
            let place = Place {
                lane,
                offset: record.position.offset,
                timestamp_ms: record.timestamp_ms,
            };
            let (observation, poison) = observation::read(place, &record.header, &record.value);
            if let Some(poison) = poison {
                warn!(position = %record.position, reason = %poison, "record dead-lettered");
                self.dead_letters += 1;
                self.pending.push(dead_letter(record, &poison.to_string()));
            }
            self.next.insert(lane, record.position.offset + 1);
            if let Some(observation) = observation {
                self.router.observe(observation, &mut effects);
            }
        }
        self.write(&effects);
        effects
    }

    /// `log_ms`: every partition has been read up to this time of the log.
    pub fn tick(&mut self, log_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.router.tick(log_ms, &mut effects);
        self.write(&effects);
        if let Some(accounts) = &mut self.accounts {
            accounts.tick(log_ms);
        }
        effects
    }

    /// Takes a block that an RPC node gave. Returns what became of it, and what live subscribers may be told at once.
    pub fn mend(&mut self, block: Block) -> (Mended, Vec<Effect>) {
        let mut effects = Vec::new();
        let mended = self.router.mend(block, &mut effects);
        self.write(&effects);
        (mended, effects)
    }

    /// Holes that an earlier life told and nobody has filled, first and last slot; to be called once.
    pub fn told_holes(&mut self) -> Vec<(Slot, Slot)> {
        self.router.told_holes()
    }

    /// Something waits to be committed, other than progress.
    pub fn has_pending(&self) -> bool {
        let accounts = self.accounts.as_ref();
        !self.pending.records.is_empty() || accounts.is_some_and(AccountStates::is_due)
    }

    /// [`Self::settle`] has something to read.
    pub fn needs_log(&self) -> bool {
        self.accounts.as_ref().is_some_and(AccountStates::needs_log)
    }

    /// Reads what the accounts topic needs from the log. To be called when no batch is on its way; without it the accounts
    /// topic stays behind, and nothing else does.
    pub async fn settle(&mut self, log: &dyn EventLog, archive: &Archive) -> anyhow::Result<()> {
        match &mut self.accounts {
            Some(accounts) => accounts.settle(log, archive).await,
            None => Ok(()),
        }
    }

    /// What the accounts topic needs to fill its holes.
    pub fn next_wanted(&mut self) -> Option<Wanted> {
        self.accounts.as_mut()?.next_wanted()
    }

    pub fn answer(&mut self, answer: Answer) {
        if let Some(accounts) = &mut self.accounts {
            accounts.answer(answer);
        }
    }

    /// Accounts of this life that lost blocks may have written, and how many of them are older than they should be.
    pub fn lost_accounts(&self) -> (LostCounts, usize) {
        let accounts = self.accounts.as_ref();
        accounts.map_or((LostCounts::default(), 0), |accounts| {
            (accounts.lost_counts(), accounts.lost_now())
        })
    }

    /// Bytes that wait to be committed.
    pub fn pending_bytes(&self) -> usize {
        let accounts = self.accounts.as_ref();
        self.pending.bytes + accounts.map_or(0, AccountStates::waiting_bytes)
    }

    /// Everything since the last batch; `None` when nothing is new.
    pub fn take_batch(&mut self) -> Option<Batch> {
        if let Some(accounts) = &mut self.accounts {
            let (state, pending) = (&self.state, &mut self.pending);
            pending.add(|out| {
                if let Some(remembered) = accounts.write(out) {
                    state.accounts(&remembered, out);
                }
            });
        }
        let positions = self.resume_positions();
        if self.pending.records.is_empty() && positions == self.committed {
            return None;
        }
        let Pending {
            mut records, told, ..
        } = std::mem::take(&mut self.pending);
        records.push(self.state.positions(&positions));
        Some(Batch {
            records,
            positions,
            told,
        })
    }

    /// The batch is on the log, its records at these positions.
    pub fn committed(&mut self, batch: Batch, positions: &[Position]) -> Vec<Told> {
        self.committed = batch.positions;
        if let Some(accounts) = &mut self.accounts {
            for position in positions {
                if position.topic == self.settings.topics.canonical {
                    accounts.reached(position.partition, position.offset);
                }
            }
        }
        let mut all = Vec::with_capacity(batch.told.len());
        for Telling {
            effect,
            number,
            first,
        } in batch.told
        {
            let mut offset = None;
            if let Effect::Publish(block) = &effect {
                offset = positions.get(first).map(|position| position.offset);
                if let Some(history) = self.histories.get_mut(&block.id) {
                    history.offset = offset;
                }
                if let (Some(accounts), Some(offset)) = (&mut self.accounts, offset) {
                    accounts.located(block.id, offset);
                }
                // Written with the next transaction: a life that ends before finds the block by reading.
                self.remember(block.id);
            }
            all.push(Told {
                effect,
                number,
                offset,
            });
        }
        all
    }

    /// Commits everything since the last time. After an error whose action is `Retry`, call again; after any other, drop
    /// this and open a new one.
    pub async fn commit(&mut self) -> event_log::Result<Vec<Told>> {
        let Some(batch) = self.unsent.take().or_else(|| self.take_batch()) else {
            return Ok(Vec::new());
        };
        let Some(writer) = &mut self.writer else {
            return Ok(Vec::new());
        };
        match writer.commit(batch.records.clone()).await {
            Ok(positions) => Ok(self.committed(batch, &positions)),
            Err(error) => {
                self.unsent = Some(batch);
                Err(error)
            }
        }
    }

    fn resume_positions(&self) -> BTreeMap<Lane, i64> {
        let needed = self.router.low_watermarks();
        self.next
            .iter()
            .map(|(lane, next)| (*lane, needed.get(lane).map_or(*next, |low| *low.min(next))))
            .collect()
    }

    pub fn router(&self) -> &Router {
        &self.router
    }

    pub fn dead_letters(&self) -> u64 {
        self.dead_letters
    }
}
