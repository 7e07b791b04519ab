//! Pure: blocks and their parents, as far as they were observed.
//!
//! A block is a slot *and* a hash: two validators may hold different blocks for one slot, and one validator may replay a
//! slot with other contents. Parents are known by name before (or without) being observed, so chains may have holes.

use std::collections::{BTreeMap, HashMap, VecDeque};

use event_schema::{Blockhash, Slot};
use serde::{Deserialize, Serialize};

/// One block on one fork.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct BlockId {
    pub slot: Slot,
    pub blockhash: Blockhash,
}

impl BlockId {
    pub fn new(slot: Slot, blockhash: Blockhash) -> Self {
        Self { slot, blockhash }
    }

    /// The least identity of a slot, for range look-ups.
    fn first_of(slot: Slot) -> Self {
        Self::new(slot, Blockhash([0; 32]))
    }

    fn last_of(slot: Slot) -> Self {
        Self::new(slot, Blockhash([0xff; 32]))
    }
}

/// See the module. Memory is bounded by whoever calls [`SlotTree::remove`]; [`SlotTree::oldest`] names the candidates.
#[derive(Debug, Default)]
pub struct SlotTree {
    parents: BTreeMap<BlockId, BlockId>,
    children: HashMap<BlockId, Vec<BlockId>>,
    arrivals: VecDeque<BlockId>,
}

impl SlotTree {
    /// Returns false when the block was known; the first parent told is kept.
    pub fn insert(&mut self, block: BlockId, parent: BlockId) -> bool {
        if self.parents.contains_key(&block) {
            return false;
        }
        self.parents.insert(block, parent);
        self.arrivals.push_back(block);
        // A block that names itself as its parent (slot 0) must not become its own child.
        if parent != block {
            self.children.entry(parent).or_default().push(block);
        }
        true
    }

    pub fn contains(&self, block: BlockId) -> bool {
        self.parents.contains_key(&block)
    }

    /// The parent's name; the parent itself may not have been observed. `None` for an unknown block and for a root of
    /// the world (its own parent, or a parent that does not precede it).
    pub fn parent(&self, block: BlockId) -> Option<BlockId> {
        self.parents
            .get(&block)
            .copied()
            .filter(|parent| parent.slot < block.slot)
    }

    pub fn children(&self, block: BlockId) -> &[BlockId] {
        self.children.get(&block).map_or(&[], Vec::as_slice)
    }

    /// Every observed block of the slot.
    pub fn at(&self, slot: Slot) -> impl Iterator<Item = BlockId> + '_ {
        self.parents
            .range(BlockId::first_of(slot)..=BlockId::last_of(slot))
            .map(|(block, _)| *block)
    }

    /// Every observed block strictly between the two slots.
    pub fn between(&self, after: Slot, before: Slot) -> Vec<BlockId> {
        if after.0.saturating_add(1) >= before.0 {
            return Vec::new();
        }
        self.parents
            .range(BlockId::first_of(Slot(after.0 + 1))..=BlockId::last_of(Slot(before.0 - 1)))
            .map(|(block, _)| *block)
            .collect()
    }

    pub fn len(&self) -> usize {
        self.parents.len()
    }

    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// Blocks in the order they were observed, oldest first.
    pub fn oldest(&self) -> impl Iterator<Item = BlockId> + '_ {
        self.arrivals.iter().copied()
    }

    pub fn remove(&mut self, block: BlockId) {
        let Some(parent) = self.parents.remove(&block) else {
            return;
        };
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.retain(|child| *child != block);
            if siblings.is_empty() {
                self.children.remove(&parent);
            }
        }
        match self.arrivals.front() {
            Some(front) if *front == block => {
                self.arrivals.pop_front();
            }
            _ => self.arrivals.retain(|other| *other != block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(slot: u64, fork: u8) -> BlockId {
        BlockId::new(Slot(slot), Blockhash([fork; 32]))
    }

    #[test]
    fn one_slot_may_hold_several_blocks() {
        let mut tree = SlotTree::default();
        assert!(tree.insert(block(5, 1), block(4, 1)));
        assert!(tree.insert(block(5, 2), block(3, 1)));
        assert!(!tree.insert(block(5, 1), block(2, 9)));
        assert_eq!(tree.at(Slot(5)).count(), 2);
        assert_eq!(tree.parent(block(5, 1)), Some(block(4, 1)));
        assert_eq!(tree.children(block(3, 1)), [block(5, 2)]);
    }

    #[test]
    fn a_removed_block_leaves_no_trace() {
        let mut tree = SlotTree::default();
        tree.insert(block(1, 1), block(0, 1));
        tree.insert(block(2, 1), block(1, 1));
        tree.remove(block(1, 1));
        assert!(!tree.contains(block(1, 1)));
        assert_eq!(tree.children(block(0, 1)), []);
        assert_eq!(tree.oldest().collect::<Vec<_>>(), [block(2, 1)]);
    }

    #[test]
    fn the_first_block_of_the_world_has_no_parent() {
        let mut tree = SlotTree::default();
        tree.insert(block(0, 1), block(0, 1));
        assert_eq!(tree.parent(block(0, 1)), None);
        assert!(tree.between(Slot(u64::MAX), Slot(3)).is_empty());
    }
}
