//! Histories with forks: what truly happened.

use event_schema::{Blockhash, Slot};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use stream_router::slot_tree::BlockId;

pub const PARTITIONS: u32 = 3;

/// What a block truly contains.
#[derive(Debug, Clone)]
pub struct TrueBlock {
    pub id: BlockId,
    pub parent: BlockId,
    pub on_chain: bool,
    pub accounts: u64,
    pub transactions: u64,
    pub entries: u64,
}

/// A history: blocks by slot, and which of them are on the chain that wins.
#[derive(Debug, Clone)]
pub struct History {
    pub blocks: Vec<TrueBlock>,
}

pub fn blockhash(slot: u64, fork: u8) -> Blockhash {
    let mut hash = [fork; 32];
    hash[..8].copy_from_slice(&slot.to_be_bytes());
    Blockhash(hash)
}

impl History {
    /// A chain with skipped slots, forks that live a while, and rival blocks in one slot.
    pub fn random(rng: &mut StdRng, slots: u64, first: u64) -> Self {
        let mut blocks: Vec<TrueBlock> = Vec::new();
        let mut tip = BlockId::new(Slot(first - 1), blockhash(first - 1, 0));
        let mut forks: Vec<BlockId> = Vec::new();
        let mut new = |rng: &mut StdRng, slot: u64, fork: u8, parent: BlockId, on_chain: bool| {
            let id = BlockId::new(Slot(slot), blockhash(slot, fork));
            blocks.push(TrueBlock {
                id,
                parent,
                on_chain,
                accounts: rng.random_range(0..6),
                transactions: rng.random_range(0..5),
                entries: rng.random_range(0..4),
            });
            id
        };
        for slot in first..first + slots {
            let previous = tip;
            let skipped = rng.random_bool(0.15);
            if !skipped {
                tip = new(rng, slot, 0, tip, true);
            }
            if rng.random_bool(0.2) {
                let parent = forks.choose(rng).copied().unwrap_or(previous);
                let number = 1 + rng.random_range(0..3);
                let fork = new(rng, slot, number, parent, false);
                forks.push(fork);
            }
            if rng.random_bool(0.1) {
                forks.clear();
            }
        }
        // The tip is on the chain, so that the chain passes every fork below it by.
        new(rng, first + slots, 0, tip, true);
        Self { blocks }
    }

    /// Single blocks from slots far apart, as recorded blocks are.
    pub fn sparse(rng: &mut StdRng, count: u64) -> Self {
        let mut blocks = Vec::new();
        for _ in 0..count {
            let slot = rng.random_range(10..400_000_000u64);
            blocks.push(TrueBlock {
                id: BlockId::new(Slot(slot), blockhash(slot, 0)),
                parent: BlockId::new(Slot(slot - 1), blockhash(slot - 1, 0)),
                on_chain: true,
                accounts: rng.random_range(0..6),
                transactions: rng.random_range(0..5),
                entries: rng.random_range(0..4),
            });
        }
        blocks.dedup_by_key(|block| block.id.slot);
        Self { blocks }
    }
}
