//! The compacted accounts topic: the newest confirmed state of every account that was written since the topic began.
//!
//! A block's last writes go there in the transaction that tells that it is confirmed, in chain order (`applied`), so that
//! whoever reads the topic has the state as of one block and knows where to go on in the canonical topic
//! ([`event_schema::account_state`]). Decision 0017.
//!
//! Contents of a block are held from its publication to its confirmation, as far as memory goes; what is not here is read
//! from the canonical topic before the transaction ([`AccountStates::settle`]).
//!
//! What blocks without account updates may have written is asked of RPC nodes (`lost`, `mending`). Decision 0032.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use event_log::{Action, EventLog, NewRecord, TopicSpec};
use event_schema::{AsOf, Pubkey, Slot, Topics, account_state::Hole, partition_of_slot};
use serde::{Deserialize, Serialize};
use service_host::ConfigError;
use tracing::{info, warn};

use crate::{
    archive::{Archive, ArchiveError},
    assembly::Block,
    commitment::{Change, Standing},
    publication::Settings,
    slot_tree::BlockId,
    state::RestoredBlock,
    yellowstone::engine::weight,
};

mod applied;
mod lost;
mod mending;
mod restate;
mod snapshot;
mod touched;
mod writes;

use applied::Applied;
pub use applied::Progress;
pub use lost::{Ask, Counts as LostCounts};
use mending::Mending;
pub use mending::{Answer, Place, Wanted};
pub use snapshot::{SnapshotError, Snapshots};
use writes::Writes;

/// `[accounts_topic]`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountsTopicConfig {
    /// Off by default: with mainnet's mix it nearly doubles the bytes that the router writes (decision 0017).
    pub enabled: bool,
    pub partitions: u32,
    /// Memory for published blocks until they are confirmed. A block that finds no room is read from the log.
    pub memory_mebibytes: usize,
    /// Nothing younger is compacted. Longer than finality ever takes: what is undone is restored from here.
    pub compaction_lag_seconds: u64,
    /// A snapshot for a subscriber may hold this much.
    pub snapshot_mebibytes: usize,
    /// Snapshots read at once; each reads the whole topic.
    pub snapshots_at_once: usize,
}

impl Default for AccountsTopicConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            partitions: 4,
            memory_mebibytes: 256,
            compaction_lag_seconds: 600,
            snapshot_mebibytes: 512,
            snapshots_at_once: 2,
        }
    }
}

