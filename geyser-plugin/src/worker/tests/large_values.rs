//! Values in chunks.

use super::bed::{Bed, balance, check_partitions};
use crate::worker::*;

/// A value above a broker's limit goes in chunks, through Kafka and through the spill.
#[test]
fn a_large_value_is_cut_and_sealed_as_the_records_it_is() {
    for up in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut bed = Bed::start(dir.path(), 16_384, 64 << 20, 1, up);
        let value: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 31) as u8).collect();
        bed.offer(7, Fact::Account, &value);
        bed.block(7, 10);
        if !up {
            bed.until("it is on disk", |bed| bed.counters.spill_bytes.get() > 0);
            thread::sleep(Duration::from_millis(150));
            bed.broker.lock().unwrap().up = true;
        }
        bed.until("all is delivered", |bed| {
            bed.counters.delivered_total() == bed.offered && bed.counters.seals_sealed.get() == 1
        });
        let (broker, counters, offered) = bed.stop();
        balance(&counters, offered);
        assert_eq!(counters.lost_total(), 0);
        let (records, lost) = check_partitions(&broker);
        assert_eq!((records, lost), (offered + 3, 0));
        let joined: Vec<u8> = broker
            .partitions
            .values()
            .flatten()
            .filter(|kept| kept.header.kind == Kind::Chunk)
            .flat_map(|kept| {
                Piece::read(&Bytes::copy_from_slice(&kept.value))
                    .unwrap()
                    .data
            })
            .collect();
        assert!(joined == value);
    }
}

/// A value in chunks meets a client that is full after the first of them, which then gives that back.
#[test]
fn a_value_whose_chunks_part_is_counted_once() {
    for (room, before) in [(16, 15), (17, 15), (16, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let mut bed = Bed::start(dir.path(), 512, 64 << 20, 1, false);
        bed.broker.lock().unwrap().room = room;
        for serial in 0..before {
            bed.offer(9, Fact::Account, &[serial; 20]);
        }
        let value: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 31) as u8).collect();
        bed.offer(9, Fact::Account, &value);
        for serial in 100..140 {
            bed.offer(9, Fact::Account, &[serial; 20]);
        }
        bed.until("the rest is on disk", |bed| {
            bed.counters.spilled.get() == bed.offered
        });
        bed.broker.lock().unwrap().up = true;
        bed.until("all is delivered", |bed| {
            bed.counters.delivered_total() == bed.offered && bed.counters.spill_pending() == 0
        });
        let (broker, counters, offered) = bed.stop();
        balance(&counters, offered);
        // Four chunks.
        assert_eq!(check_partitions(&broker).0, offered + 3);
    }
}
