use super::*;
use crate::{chunk::CHUNK_DATA_BYTES, proto::Message};
use proptest::prelude::*;

const SLOT: Slot = Slot(7);

/// The contract's message, written by prost: chunks may be of any size, so that small ones test as well as real ones.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "15000")]
    chunk: Option<Fields>,
}

#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint32, tag = "2")]
    index: u32,
    #[prost(uint32, tag = "3")]
    count: u32,
    #[prost(uint64, tag = "4")]
    total: u64,
    #[prost(fixed32, tag = "5")]
    checksum: u32,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
}

fn cut(kind: Kind, value: &[u8], data_bytes: usize) -> Vec<Bytes> {
    let count = value.len().div_ceil(data_bytes) as u32;
    let fields = value.chunks(data_bytes).enumerate().map(|(index, data)| {
        let chunk = Some(Fields {
            kind: kind as u32,
            index: index as u32,
            count,
            total: value.len() as u64,
            checksum: crc32fast::hash(value),
            data: data.to_vec(),
        });
        Envelope { chunk }.encode_to_vec().into()
    });
    fields.collect()
}

#[derive(Debug, Clone)]
struct Record {
    kind: Kind,
    position: u64,
    value: Bytes,
}

/// Values as a source writes them: `Some(data_bytes)` cuts.
fn write(values: &[(Vec<u8>, Option<usize>)], first: u64) -> (Vec<Record>, Vec<Whole>) {
    let mut records = Vec::new();
    let mut wholes = Vec::new();
    for (value, cutting) in values {
        let start = first + records.len() as u64;
        let (kind, parts) = match cutting {
            Some(data_bytes) => (Kind::Chunk, cut(Kind::Account, value, *data_bytes)),
            None => (Kind::Account, vec![value.clone().into()]),
        };
        for part in parts {
            let position = first + records.len() as u64;
            records.push(Record {
                kind,
                position,
                value: part,
            });
        }
        wholes.push(Whole {
            kind: Kind::Account,
            value: value.clone().into(),
            positions: start..=first + records.len() as u64 - 1,
        });
    }
    (records, wholes)
}

fn read(records: &[Record]) -> (Vec<Whole>, Vec<Broken>) {
    let mut reassembler = Reassembler::new();
    let (mut wholes, mut brokens) = (Vec::new(), Vec::new());
    for record in records {
        let Reassembled { whole, broken } =
            reassembler.push(record.kind, SLOT, record.position, &record.value);
        wholes.extend(whole);
        brokens.extend(broken);
    }
    brokens.extend(reassembler.break_off());
    (wholes, brokens)
}

/// One record, three chunks at 101–103, one record.
fn three() -> Vec<Record> {
    let values = [
        (vec![1; 4], None),
        (vec![2; 25], Some(10)),
        (vec![3; 4], None),
    ];
    let (records, wholes) = write(&values, 100);
    assert_eq!(records.len(), 5);
    assert_eq!(read(&records), (wholes, vec![]));
    records
}

fn extents(brokens: &[Broken]) -> Vec<(u64, u64)> {
    brokens
        .iter()
        .map(|broken| (*broken.positions.start(), *broken.positions.end()))
        .collect()
}

#[test]
fn a_lost_chunk_is_named_with_its_set() {
    for (lost, expected) in [
        (1, vec![(102, 102), (103, 103)]),
        (2, vec![(101, 103)]),
        (3, vec![(101, 103)]),
    ] {
        let mut records = three();
        records.remove(lost);
        let (wholes, brokens) = read(&records);
        assert_eq!(wholes.len(), 2);
        assert_eq!(extents(&brokens), expected, "{brokens:?}");
    }
}

#[test]
fn a_repeated_chunk_does_no_harm() {
    for repeated in 1..=2 {
        let mut records = three();
        records.insert(repeated + 1, records[repeated].clone());
        let (wholes, brokens) = read(&records);
        assert_eq!(wholes.len(), 3);
        let at = 100 + repeated as u64;
        assert_eq!(
            brokens,
            [Broken {
                positions: at..=at,
                problem: ChunkError::Repeated {
                    index: repeated as u32 - 1
                }
            }]
        );
    }
}

#[test]
fn a_repeated_set_is_the_same_value_again() {
    let mut records = three();
    let again: Vec<Record> = records[1..4].to_vec();
    records.splice(4..4, again);
    let (wholes, brokens) = read(&records);
    assert_eq!((wholes.len(), brokens.len()), (4, 0));
    assert_eq!(wholes[1], wholes[2]);
}

#[test]
fn an_interrupted_set_ends_where_something_else_begins() {
    // The writer went on with something else at 102.
    let mut records = three();
    records.truncate(2);
    let values = [(vec![4; 8], Some(4)), (vec![5; 2], None)];
    let (others, _) = write(&values, 102);
    records.extend(others);
    let (wholes, brokens) = read(&records);
    assert_eq!(wholes.len(), 3);
    assert_eq!(
        brokens,
        [Broken {
            positions: 101..=101,
            problem: ChunkError::Interrupted { held: 1, count: 3 }
        }]
    );
}

#[test]
fn a_changed_byte_fails_the_checksum() {
    let mut records = three();
    let mut value = records[2].value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    records[2].value = value.into();
    let (wholes, brokens) = read(&records);
    assert_eq!(wholes.len(), 2);
    assert_eq!(extents(&brokens), [(101, 103)]);
    assert!(matches!(brokens[0].problem, ChunkError::Checksum { .. }));
}

