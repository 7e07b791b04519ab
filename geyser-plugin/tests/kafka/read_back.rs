//! Back from the topics: what each source wrote, and whether it is what a reader relies on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event_log::{EventLog, KafkaConfig, KafkaLog, ReaderSpec, Start};
use event_schema::{
    Kind, ObservedHeader, ObservedTopic, Seal, SealHash, SourceId, Topics, partition_of,
    partition_of_slot,
    proto::{
        Message as _,
        geyser::{SubscribeUpdate, subscribe_update::UpdateOneof},
    },
};

use crate::validator::{ENTRIES, Size};

/// What one source wrote, partition by partition, in order, each record once.
pub type Partitions = BTreeMap<(ObservedTopic, u32), Vec<(ObservedHeader, Vec<u8>)>>;

pub fn read_back(brokers: &str, prefix: &str) -> BTreeMap<SourceId, Partitions> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let log = KafkaLog::new(KafkaConfig::new(brokers)).unwrap();
        let topics = Topics::new(prefix);
        let mut sources: BTreeMap<SourceId, Partitions> = BTreeMap::new();
        for topic in ObservedTopic::ALL {
            let name = topics.observed(topic);
            let count = log.partitions(name).await.unwrap();
            let partitions = (0..count)
                .map(|partition| (Arc::clone(name), partition, Start::Earliest))
                .collect();
            let mut reader = log
                .reader(ReaderSpec {
                    partitions,
                    read_committed: false,
                })
                .await
                .unwrap();
            loop {
                let records = reader.poll(1000, Duration::from_millis(200)).await.unwrap();
                if records.is_empty() && reader.lag().await.unwrap() == 0 {
                    break;
                }
                for record in records {
                    let header = ObservedHeader::decode(&record.header).unwrap();
                    let partition = record.position.partition;
                    let place = match topic {
                        ObservedTopic::Slots if header.kind != Kind::ContactInfo => {
                            partition_of_slot(header.slot, count)
                        }
                        // Seals go to every partition of the slot, whatever their key.
                        _ if header.kind == Kind::Seal => partition,
                        _ => partition_of(&record.key, count),
                    };
                    assert_eq!(partition, place, "{header:?}");
                    let partitions = sources.entry(header.source).or_default();
                    let kept = partitions.entry((topic, partition)).or_default();
                    let this = (header, record.value.to_vec());
                    // What a broker had written when it was killed, and not acknowledged, is there again with the same
                    // sequence: the one repetition there may be.
                    match kept.get(header.sequence.0 as usize) {
                        Some(before) => assert_eq!(before, &this),
                        None => kept.push(this),
                    }
                }
            }
        }
        sources
    })
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub accounts: u64,
    pub transactions: u64,
    pub entries: u64,
    pub blocks: u64,
    pub statuses: u64,
}

/// Checks everything a reader relies on; returns what each slot holds.
pub fn verify(partitions: &Partitions) -> BTreeMap<u64, Content> {
    let mut slots: BTreeMap<u64, Content> = BTreeMap::new();
    let mut last_seals: BTreeMap<(u64, ObservedTopic, u32), Seal> = BTreeMap::new();
    for ((topic, partition), records) in partitions {
        let mut shares: BTreeMap<u64, (u64, u64, u64, SealHash)> = BTreeMap::new();
        for (place, (header, value)) in records.iter().enumerate() {
            assert_eq!(
                header.sequence.0, place as u64,
                "{topic:?}/{partition} is numbered without a hole or a repetition"
            );
            let slot = header.slot.0;
            if header.kind == Kind::Seal {
                let seal = Seal::decode(value.as_slice()).unwrap();
                let (count, first, last, hash) = shares.get(&slot).copied().unwrap_or_default();
                assert_eq!(
                    (
                        seal.slot,
                        seal.records,
                        seal.first_sequence,
                        seal.last_sequence
                    ),
                    (slot, count, first, last)
                );
                assert_eq!(seal.hash, hash.value());
                last_seals.insert((slot, *topic, *partition), seal);
                continue;
            }
            if header.kind.is_beside_blocks() {
                // Of no block; a test of its own looks into it.
                continue;
            }
            let share =
                shares
                    .entry(slot)
                    .or_insert((0, header.sequence.0, 0, SealHash::default()));
            share.0 += 1;
            share.2 = header.sequence.0;
            share.3.add(header.sequence.0, crc32_of(value));
            let content = slots.entry(slot).or_default();
            match (
                header.kind,
                SubscribeUpdate::decode(value.as_slice())
                    .unwrap()
                    .update_oneof
                    .unwrap(),
            ) {
                (Kind::Account, UpdateOneof::Account(update)) => {
                    assert_eq!(update.slot, slot);
                    content.accounts += 1;
                }
                (Kind::Transaction, UpdateOneof::Transaction(update)) => {
                    assert_eq!(update.slot, slot);
                    content.transactions += 1;
                }
                (Kind::Entry, UpdateOneof::Entry(_)) => content.entries += 1,
                (Kind::BlockMeta, UpdateOneof::BlockMeta(_)) => content.blocks += 1,
                (Kind::Slot, UpdateOneof::Slot(_)) => content.statuses += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    for (slot, content) in &slots {
        let seals: Vec<(&(u64, ObservedTopic, u32), &Seal)> = last_seals
            .iter()
            .filter(|((of, ..), _)| of == slot)
            .collect();
        let (_, any) = seals
            .first()
            .unwrap_or_else(|| panic!("slot {slot} has no seal"));
        assert_eq!(
            (any.accounts, any.transactions, any.entries),
            (content.accounts, content.transactions, content.entries)
        );
        assert_eq!(any.table.len(), seals.len());
        for ((_, topic, partition), seal) in &seals {
            assert_eq!((seal.revision, seal.lost), (any.revision, 0));
            let row = seal
                .table
                .iter()
                .find(|row| row.topic == *topic as u32 && row.partition == *partition)
                .unwrap();
            assert_eq!(row.records, seal.records);
        }
    }
    slots
}

pub fn crc32_of(value: &[u8]) -> u32 {
    crc32fast::hash(value)
}

pub fn assert_blocks(
    slots: &BTreeMap<u64, Content>,
    numbers: impl Iterator<Item = u64>,
    size: Size,
) {
    for slot in numbers {
        let expected = Content {
            accounts: size.accounts,
            transactions: size.transactions,
            entries: ENTRIES,
            blocks: 1,
            statuses: 4,
        };
        assert_eq!(slots.get(&slot), Some(&expected), "slot {slot}");
    }
}
