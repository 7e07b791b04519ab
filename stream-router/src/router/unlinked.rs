//! A finalized block whose parent nobody reported proves that blocks are missing: that hole is told, too.
//!
//! Records can vanish without a trace when every source was down. What remains is the next block, which names its parent.
//! Once it is finalized, and time enough has passed for late records, everything between it and the published chain below
//! is a gap. Below the first block that was ever published nothing is missing: coverage begins there. So it does after a hole
//! that is longer than anyone would call an outage: recorded blocks from scattered slots are such a stream.

use std::collections::{BTreeMap, VecDeque};

use event_schema::{Gap, GapReason, Slot, proto::geyser::SlotStatus};

use super::{Effect, Router};
use crate::slot_tree::BlockId;

/// Slots of which parents and told gaps are remembered.
const MEMORY: usize = 8_192;

/// What waits to be looked at, and what helps to judge it.
#[derive(Debug, Default)]
pub struct Unlinked {
    /// Finalized blocks, with the log's time when they were first looked at.
    waiting: BTreeMap<BlockId, Option<i64>>,
    /// Parents that validators reported of slots, whether or not their blocks are here.
    hints: BTreeMap<Slot, Slot>,
    /// Slots that a gap names already.
    told: BTreeMap<Slot, ()>,
    order: VecDeque<Slot>,
    /// Holes that were told, first and last slot, newest last.
    ranges: VecDeque<(Slot, Slot)>,
}

/// Told holes that are remembered.
const RANGES: usize = 1_024;

impl Unlinked {
    /// The block is finalized and published.
    pub fn watch(&mut self, block: BlockId) {
        self.waiting.insert(block, None);
    }

    pub fn hint(&mut self, slot: Slot, parent: Option<Slot>, status: SlotStatus) {
        let Some(parent) = parent.filter(|parent| *parent < slot) else {
            return;
        };
        // A root's parent is certain; a bank's may be another fork's.
        if status == SlotStatus::SlotFinalized || !self.hints.contains_key(&slot) {
            self.hints.insert(slot, parent);
        }
        while self.hints.len() > MEMORY {
            self.hints.pop_first();
        }
    }

    /// Everything from the first to the last slot is told to be missing.
    pub fn hole_told(&mut self, first: Slot, last: Slot) {
        self.gap_told(last);
        self.ranges.push_back((first, last));
        if self.ranges.len() > RANGES {
            self.ranges.pop_front();
        }
    }

    /// A told hole reaches to the slot and below it.
    pub fn is_in_told_hole(&self, slot: Slot) -> bool {
        let mut ranges = self.ranges.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&slot))
    }

    /// What of the hole is not told yet, as holes of its own.
    fn untold(&self, first: Slot, last: Slot) -> Vec<(Slot, Slot)> {
        let mut open = vec![(first, last)];
        for (told_first, told_last) in &self.ranges {
            open = open
                .into_iter()
                .flat_map(|(first, last)| {
                    let below = (first, last.min(Slot(told_first.0.saturating_sub(1))));
                    let above = (first.max(Slot(told_last.0.saturating_add(1))), last);
                    let apart = *told_first > last || *told_last < first;
                    let parts = if apart {
                        [(first, last), (Slot(1), Slot(0))]
                    } else {
                        [below, above]
                    };
                    parts.into_iter().filter(|(first, last)| first <= last)
                })
                .collect();
        }
        open
    }

    pub fn gap_told(&mut self, slot: Slot) {
        if self.told.insert(slot, ()).is_none() {
            self.order.push_back(slot);
        }
        while self.order.len() > MEMORY {
            if let Some(old) = self.order.pop_front() {
                self.told.remove(&old);
            }
        }
    }
}

impl Router {
    /// Blocks that have waited long enough are linked, or their hole is told.
    pub(super) fn tell_unlinked(&mut self, log_ms: i64, out: &mut Vec<Effect>) {
        let mut due = Vec::new();
        for (block, since) in &mut self.unlinked.waiting {
            let since = *since.get_or_insert(log_ms);
            let linked = self.published.get(*block).is_none_or(|published| {
                published.gap_told || self.published.contains(published.parent)
            });
            if linked || log_ms.saturating_sub(since) >= self.limits.gap_after_ms {
                due.push((*block, linked));
            }
        }
        for (block, linked) in due {
            self.unlinked.waiting.remove(&block);
            if linked {
                continue;
            }
            let Some((first, last)) = self.missing_below(block) else {
                continue;
            };
            if let Some(published) = self.published.get_mut(block) {
                published.gap_told = true;
            }
            for (first, last) in self.unlinked.untold(first, last) {
                self.totals.gaps += 1;
                self.unlinked.hole_told(first, last);
                out.push(Effect::ParentGap {
                    block,
                    gap: Gap {
                        first_slot: first.0,
                        last_slot: last.0,
                        records: 0,
                        reason: GapReason::MissingRecords as i32,
                        source: String::new(),
                        detail: format!(
                            "no source has what lies below the finalized block of slot {}; slots without a block may be \
                             among these",
                            block.slot
                        ),
                    },
                });
            }
        }
    }

    /// The slots between the block and the published chain below of which nothing is known.
    pub(super) fn missing_below(&self, block: BlockId) -> Option<(Slot, Slot)> {
        let mut parent = self.published.get(block)?.parent;
        if parent.slot >= block.slot {
            return None;
        }
        loop {
            if self.published.contains(parent) {
                return None;
            }
            // Its metadata is here: its own hole is told by its source, and the chain goes on below it.
            match self.commitments.tree().parent(parent) {
                Some(above) => parent = above,
                None => break,
            }
        }
        let told = self.unlinked.told.contains_key(&parent.slot);
        if let Some(hint) = self.unlinked.hints.get(&parent.slot)
            && self.published.at(*hint).next().is_some()
        {
            return (!told).then_some((parent.slot, parent.slot));
        }
        let below = self.published.below(parent.slot)?;
        let first = Slot(below.slot.0 + 1);
        let last = if told {
            Slot(parent.slot.0.saturating_sub(1))
        } else {
            parent.slot
        };
        let length = last.0.saturating_sub(below.slot.0);
        (first <= last && length <= self.limits.gap_slots).then_some((first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_told_once_however_it_is_cut() {
        let mut unlinked = Unlinked::default();
        let hole = |first, last| (Slot(first), Slot(last));
        assert_eq!(unlinked.untold(Slot(5), Slot(9)), [hole(5, 9)]);
        unlinked.hole_told(Slot(6), Slot(7));
        unlinked.hole_told(Slot(9), Slot(12));
        assert_eq!(unlinked.untold(Slot(5), Slot(9)), [hole(5, 5), hole(8, 8)]);
        assert_eq!(unlinked.untold(Slot(6), Slot(7)), []);
        assert_eq!(unlinked.untold(Slot(13), Slot(13)), [hole(13, 13)]);
    }
}
