//! Pure: published blocks whose fate is not told yet, as far as a budget of memory goes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{assembly::Block, slot_tree::BlockId};

/// What an event costs besides its bytes: decoded, it is about as large again.
const EVENT_BYTES: usize = 256;

/// The newest blocks within the budget; what is not here is read from the log.
#[derive(Debug)]
pub struct RecentBlocks {
    blocks: HashMap<BlockId, (Arc<Block>, usize)>,
    arrivals: VecDeque<BlockId>,
    bytes: usize,
    bytes_max: usize,
}

/// About what the block takes in memory.
pub fn weight(block: &Block) -> usize {
    block
        .contents
        .iter()
        .map(|content| 2 * content.bytes.len() + EVENT_BYTES)
        .sum()
}

impl RecentBlocks {
    pub fn new(bytes_max: usize) -> Self {
        Self {
            blocks: HashMap::new(),
            arrivals: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub fn insert(&mut self, block: Arc<Block>) {
        let (id, weight) = (block.id, weight(&block));
        if self.blocks.insert(id, (block, weight)).is_none() {
            self.arrivals.push_back(id);
            self.bytes += weight;
        }
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.arrivals.pop_front() else {
                break;
            };
            self.remove(oldest);
        }
    }

    pub fn get(&self, block: BlockId) -> Option<&Arc<Block>> {
        self.blocks.get(&block).map(|(block, _)| block)
    }

    pub fn remove(&mut self, block: BlockId) {
        if let Some((_, weight)) = self.blocks.remove(&block) {
            self.bytes = self.bytes.saturating_sub(weight);
        }
        // Names of removed blocks are few: they are dropped when they come to the front.
        while let Some(oldest) = self.arrivals.front()
            && !self.blocks.contains_key(oldest)
        {
            self.arrivals.pop_front();
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
