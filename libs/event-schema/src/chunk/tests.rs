use super::*;
use crate::proto::geyser::SubscribeUpdate;
use proptest::prelude::*;

fn value(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn written(kind: Kind, value: &[u8]) -> Vec<Bytes> {
    chunks_of(kind, value)
        .unwrap()
        .map(|chunk| {
            let mut out = Vec::new();
            chunk.write(&mut out);
            out.into()
        })
        .collect()
}

fn joined(records: &[Bytes]) -> Result<Bytes, ChunkError> {
    let pieces: Vec<Piece> = records
        .iter()
        .map(Piece::read)
        .collect::<Result<_, ChunkError>>()?;
    join(&pieces)
}

#[test]
fn every_length_near_a_boundary_survives() {
    let data = CHUNK_DATA_BYTES;
    for (bytes, count) in [
        (0, 1),
        (1, 1),
        (data, 1),
        (data + 1, 2),
        (2 * data, 2),
        (2 * data + 1, 3),
        (10 << 20, 12),
    ] {
        let value = value(bytes);
        let records = written(Kind::Account, &value);
        assert_eq!(records.len(), count, "{bytes} bytes");
        assert!(
            records.iter().all(|record| record.len() <= CHUNK_BYTES_MAX),
            "{bytes} bytes"
        );
        assert!(joined(&records).unwrap() == value, "{bytes} bytes");
        if bytes > CHUNK_BYTES_MAX {
            assert_eq!(records_of(bytes), count);
        }
    }
    assert_eq!(records_of(CHUNK_BYTES_MAX), 1);
}

#[test]
fn the_longest_value_fits_into_what_readers_accept() {
    let zeros = vec![0; VALUE_BYTES_MAX];
    let chunks = chunks_of(Kind::BlockMeta, &zeros).unwrap();
    assert!(chunks.len() < CHUNKS_MAX as usize);
    // The last chunk has the longest numbers.
    let mut out = Vec::new();
    let last = chunks.last().unwrap();
    last.write(&mut out);
    let envelope = out.len() - last.data.len();
    assert!(
        envelope + 3 <= ENVELOPE_BYTES,
        "{envelope} bytes of envelope"
    );
    assert!(Piece::read(&out.into()).is_ok());
    assert_eq!(
        chunks_of(Kind::Account, &vec![0; VALUE_BYTES_MAX + 1]).unwrap_err(),
        Uncuttable::Length {
            bytes: VALUE_BYTES_MAX + 1
        }
    );
}

#[test]
fn what_a_seal_does_not_count_is_never_cut() {
    for kind in Kind::ALL {
        let cut = chunks_of(kind, b"x").is_ok();
        let counted = !kind.is_beside_blocks()
            && !matches!(kind, Kind::Seal | Kind::Gap | Kind::Status | Kind::Chunk);
        assert_eq!(cut, counted, "{kind:?}");
    }
}

#[test]
fn smaller_chunks_are_for_smaller_brokers() {
    let value = value(1_000);
    for (data_bytes, count) in [(0, 1_000), (1, 1_000), (999, 2), (usize::MAX, 1)] {
        let chunks = chunks_of_size(Kind::Entry, &value, data_bytes).unwrap();
        assert_eq!(chunks.len(), count);
        let records: Vec<Bytes> = chunks
            .map(|chunk| {
                let mut out = Vec::new();
                chunk.write(&mut out);
                out.into()
            })
            .collect();
        assert!(joined(&records).unwrap() == value);
    }
    assert_eq!(
        chunks_of_size(Kind::Entry, &[0; 1_025], 1).unwrap_err(),
        Uncuttable::Count { count: 1_025 }
    );
}

#[test]
fn a_buffer_with_room_is_reused() {
    let value = value(3_000_000);
    let mut buffer = Vec::with_capacity(CHUNK_BYTES_MAX);
    let before = (buffer.as_ptr(), buffer.capacity());
    for chunk in chunks_of(Kind::Account, &value).unwrap() {
        buffer.clear();
        chunk.write(&mut buffer);
        assert_eq!((buffer.as_ptr(), buffer.capacity()), before);
    }
}

#[test]
fn a_yellowstone_tool_sees_an_update_without_content() {
    for record in written(Kind::Transaction, &value(2_000_000)) {
        let update = SubscribeUpdate::decode(record).unwrap();
        assert_eq!(update, SubscribeUpdate::default());
    }
}

#[test]
fn reading_shares_the_records_memory() {
    let record = written(Kind::Account, &value(1_000)).remove(0);
    let piece = Piece::read(&record).unwrap();
    let record = record.as_ptr_range();
    assert!(record.contains(&piece.data.as_ptr()));
}

#[test]
fn each_impossible_chunk_is_named() {
    let good = Fields {
        kind: Kind::Account as u32,
        index: 1,
        count: 3,
        total: 30,
        checksum: 0,
        data: Bytes::from_static(&[0; 10]),
    };
    let read = |fields: Fields| {
        Piece::read(
            &Envelope {
                chunk: Some(fields),
            }
            .encode_to_vec()
            .into(),
        )
    };
    assert!(read(good.clone()).is_ok());
    assert_eq!(Piece::read(&Bytes::new()), Err(ChunkError::Empty));
    for (kind, named) in [(0, 0), (6, 6), (9, 9), (257, 257)] {
        let wrong = read(Fields {
            kind,
            ..good.clone()
        });
        assert_eq!(wrong, Err(ChunkError::Kind(named)));
    }
    for (index, count) in [(3, 3), (0, 0), (1, CHUNKS_MAX + 1)] {
        let wrong = read(Fields {
            index,
            count,
            ..good.clone()
        });
        assert_eq!(wrong, Err(ChunkError::Number { index, count }));
    }
    // Longer than the value, no room for the others, more than anyone may write, not the whole though alone, nothing.
    for (count, total, held) in [
        (3, 9, 10),
        (3, 11, 10),
        (3, u64::MAX, 10),
        (1, 11, 10),
        (3, 30, 0),
    ] {
        let wrong = read(Fields {
            index: 0,
            count,
            total,
            data: vec![0; held].into(),
            ..good.clone()
        });
        assert!(matches!(wrong, Err(ChunkError::Size { .. })), "{wrong:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The hand-written encoder against prost, and the way back.
    #[test]
    fn any_value_survives(bytes in 0usize..2_500_000, seed: u8, kind in 1u8..=5) {
        let kind = Kind::try_from(kind).unwrap();
        let mut value = value(bytes);
        value.iter_mut().for_each(|byte| *byte = byte.wrapping_add(seed));
        let records = written(kind, &value);
        let mut data = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let fields = Envelope::decode(record.clone()).unwrap().chunk.unwrap();
            prop_assert_eq!(
                (fields.kind, fields.index, fields.count, fields.total, fields.checksum),
                (kind as u32, index as u32, records.len() as u32, bytes as u64, crc32fast::hash(&value))
            );
            data.extend_from_slice(&fields.data);
        }
        prop_assert!(data == value);
        prop_assert!(joined(&records).unwrap() == value);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes: Vec<u8>, cut: prop::sample::Index) {
        let _ = Piece::read(&Bytes::from(bytes.clone()));
        let mut framed = FIELD.to_vec();
        write_varint(&mut framed, bytes.len() as u64);
        framed.extend_from_slice(&bytes);
        let _ = Piece::read(&Bytes::from(framed));
        let mut real = written(Kind::Account, &bytes).remove(0).to_vec();
        real.truncate(cut.index(real.len()));
        prop_assert!(Piece::read(&Bytes::from(real)).is_err());
    }
}
