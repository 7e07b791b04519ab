//! Chunks in the pure core: what is held, counted, given up and told, set by set.

use std::collections::BTreeMap;

use bytes::Bytes;
use event_schema::{
    GapReason, Kind, ObservedHeader, ObservedTopic, Sequence, Slot, chunk,
    proto::{
        Message,
        geyser::{SlotStatus, SubscribeUpdate, SubscribeUpdateSlot, subscribe_update::UpdateOneof},
    },
};
use rand::{SeedableRng, rngs::StdRng};
use stream_router::{
    observation::{self, Lane, Place},
    router::{Effect, Limits, Router},
};

use crate::chain::{History, TrueBlock};
use crate::source::{Source, Written, account};

const ACCOUNTS: Lane = Lane {
    topic: ObservedTopic::Accounts,
    partition: 0,
};

/// A block of which each value was written in chunks of 40 bytes.
fn block() -> (TrueBlock, Source) {
    let block = TrueBlock {
        accounts: 1,
        transactions: 1,
        entries: 1,
        ..History::sparse(&mut StdRng::seed_from_u64(2), 1).blocks[0].clone()
    };
    let mut source = Source::new(1).in_chunks_of(40);
    source.block(&block);
    (block, source)
}

fn router() -> Router {
    Router::new(Limits {
        gap_after_ms: 1_000,
        settle_ms: 100,
        ..Limits::default()
    })
}

/// Each record at its place in its lane, in the order given.
#[derive(Default)]
struct Reader {
    offsets: BTreeMap<Lane, i64>,
}

impl Reader {
    fn read(&mut self, router: &mut Router, record: &Written) -> Vec<Effect> {
        let offset = self.offsets.entry(record.lane).or_default();
        let place = Place {
            lane: record.lane,
            offset: *offset,
            timestamp_ms: 0,
        };
        *offset += 1;
        let (observation, poison) = observation::read(place, &record.header, &record.value);
        assert_eq!(poison, None);
        let mut effects = Vec::new();
        router.observe(observation.expect("a header"), &mut effects);
        effects
    }

    fn read_all(&mut self, router: &mut Router, records: &[Written]) -> Vec<Effect> {
        let mut effects = Vec::new();
        for record in records {
            effects.extend(self.read(router, record));
        }
        router.tick(90_000, &mut effects);
        effects
    }
}

fn chunk_places(source: &Source, topic: ObservedTopic) -> Vec<usize> {
    let places = source
        .written
        .iter()
        .enumerate()
        .filter(|(_, record)| record.kind == Kind::Chunk && record.lane.topic == topic);
    places.map(|(index, _)| index).collect()
}

fn published(effects: &[Effect]) -> usize {
    effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Publish(_)))
        .count()
}

fn gaps(effects: &[Effect]) -> Vec<(u64, i32, &str)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Gap(gap) => Some((gap.records, gap.reason, gap.detail.as_str())),
            _ => None,
        })
        .collect()
}

fn sequence(record: &Written) -> u64 {
    ObservedHeader::decode(&record.header).unwrap().sequence.0
}

/// One value in chunks of 30 bytes, numbered from `first` on.
fn set(
    source: &Source,
    lane: Lane,
    slot: Slot,
    kind: Kind,
    value: &[u8],
    first: u64,
) -> Vec<Written> {
    chunk::chunks_of_size(kind, value, 30)
        .unwrap()
        .zip(first..)
        .map(|(chunk, sequence)| {
            let mut out = Vec::new();
            chunk.write(&mut out);
            let header = ObservedHeader {
                kind: Kind::Chunk,
                slot,
                source: source.id,
                sequence: Sequence(sequence),
            };
            Written {
                lane,
                kind: Kind::Chunk,
                slot,
                key: Bytes::new(),
                header: Bytes::copy_from_slice(&header.encode()),
                value: out.into(),
                of: None,
            }
        })
        .collect()
}

