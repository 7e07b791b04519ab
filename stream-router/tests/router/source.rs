//! What a validator with our plugin would write about a history: the model of the plugin that the router is tested with.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use event_schema::{
    CHUNK_BYTES_MAX, Kind, ObservedHeader, ObservedTopic, Pubkey, Seal, SealHash, SealedPartition,
    Sequence, Slot, SourceId, chunk, partition_of, partition_of_slot,
    proto::{
        Message,
        confirmed_block::{self, BlockHeight, Reward, Rewards, UnixTimestamp},
        geyser::{
            SlotStatus, SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateAccountInfo,
            SubscribeUpdateBlockMeta, SubscribeUpdateEntry, SubscribeUpdateSlot,
            SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo,
            subscribe_update::UpdateOneof,
        },
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_router::{observation::Lane, slot_tree::BlockId};

use crate::chain::{History, PARTITIONS, TrueBlock};

/// One record of one source, before it has an offset.
#[derive(Debug, Clone)]
pub struct Written {
    pub lane: Lane,
    pub kind: Kind,
    pub slot: Slot,
    pub key: Bytes,
    pub header: Bytes,
    pub value: Bytes,
    /// Which of the source's values it is, or is part of.
    pub of: Option<usize>,
}

/// One value of a block, before any cutting.
#[derive(Debug, Clone)]
pub struct Value {
    pub kind: Kind,
    pub block: BlockId,
    pub lane: Lane,
    pub bytes: Bytes,
}

/// What one source wrote into one partition for one slot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share {
    pub records: u64,
    first: Option<u64>,
    last: u64,
    /// Values that never reached the log.
    pub lost: u64,
}

/// The plugin's model: numbers records per partition and seals slots.
pub struct Source {
    pub id: SourceId,
    next: BTreeMap<Lane, u64>,
    write_version: u64,
    /// Values longer than this are written in chunks of this size; `None`: as the plugin does.
    chunk_data_bytes: Option<usize>,
    /// Data of each account, bytes.
    pub account_bytes: usize,
    /// So many addresses are written again and again, and closed now and then; `None`: every write is to its own.
    pub addresses: Option<u8>,
    /// In each block's metadata.
    pub rewards: usize,
    pub written: Vec<Written>,
    /// The blocks it has written.
    pub held: BTreeSet<BlockId>,
    pub values: Vec<Value>,
    /// Of each block and partition, as sealed.
    pub sealed: BTreeMap<(BlockId, Lane), Share>,
    /// How many of its values it loses before the log, and counts as lost.
    losing: Option<(f64, StdRng)>,
    current: BlockId,
    shares: BTreeMap<Lane, Share>,
    /// Last sequences of executions of the slot that were given up.
    left: BTreeMap<Lane, u64>,
}

impl Source {
    pub fn new(instance: u64) -> Self {
        Self {
            id: SourceId {
                validator: Pubkey([7; 32]),
                instance,
            },
            next: BTreeMap::new(),
            // Every validator process has its own write versions.
            write_version: instance * 1_000,
            chunk_data_bytes: None,
            account_bytes: 5,
            addresses: None,
            rewards: 0,
            written: Vec::new(),
            held: BTreeSet::new(),
            values: Vec::new(),
            sealed: BTreeMap::new(),
            losing: None,
            current: BlockId::default(),
            shares: BTreeMap::new(),
            left: BTreeMap::new(),
        }
    }

    /// One that writes even small values in chunks, most of the time.
    pub fn chunking(instance: u64, rng: &mut StdRng) -> Self {
        Self {
            chunk_data_bytes: rng.random_bool(0.7).then(|| rng.random_range(40..160)),
            ..Self::new(instance)
        }
    }

    /// Another one that cuts its values as this one does.
    pub fn alike(&self, instance: u64) -> Self {
        Self {
            chunk_data_bytes: self.chunk_data_bytes,
            account_bytes: self.account_bytes,
            addresses: self.addresses,
            ..Self::new(instance)
        }
    }

    pub fn losing(self, probability: f64, rng: &mut StdRng) -> Self {
        Self {
            losing: Some((probability, StdRng::seed_from_u64(rng.random()))),
            ..self
        }
    }

    pub fn in_chunks_of(self, data_bytes: usize) -> Self {
        Self {
            chunk_data_bytes: Some(data_bytes),
            ..self
        }
    }

