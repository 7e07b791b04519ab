//! What belongs to no block: contact info, and transactions before they are executed.

use super::bed::{Bed, balance, check_partitions};
use crate::worker::*;
use event_schema::Seal;

/// What belongs to no block is numbered like the rest, in memory, on disk, and by who takes over; no seal counts it.
#[test]
fn what_is_in_no_block_is_numbered_and_delivered_and_in_no_seal() {
    for killed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut bed = Bed::start(dir.path(), 16_384, 8 << 20, 1, true);
        for slot in 1..30 {
            bed.offer(slot, Fact::Deshred, &[slot.to_be_bytes(); 4].concat());
            bed.offer(0, Fact::ContactInfo, &[slot.to_le_bytes(); 4].concat());
            bed.block(slot, 20);
            bed.offer(slot, Fact::Deshred, &[slot.to_le_bytes(); 4].concat());
            if slot == 10 {
                bed.until("the first are delivered", |bed| {
                    bed.counters.delivered_total() == bed.offered
                });
                bed.broker.lock().unwrap().up = false;
            }
        }
        bed.until("some are on disk", |bed| bed.counters.spilled.get() > 100);
        let (broker, offered) = if killed {
            let offered = bed.offered;
            let mut before = bed.kill();
            let bed = Bed::start(dir.path(), 16_384, 64 << 20, 2, true);
            bed.until("the inheritance is delivered", |bed| {
                bed.counters.spill_bytes.get() == 0 && bed.counters.kafka_in_flight.get() == 0
            });
            for (place, kept) in bed.stop().0.partitions {
                let partition = before.partitions.entry(place).or_default();
                for record in kept {
                    // Once more what was delivered already.
                    match partition.get(record.header.sequence.0 as usize) {
                        Some(again) => assert_eq!(again.value, record.value),
                        None => partition.push(record),
                    }
                }
            }
            (before, offered)
        } else {
            bed.broker.lock().unwrap().up = true;
            bed.until("all is delivered", |bed| {
                bed.counters.delivered_total() == bed.offered
                    && bed.counters.seals_sealed.get() == 29
                    && bed.counters.kafka_in_flight.get() == 0
            });
            let (broker, counters, offered) = bed.stop();
            balance(&counters, offered);
            assert_eq!((counters.lost_total(), counters.unsealed.get()), (0, 0));
            (broker, offered)
        };
        assert_eq!(check_partitions(&broker), (offered, 0), "killed: {killed}");
        let of = |topic, kind| {
            broker
                .partitions
                .iter()
                .filter(|((at, _), _)| *at == topic)
                .flat_map(|(_, kept)| kept)
                .filter(|kept| kept.header.kind == kind)
                .count()
        };
        assert_eq!(of(ObservedTopic::Transactions, Kind::Deshred), 58);
        assert_eq!(of(ObservedTopic::Slots, Kind::ContactInfo), 29);
        // The slot that contact info does not have is in no seal.
        let seals = broker.partitions.values().flatten();
        let seals = seals.filter(|kept| kept.header.kind == Kind::Seal);
        assert!(seals.map(|kept| kept.header.slot.0).all(|slot| slot > 0));
    }
}

/// Refused by Kafka, or left over when the plugin is unloaded: counted, and no slot is the poorer.
#[test]
fn a_loss_of_what_is_in_no_block_is_counted_and_in_no_seal() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 16_384, 0, 1, true);
    bed.broker.lock().unwrap().refuse = Some(777);
    bed.offer(5, Fact::Deshred, &[1; 777]);
    bed.offer(0, Fact::ContactInfo, &[1; 777]);
    bed.block(5, 10);
    bed.until("the rest is delivered", |bed| {
        bed.counters.delivered_total() == bed.offered - 2 && bed.counters.seals_sealed.get() == 1
    });
    {
        let mut broker = bed.broker.lock().unwrap();
        broker.up = false;
        broker.room = 0;
    }
    bed.offer(6, Fact::Deshred, &[2; 40]);
    let (broker, counters, offered) = bed.stop();
    balance(&counters, offered);
    assert_eq!(counters.lost_for(LossReason::Delivery), 2);
    assert_eq!(counters.lost_for(LossReason::Unload), 1);
    assert_eq!(counters.lost_beside.get(), 3);
    let seals = broker.partitions.values().flatten();
    let seals = seals.filter(|kept| kept.header.kind == Kind::Seal);
    for seal in seals.map(|kept| Seal::decode(kept.value.as_slice()).unwrap()) {
        assert_eq!((seal.slot, seal.lost), (5, 0));
    }
}
