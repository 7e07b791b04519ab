//! Pure: which confirmed block comes next into the state.
//!
//! The state follows one chain and never goes back to an older block, except when a block in it proves abandoned. A block
//! is applied when it is confirmed and its parent is the state's newest block. If the parent never comes, the block waits
//! until it is finalized and the log has had time for late records; then what lies between is a hole, and stays one:
//! a block that comes for it later is not applied, because accounts it wrote may have been written since.

use std::collections::{BTreeMap, VecDeque};

use event_schema::{Slot, partition_of_slot};
use serde::{Deserialize, Serialize};

use crate::{commitment::Standing, slot_tree::BlockId, state::RestoredBlock};

/// Holes that are remembered; the oldest are joined.
const HOLES_MAX: usize = 256;
/// Confirmed blocks of earlier lives that are applied late. Before them is a hole.
const RESTORED_MAX: usize = 512;

/// What a next life must know; kept in the state topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The newest blocks in the state, oldest first: from the newest finalized one on.
    pub chain: VecDeque<BlockId>,
    /// The slot of the first block that was applied.
    pub since: Slot,
    pub holes: VecDeque<(Slot, Slot)>,
    /// Slots that were in holes and are filled; the newest.
    #[serde(default)]
    pub repaired: VecDeque<(Slot, Slot)>,
    /// Transactions of the topic so far.
    pub sequence: u64,
}

/// A published block that is not in the state.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub parent: BlockId,
    /// First record in its partition of the canonical topic; not known when the router ended before it was written down.
    pub offset: Option<i64>,
    /// Where to look for it otherwise, if it is on the log.
    pub not_before: Option<i64>,
    /// The number under which it was told.
    confirmed: Option<u64>,
    finalized: bool,
    /// The log's time when it was first seen finalized.
    since_ms: Option<i64>,
}

/// See the module.
#[derive(Debug)]
pub struct Applied {
    progress: Progress,
    waiting: BTreeMap<BlockId, Waiting>,
    /// Were in the state and are not on the chain; oldest first.
    undone: Vec<BlockId>,
    /// The newest finalized block in the state.
    finalized: Option<BlockId>,
    gap_after_ms: i64,
}