    /// Everything this source reports of the history. `holds` decides which block of a slot it has.
    pub fn observe(&mut self, history: &History, mut holds: impl FnMut(&TrueBlock) -> bool) {
        let mut held: BTreeMap<Slot, &TrueBlock> = BTreeMap::new();
        let mut order: Vec<&TrueBlock> = Vec::new();
        for block in &history.blocks {
            if holds(block) && !held.contains_key(&block.id.slot) {
                held.insert(block.id.slot, block);
                order.push(block);
            }
        }
        for (index, block) in order.iter().enumerate() {
            self.block(block);
            // Roots trail by a few blocks; some confirmations never come.
            if index % 3 != 0 && block.on_chain {
                self.status(block.id.slot, None, SlotStatus::SlotConfirmed);
            }
            if index >= 4 {
                self.root(order[index - 4]);
            }
        }
        for block in order.iter().rev().take(4).rev() {
            self.root(block);
        }
    }

    fn root(&mut self, block: &TrueBlock) {
        if block.on_chain {
            self.status(
                block.id.slot,
                Some(block.parent.slot),
                SlotStatus::SlotFinalized,
            );
        }
    }

    /// One block as a validator makes it: accounts, transactions and entries around its metadata, then its seals.
    pub fn block(&mut self, block: &TrueBlock) {
        self.held.insert(block.id);
        self.content(block);
        self.seal(block, 0);
        self.left.clear();
        let parent = Some(block.parent.slot);
        self.status(block.id.slot, parent, SlotStatus::SlotProcessed);
    }

    /// An execution of the slot that the validator gives up: the next [`Source::block`] is another one of the same slot.
    pub fn attempt(&mut self, block: &TrueBlock) {
        self.content(block);
        for (lane, share) in &self.shares {
            if share.records > 0 {
                self.left.insert(*lane, share.last);
            }
        }
    }

    fn content(&mut self, block: &TrueBlock) {
        let slot = block.id.slot;
        self.shares.clear();
        self.current = block.id;
        self.status(slot, Some(block.parent.slot), SlotStatus::SlotCreatedBank);
        for index in 0..block.accounts {
            self.write_version += 1;
            let mut account = account(block, index, self.write_version);
            if let Some(info) = &mut account.account {
                info.data = noise(self.account_bytes, index);
                if let Some(addresses) = self.addresses {
                    // The same for every source.
                    let print = crc32(&block.id.blockhash.0, index);
                    info.pubkey = vec![print as u8 % addresses; 32];
                    let closes = (print >> 8).is_multiple_of(5);
                    info.lamports = if closes { 0 } else { 1 + u64::from(print) };
                }
            }
            let key = account.account.as_ref().map(|a| a.pubkey.clone()).unwrap();
            self.record(Kind::Account, slot, key, UpdateOneof::Account(account));
        }
        let metadata_first = block.id.slot.0.is_multiple_of(2);
        if metadata_first {
            self.metadata(block);
        }
        for index in 0..block.transactions {
            let transaction = transaction(block, index);
            let key = transaction
                .transaction
                .as_ref()
                .map(|t| t.signature.clone())
                .unwrap();
            self.record(
                Kind::Transaction,
                slot,
                key,
                UpdateOneof::Transaction(transaction),
            );
        }
        for index in 0..block.entries {
            let entry = SubscribeUpdateEntry {
                slot: slot.0,
                index,
                hash: vec![index as u8; 32],
                ..SubscribeUpdateEntry::default()
            };
            self.record(
                Kind::Entry,
                slot,
                slot.0.to_be_bytes().to_vec(),
                UpdateOneof::Entry(entry),
            );
        }
        if !metadata_first {
            self.metadata(block);
        }
    }

    fn metadata(&mut self, block: &TrueBlock) {
        let slot = block.id.slot;
        let meta = SubscribeUpdateBlockMeta {
            slot: slot.0,
            blockhash: block.id.blockhash.to_string(),
            parent_slot: block.parent.slot.0,
            parent_blockhash: block.parent.blockhash.to_string(),
            executed_transaction_count: block.transactions,
            entries_count: block.entries,
            block_time: Some(UnixTimestamp { timestamp: 1 }),
            block_height: Some(BlockHeight {
                block_height: slot.0,
            }),
            rewards: Some(Rewards {
                rewards: (0..self.rewards).map(reward).collect(),
                num_partitions: None,
            }),
            ..SubscribeUpdateBlockMeta::default()
        };
        self.record(
            Kind::BlockMeta,
            slot,
            slot.0.to_be_bytes().to_vec(),
            UpdateOneof::BlockMeta(meta),
        );
    }