#[test]
fn an_unfinished_set_is_read_again_from_its_first_chunk() {
    let (_, source) = block();
    let chunks = chunk_places(&source, ObservedTopic::Accounts);
    assert!(chunks.len() > 2);
    let lane = source.written[chunks[0]].lane;
    let (mut router, mut reader) = (router(), Reader::default());
    // As if 17 records of other slots had been read before.
    reader.offsets.insert(lane, 17);
    for index in &chunks[..chunks.len() - 1] {
        reader.read(&mut router, &source.written[*index]);
        assert_eq!(router.low_watermarks().get(&lane), Some(&17));
    }
    let held = router.open_bytes();
    reader.read(&mut router, &source.written[chunks[chunks.len() - 1]]);
    assert_eq!(router.low_watermarks().get(&lane), Some(&17));
    assert!(held > 0 && router.open_bytes() > 0);
}

#[test]
fn a_missing_chunk_is_one_missing_record() {
    for topic in ObservedTopic::ALL {
        let (block, source) = block();
        for lost in chunk_places(&source, topic) {
            let mut records = source.written.clone();
            let lost = records.remove(lost);
            let (mut router, mut reader) = (router(), Reader::default());
            let effects = reader.read_all(&mut router, &records);
            let [(records, reason, detail)] = gaps(&effects)[..] else {
                panic!("{topic:?}: {effects:?}");
            };
            assert_eq!((records, reason), (1, GapReason::MissingRecords as i32));
            let missing = format!(
                "missing sequences {}, 1 values lack 1 chunks",
                sequence(&lost)
            );
            assert!(detail.contains(&missing), "{detail}");
            assert_eq!((published(&effects), router.open_bytes()), (0, 0));
            assert_eq!(lost.slot, block.id.slot);
        }
    }
}

#[test]
fn a_chunk_that_comes_late_completes_its_value() {
    let (_, source) = block();
    for topic in ObservedTopic::ALL {
        let mut records = source.written.clone();
        let late = records.remove(chunk_places(&source, topic)[1]);
        records.push(late);
        let (mut router, mut reader) = (router(), Reader::default());
        let effects = reader.read_all(&mut router, &records);
        assert_eq!((published(&effects), gaps(&effects)), (1, vec![]));
    }
}

#[test]
fn what_a_restarted_producer_writes_again_is_ignored() {
    let (_, source) = block();
    let chunks = chunk_places(&source, ObservedTopic::Accounts);
    // The old process wrote the first two chunks; the new one does not know that, and writes all of it.
    let mut records = source.written.clone();
    let again: Vec<Written> = chunks[..2].iter().map(|at| records[*at].clone()).collect();
    records.splice(chunks[2]..chunks[2], again.clone());
    // And the whole block once more, after it was published.
    records.extend(source.written.clone());
    let (mut router, mut reader) = (router(), Reader::default());
    let effects = reader.read_all(&mut router, &records);
    assert_eq!((published(&effects), gaps(&effects)), (1, vec![]));
    assert_eq!(
        router.totals().duplicates,
        (again.len() + source.written.len()) as u64
    );
    assert_eq!(router.open_slots(), 0);
}

#[test]
fn an_interrupted_set_never_becomes_a_block() {
    // The seal counts the records that are there, yet one of them is another value's.
    let (block, mut source) = block();
    let chunks = chunk_places(&source, ObservedTopic::Accounts);
    let victim = &mut source.written[chunks[1]];
    let update = SubscribeUpdate {
        update_oneof: Some(UpdateOneof::Account(account(&block, 7, 99))),
        ..SubscribeUpdate::default()
    };
    let value = update.encode_to_vec();
    let mut other = chunk::chunks_of(Kind::Account, &value).unwrap();
    assert_eq!(other.len(), 1);
    let mut out = Vec::new();
    other.next().unwrap().write(&mut out);
    victim.value = out.into();
    let (mut router, mut reader) = (router(), Reader::default());
    let effects = reader.read_all(&mut router, &source.written);
    assert_eq!(published(&effects), 0);
    let [(records, _, detail)] = gaps(&effects)[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(records, 1);
    assert!(detail.contains("1 values lack 1 chunks"), "{detail}");
}

#[test]
fn a_set_that_fails_its_checksum_is_put_aside_and_its_block_is_a_gap() {
    let (_, mut source) = block();
    let chunks = chunk_places(&source, ObservedTopic::Accounts);
    let victim = &mut source.written[chunks[1]];
    let mut value = victim.value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    victim.value = value.into();
    let (mut router, mut reader) = (router(), Reader::default());
    let effects = reader.read_all(&mut router, &source.written);
    let unreadable: Vec<(&[Bytes], &str)> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Unreadable {
                records, problem, ..
            } => Some((&records[..], problem.as_str())),
            _ => None,
        })
        .collect();
    let [(records, problem)] = unreadable[..] else {
        panic!("{effects:?}");
    };
    assert!(problem.contains("checksum"), "{problem}");
    let written = chunks.iter().map(|at| &source.written[*at].value);
    assert!(records.iter().eq(written), "the original bytes");
    let [(missing, _, detail)] = gaps(&effects)[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(missing, chunks.len() as u64);
    assert!(detail.contains("unreadable records"), "{detail}");
}

