//! One instance after the other: unloaded or killed, and what the next one finds.

use super::bed::{Bed, Kept, balance};
use crate::worker::*;

#[test]
fn stopping_with_kafka_away_and_no_spill_ends_in_time_and_accounts_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 16_384, 0, 1, false);
    bed.block(1, 100);
    thread::sleep(Duration::from_millis(20));
    let start = Instant::now();
    let (_, counters, offered) = bed.stop();
    assert!(start.elapsed() < Duration::from_secs(3));
    balance(&counters, offered);
    assert_eq!(counters.lost_total(), offered);
}

#[test]
fn what_an_earlier_life_spilled_is_delivered_under_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 16_384, 8 << 20, 1, false);
    for slot in 1..10 {
        bed.block(slot, 30);
    }
    bed.until("all that the client does not hold is on disk", |bed| {
        bed.handoff.records.len() <= 16 && bed.counters.spilled.get() > 0
    });
    let (_, counters, offered) = bed.stop();
    balance(&counters, offered);
    let pending = counters.spill_pending() + counters.spilled_seals.get();
    assert!(pending > 0);
    assert_eq!(
        counters.lost_total(),
        0,
        "what was in flight is on disk as well"
    );

    let bed = Bed::start(dir.path(), 16_384, 8 << 20, 2, true);
    bed.until("the inheritance is delivered", |bed| {
        bed.counters.inherited.get() == pending && bed.counters.spill_bytes.get() == 0
    });
    let (broker, counters, _) = bed.stop();
    assert_eq!(
        (
            counters.delivered_total(),
            counters.lost_total(),
            counters.inherited_lost.get()
        ),
        (0, 0, 0)
    );
    let kept: Vec<&Kept> = broker.partitions.values().flatten().collect();
    assert_eq!(kept.len() as u64, pending);
    assert!(kept.iter().all(|kept| kept.header.source.instance == 1));
}

/// A validator that is killed: its worker stops between two records, and nothing is unloaded. Whatever it was doing, the
/// next one delivers every record that a callback returned from, once per sequence and in order.
#[test]
fn what_a_killed_instance_had_accepted_is_delivered_by_the_next() {
    for (broker_up, spill_bytes) in [(true, 8 << 20), (false, 8 << 20)] {
        let dir = tempfile::tempdir().unwrap();
        let mut bed = Bed::start(dir.path(), 16_384, spill_bytes, 1, true);
        bed.block(1, 50);
        bed.until("the first block is there", |bed| {
            bed.counters.delivered_total() == bed.offered
        });
        bed.broker.lock().unwrap().up = broker_up;
        for slot in 2..40 {
            bed.block(slot, 50);
        }
        if !broker_up {
            bed.until("records are on disk", |bed| {
                bed.counters.spilled.get() > 100
            });
        }
        let offered = bed.offered;
        let before = bed.kill();
        let bed = Bed::start(dir.path(), 16_384, 64 << 20, 2, true);
        bed.until("the inheritance is delivered", |bed| {
            bed.counters.spill_bytes.get() == 0 && bed.counters.kafka_in_flight.get() == 0
        });
        let (after, counters, _) = bed.stop();
        assert_eq!(counters.predecessor_lost.get(), 0);
        // A record may be there twice, with the same sequence.
        let mut kept: BTreeMap<(ObservedTopic, u32), BTreeMap<u64, Kept>> = BTreeMap::new();
        for (place, records) in before.partitions.into_iter().chain(after.partitions) {
            let mut last = None;
            for record in records {
                assert_eq!(record.header.source.instance, 1);
                let sequence = record.header.sequence.0;
                assert!(last < Some(sequence), "in order, {last:?} then {sequence}");
                last = Some(sequence);
                let again = kept
                    .entry(place)
                    .or_default()
                    .insert(sequence, record.clone());
                assert!(again.is_none_or(|again| again.value == record.value));
            }
        }
        let records: usize = kept
            .values()
            .flat_map(BTreeMap::values)
            .filter(|record| record.header.kind != Kind::Seal)
            .count();
        assert_eq!(records as u64, offered, "broker up: {broker_up}");
        for records in kept.values() {
            let sequences: Vec<u64> = records.keys().copied().collect();
            let expected: Vec<u64> = (0..records.len() as u64).collect();
            assert_eq!(sequences, expected, "without a hole");
        }
    }
}

/// Without a disk nothing can be taken over; what is lost are observations, to the record.
#[test]
fn what_cannot_be_taken_over_is_counted_without_its_seals() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 512, 0, 1, false);
    bed.broker.lock().unwrap().room = 400;
    bed.block(1, 50);
    bed.until("the block is sealed", |bed| {
        bed.counters.seals_sealed.get() == 1
    });
    let offered = bed.offered;
    bed.kill();
    let bed = Bed::start(dir.path(), 512, 0, 2, true);
    assert_eq!(bed.counters.predecessor_lost.get(), offered);
    bed.stop();
}

/// One killed after the other: each knows its predecessor's losses, the last of them all of them.
#[test]
fn the_losses_of_a_chain_of_killed_instances_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for instance in 1..=4 {
        let mut bed = Bed::start(dir.path(), 512, 0, instance, false);
        assert_eq!(bed.counters.killed_lost.get(), expected);
        bed.broker.lock().unwrap().room = 400;
        // The third makes no callback at all.
        if instance != 3 {
            bed.block(instance, 10 * instance);
            bed.until("the block is sealed", |bed| {
                bed.counters.seals_sealed.get() == 1
            });
            bed.counters.lost(LossReason::QueueRecords, instance);
            expected += bed.offered + instance;
        }
        bed.kill();
    }
    let bed = Bed::start(dir.path(), 512, 0, 5, true);
    assert_eq!(bed.counters.killed_lost.get(), expected);
    assert!(bed.counters.predecessor_lost.get() < expected);
    // Unloaded, not killed: the chain ends.
    bed.stop();
    let bed = Bed::start(dir.path(), 512, 0, 6, true);
    assert_eq!(bed.counters.killed_lost.get(), 0);
    bed.stop();
}