    pub fn status(&mut self, slot: Slot, parent: Option<Slot>, status: SlotStatus) {
        let update = SubscribeUpdateSlot {
            slot: slot.0,
            parent: parent.map(|parent| parent.0),
            status: status as i32,
            ..SubscribeUpdateSlot::default()
        };
        self.record(
            Kind::Slot,
            slot,
            slot.0.to_be_bytes().to_vec(),
            UpdateOneof::Slot(update),
        );
    }

    fn record(&mut self, kind: Kind, slot: Slot, key: Vec<u8>, update: UpdateOneof) {
        let topic = match kind {
            Kind::Account => ObservedTopic::Accounts,
            Kind::Transaction => ObservedTopic::Transactions,
            _ => ObservedTopic::Slots,
        };
        let lane = Lane {
            topic,
            partition: if topic == ObservedTopic::Slots {
                partition_of_slot(slot, 1)
            } else {
                partition_of(&key, PARTITIONS)
            },
        };
        let value = SubscribeUpdate {
            update_oneof: Some(update),
            ..SubscribeUpdate::default()
        };
        let value = Bytes::from(value.encode_to_vec());
        let limit = self.chunk_data_bytes.unwrap_or(CHUNK_BYTES_MAX);
        if kind == Kind::Slot {
            self.count(lane, kind, slot, key.into(), value, None);
            return;
        }
        let of = Some(self.values.len());
        self.values.push(Value {
            kind,
            block: self.current,
            lane,
            bytes: value.clone(),
        });
        let is_lost = |(probability, rng): &mut (f64, StdRng)| rng.random_bool(*probability);
        if self.losing.as_mut().is_some_and(is_lost) {
            self.shares.entry(lane).or_default().lost += 1;
            return;
        }
        if value.len() > limit {
            self.chunks(lane, kind, slot, &key, &value, of);
        } else {
            self.count(lane, kind, slot, key.into(), value, of);
        }
    }

    fn chunks(
        &mut self,
        lane: Lane,
        kind: Kind,
        slot: Slot,
        key: &[u8],
        value: &[u8],
        of: Option<usize>,
    ) {
        let data_bytes = self.chunk_data_bytes.unwrap_or(chunk::CHUNK_DATA_BYTES);
        for chunk in chunk::chunks_of_size(kind, value, data_bytes).unwrap() {
            let mut out = Vec::new();
            chunk.write(&mut out);
            let key = Bytes::copy_from_slice(key);
            self.count(lane, Kind::Chunk, slot, key, out.into(), of);
        }
    }

    /// A record that the slot's seals count.
    fn count(
        &mut self,
        lane: Lane,
        kind: Kind,
        slot: Slot,
        key: Bytes,
        value: Bytes,
        of: Option<usize>,
    ) {
        let sequence = self.write(lane, kind, slot, key, value, of);
        let share = self.shares.entry(lane).or_default();
        share.records += 1;
        share.first.get_or_insert(sequence);
        share.last = sequence;
    }

    /// Appends the slot's seals, for the records since the last call of `block`.
    pub fn seal(&mut self, block: &TrueBlock, revision: u32) {
        let mut shares = self.shares.clone();
        for (lane, last) in &self.left {
            shares.entry(*lane).or_insert(Share {
                first: Some(last + 1),
                last: *last,
                ..Share::default()
            });
        }
        let table: Vec<SealedPartition> = shares
            .iter()
            .map(|(lane, share)| SealedPartition {
                topic: lane.topic as u32,
                partition: lane.partition,
                records: share.records,
                lost: share.lost,
            })
            .collect();
        for (lane, share) in shares {
            self.sealed.insert((block.id, lane), share);
            // Into the partitions that it wrote.
            let Some(first_sequence) = share.first else {
                continue;
            };
            let seal = Seal {
                slot: block.id.slot.0,
                revision,
                records: share.records,
                first_sequence,
                last_sequence: share.last,
                hash: SealHash::default().value(),
                lost: share.lost,
                table: table.clone(),
                transactions: block.transactions,
                entries: block.entries,
                accounts: block.accounts,
                partial: false,
            };
            self.write(
                lane,
                Kind::Seal,
                block.id.slot,
                Bytes::copy_from_slice(&block.id.slot.0.to_be_bytes()),
                seal.encode_to_vec().into(),
                None,
            );
        }
    }

