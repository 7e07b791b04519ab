use std::path::Path;

use bytes::Bytes;
use event_log::Position;
use event_schema::{
    CHUNK_BYTES_MAX, CanonicalHeader, CanonicalSeal, Kind, SourceId, chunks_of,
    proto::{
        Message,
        geyser::{SlotStatus, SubscribeUpdate, SubscribeUpdateSlot, subscribe_update::UpdateOneof},
    },
};

use super::*;
use crate::observed::{
    chain::{Block, Chain, Temper},
    contents::{Contents, Shape, Value, Values},
};

/// A canonical topic of one partition.
#[derive(Default)]
struct Topic(Vec<Record>);

impl Topic {
    fn push(&mut self, kind: Kind, name: BlockName, index: u32, value: Bytes) {
        let header = CanonicalHeader {
            kind,
            slot: name.slot,
            blockhash: name.blockhash,
            index,
        };
        self.0.push(Record {
            position: Position {
                topic: "x".into(),
                partition: 0,
                offset: self.0.len() as i64,
            },
            key: Bytes::new(),
            header: Bytes::copy_from_slice(&header.encode()),
            value,
            timestamp_ms: 0,
        });
    }

    fn block(&mut self, block: &Block, values: &[&Value]) {
        let mut index = 0;
        let mut push = |kind, value| {
            self.push(kind, block.name, index, value);
            index += 1;
        };
        for value in values {
            if value.bytes.len() > CHUNK_BYTES_MAX {
                for chunk in chunks_of(value.kind, &value.bytes).unwrap() {
                    let mut bytes = Vec::new();
                    chunk.write(&mut bytes);
                    push(Kind::Chunk, bytes.into());
                }
            } else {
                push(value.kind, value.bytes.clone());
            }
        }
        let count = |kind| values.iter().filter(|value| value.kind == kind).count() as u64;
        let seal = CanonicalSeal {
            slot: block.name.slot.0,
            blockhash: block.name.blockhash.0.to_vec(),
            parent_slot: block.parent.slot.0,
            parent_blockhash: block.parent.blockhash.0.to_vec(),
            transactions: count(Kind::Transaction),
            entries: count(Kind::Entry),
            accounts: count(Kind::Account),
            ..CanonicalSeal::default()
        };
        push(Kind::Seal, seal.encode_to_vec().into());
    }

    fn standing(&mut self, block: &Block, status: SlotStatus) {
        let update = SubscribeUpdate {
            update_oneof: Some(UpdateOneof::Slot(SubscribeUpdateSlot {
                slot: block.name.slot.0,
                status: status as i32,
                ..SubscribeUpdateSlot::default()
            })),
            ..SubscribeUpdate::default()
        };
        self.push(Kind::Status, block.name, 0, update.encode_to_vec().into());
    }

    fn gap(&mut self, slot: Slot, source: SourceId, records: u64) {
        let gap = Gap {
            first_slot: slot.0,
            last_slot: slot.0,
            records,
            source: source.to_string(),
            ..Gap::default()
        };
        let name = BlockName {
            slot,
            blockhash: event_schema::Blockhash::default(),
        };
        self.push(Kind::Gap, name, 0, gap.encode_to_vec().into());
    }

    fn findings(&self, truth: &Truth) -> (Findings, bool) {
        let mut audit = Audit::new(truth);
        self.0.iter().for_each(|record| audit.add(record));
        (audit.findings(), audit.is_complete())
    }
}

fn all(values: &Values) -> Vec<&Value> {
    let content = values.accounts.iter().chain(&values.transactions);
    content
        .chain(&values.entries)
        .chain([&values.meta])
        .collect()
}

/// A truth of two blocks, of which the second is beside the chain.
fn two_blocks() -> (Truth, [Block; 2], [Values; 2]) {
    let shape = Shape {
        transactions: 6,
        entries: 2,
    };
    let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
    let contents = Contents::load(&blocks, shape).unwrap();
    let mut chain = Chain::new(9, 70, Temper::RESTLESS);
    let blocks = [chain.extend(), chain.beside(chain.tip())];
    let values = blocks.map(|block| contents.values(&block, 0));
    let mut truth = Truth::default();
    for (block, values) in blocks.iter().zip(&values) {
        truth.add(block, values, true);
    }
    (truth, blocks, values)
}

#[test]
fn what_is_right_has_no_findings() {
    let (truth, blocks, values) = two_blocks();
    let mut topic = Topic::default();
    topic.block(&blocks[0], &all(&values[0]));
    topic.standing(&blocks[0], SlotStatus::SlotConfirmed);
    topic.block(&blocks[1], &all(&values[1]));
    topic.standing(&blocks[0], SlotStatus::SlotFinalized);
    assert!(!topic.findings(&truth).1);
    topic.standing(&blocks[1], SlotStatus::SlotDead);
    let (findings, complete) = topic.findings(&truth);
    assert!(complete);
    let expected = Findings {
        blocks: 2,
        events: truth.events(),
        ..Findings::default()
    };
    assert_eq!(findings, expected);
}

#[test]
fn every_fault_is_counted() {
    let (truth, blocks, values) = two_blocks();
    let mut topic = Topic::default();
    let mut events = all(&values[0]);
    // Two are exchanged, one is gone, one is there twice, one is another block's.
    events.swap(0, 1);
    events.remove(4);
    let last_account = values[0].accounts.len() - 2;
    let first_transaction = events[last_account + 1];
    events.insert(last_account + 2, first_transaction);
    events.insert(last_account, all(&values[1])[0]);
    topic.block(&blocks[0], &events);
    topic.standing(&blocks[1], SlotStatus::SlotDead);
    topic.standing(&blocks[0], SlotStatus::SlotFinalized);
    let (findings, complete) = topic.findings(&truth);
    assert!(!complete);
    assert_eq!(findings.out_of_order_events, 2, "{findings:?}");
    assert_eq!(findings.duplicated_events, 1, "{findings:?}");
    assert_eq!(findings.foreign_events, 1, "{findings:?}");
    assert_eq!(findings.lost_blocks, 1);
    assert_eq!(findings.lost_events, 1 + values[1].prints().len() as u64);
    // Not confirmed, as it must be first.
    assert_eq!(findings.wrong_standings, 1);

    let mut twice = Topic::default();
    for _ in 0..2 {
        twice.block(&blocks[0], &all(&values[0]));
    }
    let (findings, _) = twice.findings(&truth);
    assert_eq!(
        findings.duplicated_events,
        values[0].prints().len() as u64,
        "{findings:?}"
    );
}

#[test]
fn gaps_are_held_to_their_extent() {
    let (mut truth, blocks, values) = two_blocks();
    let [one, two] = [1, 2].map(|instance| SourceId {
        instance,
        ..SourceId::default()
    });
    let slot = Slot(90);
    truth.expect_gap(slot, one, 3, None);
    truth.expect_gap(slot, two, 4, None);
    truth.expect_gap(Slot(91), one, 1, None);
    // The block came after all, so nobody has to tell of its hole.
    truth.expect_gap(blocks[0].name.slot, one, 9, Some(blocks[0].name));
    let mut topic = Topic::default();
    topic.block(&blocks[0], &all(&values[0]));
    topic.gap(slot, one, 3);
    topic.gap(slot, two, 5);
    topic.gap(Slot(92), two, 5);
    let (findings, _) = topic.findings(&truth);
    let expected = Gaps {
        due: 3,
        exact: 1,
        missing: 1,
        inexact: 1,
        unfounded: 1,
    };
    assert_eq!(findings.gaps, expected);
}