#[test]
fn state_loaded_at_start_opens_no_slot_for_good() {
    let (block, source) = block();
    let mut loaded = account(&block, 0, 1);
    loaded.is_startup = true;
    let update = SubscribeUpdate {
        update_oneof: Some(UpdateOneof::Account(loaded)),
        ..SubscribeUpdate::default()
    };
    let slot = block.id.slot;
    let records = set(
        &source,
        ACCOUNTS,
        slot,
        Kind::Account,
        &update.encode_to_vec(),
        0,
    );
    let (mut router, mut reader) = (router(), Reader::default());
    for (read, record) in records.iter().enumerate() {
        let effects = reader.read(&mut router, record);
        assert!(effects.is_empty(), "{effects:?}");
        let last = read + 1 == records.len();
        assert_eq!(router.open_slots(), usize::from(!last));
        assert_eq!(router.low_watermarks().is_empty(), last);
    }
    assert_eq!((router.totals().startup, router.open_bytes()), (1, 0));
}

#[test]
fn a_status_in_chunks_is_a_status() {
    let (block, source) = block();
    let lane = Lane {
        topic: ObservedTopic::Slots,
        partition: 0,
    };
    let update = SubscribeUpdate {
        update_oneof: Some(UpdateOneof::Slot(SubscribeUpdateSlot {
            slot: block.id.slot.0,
            status: SlotStatus::SlotFinalized as i32,
            dead_error: Some("x".repeat(100)),
            ..SubscribeUpdateSlot::default()
        })),
        ..SubscribeUpdate::default()
    };
    let slot = block.id.slot;
    let records = set(&source, lane, slot, Kind::Slot, &update.encode_to_vec(), 0);
    assert!(records.len() > 2);
    let (mut router, mut reader) = (router(), Reader::default());
    let effects = reader.read_all(&mut router, &records);
    let rooted = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Rooted(rooted) if *rooted == slot));
    assert!(rooted && gaps(&effects).is_empty(), "{effects:?}");
}

#[test]
fn chunks_that_cannot_be_are_poison() {
    let (block, source) = block();
    let value = [1; 100];
    let slot = block.id.slot;
    let record = &set(&source, ACCOUNTS, slot, Kind::Account, &value, 7)[3];
    let place = |topic| Place {
        lane: Lane {
            topic,
            partition: 0,
        },
        offset: 0,
        timestamp_ms: 0,
    };
    let reason = |topic, header: &[u8]| {
        let (_, poison) = observation::read(place(topic), header, &record.value);
        poison.expect("poison").to_string()
    };
    let wrong_topic = reason(ObservedTopic::Slots, &record.header);
    assert!(wrong_topic.contains("Slots topic"), "{wrong_topic}");
    let header = ObservedHeader {
        sequence: Sequence(2),
        ..ObservedHeader::decode(&record.header).unwrap()
    };
    let before_all = reason(ObservedTopic::Accounts, &header.encode());
    assert_eq!(
        before_all,
        "chunk record: chunk 3 of 4 cannot have sequence 2"
    );
}