    /// An account update that comes after the seal, and the amended seals.
    pub fn late_account(&mut self, block: &TrueBlock) {
        self.write_version += 1;
        let account = account(block, block.accounts, self.write_version);
        let key = account.account.as_ref().map(|a| a.pubkey.clone()).unwrap();
        self.record(
            Kind::Account,
            block.id.slot,
            key,
            UpdateOneof::Account(account),
        );
        self.seal(block, 1);
    }

    fn write(
        &mut self,
        lane: Lane,
        kind: Kind,
        slot: Slot,
        key: Bytes,
        value: Bytes,
        of: Option<usize>,
    ) -> u64 {
        let next = self.next.entry(lane).or_default();
        let sequence = *next;
        *next += 1;
        let header = ObservedHeader {
            kind,
            slot,
            source: self.id,
            sequence: Sequence(sequence),
        };
        self.written.push(Written {
            lane,
            kind,
            slot,
            key,
            header: Bytes::copy_from_slice(&header.encode()),
            value,
            of,
        });
        sequence
    }
}

pub fn account(block: &TrueBlock, index: u64, write_version: u64) -> SubscribeUpdateAccount {
    let mut pubkey = block.id.blockhash.0.to_vec();
    pubkey[31] = index as u8;
    SubscribeUpdateAccount {
        slot: block.id.slot.0,
        is_startup: false,
        account: Some(SubscribeUpdateAccountInfo {
            pubkey,
            lamports: 1 + index,
            owner: vec![3; 32],
            data: vec![index as u8; 5],
            rent_epoch: u64::MAX,
            write_version,
            ..SubscribeUpdateAccountInfo::default()
        }),
    }
}

fn crc32(hash: &[u8; 32], index: u64) -> u32 {
    let mut bytes = hash.to_vec();
    bytes.extend(index.to_le_bytes());
    partition_of(&bytes, u32::MAX).wrapping_mul(2_654_435_761) >> 8
}

/// Bytes that no compression makes shorter.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn reward(number: usize) -> Reward {
    let mut pubkey = [9; 32];
    pubkey[..8].copy_from_slice(&number.to_le_bytes());
    Reward {
        pubkey: Pubkey(pubkey).to_string(),
        lamports: 1 + number as i64,
        post_balance: 1_000_000_000 + number as u64,
        reward_type: 4,
        commission: "5".to_owned(),
        ..Reward::default()
    }
}

pub fn signature(block: &TrueBlock, index: u64) -> Vec<u8> {
    let mut signature = vec![index as u8; 64];
    signature[..32].copy_from_slice(&block.id.blockhash.0);
    signature
}

fn transaction(block: &TrueBlock, index: u64) -> SubscribeUpdateTransaction {
    SubscribeUpdateTransaction {
        slot: block.id.slot.0,
        transaction: Some(SubscribeUpdateTransactionInfo {
            signature: signature(block, index),
            index,
            transaction: Some(confirmed_block::Transaction::default()),
            meta: Some(confirmed_block::TransactionStatusMeta {
                fee: 5000,
                log_messages: vec![format!("log {index}")],
                ..Default::default()
            }),
            ..Default::default()
        }),
    }
}

/// Merges several sources' records into the order of each partition: every source keeps its own order, skew is random.
pub fn interleave(rng: &mut StdRng, sources: &[&Source]) -> BTreeMap<Lane, Vec<Written>> {
    let mut cursors: Vec<std::slice::Iter<'_, Written>> =
        sources.iter().map(|source| source.written.iter()).collect();
    let mut lanes: BTreeMap<Lane, Vec<Written>> = BTreeMap::new();
    while !cursors.is_empty() {
        let chosen = rng.random_range(0..cursors.len());
        for _ in 0..rng.random_range(1..40) {
            match cursors[chosen].next() {
                Some(record) => lanes.entry(record.lane).or_default().push(record.clone()),
                None => {
                    drop(cursors.swap_remove(chosen));
                    break;
                }
            }
        }
    }
    lanes
}
