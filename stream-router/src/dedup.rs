//! Pure: what makes two records the same event, and a bounded memory of the blocks that were published.
//!
//! Within a block an event is known by its content identity; its order is the canonical order (accounts by write version,
//! transactions and entries by index, metadata last). Between sources the block's identity (slot and hash) decides:
//! write versions differ from validator to validator, so a block is taken whole from one source, and repaired from others
//! only as far as `assembly::unite` can prove it.

use std::collections::{BTreeMap, VecDeque};

use event_schema::{Blockhash, Pubkey, Signature, Slot, WriteVersion};

use crate::{commitment::Standing, slot_tree::BlockId};

/// Identity of an event within its block, ordered as the canonical stream orders events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventId {
    Account(WriteVersion, Pubkey),
    Transaction(u64, Signature),
    Entry(u64),
    BlockMeta,
}

/// What is remembered of a published block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    pub parent: BlockId,
    /// The last standing told to readers.
    pub told: Standing,
    /// That the blocks between it and the chain below are missing was told.
    pub gap_told: bool,
}

/// The newest `capacity` published blocks, about 150 bytes each. A copy of an older block would be published again, so the
/// capacity is chosen far beyond what any source can deliver late.
#[derive(Debug)]
pub struct PublishedBlocks {
    blocks: BTreeMap<BlockId, Published>,
    arrivals: VecDeque<BlockId>,
    capacity: usize,
}

impl PublishedBlocks {
    pub fn new(capacity: usize) -> Self {
        Self {
            blocks: BTreeMap::new(),
            arrivals: VecDeque::new(),
            capacity: capacity.max(1),
        }
    }

    /// Returns the block that had to be forgotten for this one, and `None` in `Ok` when there was room. `Err` when the
    /// block is known already.
    pub fn insert(
        &mut self,
        block: BlockId,
        published: Published,
    ) -> Result<Option<BlockId>, AlreadyPublished> {
        if self.blocks.contains_key(&block) {
            return Err(AlreadyPublished);
        }
        self.blocks.insert(block, published);
        self.arrivals.push_back(block);
        if self.arrivals.len() <= self.capacity {
            return Ok(None);
        }
        let forgotten = self.arrivals.pop_front();
        if let Some(forgotten) = forgotten {
            self.blocks.remove(&forgotten);
        }
        Ok(forgotten)
    }

    pub fn get(&self, block: BlockId) -> Option<&Published> {
        self.blocks.get(&block)
    }

    pub fn get_mut(&mut self, block: BlockId) -> Option<&mut Published> {
        self.blocks.get_mut(&block)
    }

    /// Every published block of the slot.
    pub fn at(&self, slot: Slot) -> impl Iterator<Item = BlockId> + '_ {
        self.from(slot).take_while(move |block| block.slot == slot)
    }

    /// Every published block of the slot and of later ones, in order.
    pub fn from(&self, slot: Slot) -> impl Iterator<Item = BlockId> + '_ {
        let first = BlockId::new(slot, Blockhash::default());
        self.blocks.range(first..).map(|(block, _)| *block)
    }

    /// The highest published block below the slot that is on the chain as far as anyone knows. One that is only processed may
    /// be a fork of what is missing: it counts when there is no other.
    pub fn below(&self, slot: Slot) -> Option<BlockId> {
        let end = BlockId::new(slot, Blockhash::default());
        let below = || self.blocks.range(..end).rev();
        let on_chain = |told| matches!(told, Standing::Confirmed | Standing::Finalized);
        below()
            .find(|(_, published)| on_chain(published.told))
            .or_else(|| below().find(|(_, published)| published.told != Standing::Abandoned))
            .map(|(block, _)| *block)
    }

    pub fn contains(&self, block: BlockId) -> bool {
        self.blocks.contains_key(&block)
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// The block is in the memory.
#[derive(Debug, PartialEq, Eq)]
pub struct AlreadyPublished;

#[cfg(test)]
mod tests {
    use super::*;
    use event_schema::{Blockhash, Slot};

    fn block(slot: u64) -> BlockId {
        BlockId::new(Slot(slot), Blockhash([1; 32]))
    }

    fn published() -> Published {
        Published {
            parent: block(0),
            told: Standing::Processed,
            gap_told: false,
        }
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut memory = PublishedBlocks::new(2);
        assert_eq!(memory.insert(block(9), published()), Ok(None));
        assert_eq!(memory.insert(block(3), published()), Ok(None));
        assert_eq!(memory.insert(block(9), published()), Err(AlreadyPublished));
        assert_eq!(memory.insert(block(7), published()), Ok(Some(block(9))));
        assert!(!memory.contains(block(9)) && memory.contains(block(3)));
        assert_eq!(memory.len(), 2);
    }

    #[test]
    fn identities_sort_in_canonical_order() {
        let account = |version| EventId::Account(WriteVersion(version), Pubkey([9; 32]));
        let mut events = [
            EventId::BlockMeta,
            EventId::Entry(0),
            EventId::Transaction(1, Signature([0; 64])),
            account(7),
            EventId::Transaction(0, Signature([5; 64])),
            account(2),
        ];
        events.sort();
        assert_eq!(
            events,
            [
                account(2),
                account(7),
                EventId::Transaction(0, Signature([5; 64])),
                EventId::Transaction(1, Signature([0; 64])),
                EventId::Entry(0),
                EventId::BlockMeta,
            ]
        );
    }
}
