//! Up to where every slot's fate is known and stored: below it, what the tables hold is final. Pure.
//!
//! A list of all final slots grows with the chain, by 79 million a year at 400 ms; questions about final rows would read it
//! whole. So the sink tells a bound with every batch, and only slots from there on are looked up one by one.
//!
//! The bound is the least of what the partitions allow: none may go beyond its highest final slot, nor beyond a confirmed
//! block whose fate it has not told. A block that comes late, below the bound, takes it back before its rows are stored.
//!
//! Rollups stand on final rows, so how far they go is told with it, and taken back with it.

use std::collections::{BTreeMap, BTreeSet};

use event_schema::{Blockhash, Commitment, Slot};
use serde::{Deserialize, Serialize};

use super::{planner::Batch, rollups::window_begin};

/// What the journal keeps of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Every slot below is decided.
    pub below: u64,
    /// By partition, its highest final slot.
    pub final_to: BTreeMap<u32, u64>,
    /// Every window of slots below is rolled up; the begin of one.
    pub rolled_below: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Decided {
    /// Of the canonical topic.
    partitions: u32,
    told: Told,
    /// Blocks that are stored and may still be abandoned.
    open: BTreeSet<(Slot, Blockhash)>,
}

impl Decided {
    /// Continues after `told`; `open`: stored blocks, at or above its bound, that are confirmed and no more.
    pub fn new(
        partitions: u32,
        told: Told,
        open: impl IntoIterator<Item = (Slot, Blockhash)>,
    ) -> Self {
        Self {
            partitions,
            told,
            open: open.into_iter().collect(),
        }
    }

    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Windows below `slot` are rolled up.
    pub fn rolled_up(&mut self, slot: u64) {
        self.told.rolled_below = window_begin(slot.min(self.told.below));
    }

    /// Holds while the batch is being stored, however far that has come.
    pub fn before(&self, batch: &Batch) -> Told {
        let below = first_changed(batch).min(self.told.below);
        Told {
            below,
            final_to: self.told.final_to.clone(),
            rolled_below: window_begin(below).min(self.told.rolled_below),
        }
    }

    /// Holds once the batch is stored.
    pub fn after(&mut self, batch: &Batch) -> Told {
        for status in &batch.statuses {
            let block = (status.slot, status.blockhash);
            match status.commitment {
                Commitment::Confirmed => drop(self.open.insert(block)),
                Commitment::Abandoned => drop(self.open.remove(&block)),
                Commitment::Finalized => {
                    self.open.remove(&block);
                    let highest = self.told.final_to.entry(status.partition).or_default();
                    *highest = status.slot.0.max(*highest);
                }
            }
        }
        let highest = (0..self.partitions).map(|partition| self.told.final_to.get(&partition));
        let least = highest
            .map(|slot| slot.map_or(0, |slot| slot + 1))
            .min()
            .unwrap_or(0);
        let open = self.open.first().map_or(u64::MAX, |(slot, _)| slot.0);
        self.told.below = least.min(open);
        let still_rolled = first_changed(batch).min(self.told.below);
        self.told.rolled_below = window_begin(still_rolled).min(self.told.rolled_below);
        self.told.clone()
    }
}

/// The lowest slot whose rows the batch stores or deletes.
fn first_changed(batch: &Batch) -> u64 {
    let stored = batch.blocks.iter().map(|block| block.slot.0);
    let deleted = batch.deletes.iter().map(|slot| slot.0);
    stored.chain(deleted).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
