//! Kafka is away: to disk and back in order, and what becomes of what finds no room there either.

use std::fs;

use super::bed::{Bed, Broker, balance, check_partitions};
use crate::{slot_ledger::KEEP_SLOTS, worker::*};

#[test]
fn with_kafka_up_all_is_delivered_and_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 16_384, 1 << 20, 1, true);
    for slot in 100..120 {
        bed.block(slot, 20);
    }
    bed.until("all is delivered", |bed| {
        bed.counters.seals_sealed.get() == 20 && bed.counters.delivered_total() == bed.offered
    });
    let (broker, counters, offered) = bed.stop();
    balance(&counters, offered);
    assert_eq!((counters.lost_total(), counters.spilled.get()), (0, 0));
    assert_eq!(check_partitions(&broker), (offered, 0));
}

#[test]
fn an_outage_goes_to_disk_and_comes_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 16_384, 8 << 20, 1, true);
    bed.block(1, 50);
    bed.until("the first block is there", |bed| {
        bed.counters.delivered_total() == bed.offered
    });
    bed.broker.lock().unwrap().up = false;
    for slot in 2..30 {
        bed.block(slot, 50);
    }
    // What the client has taken stays in the queue as well, until Kafka has it.
    bed.until("records are on disk", |bed| {
        bed.counters.spilled.get() > 100 && bed.handoff.records.len() <= 16
    });
    bed.broker.lock().unwrap().up = true;
    bed.block(30, 50);
    bed.until("all is delivered", |bed| {
        bed.counters.delivered_total() == bed.offered && bed.counters.spill_bytes.get() == 0
    });
    let (broker, counters, offered) = bed.stop();
    balance(&counters, offered);
    assert_eq!(counters.lost_total(), 0);
    assert_eq!(check_partitions(&broker), (offered, 0));
}

/// Kafka comes and goes at any moment, while records are live, on disk, or on their way from there: what arrives is in the
/// order of sequences, each once, and all of it.
#[test]
fn whatever_kafka_does_the_order_is_kept() {
    let mut spilled = 0;
    for seed in 1..=8_u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut bed = Bed::start(dir.path(), 512, 64 << 20, 1, true);
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for slot in 1..60 {
            if random(3) == 0 {
                let mut broker = bed.broker.lock().unwrap();
                broker.up = !broker.up;
            }
            if random(3) == 0 {
                // What was on disk may all be with the client, and what comes live behind it.
                bed.broker.lock().unwrap().room = 16 + random(300) as usize;
            }
            bed.block(slot, random(40));
            // Slow enough that the disk keeps up: nothing is lost.
            let handoff = Arc::clone(&bed.handoff);
            let start = Instant::now();
            while handoff.records.len() > 200 && start.elapsed() < Duration::from_secs(5) {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(random(30)));
        }
        bed.broker.lock().unwrap().up = true;
        bed.until("all is delivered", |bed| {
            bed.counters.delivered_total() + bed.counters.lost_total() == bed.offered
                && bed.counters.seals_sealed.get() == 59
                && bed.counters.kafka_in_flight.get() == 0
        });
        let (broker, counters, offered) = bed.stop();
        balance(&counters, offered);
        assert_eq!(counters.lost_total(), 0, "seed {seed}: {counters:?}");
        spilled += counters.spilled.get();
        assert_eq!(check_partitions(&broker), (offered, 0), "seed {seed}");
    }
    assert!(spilled > 1000, "{spilled} records went to disk");
}

/// The client holds what was on disk: what comes now is not given to it before Kafka has that, or it would be taken back as
/// the older of the two.
#[test]
fn what_is_younger_than_the_spill_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 512, 64 << 20, 1, false);
    let mut serial = 0_u64;
    let mut offer = |bed: &mut Bed, count: u64| {
        for _ in 0..count {
            serial += 1;
            bed.offer(9, Fact::Account, &serial.to_le_bytes());
        }
    };
    offer(&mut bed, 60);
    bed.until("all is on disk", |bed| {
        bed.counters.spilled.get() == 60 && bed.handoff.records.is_empty()
    });
    bed.broker.lock().unwrap().room = 400;
    bed.until("the client holds all of it", |bed| {
        bed.broker.lock().unwrap().waiting.len() == 60
    });
    offer(&mut bed, 50);
    thread::sleep(2 * PATIENCE);
    assert_eq!(bed.broker.lock().unwrap().waiting.len(), 60);
    assert_eq!(
        (bed.counters.spilled.get(), bed.handoff.records.len()),
        (60, 50)
    );
    // Enough that the ring is pressed: to disk with it, behind the others.
    offer(&mut bed, 300);
    bed.until("it goes to disk", |bed| bed.counters.spilled.get() > 60);
    bed.broker.lock().unwrap().up = true;
    let (broker, _, offered) = bed.delivers_all();
    assert_eq!(check_partitions(&broker).0, offered);
}

