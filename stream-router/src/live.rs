//! Pure: a published block as live subscribers need it, kept until its fate is told.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use event_schema::proto::geyser::{SubscribeUpdateAccountInfo, SubscribeUpdateTransactionInfo};

use crate::{
    assembly::Block,
    dedup::EventId,
    lazy::Lazy,
    observation::{Body, MetaView},
    slot_tree::BlockId,
    subscription::Level,
};

/// Last account states, transactions and metadata of one block.
#[derive(Debug)]
pub struct LiveBlock {
    pub id: BlockId,
    /// The last update of each account, in write order.
    pub accounts: Vec<Lazy<SubscribeUpdateAccountInfo>>,
    pub transactions: Vec<Lazy<SubscribeUpdateTransactionInfo>>,
    pub meta: Arc<MetaView>,
}

impl LiveBlock {
    pub fn new(block: &Block) -> Self {
        let mut newest = foldhash::HashMap::default();
        let mut accounts: Vec<Option<&Lazy<SubscribeUpdateAccountInfo>>> = Vec::new();
        let mut transactions = Vec::new();
        for content in &block.contents {
            match (&content.id, &content.body) {
                (EventId::Account(_, pubkey), Body::Account(account)) => {
                    if let Some(older) = newest.insert(pubkey, accounts.len()) {
                        accounts[older] = None;
                    }
                    accounts.push(Some(account));
                }
                (_, Body::Transaction(transaction)) => transactions.push(transaction.clone()),
                _ => {}
            }
        }
        Self {
            id: block.id,
            accounts: accounts.into_iter().flatten().cloned().collect(),
            transactions,
            meta: Arc::clone(&block.meta),
        }
    }
}

/// The newest blocks and which levels they have reached.
#[derive(Debug)]
pub struct LiveBlocks {
    blocks: HashMap<BlockId, Entry>,
    arrivals: VecDeque<BlockId>,
    capacity: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` once nothing more will be told of it.
    block: Option<Arc<LiveBlock>>,
    reached: Option<Level>,
}

impl LiveBlocks {
    pub fn new(capacity: usize) -> Self {
        Self {
            blocks: HashMap::new(),
            arrivals: VecDeque::new(),
            capacity,
        }
    }

    pub fn knows(&self, block: BlockId) -> bool {
        self.blocks.contains_key(&block)
    }

    pub fn insert(&mut self, block: LiveBlock) {
        let id = block.id;
        let entry = Entry {
            block: Some(Arc::new(block)),
            reached: None,
        };
        if self.blocks.insert(id, entry).is_none() {
            self.arrivals.push_back(id);
        }
        while self.arrivals.len() > self.capacity {
            if let Some(old) = self.arrivals.pop_front() {
                self.blocks.remove(&old);
            }
        }
    }

    /// The block, if it has not reached the level before.
    pub fn reach(&mut self, block: BlockId, level: Level) -> Option<Arc<LiveBlock>> {
        let entry = self.blocks.get_mut(&block)?;
        if entry.reached >= Some(level) {
            return None;
        }
        entry.reached = Some(level);
        if level == Level::Finalized {
            return entry.block.take();
        }
        entry.block.clone()
    }

    pub fn abandon(&mut self, block: BlockId) {
        if let Some(entry) = self.blocks.get_mut(&block) {
            entry.block = None;
        }
    }
}
