//! The recorded blocks in the shape in which a validator hands them out, made once so that driving makes nothing.

use std::{collections::HashSet, path::Path};

use anyhow::{Context, bail};
use solana_message::SimpleAddressLoader;
use solana_transaction::{
    sanitized::SanitizedTransaction, versioned::sanitized::SanitizedVersionedTransaction,
};

use super::mix::Accounts;
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

    pub fn votes(&self) -> usize {
        self.blocks.iter().map(|b| b.block.votes()).sum()
    }
}

impl PreparedBlock {
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
