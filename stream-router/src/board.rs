//! What the status page asks: heads, lag, totals, and the newest slots. Written by the loop, read by HTTP.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use event_schema::{Blockhash, ObservedTopic, Slot};
use serde::Serialize;

use crate::{
    account_state::LostCounts,
    commitment::Standing,
    repair::Happening,
    router::{Effect, Router},
};

/// Blocks shown at most; the oldest published go first.
const BLOCKS_MAX: usize = 8_192;
const GAPS_MAX: usize = 256;

/// Shared and small: a lock held for the length of a copy.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Face>>);

#[derive(Debug, Default)]
struct Face {
    status: Status,
    blocks: BTreeMap<(Slot, Blockhash), BlockView>,
    arrivals: VecDeque<(Slot, Blockhash)>,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    pub heads: HeadsView,
    /// Offsets behind the end, per observed topic.
    pub lag: BTreeMap<String, u64>,
    pub published: PublishedView,
    pub duplicates_dropped: u64,
    /// Blocks that no source had whole, published from several.
    pub repaired: u64,
    /// Slots that no source had, asked of RPC nodes.
    pub repairs: RepairsView,
    /// Accounts that blocks without account updates may have written.
    pub lost_accounts: LostAccountsView,
    pub late: u64,
    pub dead_letters: u64,
    pub open_slots: usize,
    pub open_bytes: usize,
    pub remembered_blocks: usize,
    pub sources: Vec<String>,
    /// Gaps reported in this life.
    pub gap_count: u64,
    /// The newest of them.
    pub gaps: VecDeque<GapView>,
}

/// Counts of this life, in slots; refused counts replies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RepairsView {
    pub asked: u64,
    pub done: u64,
    pub known: u64,
    pub skipped: u64,
    pub refused: u64,
    pub failed: u64,
}

/// Counts of this life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LostAccountsView {
    #[serde(flatten)]
    pub counts: LostCounts,
    /// Older than they should be, now.
    pub waiting: usize,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct HeadsView {
    pub processed: Slot,
    pub confirmed: Slot,
    pub finalized: Slot,
}

/// Counts of this life.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PublishedView {
    pub blocks: u64,
    pub events: u64,
    pub accounts: u64,
    pub transactions: u64,
    pub entries: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct GapView {
    pub slot: Slot,
    /// Inclusive.
    pub last_slot: Slot,
    pub records: u64,
    pub source: String,
    pub detail: String,
}

/// One element of `GET /v1/slots/{slot}`.
#[derive(Debug, Clone, Serialize)]
pub struct BlockView {
    pub slot: Slot,
    pub blockhash: Blockhash,
    pub parent_slot: Slot,
    pub parent_blockhash: Blockhash,
    pub status: Standing,
    pub accounts: u64,
    pub transactions: u64,
    pub entries: u64,
    pub source: String,
}

impl Board {
    pub fn status(&self) -> Status {
        self.face().status.clone()
    }

    pub fn slot(&self, slot: Slot) -> Vec<BlockView> {
        let first = (slot, Blockhash::default());
        let last = (slot, Blockhash([0xff; 32]));
        self.face()
            .blocks
            .range(first..=last)
            .map(|(_, view)| view.clone())
            .collect()
    }

    pub fn lag(&self, topic: ObservedTopic, records: u64) {
        let name = format!("{topic:?}").to_lowercase();
        self.face().status.lag.insert(name, records);
    }

    pub fn router(&self, router: &Router, dead_letters: u64) {
        let heads = router.heads();
        let totals = router.totals();
        let mut face = self.face();
        let status = &mut face.status;
        status.heads = HeadsView {
            processed: heads.processed,
            confirmed: heads.confirmed,
            finalized: heads.finalized,
        };
        status.duplicates_dropped = totals.duplicates;
        status.repaired = totals.repaired;
        status.late = totals.late;
        status.dead_letters = dead_letters;
        status.open_slots = router.open_slots();
        status.open_bytes = router.open_bytes();
        status.remembered_blocks = router.remembered_blocks();
        status.sources = router.sources().map(|source| source.to_string()).collect();
    }

    pub fn repair(&self, happening: Happening, slots: u64) {
        let mut face = self.face();
        let repairs = &mut face.status.repairs;
        let count = match happening {
            Happening::Asked => &mut repairs.asked,
            Happening::Done => &mut repairs.done,
            Happening::Known => &mut repairs.known,
            Happening::Skipped => &mut repairs.skipped,
            Happening::Refused => &mut repairs.refused,
            Happening::Failed => &mut repairs.failed,
        };
        *count += slots;
    }

    pub fn lost_accounts(&self, counts: &LostCounts, waiting: usize) {
        self.face().status.lost_accounts = LostAccountsView {
            counts: *counts,
            waiting,
        };
    }

    pub fn effects(&self, effects: &[Effect]) {
        let mut face = self.face();
        for effect in effects {
            face.effect(effect);
        }
    }

    fn face(&self) -> MutexGuard<'_, Face> {
        // A panic while holding it can only leave figures of different moments.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Face {
    fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Publish(block) => {
                let published = &mut self.status.published;
                published.blocks += 1;
                published.events += block.contents.len() as u64;
                published.accounts += block.accounts;
                published.transactions += block.transactions;
                published.entries += block.entries;
                let key = (block.id.slot, block.id.blockhash);
                let view = BlockView {
                    slot: block.id.slot,
                    blockhash: block.id.blockhash,
                    parent_slot: block.parent.slot,
                    parent_blockhash: block.parent.blockhash,
                    status: Standing::Processed,
                    accounts: block.accounts,
                    transactions: block.transactions,
                    entries: block.entries,
                    source: block.origins().join(", "),
                };
                if self.blocks.insert(key, view).is_none() {
                    self.arrivals.push_back(key);
                }
                while self.arrivals.len() > BLOCKS_MAX {
                    if let Some(old) = self.arrivals.pop_front() {
                        self.blocks.remove(&old);
                    }
                }
            }
            Effect::Standing(change) => {
                let key = (change.block.slot, change.block.blockhash);
                if let Some(view) = self.blocks.get_mut(&key) {
                    view.status = change.standing;
                }
            }
            Effect::Gap(gap) | Effect::ParentGap { gap, .. } => {
                self.status.gap_count += 1;
                self.status.gaps.push_back(GapView {
                    slot: Slot(gap.first_slot),
                    last_slot: Slot(gap.last_slot),
                    records: gap.records,
                    source: gap.source.clone(),
                    detail: gap.detail.clone(),
                });
                while self.status.gaps.len() > GAPS_MAX {
                    self.status.gaps.pop_front();
                }
            }
            _ => {}
        }
    }
}
