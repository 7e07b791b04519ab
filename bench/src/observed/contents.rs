//! What a block holds: recorded transactions, three invented account updates before each, entries and metadata.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use event_schema::{
    Kind,
    proto::{
        Message,
        confirmed_block::{BlockHeight, Rewards, UnixTimestamp},
        geyser::{
            SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateAccountInfo,
            SubscribeUpdateBlockMeta, SubscribeUpdateEntry, SubscribeUpdateTransaction,
            SubscribeUpdateTransactionInfo, subscribe_update::UpdateOneof,
        },
    },
};

use super::{
    chain::Block,
    prints::{self, Print},
};
use crate::plugin_bench::{
    baseline,
    mix::{ACCOUNTS_PER_TRANSACTION, Accounts},
    workload::Workload,
};
use crate::replica;

/// Seconds since the Unix epoch at slot 0; slots are 400 ms.
const GENESIS_SECONDS: i64 = 1_700_000_000;

/// How large blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// On average; from a half to one and a half of it.
    pub transactions: u64,
    pub entries: u64,
}

impl Shape {
    /// Events of a block on average, metadata included.
    pub fn events(self) -> u64 {
        self.transactions * (1 + ACCOUNTS_PER_TRANSACTION as u64) + self.entries + 1
    }
}

/// One event as a source would write it.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub kind: Kind,
    pub key: Bytes,
    pub bytes: Bytes,
    pub print: Print,
}

/// A block's events, in the canonical order of each kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    pub accounts: Vec<Value>,
    pub transactions: Vec<Value>,
    pub entries: Vec<Value>,
    pub meta: Value,
}

impl Values {
    /// In the order in which readers of the canonical topic see them.
    pub fn prints(&self) -> Vec<Print> {
        let content = self.accounts.iter().chain(&self.transactions);
        let content = content.chain(&self.entries).chain([&self.meta]);
        content.map(|value| value.print).collect()
    }
}

/// See the module.
pub struct Contents {
    transactions: Arc<[SubscribeUpdateTransactionInfo]>,
    accounts: Arc<Accounts>,
    shape: Shape,
}

impl Contents {
    /// With the transactions of the block files at `blocks`.
    pub fn load(blocks: &Path, shape: Shape) -> anyhow::Result<Self> {
        let workload = Workload::load(blocks)?;
        Ok(Self {
            transactions: recorded(&workload).into(),
            accounts: Arc::new(workload.accounts),
            shape,
        })
    }

