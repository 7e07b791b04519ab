//! Pure: one validator's plugin. Numbers the records of each partition, cuts long values, seals slots.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use event_log::NewRecord;
use event_schema::{
    CHUNK_BYTES_MAX, Kind, ObservedHeader, ObservedTopic, Pubkey, Seal, SealHash, SealedPartition,
    Sequence, Slot, SourceId, Topics, chunks_of, partition_of, partition_of_slot,
    proto::{
        Message,
        geyser::{SlotStatus, SubscribeUpdateSlot, subscribe_update::UpdateOneof},
    },
};
use rand::{Rng, rngs::StdRng};

use super::{
    chain::{Block, Moment},
    contents::{Contents, Value, Values, encoded, slot_key},
    prints::Print,
};

/// Partitions of the observed topics, as the router's and the plugin's defaults have them.
pub const PARTITIONS: [u32; 3] = [4, 4, 1];

/// One partition of an observed topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    pub topic: ObservedTopic,
    pub partition: u32,
}

/// One record, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub record: NewRecord,
    pub lane: Lane,
    pub slot: Slot,
    pub kind: Kind,
    pub sequence: u64,
    /// Of the event that it is, or is a part of; statuses and seals have none.
    pub print: Option<Print>,
}

/// A value that a source counted as lost before the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    pub lane: Lane,
    pub slot: Slot,
    pub kind: Kind,
    pub print: Print,
}

#[derive(Debug, Clone, Copy, Default)]
struct Share {
    records: u64,
    first: u64,
    last: u64,
    hash: SealHash,
    lost: u64,
}

/// A slot as far as its seals need it.
#[derive(Debug, Default)]
struct SlotState {
    shares: BTreeMap<Lane, Share>,
    accounts: u64,
    transactions: u64,
    entries: u64,
    revision: u32,
    has_content: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Source {
    id: SourceId,
    topics: Topics,
    next: BTreeMap<Lane, u64>,
    writes: u64,
    slots: HashMap<Slot, SlotState>,
    losing: Option<(f64, StdRng)>,
    pub lost: Vec<Lost>,
}

impl Source {
    /// `number` tells validators apart; every one counts its account writes from somewhere else.
    pub fn new(number: u8, topics: &Topics) -> Self {
        Self {
            id: SourceId {
                validator: Pubkey([100 + number; 32]),
                instance: 1_700_000_000_000_000 + u64::from(number),
            },
            topics: topics.clone(),
            next: BTreeMap::new(),
            writes: u64::from(number) * 1_000_003,
            slots: HashMap::new(),
            losing: None,
            lost: Vec::new(),
        }
    }

    pub fn id(&self) -> SourceId {
        self.id
    }

    /// From now on so many of its values are lost before the log, and counted as lost.
    pub fn lose(&mut self, probability: f64, random: StdRng) {
        self.losing = Some((probability, random));
    }

    pub fn keep(&mut self) {
        self.losing = None;
    }

    /// What the plugin writes of this moment. Returns the events of a block that is whole.
    pub fn live(
        &mut self,
        moment: &Moment,
        contents: &Contents,
        out: &mut Vec<Written>,
    ) -> Option<Values> {
        match *moment {
            Moment::Block(block) => return Some(self.block(&block, contents, out)),
            Moment::Broken(block) => self.broken(&block, contents, out),
            Moment::Dumped(slot) => {
                self.status(slot, None, SlotStatus::SlotDead, out);
                self.seal(slot, out);
            }
            Moment::Confirmed(slot) => self.status(slot, None, SlotStatus::SlotConfirmed, out),
            Moment::Rooted { slot, parent } => {
                self.status(slot, Some(parent), SlotStatus::SlotFinalized, out);
                self.slots.remove(&slot);
            }
        }
        None
    }

