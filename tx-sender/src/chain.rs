//! The recent blocks as the canonical stream tells them, linked by parent: how old is a blockhash, where is a signature,
//! and from which height up has every block of the finalized fork been read?
//!
//! Pure. Absence is proven here: a transaction is not on the chain when all finalized blocks that could hold it, each
//! linked to the next, have been read and none does. A block that is missing breaks the link, and with it the proof.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use event_schema::{Blockhash, Signature, Slot};

use crate::delivery::{Commitment, Landing};

/// Finalized blocks kept behind the tip: the blockhashes the runtime itself remembers
/// (`MAX_RECENT_BLOCKHASHES`, solana-clock 3.1.1), twice the life of a transaction.
pub const BLOCKS_KEPT: u64 = 300;
/// Blocks kept when nothing is finalized for long; the oldest go first, and proofs wait until blocks link again.
pub const BLOCKS_MAX: usize = 4096;

/// What the sender needs of a published block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSummary {
    pub slot: Slot,
    pub blockhash: Blockhash,
    pub parent: Blockhash,
    /// `None` in blocks of before heights were recorded: taken as one more than the parent's.
    pub height: Option<u64>,
    /// Every transaction of the block but votes, with its error as JSON.
    pub transactions: HashMap<Signature, Option<Arc<str>>>,
    pub partition: u32,
    pub first_offset: i64,
    pub next_offset: i64,
}

#[derive(Debug)]
struct Link {
    slot: Slot,
    height: u64,
    parent: Blockhash,
    commitment: Commitment,
    abandoned: bool,
    transactions: HashMap<Signature, Option<Arc<str>>>,
    partition: u32,
    first_offset: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Chain {
    blocks: HashMap<Blockhash, Link>,
    by_height: BTreeSet<(u64, Blockhash)>,
    tip: Option<Blockhash>,
    covered_from: Option<u64>,
    height_max: Option<u64>,
    slot_max: Option<Slot>,
    /// Next offset per partition, from blocks and statuses alike.
    next_offsets: BTreeMap<u32, i64>,
}

impl Chain {
    /// Takes a published block. Seen again (a replay), it changes nothing. Answers the blocks that are finalized by it:
    /// it may be the missing link to ancestors of the finalized tip, whose own statuses come by other partitions.
    pub fn insert(&mut self, block: BlockSummary) -> Vec<(Slot, Blockhash)> {
        self.read_up_to(block.partition, block.next_offset);
        if self.blocks.contains_key(&block.blockhash) {
            return Vec::new();
        }
        let parent_height = self.blocks.get(&block.parent).map(|link| link.height);
        let Some(height) = block.height.or(parent_height.map(|height| height + 1)) else {
            return Vec::new();
        };
        self.height_max = self.height_max.max(Some(height));
        self.slot_max = self.slot_max.max(Some(block.slot));
        self.by_height.insert((height, block.blockhash));
        self.blocks.insert(
            block.blockhash,
            Link {
                slot: block.slot,
                height,
                parent: block.parent,
                commitment: Commitment::Processed,
                abandoned: false,
                transactions: block.transactions,
                partition: block.partition,
                first_offset: block.first_offset,
            },
        );
        if self.blocks.len() > BLOCKS_MAX {
            self.forget();
        }
        self.link()
    }

    /// Takes a status of a block: `None` says abandoned. Answers the blocks that are finalized by it, ancestors included.
    pub fn commit(
        &mut self,
        blockhash: &Blockhash,
        commitment: Option<Commitment>,
    ) -> Vec<(Slot, Blockhash)> {
        let Some(link) = self.blocks.get_mut(blockhash) else {
            return Vec::new();
        };
        let height = link.height;
        match commitment {
            None => link.abandoned = link.commitment != Commitment::Finalized,
            Some(Commitment::Finalized) => {
                if self.finalized_height().is_none_or(|tip| height > tip) {
                    self.tip = Some(*blockhash);
                    let finalized = self.link();
                    self.forget();
                    return finalized;
                }
            }
            Some(commitment) => {
                link.abandoned = false;
                link.commitment = link.commitment.max(commitment);
            }
        }
        Vec::new()
    }

    /// Every record of `partition` before `next_offset` has been read.
    pub fn read_up_to(&mut self, partition: u32, next_offset: i64) {
        let known = self.next_offsets.entry(partition).or_insert(next_offset);
        *known = next_offset.max(*known);
    }

    pub fn height_of(&self, blockhash: &Blockhash) -> Option<u64> {
        self.blocks.get(blockhash).map(|link| link.height)
    }

    /// Where `signature` stands on the forks that are not abandoned.
    pub fn landings(&self, signature: &Signature) -> Vec<Landing> {
        self.blocks
            .iter()
            .filter(|(_, link)| !link.abandoned)
            .filter_map(|(blockhash, link)| {
                let error = link.transactions.get(signature)?;
                Some(Landing {
                    slot: link.slot,
                    blockhash: *blockhash,
                    commitment: link.commitment,
                    error: error.clone(),
                })
            })
            .collect()
    }

    /// Height of the highest finalized block read.
    pub fn finalized_height(&self) -> Option<u64> {
        self.height_of(self.tip.as_ref()?)
    }

    /// Lowest height from which every block of the finalized fork, up to its tip, has been read.
    pub fn covered_from(&self) -> Option<u64> {
        self.covered_from
    }

    /// Height of the highest block published, on any fork.
    pub fn height_max(&self) -> Option<u64> {
        self.height_max
    }

    /// Greatest slot published.
    pub fn slot_max(&self) -> Option<Slot> {
        self.slot_max
    }

    /// Per partition, the offset from which a restarted reader regains all that is known here.
    pub fn replay_offsets(&self) -> BTreeMap<u32, i64> {
        let mut offsets = self.next_offsets.clone();
        for link in self.blocks.values() {
            if let Some(offset) = offsets.get_mut(&link.partition) {
                *offset = link.first_offset.min(*offset);
            }
        }
        offsets
    }

    /// Walks from the finalized tip to the oldest block that is linked to it; all on the way is finalized.
    fn link(&mut self) -> Vec<(Slot, Blockhash)> {
        let mut finalized = Vec::new();
        self.covered_from = None;
        let mut next = self.tip;
        while let Some((blockhash, link)) =
            next.and_then(|blockhash| Some((blockhash, self.blocks.get_mut(&blockhash)?)))
        {
            if link.commitment != Commitment::Finalized {
                link.commitment = Commitment::Finalized;
                link.abandoned = false;
                finalized.push((link.slot, blockhash));
            }
            self.covered_from = Some(link.height);
            next = Some(link.parent);
        }
        finalized
    }

    fn forget(&mut self) {
        let keep_from = self
            .finalized_height()
            .map_or(0, |height| height.saturating_sub(BLOCKS_KEPT));
        while let Some(&(height, blockhash)) = self.by_height.first() {
            if height >= keep_from && self.by_height.len() <= BLOCKS_MAX {
                break;
            }
            self.by_height.remove(&(height, blockhash));
            self.blocks.remove(&blockhash);
            if self.covered_from.is_some_and(|from| from <= height) {
                self.covered_from = Some(height + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
