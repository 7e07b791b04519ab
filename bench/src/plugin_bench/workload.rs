//! The recorded blocks in the shape in which a validator hands them out, made once so that driving makes nothing.

use std::{collections::HashSet, path::Path};

use anyhow::{Context, bail};
use solana_message::SimpleAddressLoader;
use solana_transaction::{
    sanitized::SanitizedTransaction, versioned::sanitized::SanitizedVersionedTransaction,
};

use super::mix::{ACCOUNTS_PER_TRANSACTION, Accounts};
use crate::{
    block_file::{Block, RecordedTransaction},
    entries::{self, Entry},
    replay::{self, Line},
};

/// Draws the same accounts in every run.
const SEED: u64 = 0x4865_6c69;

pub struct Workload {
    pub blocks: Vec<PreparedBlock>,
    pub accounts: Accounts,
    /// In all blocks once.
    pub transactions: usize,
}

pub struct PreparedBlock {
    pub block: Block,
    /// What account updates name as the transaction that wrote them, one per recorded transaction.
    pub writers: Vec<SanitizedTransaction>,
    pub entries: Vec<Entry>,
    pub blockhash: String,
    pub parent_blockhash: String,
}

impl Workload {
    /// Every block at `path` (a folder or a file) that can be replayed; a slot that is there twice counts once.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let mut blocks: Vec<PreparedBlock> = Vec::new();
        for file in replay::files(path)
            .with_context(|| format!("{}: name a folder of block files", path.display()))?
        {
            match replay::read(&file) {
                Ok(block) if blocks.iter().any(|known| known.block.slot == block.slot) => {}
                Ok(block) => blocks.push(PreparedBlock::new(block)?),
                Err(Line::Failed { file, error }) => bail!("{file}: {error}"),
                Err(_) => {}
            }
        }
        let transactions = blocks.iter().map(|b| b.block.transactions.len()).sum();
        if transactions == 0 {
            bail!(
                "{}: no block in it that can be replayed. Fix: name a folder of block files by --blocks",
                path.display()
            );
        }
        Ok(Self {
            blocks,
            accounts: Accounts::new(SEED),
            transactions,
        })
    }

    /// Makes the blocks as short as a slot with so many callbacks.
    pub fn cut(&mut self, callbacks: usize) {
        for prepared in &mut self.blocks {
            prepared.cut(SlotCut::transactions(callbacks));
        }
        self.transactions = self.blocks.iter().map(|b| b.block.transactions.len()).sum();
    }

    pub fn votes(&self) -> usize {
        self.blocks.iter().map(|b| b.block.votes()).sum()
    }
}

/// A slot as a small cluster has it.
#[derive(Debug, Clone, Copy)]
pub struct SlotCut {
    pub callbacks: usize,
    pub millis: u64,
}

impl SlotCut {
    /// Statuses, metadata, ticks and one entry of transactions come with any slot.
    const BESIDE: usize = 4 + 1 + entries::TICKS + 1;

    pub fn callbacks_per_second(self) -> u32 {
        (self.callbacks as u64 * 1_000 / self.millis.max(1)) as u32
    }

    /// Each with its accounts.
    fn transactions(callbacks: usize) -> usize {
        (callbacks.saturating_sub(Self::BESIDE) / (1 + ACCOUNTS_PER_TRANSACTION)).max(1)
    }
}

impl PreparedBlock {
    fn cut(&mut self, transactions: usize) {
        self.block.transactions.truncate(transactions);
        self.writers.truncate(transactions);
        self.entries = entries::synthesise(&self.block);
    }

    fn new(block: Block) -> anyhow::Result<Self> {
        let writers = block
            .transactions
            .iter()
            .map(writer)
            .collect::<anyhow::Result<_>>()
            .with_context(|| format!("slot {}", block.slot))?;
        Ok(Self {
            writers,
            entries: entries::synthesise(&block),
            blockhash: block.blockhash.to_string(),
            parent_blockhash: block.parent_blockhash.to_string(),
            block,
        })
    }
}

fn writer(recorded: &RecordedTransaction) -> anyhow::Result<SanitizedTransaction> {
    let transaction = SanitizedVersionedTransaction::try_new(recorded.transaction.clone())
        .map_err(|e| anyhow::anyhow!("a recorded transaction is not sane: {e}"))?;
    let sanitized = SanitizedTransaction::try_new(
        transaction,
        recorded.message_hash,
        recorded.is_vote,
        SimpleAddressLoader::Enabled(recorded.meta.loaded_addresses.clone()),
        // Only decides what may be written to, which no plugin is told.
        &HashSet::new(),
    )?;
    Ok(sanitized)
}