impl Applied {
    /// `restored`: oldest publication first. `lows`: what each partition of the canonical topic still holds begins there.
    pub fn new(
        progress: Progress,
        restored: &[RestoredBlock],
        lows: &[i64],
        gap_after_ms: i64,
    ) -> Self {
        let mut applied = Self {
            finalized: None,
            waiting: BTreeMap::new(),
            undone: Vec::new(),
            gap_after_ms,
            progress,
        };
        let mut standings = BTreeMap::new();
        let mut reached = lows.to_vec();
        let partitions = lows.len() as u32;
        for block in restored {
            let partition = partition_of_slot(block.block.slot, partitions);
            let Some(reached) = reached.get_mut(partition as usize) else {
                continue;
            };
            *reached = (*reached).max(block.history.offset.unwrap_or(0));
            standings.insert(block.block, block.told);
            let history = &block.history;
            let begins = applied.tip().is_none() && block.told != Standing::Processed;
            if block.told == Standing::Abandoned || begins || applied.has_passed(block.block) {
                continue;
            }
            let waiting = Waiting {
                parent: block.parent,
                offset: history.offset,
                not_before: Some(*reached),
                confirmed: history.confirmed.or(history.finalized),
                finalized: block.told == Standing::Finalized,
                since_ms: None,
            };
            applied.waiting.insert(block.block, waiting);
        }
        let confirmed =
            |(block, waiting): (&BlockId, &Waiting)| waiting.confirmed.is_some().then_some(*block);
        let held: Vec<BlockId> = applied.waiting.iter().filter_map(confirmed).collect();
        for old in &held[..held.len().saturating_sub(RESTORED_MAX)] {
            applied.waiting.remove(old);
        }
        for block in applied.progress.chain.clone() {
            match standings.get(&block) {
                Some(Standing::Finalized) => applied.finalize(block),
                // Told by a life that ended before it could undo it.
                Some(Standing::Abandoned) => drop(applied.abandon(block)),
                _ => {}
            }
        }
        applied
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    pub fn count_transaction(&mut self) -> u64 {
        self.progress.sequence += 1;
        self.progress.sequence
    }

    /// The state's newest block.
    pub fn tip(&self) -> Option<BlockId> {
        self.progress.chain.back().copied()
    }

    /// Nothing more can become of the block here.
    fn has_passed(&self, block: BlockId) -> bool {
        self.progress.chain.contains(&block)
            || self
                .progress
                .chain
                .front()
                .is_some_and(|first| block.slot <= first.slot)
    }

    /// False when the state has passed it.
    pub fn publish(&mut self, block: BlockId, parent: BlockId) -> bool {
        if self.has_passed(block) {
            return false;
        }
        let waiting = Waiting {
            parent,
            offset: None,
            not_before: None,
            confirmed: None,
            finalized: false,
            since_ms: None,
        };
        self.waiting.insert(block, waiting);
        true
    }

    pub fn locate(&mut self, block: BlockId, offset: i64) {
        if let Some(waiting) = self.waiting.get_mut(&block) {
            waiting.offset = Some(offset);
        }
    }

    pub fn confirm(&mut self, block: BlockId, number: u64) {
        if let Some(waiting) = self.waiting.get_mut(&block) {
            waiting.confirmed = Some(number);
        }
    }

    pub fn finalize(&mut self, block: BlockId) {
        if let Some(waiting) = self.waiting.get_mut(&block) {
            waiting.finalized = true;
        }
        // Beside the finalized chain, or never to be confirmed.
        self.waiting
            .retain(|other, waiting| other.slot > block.slot || waiting.confirmed.is_some());
        if let Some(at) = self.progress.chain.iter().position(|other| *other == block) {
            self.progress.chain.drain(..at);
            self.finalized = Some(block);
            self.waiting.retain(|other, _| other.slot > block.slot);
        }
    }

    /// The newest finalized block in the state.
    pub fn finalized(&self) -> Option<BlockId> {
        self.finalized
    }

    /// Returns the lowest slot that is not in the state any more.
    pub fn abandon(&mut self, block: BlockId) -> Option<Slot> {
        self.waiting.remove(&block);
        let at = self.progress.chain.iter().position(|other| *other == block);
        // Finality is not taken back.
        if let Some(at) = at
            && self.finalized != Some(block)
        {
            self.undone.extend(self.progress.chain.drain(at..));
            return Some(block.slot);
        }
        None
    }

    /// `log_ms`: every partition has been read up to this time of the log; `i64::MIN` until each was read from.
    pub fn tick(&mut self, log_ms: i64) {
        if log_ms == i64::MIN {
            return;
        }
        for waiting in self.waiting.values_mut() {
            if waiting.finalized {
                waiting.since_ms.get_or_insert(log_ms);
            }
        }
        if let Some((_, waiting)) = self.first_held()
            && let Some(since) = waiting.since_ms
            && log_ms.saturating_sub(since) >= self.gap_after_ms
            && let Some(tip) = self.tip()
            && waiting.parent != tip
        {
            // Between the block and its parent there is none. A parent below the state's newest block is of another fork.
            let last = waiting.parent.slot;
            self.hole(Slot(tip.slot.0.saturating_add(1)).min(last), last);
            // The chain goes on from here, as if the parent had been applied.
            self.progress.chain.push_back(waiting.parent);
        }
    }

    /// The writes of these slots are not in the state.
    pub fn hole(&mut self, first: Slot, last: Slot) {
        if first > last {
            return;
        }
        self.progress.holes.push_back((first, last));
        self.join_oldest();
    }

    fn join_oldest(&mut self) {
        if self.progress.holes.len() > HOLES_MAX
            && let Some((oldest, _)) = self.progress.holes.pop_front()
            && let Some(next) = self.progress.holes.front_mut()
        {
            next.0 = oldest;
        }
    }

    pub fn is_in_hole(&self, slot: Slot) -> bool {
        let mut holes = self.progress.holes.iter();
        holes.any(|(first, last)| (*first..=*last).contains(&slot))
    }

    /// What was written in these slots is in the state after all.
    pub fn fill(&mut self, first: Slot, last: Slot) {
        for (from, to) in std::mem::take(&mut self.progress.holes) {
            let (filled_from, filled_to) = (from.max(first), to.min(last));
            if filled_from > filled_to {
                self.progress.holes.push_back((from, to));
                continue;
            }
            self.progress.repaired.push_back((filled_from, filled_to));
            if from < filled_from {
                let below = Slot(filled_from.0 - 1);
                self.progress.holes.push_back((from, below));
            }
            if filled_to < to {
                let above = Slot(filled_to.0 + 1);
                self.progress.holes.push_back((above, to));
            }
        }
        self.join_oldest();
        while self.progress.repaired.len() > HOLES_MAX {
            self.progress.repaired.pop_front();
        }
    }

    /// The lowest confirmed block above the state.
    fn first_held(&self) -> Option<(BlockId, Waiting)> {
        let mut held = self.held();
        held.next().map(|(block, waiting)| (*block, *waiting))
    }

    fn held(&self) -> impl Iterator<Item = (&BlockId, &Waiting)> {
        let tip = self.tip();
        let above = move |block: &BlockId| tip.is_none_or(|tip| block.slot > tip.slot);
        self.waiting
            .iter()
            .filter(move |(block, waiting)| waiting.confirmed.is_some() && above(block))
    }

    /// The block to apply now.
    pub fn next(&self) -> Option<(BlockId, Waiting)> {
        if !self.undone.is_empty() {
            return None;
        }
        let (block, waiting) = self.first_held()?;
        let fits = self.tip().is_none_or(|tip| tip == waiting.parent);
        fits.then_some((block, waiting))
    }

    /// It is in the state from now on.
    pub fn apply(&mut self, block: BlockId) {
        let Some(waiting) = self.waiting.remove(&block) else {
            return;
        };
        if self.progress.sequence == 0 && self.progress.chain.is_empty() {
            self.progress.since = block.slot;
        }
        self.progress.chain.push_back(block);
        if waiting.finalized {
            self.finalize(block);
        }
    }

    /// Blocks that must be taken out of the state before it can go on.
    pub fn undone(&self) -> &[BlockId] {
        &self.undone
    }

    pub fn is_undone(&mut self) {
        self.undone.clear();
    }

    /// How many confirmed blocks wait, and the lowest number under which one was told.
    pub fn held_back(&self) -> (u32, Option<u64>) {
        let numbers = self.held().filter_map(|(_, waiting)| waiting.confirmed);
        (self.held().count() as u32, numbers.min())
    }

    pub fn is_waiting(&self, block: BlockId) -> bool {
        self.waiting.contains_key(&block)
    }

    pub fn is_located(&self, block: BlockId) -> bool {
        let waiting = self.waiting.get(&block);
        waiting.is_some_and(|waiting| waiting.offset.is_some())
    }

    /// Every block that may come into the state.
    pub fn waiting(&self) -> impl Iterator<Item = (&BlockId, &Waiting)> {
        self.waiting.iter()
    }
}

#[cfg(test)]
mod tests;