#[test]
fn a_truncated_chunk_takes_its_set_along() {
    let mut records = three();
    records[2].value.truncate(12);
    let (wholes, brokens) = read(&records);
    assert_eq!(wholes.len(), 2);
    assert_eq!(extents(&brokens), [(101, 102), (103, 103)]);
    assert!(matches!(brokens[0].problem, ChunkError::Damaged(_)));
}

#[test]
fn chunks_of_another_slot_are_another_set() {
    let records = three();
    let mut reassembler = Reassembler::new();
    for (record, slot) in records[1..4].iter().zip([SLOT, Slot(8), SLOT]) {
        let pushed = reassembler.push(record.kind, slot, record.position, &record.value);
        assert_eq!(pushed.whole, None);
    }
    assert_eq!(reassembler.open_since(), None);
}

#[test]
fn the_last_position_of_all_is_no_trap() {
    let records = cut(Kind::Account, &[1; 30], 10);
    let mut reassembler = Reassembler::new();
    for (position, value) in [(u64::MAX, &records[0]), (u64::MAX, &records[1])] {
        assert_eq!(
            reassembler.push(Kind::Chunk, SLOT, position, value).whole,
            None
        );
    }
    assert_eq!(reassembler.break_off(), None);
}

#[test]
fn chunks_as_they_are_written_come_out_whole() {
    let value: Vec<u8> = (0..2 * CHUNK_DATA_BYTES + 5)
        .map(|at| (at / 7) as u8)
        .collect();
    let mut reassembler = Reassembler::new();
    let mut whole = None;
    for (position, chunk) in (5..).zip(chunk::chunks_of(Kind::BlockMeta, &value).unwrap()) {
        assert_eq!(whole, None);
        let mut out = Vec::new();
        chunk.write(&mut out);
        let pushed = reassembler.push(Kind::Chunk, SLOT, position, &out.into());
        assert_eq!(pushed.broken, None);
        whole = pushed.whole;
    }
    let whole = whole.unwrap();
    assert_eq!((whole.kind, whole.positions), (Kind::BlockMeta, 5..=7));
    assert!(whole.value == value);
}

#[derive(Debug, Clone)]
enum Fault {
    Lose,
    Repeat,
    Swap,
    Truncate(prop::sample::Index),
    Flip(prop::sample::Index),
    Stop,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Lose),
        Just(Fault::Repeat),
        Just(Fault::Swap),
        any::<prop::sample::Index>().prop_map(Fault::Truncate),
        any::<prop::sample::Index>().prop_map(Fault::Flip),
        Just(Fault::Stop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// One fault spoils at most the sets it touches; every chunk that is in no value is named; no value is ever wrong.
    #[test]
    fn a_fault_spoils_only_what_it_touches(
        values in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 1..40), prop::option::weighted(0.7, 1usize..12)), 1..8),
        first in 0u64..1_000,
        at: prop::sample::Index,
        fault in fault(),
    ) {
        let (mut records, expected) = write(&values, first);
        let at = at.index(records.len());
        let mut touched = vec![records[at].position];
        // A record that was written whole is the codec's business, not the reassembler's.
        prop_assume!(records[at].kind == Kind::Chunk || matches!(fault, Fault::Lose | Fault::Swap | Fault::Stop));
        match &fault {
            Fault::Lose => drop(records.remove(at)),
            Fault::Repeat => {
                records.insert(at, records[at].clone());
                touched.clear();
            }
            Fault::Swap if at + 1 < records.len() => {
                touched.push(records[at + 1].position);
                records.swap(at, at + 1);
            }
            Fault::Swap => {}
            Fault::Truncate(to) => {
                let length = to.index(records[at].value.len());
                records[at].value.truncate(length);
            }
            Fault::Flip(byte) => {
                let mut value = records[at].value.to_vec();
                let byte = byte.index(value.len());
                value[byte] ^= 0x10;
                records[at].value = value.into();
            }
            Fault::Stop => records.truncate(at),
        }
        let (wholes, brokens) = read(&records);
        for whole in &wholes {
            let same = expected.iter().find(|value| value.positions == whole.positions);
            prop_assert_eq!(same, Some(whole), "no value is ever wrong");
        }
        for value in &expected {
            let cut_off = matches!(fault, Fault::Stop) && *value.positions.end() >= first + at as u64;
            let spoiled = touched.iter().any(|position| value.positions.contains(position));
            if !cut_off && !spoiled {
                prop_assert!(wholes.contains(value), "{:?} was not touched", value.positions);
            }
        }
        for record in &records {
            let used = wholes.iter().any(|whole| whole.positions.contains(&record.position));
            let named = brokens.iter().any(|broken| broken.positions.contains(&record.position));
            prop_assert!(used || named, "record {} vanished", record.position);
        }
    }

    #[test]
    fn foreign_records_never_panic(records: Vec<(u8, u64, u64, Vec<u8>)>, edge: bool) {
        let mut reassembler = Reassembler::new();
        for (kind, slot, position, value) in records {
            let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
            let position = if edge { u64::MAX - position % 4 } else { position % 8 };
            let value = match kind {
                Kind::Chunk if !value.is_empty() => cut(Kind::Account, &value, 3).remove(position as usize % value.len().div_ceil(3)),
                _ => value.into(),
            };
            let kind = if slot % 3 == 0 { kind } else { Kind::Chunk };
            let _ = reassembler.push(kind, Slot(slot % 2), position, &value);
        }
    }
}
