//! What is newest: blocks per commitment level and their hashes. Written by the engine, read by the unary methods.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use event_schema::{Blockhash, Slot};

use crate::subscription::Level;

/// A blockhash may be used in a transaction until the block this many above its own (Agave's `MAX_PROCESSING_AGE`; its
/// queue keeps `MAX_RECENT_BLOCKHASHES` = 300, but a transaction's may be half as old).
pub const VALID_BLOCKS: u64 = 150;
/// Heights remembered below the newest: twice as many as can be valid.
const REMEMBERED_BLOCKS: u64 = 2 * VALID_BLOCKS;
/// Hashes remembered at most, however many forks there are.
const HASHES_MAX: usize = 4_096;

/// Shared and small: a lock held for a look-up.
#[derive(Debug, Clone, Default)]
pub struct Tips(Arc<Mutex<Chain>>);

/// A block that is the newest of its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    pub slot: Slot,
    pub blockhash: Blockhash,
    pub height: u64,
}

impl Tip {
    /// The height of the last block in which a transaction with this tip's hash may land.
    pub fn last_valid_block_height(&self) -> u64 {
        self.height.saturating_add(VALID_BLOCKS)
    }
}

impl Tips {
    /// A block has reached the level, and with it all lower ones. Without a height (blocks of very old validators) only the
    /// slot is remembered.
    pub fn reached(&self, level: Level, slot: Slot, blockhash: Blockhash, height: Option<u64>) {
        self.chain().reached(level, slot, blockhash, height);
    }

    /// A block turned out to be on a fork that lost.
    pub fn abandoned(&self, slot: Slot, blockhash: Blockhash) {
        self.chain().abandoned(slot, blockhash);
    }

    /// The oldest slot from which a subscription may start; `None`: from none.
    pub fn first_available(&self, slot: Option<Slot>) {
        self.chain().first_available = Some(slot);
    }

    /// The newest slot at the level.
    pub fn slot(&self, level: Level) -> Option<Slot> {
        self.chain().slots[level as usize]
    }

    /// The newest block at the level.
    pub fn tip(&self, level: Level) -> Option<Tip> {
        self.chain().tips[level as usize]
    }

    /// Whether a transaction with this blockhash may still land after the level's newest block, and that block's slot.
    pub fn is_valid(&self, level: Level, blockhash: &Blockhash) -> Option<(Slot, bool)> {
        self.chain().is_valid(level, blockhash)
    }

    /// `None`: nobody has said it yet.
    pub fn replay_from(&self) -> Option<Option<Slot>> {
        self.chain().first_available
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        // A panic while holding it can only leave figures of different moments.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    height: u64,
    level: Level,
}

#[derive(Debug, Default)]
struct Chain {
    /// By level.
    slots: [Option<Slot>; 3],
    tips: [Option<Tip>; 3],
    blocks: BTreeMap<(Slot, Blockhash), Seen>,
    /// Where a hash is in `blocks`. A hash belongs to one block: it covers slot and parent.
    slot_of: HashMap<Blockhash, Slot>,
    first_available: Option<Option<Slot>>,
}

impl Chain {
    fn reached(&mut self, level: Level, slot: Slot, blockhash: Blockhash, height: Option<u64>) {
        for lower in &mut self.slots[..=level as usize] {
            *lower = (*lower).max(Some(slot));
        }
        let Some(height) = height else { return };
        let tip = Tip {
            slot,
            blockhash,
            height,
        };
        for lower in &mut self.tips[..=level as usize] {
            if lower.is_none_or(|old| old.slot <= slot) {
                *lower = Some(tip);
            }
        }
        let seen = self
            .blocks
            .entry((slot, blockhash))
            .or_insert(Seen { height, level });
        seen.level = seen.level.max(level);
        self.slot_of.insert(blockhash, slot);
        self.forget_old();
    }

    fn forget_old(&mut self) {
        let newest = self
            .blocks
            .values()
            .next_back()
            .map_or(0, |seen| seen.height);
        while let Some((&(slot, blockhash), seen)) = self.blocks.first_key_value() {
            let old = seen.height.saturating_add(REMEMBERED_BLOCKS) < newest;
            if !old && self.blocks.len() <= HASHES_MAX {
                break;
            }
            self.forget(slot, blockhash);
        }
    }

    fn forget(&mut self, slot: Slot, blockhash: Blockhash) {
        self.blocks.remove(&(slot, blockhash));
        self.slot_of.remove(&blockhash);
    }