impl AccountsTopicConfig {
    pub fn check(&self) -> Result<(), ConfigError> {
        for (field, value, most) in [
            ("partitions", u64::from(self.partitions), 1024),
            ("memory_mebibytes", self.memory_mebibytes as u64, 1 << 20),
            (
                "compaction_lag_seconds",
                self.compaction_lag_seconds,
                86_400,
            ),
            (
                "snapshot_mebibytes",
                self.snapshot_mebibytes as u64,
                1 << 20,
            ),
            ("snapshots_at_once", self.snapshots_at_once as u64, 64),
        ] {
            if !(1..=most).contains(&value) {
                return Err(ConfigError {
                    field: format!("accounts_topic.{field}"),
                    problem: format!("is not between 1 and {most}"),
                    fix: "write a number in that range, or leave it out".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Segments of 128 MiB, so that cleaning begins soon and never rewrites much at once; cleaned when a third is outdated.
    pub fn spec(&self, topics: &Topics, replication: i16) -> TopicSpec {
        let settings = [
            ("segment.bytes", (128 << 20).to_string()),
            ("segment.ms", 3_600_000.to_string()),
            ("min.cleanable.dirty.ratio", "0.33".to_owned()),
            (
                "min.compaction.lag.ms",
                (self.compaction_lag_seconds * 1_000).to_string(),
            ),
            // A reader of the whole topic that is slower than this could miss that an account was closed.
            ("delete.retention.ms", 86_400_000.to_string()),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value));
        TopicSpec {
            name: topics.accounts.to_string(),
            partitions: self.partitions,
            compacted: true,
            config: settings.into(),
            replication,
        }
    }
}

/// What earlier lives left, from the state topic.
#[derive(Debug, Default)]
pub struct RestoredAccounts {
    pub progress: Progress,
    pub large: BTreeMap<Pubkey, u32>,
}

/// What a next life must know, to be written with the transaction.
#[derive(Debug)]
pub struct Remembered {
    pub progress: Progress,
    /// In how many chunks an account's newest state is; `None`: in one record.
    pub large: Vec<(Pubkey, Option<u32>)>,
}

/// See the module.
#[derive(Debug)]
pub struct AccountStates {
    topic: Arc<str>,
    partitions: u32,
    applied: Applied,
    writes: Writes,
    /// Published and not in the state; oldest publication first.
    contents: VecDeque<Arc<Block>>,
    bytes: usize,
    bytes_max: usize,
    /// By partition of the canonical topic: everything that is not on the log yet will come at or after this offset.
    ends: Vec<i64>,
    /// What takes out of the state what was undone.
    restated: Vec<NewRecord>,
    /// Blocks whose account writes cannot be had: an RPC node gave them, or the log has them no more.
    without_accounts: HashSet<BlockId>,
    /// Number of the newest telling.
    told: u64,
    mending: Mending,
}

impl AccountStates {
    /// `watermarks`: of the canonical topic's partitions.
    pub fn new(
        settings: &Settings,
        watermarks: &[(i64, i64)],
        restored: RestoredAccounts,
        blocks: &[RestoredBlock],
    ) -> Self {
        let config = &settings.accounts_topic;
        let topic = settings.topics.accounts.clone();
        let (lows, ends): (Vec<i64>, Vec<i64>) = watermarks.iter().copied().unzip();
        let gap_after_ms = settings.limits.gap_after_ms;
        let applied = Applied::new(restored.progress, blocks, &lows, gap_after_ms);
        let mut mending = Mending::new(settings.repaired_accounts_max);
        mending.find(blocks, &lows, |slot| applied.is_in_hole(slot));
        Self {
            applied,
            mending,
            writes: Writes::new(topic.clone(), config.partitions, restored.large),
            topic,
            partitions: config.partitions,
            contents: VecDeque::new(),
            bytes: 0,
            bytes_max: config.memory_mebibytes << 20,
            ends,
            restated: Vec::new(),
            without_accounts: HashSet::new(),
            told: blocks.iter().map(last_told).max().unwrap_or(0),
        }
    }

    /// `number`: of the telling.
    pub fn published(&mut self, block: &Arc<Block>, number: u64) {
        self.told = number;
        let is_new = self.applied.publish(block.id, block.parent);
        if block.fetched_from.is_some() || self.applied.is_in_hole(block.id.slot) {
            self.loses(block);
        }
        if !is_new {
            return;
        }
        if block.fetched_from.is_some() {
            self.without_accounts.insert(block.id);
        }
        self.bytes += weight(block);
        self.contents.push_back(Arc::clone(block));
    }

    /// `number`: of the telling.
    pub fn standing(&mut self, change: Change, number: u64) {
        self.told = number;
        match change.standing {
            Standing::Processed => {}
            Standing::Confirmed => self.applied.confirm(change.block, number),
            Standing::Finalized => self.applied.finalize(change.block),
            Standing::Abandoned => {
                if let Some(from) = self.applied.abandon(change.block) {
                    self.mending.lost.undone(from);
                }
            }
        }
        self.loses_standing(change.block, change.standing);
    }

    pub fn tick(&mut self, log_ms: i64) {
        self.applied.tick(log_ms);
    }

    /// A record of the canonical topic is on the log.
    pub fn reached(&mut self, partition: u32, offset: i64) {
        if let Some(end) = self.ends.get_mut(partition as usize) {
            *end = (*end).max(offset + 1);
        }
    }

    /// The block's first record is on the log.
    pub fn located(&mut self, block: BlockId, offset: i64) {
        self.applied.locate(block, offset);
    }

    /// The records that bring the state up to date, as far as that needs nothing from the log.
    pub fn write(&mut self, out: &mut Vec<NewRecord>) -> Option<Remembered> {
        let before = out.len();
        if !self.restated.is_empty() {
            out.append(&mut self.restated);
            self.applied.is_undone();
        }
        self.write_told(out);
        let mut applied = false;
        while let Some((id, _)) = self.applied.next() {
            if self.without_accounts.remove(&id) {
                self.applied.hole(id.slot, id.slot);
            } else if let Some(at) = self.contents.iter().position(|block| block.id == id) {
                let block = Arc::clone(&self.contents[at]);
                let written = self.writes.block(&block, out);
                self.mending.lost.wrote(id.slot, &written);
            } else {
                break;
            }
            self.applied.apply(id);
            applied = true;
        }
        if let Some(finalized) = self.applied.finalized() {
            self.writes.finalized(finalized.slot, out);
            self.mending.lost.finalized(finalized.slot);
        }
        self.forget_contents();
        let filled = self.fill();
        if !applied && !filled && out.len() == before {
            return None;
        }
        let sequence = self.applied.count_transaction();
        let tip = self.applied.tip().unwrap_or_default();
        let as_of = self.as_of(tip, sequence);
        self.writes.end(tip, &as_of, out);
        Some(Remembered {
            progress: self.applied.progress().clone(),
            large: self.writes.take_large_changed(),
        })
    }

    fn as_of(&self, tip: BlockId, sequence: u64) -> AsOf {
        let progress = self.applied.progress();
        let (held_back, first_held) = self.applied.held_back();
        let mut positions = self.ends.clone();
        for (block, waiting) in self.applied.waiting() {
            let partition = partition_of_slot(block.slot, positions.len() as u32);
            if let (Some(offset), Some(end)) = (
                waiting.offset.or(waiting.not_before),
                positions.get_mut(partition as usize),
            ) {
                *end = (*end).min(offset);
            }
        }
        let hole = |(first, last): &(Slot, Slot)| Hole {
            first_slot: first.0,
            last_slot: last.0,
        };
        AsOf {
            slot: tip.slot.0,
            blockhash: tip.blockhash.0.to_vec().into(),
            sequence,
            telling: first_held.map_or(self.told, |held| held.saturating_sub(1).min(self.told)),
            since_slot: progress.since.0,
            held_back,
            positions,
            holes: progress.holes.iter().map(hole).collect(),
            repaired: progress.repaired.iter().map(hole).collect(),
        }
    }

    /// [`Self::write`] has something to do, or [`Self::settle`].
    pub fn is_due(&self) -> bool {
        let waits = !self.restated.is_empty() || self.applied.next().is_some();
        let tip = self.applied.tip().unwrap_or_default().slot;
        waits || self.needs_log() || self.mending.is_due(tip)
    }

    /// What comes next must be read from the log first.
    pub fn needs_log(&self) -> bool {
        if !self.applied.undone().is_empty() {
            return self.restated.is_empty();
        }
        let missing = |id| !self.without_accounts.contains(&id) && !self.holds(id);
        self.applied.next().is_some_and(|(id, _)| missing(id))
    }

    /// Reads what comes next, and what was undone. To be called when everything written before is on the log.
    pub async fn settle(&mut self, log: &dyn EventLog, archive: &Archive) -> anyhow::Result<()> {
        if !self.needs_log() {
            return Ok(());
        }
        if !self.applied.undone().is_empty() {
            return self.undo(log).await;
        }
        let Some((id, waiting)) = self.applied.next() else {
            return Ok(());
        };
        match archive
            .block(id, waiting.offset, waiting.not_before.unwrap_or_default())
            .await
        {
            Ok(block) if block.fetched_from.is_some() => {
                self.without_accounts.insert(id);
                self.enter(id, block.parent.slot, &touched::accounts(&block));
            }
            Ok(block) => {
                self.bytes += weight(&block);
                self.contents.push_back(block);
            }
            Err(ArchiveError::Log(error)) if error.action() == Action::Retry => {
                return Err(error.into());
            }
            Err(error) => {
                warn!(%error, slot = %id.slot, "a block's account writes are missing from the accounts topic");
                self.without_accounts.insert(id);
            }
        }
        Ok(())
    }

    /// Confirmed blocks proved abandoned: their accounts go back to what they were.
    async fn undo(&mut self, log: &dyn EventLog) -> anyhow::Result<()> {
        let undone = self.applied.undone();
        let (first, last) = (undone.first().copied(), undone.last().copied());
        warn!(
            ?first,
            ?last,
            "confirmed blocks proved abandoned: the accounts topic is taken back"
        );
        let states = restate::states_before(log, &self.topic, self.partitions, undone).await?;
        info!(
            accounts = states.len(),
            "found what the accounts were before"
        );
        let tip = self.applied.tip().unwrap_or_default();
        for (account, state) in states {
            match state {
                Some(state) => {
                    let origin = (BlockId::new(state.slot, state.blockhash), state.write);
                    self.writes
                        .state(account, origin, &state.value, &mut self.restated);
                }
                None => self.writes.forget(account, tip, &mut self.restated),
            }
        }
        if self.restated.is_empty() {
            self.applied.is_undone();
        }
        Ok(())
    }

    fn holds(&self, id: BlockId) -> bool {
        self.contents.iter().any(|block| block.id == id)
    }

    /// Contents that nothing will ask for, and those that find no room and can be read again.
    fn forget_contents(&mut self) {
        let applied = &self.applied;
        self.contents.retain(|block| applied.is_waiting(block.id));
        self.without_accounts
            .retain(|block| applied.is_waiting(*block));
        self.bytes = self.contents.iter().map(|block| weight(block)).sum();
        while self.bytes > self.bytes_max {
            let mut contents = self.contents.iter();
            let Some(at) = contents.position(|block| applied.is_located(block.id)) else {
                break;
            };
            if let Some(block) = self.contents.remove(at) {
                self.bytes -= weight(&block);
            }
        }
    }
}

fn last_told(block: &RestoredBlock) -> u64 {
    let history = &block.history;
    let numbers = [
        Some(history.published),
        history.confirmed,
        history.finalized,
    ];
    numbers.into_iter().flatten().max().unwrap_or(0)
}
