//! What blocks hold: recorded transactions under new signatures. The same seed and block give the same records.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use event_log::NewRecord;
use event_schema::{
    CanonicalHeader, CanonicalSeal, Kind, Slot, Topics, partition_of_slot,
    proto::{
        Message as _,
        confirmed_block::{Reward, RewardType, Rewards},
        geyser::{SubscribeUpdate, SubscribeUpdateTransactionInfo, subscribe_update::UpdateOneof},
    },
    seal::{Gap, GapReason},
};

use super::history::{Block, Event, Random};
use crate::{
    decode_proof::recorded,
    support::{PARTITIONS, block_of, blockhash, status},
};

/// A block of its own that is never whole.
const BROKEN_FORK: u8 = 9;

/// See the module.
pub struct Contents {
    pool: Vec<SubscribeUpdateTransactionInfo>,
    seed: u64,
    /// On average.
    transactions_per_block: u64,
}

impl Contents {
    pub fn read(folder: &Path, seed: u64, transactions_per_block: u64) -> anyhow::Result<Self> {
        let found = recorded::read(folder);
        let whole = found.transactions.into_iter();
        let pool: Vec<_> = whole
            .filter(|recorded| !recorded.rewritten && recorded.update.transaction.is_some())
            .map(|recorded| recorded.update)
            .collect();
        anyhow::ensure!(
            !pool.is_empty(),
            "{}: no recorded transactions. Fix: name a folder of block files by --data",
            folder.display()
        );
        Ok(Self {
            pool,
            seed,
            transactions_per_block,
        })
    }

    fn random(&self, block: Block) -> Random {
        Random(self.seed ^ (block.slot << 8) ^ u64::from(block.fork))
    }

    fn count(&self, random: &mut Random) -> u64 {
        let mean = self.transactions_per_block;
        random.between(mean - mean / 2, mean + mean / 2)
    }

    /// The signatures of a block, in order.
    pub fn signatures(&self, block: Block) -> impl Iterator<Item = [u8; 64]> + use<> {
        let count = self.count(&mut self.random(block));
        (0..count).map(move |index| signature(block, index))
    }

    fn transactions(&self, block: Block) -> Vec<SubscribeUpdateTransactionInfo> {
        let mut random = self.random(block);
        let count = self.count(&mut random);
        let transactions = (0..count).map(|index| {
            let mut update = self.pool[random.below(self.pool.len() as u64) as usize].clone();
            let signature = signature(block, index).to_vec();
            if let Some(first) = update
                .transaction
                .as_mut()
                .and_then(|transaction| transaction.signatures.first_mut())
            {
                first.clone_from(&signature);
            }
            update.signature = signature;
            update.index = index;
            update
        });
        transactions.collect()
    }

    pub fn records(&self, topics: &Topics, event: Event) -> Vec<NewRecord> {
        match event {
            Event::Published(block) => self.block(topics, block),
            Event::Status(block, to) => vec![status(topics, block.slot, block.fork, to)],
            Event::Gap { slot } => vec![gap(topics, slot)],
            Event::Poison { slot, number } => self.poison(topics, slot, number),
        }
    }

    fn block(&self, topics: &Topics, block: Block) -> Vec<NewRecord> {
        let mut records = block_of(topics, block.slot, block.fork, self.transactions(block));
        for record in &mut records {
            let of_meta = CanonicalHeader::decode(&record.header)
                .is_ok_and(|header| header.kind == Kind::BlockMeta);
            let update = of_meta.then(|| SubscribeUpdate::decode(record.value.as_ref()));
            if let Some(Ok(mut update)) = update
                && let Some(UpdateOneof::BlockMeta(meta)) = &mut update.update_oneof
            {
                meta.rewards = Some(rewards(block));
                record.value = update.encode_to_vec().into();
            }
        }
        records
    }

    /// Records of which the last one is against the contract. It differs from every other poison record.
    fn poison(&self, topics: &Topics, slot: u64, number: u64) -> Vec<NewRecord> {
        let header = |kind| {
            CanonicalHeader {
                kind,
                slot: Slot(slot),
                blockhash: blockhash(slot, BROKEN_FORK),
                index: 0,
            }
            .encode()
            .to_vec()
        };
        // No protobuf, with the bytes that line-wise readers cut at.
        let mut garbage = b"\xff\xff\n\n\0".to_vec();
        garbage.extend_from_slice(&number.to_le_bytes());
        let (header, value) = match number % 5 {
            0 => (header(Kind::Status), garbage),
            1 => (header(Kind::Gap), garbage),
            2 => (header(Kind::Slot), garbage),
            3 => ([&[1, 8][..], &number.to_le_bytes()].concat(), garbage),
            _ => return self.miscounted_block(topics, slot),
        };
        vec![record(topics, slot, header, value)]
    }

    fn miscounted_block(&self, topics: &Topics, slot: u64) -> Vec<NewRecord> {
        let fork = BROKEN_FORK;
        let mut records = self.block(topics, Block { slot, fork });
        if let Some(last) = records.last_mut()
            && let Ok(mut seal) = CanonicalSeal::decode(last.value.as_ref())
        {
            seal.transactions += 1;
            last.value = seal.encode_to_vec().into();
        }
        records
    }
}

/// Unique by block and index.
fn signature(block: Block, index: u64) -> [u8; 64] {
    let mut signature = [block.fork; 64];
    signature[..8].copy_from_slice(&block.slot.to_le_bytes());
    signature[8..16].copy_from_slice(&index.to_le_bytes());
    signature
}

fn rewards(block: Block) -> Rewards {
    let reward = |pubkey: [u8; 32], lamports, kind: RewardType| Reward {
        pubkey: bs58::encode(pubkey).into_string(),
        lamports,
        post_balance: block.slot,
        reward_type: kind.into(),
        ..Reward::default()
    };
    Rewards {
        rewards: vec![
            reward(
                [block.fork; 32],
                block.slot as i64 % 10_000,
                RewardType::Fee,
            ),
            reward([7; 32], 11, RewardType::Staking),
        ],
        ..Rewards::default()
    }
}

fn gap(topics: &Topics, slot: u64) -> NewRecord {
    let gap = Gap {
        first_slot: slot,
        last_slot: slot,
        records: slot % 3,
        reason: GapReason::MissingRecords.into(),
        source: "validator/1".into(),
        detail: "two\n\nlines".into(),
    };
    let header = CanonicalHeader {
        kind: Kind::Gap,
        slot: Slot(slot),
        blockhash: blockhash(slot, 1),
        index: 0,
    };
    record(topics, slot, header.encode().to_vec(), gap.encode_to_vec())
}

fn record(topics: &Topics, slot: u64, header: Vec<u8>, value: Vec<u8>) -> NewRecord {
    NewRecord {
        topic: Arc::clone(&topics.canonical),
        partition: partition_of_slot(Slot(slot), PARTITIONS),
        key: Bytes::copy_from_slice(&slot.to_be_bytes()),
        header: header.into(),
        value: value.into(),
    }
}