    fn block(&mut self, block: &Block, contents: &Contents, out: &mut Vec<Written>) -> Values {
        let slot = block.name.slot;
        let values = self.begin(block, contents, out);
        // Metadata comes before the last transactions, or after them; entries have no barrier.
        let meta_early = block.nth.is_multiple_of(3);
        let (head, tail) = values.transactions.split_at(values.transactions.len() / 2);
        self.interleave(
            slot,
            &values.accounts,
            &values.transactions,
            head.len(),
            out,
        );
        if meta_early {
            self.value(slot, &values.meta, out);
        }
        for value in tail.iter().chain(&values.entries) {
            self.value(slot, value, out);
        }
        if !meta_early {
            self.value(slot, &values.meta, out);
        }
        let processed_first = block.nth.is_multiple_of(2);
        let parent = Some(block.parent.slot);
        if processed_first {
            self.status(slot, parent, SlotStatus::SlotProcessed, out);
        }
        self.seal(slot, out);
        if !processed_first {
            self.status(slot, parent, SlotStatus::SlotProcessed, out);
        }
        values
    }

    fn broken(&mut self, block: &Block, contents: &Contents, out: &mut Vec<Written>) {
        let slot = block.name.slot;
        let values = self.begin(block, contents, out);
        let half = values.transactions.len() / 2;
        self.interleave(
            slot,
            &values.accounts[..values.accounts.len() / 2],
            &values.transactions,
            half,
            out,
        );
        self.status(slot, None, SlotStatus::SlotDead, out);
        self.seal(slot, out);
    }

    fn begin(&mut self, block: &Block, contents: &Contents, out: &mut Vec<Written>) -> Values {
        let slot = block.name.slot;
        let values = contents.values(block, self.writes);
        self.writes += values.accounts.len() as u64;
        let state = self.slots.entry(slot).or_default();
        if state.has_content {
            // A second execution: the seals' ranges begin here, also in partitions that it leaves out.
            let left = state.shares.iter().map(|(lane, share)| {
                let first = if share.records > 0 {
                    share.last + 1
                } else {
                    share.first
                };
                let anew = Share {
                    first,
                    last: share.last,
                    ..Share::default()
                };
                (*lane, anew)
            });
            *state = SlotState {
                shares: left.collect(),
                revision: state.revision,
                ..SlotState::default()
            };
        }
        state.has_content = true;
        let parent = Some(block.parent.slot);
        self.status(slot, parent, SlotStatus::SlotCreatedBank, out);
        values
    }

    /// All accounts, each few before a transaction, and the first `count` transactions.
    fn interleave(
        &mut self,
        slot: Slot,
        accounts: &[Value],
        transactions: &[Value],
        count: usize,
        out: &mut Vec<Written>,
    ) {
        let each = accounts.len().div_ceil(count.max(1)).max(1);
        let mut groups = accounts.chunks(each);
        for transaction in &transactions[..count] {
            for account in groups.next().unwrap_or_default() {
                self.value(slot, account, out);
            }
            self.value(slot, transaction, out);
        }
        for account in groups.flatten() {
            self.value(slot, account, out);
        }
    }

    fn value(&mut self, slot: Slot, value: &Value, out: &mut Vec<Written>) {
        let lane = lane_of(value.kind, slot, &value.key);
        let state = self.slots.entry(slot).or_default();
        match value.kind {
            Kind::Account => state.accounts += 1,
            Kind::Transaction => state.transactions += 1,
            Kind::Entry => state.entries += 1,
            _ => {}
        }
        let is_lost = |(probability, random): &mut (f64, StdRng)| random.random_bool(*probability);
        if self.losing.as_mut().is_some_and(is_lost) {
            state.shares.entry(lane).or_default().lost += 1;
            self.lost.push(Lost {
                lane,
                slot,
                kind: value.kind,
                print: value.print,
            });
            return;
        }
        let print = Some(value.print);
        if value.bytes.len() <= CHUNK_BYTES_MAX {
            let (key, bytes) = (value.key.clone(), value.bytes.clone());
            self.counted(lane, value.kind, slot, key, bytes, print, out);
            return;
        }
        // Longer than can be cut is no account of this chain.
        for chunk in chunks_of(value.kind, &value.bytes).into_iter().flatten() {
            let mut bytes = Vec::new();
            chunk.write(&mut bytes);
            let key = value.key.clone();
            self.counted(lane, Kind::Chunk, slot, key, bytes.into(), print, out);
        }
    }