/// Its room is the record's until it is placed: a callback would write over it, and who recovers would not find it.
#[test]
fn a_record_that_waits_to_be_placed_keeps_its_room() {
    let dir = tempfile::tempdir().unwrap();
    // A spill that takes nothing.
    let mut bed = Bed::start(dir.path(), 512, 1, 1, false);
    bed.broker.lock().unwrap().room = 0;
    for serial in 0..10_u64 {
        bed.offer(9, Fact::Account, &serial.to_le_bytes());
    }
    thread::sleep(3 * PATIENCE);
    assert_eq!(bed.handoff.records.len(), 10);
    *bed.broker.lock().unwrap() = Broker {
        up: true,
        room: 16,
        ..Broker::default()
    };
    bed.delivers_all();
}

/// Lost metadata leaves slots open; a root far above closes them.
fn broker_returns_and_a_root_closes_all(bed: &mut Bed) {
    bed.broker.lock().unwrap().up = true;
    bed.until("the queue is empty", |bed| bed.handoff.records.is_empty());
    bed.offer(
        50_000,
        Fact::Status(crate::observation::Life::Rooted),
        b"root",
    );
    bed.until("the rest is delivered", |bed| {
        bed.counters.delivered_total() + bed.counters.lost_total() == bed.offered
            && bed.counters.kafka_in_flight.get() == 0
    });
}

#[test]
fn when_queue_and_spill_are_full_the_loss_is_counted_and_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 256, 40_000, 1, false);
    let full = |bed: &Bed| bed.counters.lost_total() > 0 && bed.counters.spill_bytes.get() > 30_000;
    for slot in 1..2000 {
        bed.block(slot, 40);
        if full(&bed) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(full(&bed), "{:?}", bed.counters);
    broker_returns_and_a_root_closes_all(&mut bed);
    let (broker, counters, offered) = bed.stop();
    balance(&counters, offered);
    let (records, stated) = check_partitions(&broker);
    assert_eq!(records + counters.lost_total(), offered);
    assert_eq!(stated, counters.lost_total(), "every loss stands in a seal");
}

#[test]
fn a_flood_of_seals_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 256, 40_000, 1, false);
    // More slots with losses than are kept until they can be sealed.
    for slot in 1..KEEP_SLOTS as u64 + 1_500 {
        bed.block(slot, 3);
        thread::sleep(Duration::from_micros(300));
    }
    assert!(bed.counters.lost_total() > 1_000, "{:?}", bed.counters);
    // Also while the worker waits for room, and seals nothing.
    bed.until("the oldest slots are given up", |bed| {
        bed.counters.seals_dropped.get() > 0
    });
    broker_returns_and_a_root_closes_all(&mut bed);
    let (broker, counters, offered) = bed.stop();
    balance(&counters, offered);
    let (records, stated) = check_partitions(&broker);
    assert!(counters.seals_dropped.get() > 0, "{counters:?}");
    assert_eq!(records + counters.lost_total(), offered);
    assert!(stated < counters.lost_total());
}

/// What a client gives back can only go to the next one, and Kafka's first answer takes longer than it is given before it
/// counts as away.
#[test]
fn with_a_disk_that_takes_nothing_a_new_client_gets_time_for_its_first_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 512, 64 << 20, 1, true);
    // No segment can be made any more, neither for what is new nor for what the client gives back.
    fs::remove_dir_all(dir.path()).unwrap();
    {
        let mut broker = bed.broker.lock().unwrap();
        broker.new_client = 3 * STUCK;
        broker.first_answer = PATIENCE + 2 * STUCK;
    }
    for serial in 0..40_u64 {
        bed.offer(9, Fact::Account, &serial.to_le_bytes());
    }
    let (broker, counters, offered) = bed.delivers_all();
    assert_eq!((counters.lost_total(), counters.spilled.get()), (0, 0));
    assert!(counters.spill_errors.get() > 0);
    assert_eq!(check_partitions(&broker).0, offered);
}

/// Ring and disk are full, and Kafka comes back so busy that its first answer to a client takes longer than a client is given
/// at first.
#[test]
fn with_ring_and_disk_full_a_slow_kafka_takes_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 256, 40_000, 1, false);
    for slot in 1..2000 {
        bed.block(slot, 40);
        if bed.counters.lost_total() > 0 && bed.counters.spill_bytes.get() > 30_000 {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(bed.counters.lost_total() > 0, "{:?}", bed.counters);
    bed.broker.lock().unwrap().first_answer = 3 * SILENT;
    broker_returns_and_a_root_closes_all(&mut bed);
    let (broker, counters, offered) = bed.stop();
    balance(&counters, offered);
    let (records, _) = check_partitions(&broker);
    assert_eq!(records + counters.lost_total(), offered);
}

/// The other partitions' answers are none for what the client holds of this one, which keeps its room in the ring.
#[test]
fn a_partition_without_a_leader_does_not_fill_the_ring() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 4096, 64 << 20, 1, true);
    {
        let mut broker = bed.broker.lock().unwrap();
        broker.room = 16_384;
        broker.leaderless = Some((ObservedTopic::Accounts, 0));
    }
    // Nearly crowded at once. From there on the other partition is answered all the time, and the ring would be full in half a
    // second.
    for serial in 0..5_000_u64 {
        bed.offer(9, Fact::Account, &serial.to_le_bytes());
        if serial > 3_000 && serial % 2 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(bed.counters.lost_total(), 0);
    bed.broker.lock().unwrap().leaderless = None;
    let (broker, _, offered) = bed.delivers_all();
    assert_eq!(check_partitions(&broker).0, offered);
}