    /// The same material in blocks of another size.
    pub fn reshaped(&self, shape: Shape) -> Self {
        Self {
            transactions: Arc::clone(&self.transactions),
            accounts: Arc::clone(&self.accounts),
            shape,
        }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// `writes`: of the source, before the block's first account update.
    pub fn values(&self, block: &Block, writes: u64) -> Values {
        let slot = block.name.slot.0;
        let count = self.transactions_of(block);
        let mut accounts = Vec::with_capacity(count as usize * ACCOUNTS_PER_TRANSACTION);
        let mut transactions = Vec::with_capacity(count as usize);
        // Blocks begin at different places of the recorded transactions and of the series of accounts.
        let first = block.nth * self.shape.transactions;
        for index in 0..count {
            let recorded = &self.transactions[(first + index) as usize % self.transactions.len()];
            for nth in 0..ACCOUNTS_PER_TRANSACTION as u64 {
                let number = (first + index) * ACCOUNTS_PER_TRANSACTION as u64 + nth;
                let write_version = writes + accounts.len() as u64;
                accounts.push(self.account(slot, number, write_version, &recorded.signature));
            }
            transactions.push(transaction(slot, index, recorded));
        }
        let entries = (0..self.shape.entries).map(|index| entry(block, index, self.shape, count));
        Values {
            accounts,
            transactions,
            entries: entries.collect(),
            meta: block_meta(block, count, self.shape.entries),
        }
    }

    /// Transactions of the block.
    pub fn transactions_of(&self, block: &Block) -> u64 {
        let mean = self.shape.transactions;
        let mixed = block.nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mean / 2 + mixed % (mean + 1)
    }

    fn account(&self, slot: u64, number: u64, write_version: u64, signature: &[u8]) -> Value {
        let account = self.accounts.get(number);
        let update = SubscribeUpdateAccount {
            slot,
            is_startup: false,
            account: Some(SubscribeUpdateAccountInfo {
                pubkey: account.pubkey.to_vec(),
                lamports: account.lamports,
                owner: account.owner.to_vec(),
                executable: false,
                rent_epoch: u64::MAX,
                data: account.data.to_vec(),
                write_version,
                txn_signature: Some(signature.to_vec()),
            }),
        };
        Value {
            kind: Kind::Account,
            key: Bytes::copy_from_slice(account.pubkey),
            print: prints::account(&update),
            bytes: encoded(UpdateOneof::Account(update)),
        }
    }
}

fn recorded(workload: &Workload) -> Vec<SubscribeUpdateTransactionInfo> {
    let all = workload.blocks.iter().flat_map(|b| &b.block.transactions);
    all.filter_map(|recorded| {
        let info = replica::transaction(recorded, 0)?;
        match baseline::transaction_update(&info, 0) {
            UpdateOneof::Transaction(update) => update.transaction,
            _ => None,
        }
    })
    .collect()
}

fn transaction(slot: u64, index: u64, recorded: &SubscribeUpdateTransactionInfo) -> Value {
    let info = SubscribeUpdateTransactionInfo {
        index,
        ..recorded.clone()
    };
    Value {
        kind: Kind::Transaction,
        key: Bytes::copy_from_slice(&info.signature),
        print: prints::transaction(slot, &info),
        bytes: encoded(UpdateOneof::Transaction(SubscribeUpdateTransaction {
            slot,
            transaction: Some(info),
        })),
    }
}

fn entry(block: &Block, index: u64, shape: Shape, transactions: u64) -> Value {
    let slot = block.name.slot.0;
    // The block's hash is that of its last entry.
    let hash = if index + 1 == shape.entries {
        block.name.blockhash.0
    } else {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&block.name.blockhash.0);
        hasher.update(&index.to_le_bytes());
        *hasher.finalize().as_bytes()
    };
    let starting = index * transactions / shape.entries;
    let entry = SubscribeUpdateEntry {
        slot,
        index,
        num_hashes: 1,
        hash: hash.to_vec(),
        executed_transaction_count: (index + 1) * transactions / shape.entries - starting,
        starting_transaction_index: starting,
    };
    Value {
        kind: Kind::Entry,
        key: slot_key(slot),
        print: prints::entry(&entry),
        bytes: encoded(UpdateOneof::Entry(entry)),
    }
}

fn block_meta(block: &Block, transactions: u64, entries: u64) -> Value {
    let slot = block.name.slot.0;
    let meta = SubscribeUpdateBlockMeta {
        slot,
        blockhash: block.name.blockhash.to_string(),
        rewards: Some(Rewards::default()),
        block_time: Some(UnixTimestamp {
            timestamp: GENESIS_SECONDS + (slot * 2 / 5) as i64,
        }),
        block_height: Some(BlockHeight { block_height: slot }),
        parent_slot: block.parent.slot.0,
        parent_blockhash: block.parent.blockhash.to_string(),
        executed_transaction_count: transactions,
        entries_count: entries,
    };
    Value {
        kind: Kind::BlockMeta,
        key: slot_key(slot),
        print: prints::block_meta(&meta),
        bytes: encoded(UpdateOneof::BlockMeta(meta)),
    }
}

/// Of everything in the slots topic.
pub fn slot_key(slot: u64) -> Bytes {
    Bytes::copy_from_slice(&slot.to_be_bytes())
}

/// As a record's value.
pub fn encoded(update: UpdateOneof) -> Bytes {
    let update = SubscribeUpdate {
        filters: Vec::new(),
        created_at: None,
        update_oneof: Some(update),
    };
    update.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::observed::chain::{Chain, Temper};

    #[test]
    fn two_sources_say_the_same_but_for_write_versions() {
        let shape = Shape {
            transactions: 20,
            entries: 4,
        };
        let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
        let contents = Contents::load(&blocks, shape).unwrap();
        let mut chain = Chain::new(1, 10, Temper::RESTLESS);
        let (one, two) = (chain.extend(), chain.extend());
        let values = contents.values(&one, 0);
        let again = contents.values(&one, 5_000);
        assert_ne!(values.accounts[0].bytes, again.accounts[0].bytes);
        assert_eq!(values.prints(), again.prints());
        assert_eq!(values.accounts.len(), 3 * values.transactions.len());
        assert_ne!(values.prints(), contents.values(&two, 0).prints());
        let distinct: HashSet<Print> = values.prints().into_iter().collect();
        assert_eq!(distinct.len(), values.prints().len());
        let mean = (0..400)
            .map(|nth| contents.transactions_of(&Block { nth, ..one }))
            .sum::<u64>() as f64
            / 400.0;
        assert!((mean - 20.0).abs() < 1.0, "{mean}");
    }
}
