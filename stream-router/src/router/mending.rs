//! A block that an RPC node gave, because no source has it: checked against what is known of the chain, then published.
//!
//! The node was asked at *finalized*, so its word counts as one validator's report that it rooted the block, no more: a block
//! that contradicts the finalized chain is refused, and one that nothing links to the chain waits. Readers were told of the
//! hole before and keep that record; the block is published behind it, once, like any other.

use event_schema::{Kind, Pubkey, Slot, SourceId};

use super::{Effect, Router, SlotKey};
use crate::{assembly::Block, commitment::Standing, slot_tree::BlockId};

/// Stands for RPC nodes where a source is named. No plugin has it: instances are counted from 0.
pub const RPC_NODE: SourceId = SourceId {
    validator: Pubkey([0; 32]),
    instance: u64::MAX,
};

/// What became of a block that was given.
#[derive(Debug)]
pub enum Mended {
    Published,
    /// It had been published before.
    Known,
    /// No published block is its parent, and none that a source showed has it as parent. It may be given again when there is one.
    Unlinked(Box<Block>),
    Refused(Contradiction),
}

/// The block cannot be on the chain that the sources follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    #[error("its parent's slot {0} is not below its own")]
    ParentNotBelow(Slot),
    #[error("the finalized chain has block {0:?} in this slot")]
    Rival(BlockId),
    #[error("the finalized chain has no block in this slot")]
    PassedBy,
    #[error("the finalized chain leaves this block aside")]
    Abandoned,
    #[error("a source says that its parent is {0:?}")]
    OtherParent(BlockId),
    #[error("the finalized chain has {0:?} where its parent is said to be")]
    ParentRival(BlockId),
    #[error("the finalized chain leaves its parent {0:?} aside")]
    ParentAbandoned(BlockId),
    #[error("the finalized block {0:?} lies between it and its parent")]
    Between(BlockId),
}

impl Router {
    /// Publishes a block that is finalized on chain and that no source has whole.
    pub fn mend(&mut self, block: Block, out: &mut Vec<Effect>) -> Mended {
        let (id, parent) = (block.id, block.parent);
        if self.published.contains(id) {
            return Mended::Known;
        }
        if let Some(contradiction) = self.contradiction(id, parent) {
            return Mended::Refused(contradiction);
        }
        if !self.is_linked(id, parent) {
            return Mended::Unlinked(Box::new(block));
        }
        let mut changes = self.commitments.on_block(RPC_NODE, id, parent);
        let finalized = self
            .commitments
            .on_report(RPC_NODE, id.slot, Standing::Finalized);
        changes.extend(finalized);
        self.tell(changes, out);
        self.totals.fetched += 1;
        self.publish(block, out);
        // What is missing below it may be part of a hole that was told as a whole.
        if !self.published.contains(parent)
            && self.unlinked.is_in_told_hole(parent.slot)
            && let Some(published) = self.published.get_mut(id)
        {
            published.gap_told = true;
        }
        // Copies that came meanwhile are copies now; and a child shows that its parent was processed.
        self.advance_slot(id.slot, out);
        self.advance_slot(parent.slot, out);
        Mended::Published
    }

    /// Holes below finalized blocks that an earlier life told and nobody has filled, first and last slot. To be called once, when
    /// everything is restored: these are not told again.
    pub fn told_holes(&mut self) -> Vec<(Slot, Slot)> {
        let holes: Vec<(Slot, Slot)> = self
            .published
            .from(Slot(0))
            .filter(|block| {
                self.published.get(*block).is_some_and(|published| {
                    published.gap_told && !self.published.contains(published.parent)
                })
            })
            .filter_map(|block| self.missing_below(block))
            .collect();
        for (first, last) in &holes {
            self.unlinked.hole_told(*first, *last);
        }
        holes
    }

    /// The finalized chain has a block in this slot, though it may not be here.
    pub fn is_on_chain(&self, slot: Slot) -> bool {
        self.commitments.finalized_at(slot).is_some()
    }

    /// The slot was given up, but its block is here now, and it holds everything of this kind. Account updates and entries no
    /// RPC node gives: late ones are kept as dead letters.
    pub(super) fn is_mended(&self, (slot, source): SlotKey, kind: Kind) -> bool {
        if !matches!(kind, Kind::Transaction | Kind::BlockMeta) {
            return false;
        }
        match self.commitments.held_by(source, slot) {
            Some(block) => self.published.contains(block),
            None => self.published.at(slot).any(|block| {
                self.published
                    .get(block)
                    .is_some_and(|published| published.told == Standing::Finalized)
            }),
        }
    }

    fn contradiction(&self, id: BlockId, parent: BlockId) -> Option<Contradiction> {
        let commitments = &self.commitments;
        let other_at = |block: BlockId| {
            let known = commitments.finalized_at(block.slot);
            known.filter(|known| *known != block)
        };
        let is_aside = |block: BlockId| {
            commitments.standing(block) == Standing::Abandoned || commitments.passed_by(block.slot)
        };
        if parent.slot >= id.slot {
            return Some(Contradiction::ParentNotBelow(parent.slot));
        }
        if let Some(known) = other_at(id) {
            return Some(Contradiction::Rival(known));
        }
        if commitments.passed_by(id.slot) {
            return Some(Contradiction::PassedBy);
        }
        if commitments.standing(id) == Standing::Abandoned {
            return Some(Contradiction::Abandoned);
        }
        if let Some(known) = commitments.tree().parent(id)
            && known != parent
        {
            return Some(Contradiction::OtherParent(known));
        }
        if let Some(known) = other_at(parent) {
            return Some(Contradiction::ParentRival(known));
        }
        if is_aside(parent) {
            return Some(Contradiction::ParentAbandoned(parent));
        }
        let between = commitments.finalized_between(parent.slot, id.slot);
        between.map(Contradiction::Between)
    }

    /// Something that sources showed is the block, its child or its parent: it belongs to the same chain.
    fn is_linked(&self, id: BlockId, parent: BlockId) -> bool {
        let tree = self.commitments.tree();
        tree.contains(id) || !tree.children(id).is_empty() || self.published.contains(parent)
    }
}