    fn abandoned(&mut self, slot: Slot, blockhash: Blockhash) {
        self.forget(slot, blockhash);
        for level in Level::ALL {
            let at = level as usize;
            if self.tips[at].is_none_or(|tip| (tip.slot, tip.blockhash) != (slot, blockhash)) {
                continue;
            }
            let next = self
                .blocks
                .iter()
                .rev()
                .find(|(_, seen)| seen.level >= level);
            self.tips[at] = next.map(|(&(slot, blockhash), seen)| Tip {
                slot,
                blockhash,
                height: seen.height,
            });
            self.slots[at] = self.tips[at].map(|tip| tip.slot);
        }
    }

    fn is_valid(&self, level: Level, blockhash: &Blockhash) -> Option<(Slot, bool)> {
        let tip = self.tips[level as usize]?;
        let seen = self
            .slot_of
            .get(blockhash)
            .and_then(|slot| self.blocks.get(&(*slot, *blockhash)));
        let valid = seen.is_some_and(|seen| {
            // At a higher level, a block of a fork does not count, nor one that the level has not come to.
            seen.level >= level
                && seen.height <= tip.height
                && tip.height - seen.height <= VALID_BLOCKS
        });
        Some((tip.slot, valid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> Blockhash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        Blockhash(hash)
    }

    fn told(blocks: impl IntoIterator<Item = u64>, level: Level) -> Tips {
        let tips = Tips::default();
        for n in blocks {
            tips.reached(level, Slot(n * 2), hash(n), Some(n));
        }
        tips
    }

    #[test]
    fn nothing_is_known_at_first() {
        let tips = Tips::default();
        assert_eq!(tips.tip(Level::Processed), None);
        assert_eq!(tips.slot(Level::Finalized), None);
        assert_eq!(tips.is_valid(Level::Processed, &hash(1)), None);
        assert_eq!(tips.replay_from(), None);
    }

    #[test]
    fn a_level_brings_the_lower_ones_along() {
        let tips = told([1], Level::Confirmed);
        assert_eq!(tips.slot(Level::Processed), Some(Slot(2)));
        assert_eq!(tips.slot(Level::Finalized), None);
        assert_eq!(
            tips.tip(Level::Processed)
                .unwrap()
                .last_valid_block_height(),
            151
        );
        // An older block does not bring it back.
        tips.reached(Level::Processed, Slot(1), hash(9), Some(0));
        assert_eq!(tips.slot(Level::Processed), Some(Slot(2)));
    }

    #[test]
    fn a_hash_is_valid_for_150_blocks() {
        let tips = told(1..=151, Level::Finalized);
        assert_eq!(
            tips.is_valid(Level::Finalized, &hash(1)),
            Some((Slot(302), true))
        );
        tips.reached(Level::Processed, Slot(304), hash(152), Some(152));
        assert_eq!(
            tips.is_valid(Level::Processed, &hash(1)),
            Some((Slot(304), false))
        );
        assert_eq!(
            tips.is_valid(Level::Processed, &hash(152)),
            Some((Slot(304), true))
        );
        // Not yet there for those who look at finalized blocks.
        assert_eq!(
            tips.is_valid(Level::Finalized, &hash(152)),
            Some((Slot(302), false))
        );
        assert_eq!(
            tips.is_valid(Level::Finalized, &hash(1)),
            Some((Slot(302), true))
        );
    }

    #[test]
    fn an_abandoned_tip_falls_back() {
        let tips = told(1..=3, Level::Processed);
        tips.reached(Level::Confirmed, Slot(4), hash(2), Some(2));
        tips.abandoned(Slot(6), hash(3));
        assert_eq!(tips.tip(Level::Processed).unwrap().blockhash, hash(2));
        assert_eq!(tips.slot(Level::Processed), Some(Slot(4)));
        assert_eq!(
            tips.is_valid(Level::Processed, &hash(3)),
            Some((Slot(4), false))
        );
    }

    #[test]
    fn memory_is_bounded() {
        let tips = told(0..10_000, Level::Processed);
        assert_eq!(tips.chain().blocks.len(), REMEMBERED_BLOCKS as usize + 1);
        // Ten thousand blocks of one height, as no cluster has them.
        for n in 0..10_000 {
            tips.reached(
                Level::Processed,
                Slot(30_000 + n),
                hash(1 << 20 | n),
                Some(9_999),
            );
        }
        let chain = tips.chain();
        assert!(chain.blocks.len() <= HASHES_MAX);
        assert_eq!(chain.blocks.len(), chain.slot_of.len());
    }

    #[test]
    fn a_block_without_height_is_only_a_slot() {
        let tips = Tips::default();
        tips.reached(Level::Finalized, Slot(5), hash(5), None);
        assert_eq!(tips.slot(Level::Finalized), Some(Slot(5)));
        assert_eq!(tips.tip(Level::Finalized), None);
    }
}
