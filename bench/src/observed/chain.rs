//! Pure: an invented chain with forks, and what validators live through. The same seed makes the same chain.

use std::{collections::VecDeque, fmt};

use event_schema::{Blockhash, Slot};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// A slot alone does not name a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockName {
    pub slot: Slot,
    pub blockhash: Blockhash,
}

impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} {}", self.slot, self.blockhash)
    }
}

/// A block, but for its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub name: BlockName,
    pub parent: BlockName,
    /// On the chain that wins.
    pub on_chain: bool,
    /// Its number among all blocks of the chain; its content follows from it.
    pub nth: u64,
}

/// What a validator lives through, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Executed whole. In a slot that it has executed before, it starts over.
    Block(Block),
    /// Begun, and given up in the middle: no metadata, and the slot is dead.
    Broken(Block),
    /// What it has executed of the slot is given up; another block of the slot follows.
    Dumped(Slot),
    Confirmed(Slot),
    Rooted {
        slot: Slot,
        parent: Slot,
    },
}

/// How restless a chain is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temper {
    /// Probability that a slot has no block.
    pub skipped: f64,
    /// Probability that a slot's block is on a fork that loses.
    pub forked: f64,
    /// Probability that nobody reports a block as confirmed.
    pub unconfirmed: f64,
    /// How many blocks a root is behind.
    pub root_lag: usize,
}

impl Temper {
    /// Somewhat worse than the public cluster, on which a fork is rarer.
    pub const RESTLESS: Self = Self {
        skipped: 0.05,
        forked: 0.08,
        unconfirmed: 0.2,
        root_lag: 8,
    };
}

/// See the module.
#[derive(Debug)]
pub struct Chain {
    random: StdRng,
    salt: u64,
    temper: Temper,
    next_slot: u64,
    blocks: u64,
    tip: BlockName,
    /// Of the chain, oldest first.
    unrooted: VecDeque<Block>,
    /// Blocks off the chain on which others may still build.
    forks: Vec<BlockName>,
}

impl Chain {
    pub fn new(seed: u64, first_slot: u64, temper: Temper) -> Self {
        let mut chain = Self {
            random: StdRng::seed_from_u64(seed),
            salt: seed,
            temper,
            next_slot: first_slot,
            blocks: 0,
            tip: BlockName {
                slot: Slot(first_slot - 1),
                blockhash: Blockhash::default(),
            },
            unrooted: VecDeque::new(),
            forks: Vec::new(),
        };
        chain.tip.blockhash = chain.blockhash();
        chain
    }

    /// What the next slot brings to every validator alike.
    pub fn slot(&mut self) -> Vec<Moment> {
        let lot: f64 = self.random.random();
        let Temper {
            skipped,
            forked,
            unconfirmed,
            root_lag,
        } = self.temper;
        if self.random.random_bool(0.2) {
            self.forks.clear();
        }
        if lot < skipped {
            self.skip();
            return Vec::new();
        }
        if lot < skipped + forked {
            let parent = self.fork_parent();
            return vec![Moment::Block(self.beside(parent))];
        }
        let block = self.extend();
        let mut moments = vec![Moment::Block(block)];
        if !self.random.random_bool(unconfirmed) {
            moments.push(Moment::Confirmed(block.name.slot));
        }
        moments.extend(self.roots(root_lag));
        moments
    }

    /// One more block on the chain, and everything is rooted.
    pub fn finish(&mut self) -> Vec<Moment> {
        let mut moments = vec![Moment::Block(self.extend())];
        moments.extend(self.roots(0));
        moments
    }

    pub fn tip(&self) -> BlockName {
        self.tip
    }

    pub fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }

    /// The next slot has no block.
    pub fn skip(&mut self) {
        self.next_slot += 1;
    }

    /// The next slot's block, on the chain.
    pub fn extend(&mut self) -> Block {
        let block = self.next(self.tip, true);
        self.tip = block.name;
        self.unrooted.push_back(block);
        block
    }

    /// The next slot's block, on a fork that loses.
    pub fn beside(&mut self, parent: BlockName) -> Block {
        let block = self.next(parent, false);
        self.forks.push(block.name);
        block
    }

    /// Another block of the same slot with the same parent; it loses.
    pub fn rival(&mut self, of: &Block) -> Block {
        let block = Block {
            name: BlockName {
                slot: of.name.slot,
                blockhash: self.blockhash(),
            },
            parent: of.parent,
            on_chain: false,
            nth: self.blocks,
        };
        self.blocks += 1;
        block
    }

    /// Roots all but the newest `keep` blocks of the chain.
    pub fn roots(&mut self, keep: usize) -> Vec<Moment> {
        let count = self.unrooted.len().saturating_sub(keep);
        let rooted = self.unrooted.drain(..count);
        rooted
            .map(|block| Moment::Rooted {
                slot: block.name.slot,
                parent: block.parent.slot,
            })
            .collect()
    }

    /// Where a fork branches off, or goes on.
    pub fn fork_parent(&mut self) -> BlockName {
        if self.random.random_bool(0.5)
            && let Some(fork) = self.forks.choose(&mut self.random)
        {
            return *fork;
        }
        let recent = self.unrooted.iter().rev().take(3).map(|block| block.name);
        let recent: Vec<BlockName> = recent.collect();
        recent.choose(&mut self.random).copied().unwrap_or(self.tip)
    }

    fn next(&mut self, parent: BlockName, on_chain: bool) -> Block {
        let block = Block {
            name: BlockName {
                slot: Slot(self.next_slot),
                blockhash: self.blockhash(),
            },
            parent,
            on_chain,
            nth: self.blocks,
        };
        self.next_slot += 1;
        self.blocks += 1;
        block
    }

    /// Of the next block.
    fn blockhash(&self) -> Blockhash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.salt.to_le_bytes());
        hasher.update(&self.blocks.to_le_bytes());
        Blockhash(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn moments(seed: u64) -> Vec<Moment> {
        let mut chain = Chain::new(seed, 1_000, Temper::RESTLESS);
        let mut moments: Vec<Moment> = (0..500).flat_map(|_| chain.slot()).collect();
        moments.extend(chain.finish());
        moments
    }

    #[test]
    fn a_chain_is_its_seeds_and_every_block_of_it_is_rooted_once() {
        let lived = moments(5);
        assert_eq!(lived, moments(5));
        assert_ne!(lived, moments(6));
        let blocks = lived.iter().filter_map(|moment| match moment {
            Moment::Block(block) => Some(*block),
            _ => None,
        });
        let (on_chain, beside): (Vec<Block>, Vec<Block>) = blocks.partition(|b| b.on_chain);
        assert!(beside.len() > 10, "{} forks", beside.len());
        let rooted: Vec<Slot> = lived
            .iter()
            .filter_map(|moment| match moment {
                Moment::Rooted { slot, .. } => Some(*slot),
                _ => None,
            })
            .collect();
        let expected: Vec<Slot> = on_chain.iter().map(|block| block.name.slot).collect();
        assert_eq!(rooted, expected);
        for pair in on_chain.windows(2) {
            assert_eq!(pair[1].parent, pair[0].name);
        }
        let names: BTreeSet<BlockName> = on_chain
            .iter()
            .chain(&beside)
            .map(|block| block.name)
            .collect();
        assert_eq!(names.len(), on_chain.len() + beside.len());
        assert!(beside.iter().all(|block| block.parent < block.name));
    }
}