    fn status(
        &mut self,
        slot: Slot,
        parent: Option<Slot>,
        status: SlotStatus,
        out: &mut Vec<Written>,
    ) {
        let dead = status == SlotStatus::SlotDead;
        let update = SubscribeUpdateSlot {
            slot: slot.0,
            parent: parent.map(|parent| parent.0),
            status: status as i32,
            dead_error: dead.then(|| "given up".to_owned()),
        };
        let key = slot_key(slot.0);
        let lane = lane_of(Kind::Slot, slot, &key);
        let bytes = encoded(UpdateOneof::Slot(update));
        self.counted(lane, Kind::Slot, slot, key, bytes, None, out);
    }

    /// A record that the slot's seals count.
    #[allow(clippy::too_many_arguments)]
    fn counted(
        &mut self,
        lane: Lane,
        kind: Kind,
        slot: Slot,
        key: Bytes,
        bytes: Bytes,
        print: Option<Print>,
        out: &mut Vec<Written>,
    ) {
        let checksum = crc32fast::hash(&bytes);
        let sequence = self.write(lane, kind, slot, key, bytes, print, out);
        let state = self.slots.entry(slot).or_default();
        let share = state.shares.entry(lane).or_default();
        if share.records == 0 {
            share.first = sequence;
        }
        share.records += 1;
        share.last = sequence;
        share.hash.add(sequence, checksum);
    }

    fn seal(&mut self, slot: Slot, out: &mut Vec<Written>) {
        let Some(state) = self.slots.get_mut(&slot) else {
            return;
        };
        let table: Vec<SealedPartition> = state
            .shares
            .iter()
            .map(|(lane, share)| SealedPartition {
                topic: lane.topic as u32,
                partition: lane.partition,
                records: share.records,
                lost: share.lost,
            })
            .collect();
        let seals: Vec<(Lane, Seal)> = state
            .shares
            .iter()
            .map(|(lane, share)| {
                let seal = Seal {
                    slot: slot.0,
                    revision: state.revision,
                    records: share.records,
                    first_sequence: share.first,
                    last_sequence: share.last,
                    hash: share.hash.value(),
                    lost: share.lost,
                    table: table.clone(),
                    transactions: state.transactions,
                    entries: state.entries,
                    accounts: state.accounts,
                    partial: false,
                };
                (*lane, seal)
            })
            .collect();
        state.revision += 1;
        for (lane, seal) in seals {
            let bytes = Bytes::from(seal.encode_to_vec());
            self.write(lane, Kind::Seal, slot, slot_key(slot.0), bytes, None, out);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn write(
        &mut self,
        lane: Lane,
        kind: Kind,
        slot: Slot,
        key: Bytes,
        value: Bytes,
        print: Option<Print>,
        out: &mut Vec<Written>,
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
        out.push(Written {
            record: NewRecord {
                topic: Arc::clone(self.topics.observed(lane.topic)),
                partition: lane.partition,
                key,
                header: Bytes::copy_from_slice(&header.encode()),
                value,
            },
            lane,
            slot,
            kind,
            sequence,
            print,
        });
        sequence
    }
}

fn lane_of(kind: Kind, slot: Slot, key: &[u8]) -> Lane {
    let [accounts, transactions, slots] = PARTITIONS;
    let (topic, partition) = match kind {
        Kind::Account => (ObservedTopic::Accounts, partition_of(key, accounts)),
        Kind::Transaction => (ObservedTopic::Transactions, partition_of(key, transactions)),
        _ => (ObservedTopic::Slots, partition_of_slot(slot, slots)),
    };
    Lane { topic, partition }
}

#[cfg(test)]
mod tests;
