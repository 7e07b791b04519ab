//! The worker's own promises, with an outlet that is away, slow, forgetful or refusing on command. Real Kafka: `tests/`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use event_log::{
    Action,
    producer::{Delivery, DeliveryError},
};
use event_schema::Seal;

use super::*;
use crate::{
    observation::{Front, Outputs},
    recovery,
    shared_memory::Sizes,
    slot_ledger::KEEP_SLOTS,
};

const LANES: Lanes = Lanes {
    accounts: 2,
    transactions: 2,
    slots: 1,
    first: 0,
};

#[derive(Debug, Clone)]
struct Kept {
    header: ObservedHeader,
    value: Vec<u8>,
}

#[derive(Default)]
struct Broker {
    up: bool,
    /// Records its client takes while it does not acknowledge.
    room: usize,
    /// Refuse values of this length for good.
    refuse: Option<usize>,
    waiting: VecDeque<(ObservedTopic, u32, Kept, Tag)>,
    partitions: BTreeMap<(ObservedTopic, u32), Vec<Kept>>,
}

#[derive(Clone)]
struct Outlet {
    broker: Arc<Mutex<Broker>>,
    deliveries: Arc<Deliveries>,
}

impl Outlet {
    fn deliver(&self) {
        let mut broker = self.broker.lock().unwrap();
        while broker.up {
            let Some((topic, partition, kept, tag)) = broker.waiting.pop_front() else {
                break;
            };
            broker
                .partitions
                .entry((topic, partition))
                .or_default()
                .push(kept);
            self.deliveries.report(&Delivery {
                tag: tag.pack(),
                outcome: Ok(0),
                latency: Duration::ZERO,
            });
        }
    }
}

impl super::Outlet for Outlet {
    fn is_ready(&self) -> bool {
        true
    }

    fn try_send(
        &mut self,
        _output: usize,
        topic: ObservedTopic,
        partition: u32,
        _key: &[u8],
        header: &[u8],
        value: &[u8],
        tag: Tag,
    ) -> Result<(), SendError> {
        self.deliver();
        let mut broker = self.broker.lock().unwrap();
        if broker.refuse == Some(value.len()) {
            return Err(SendError::Fatal("refused".into()));
        }
        // The client's own bounded memory.
        if broker.waiting.len() >= broker.room {
            return Err(SendError::QueueFull);
        }
        let header = ObservedHeader::decode(header).unwrap();
        broker.waiting.push_back((
            topic,
            partition,
            Kept {
                header,
                value: value.to_vec(),
            },
            tag,
        ));
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.deliver();
        self.broker.lock().unwrap().waiting.len()
    }

    fn flush(&mut self, _: Duration) -> bool {
        self.deliver();
        self.in_flight() == 0
    }

    fn close(&mut self) {
        for (.., tag) in self.broker.lock().unwrap().waiting.drain(..) {
            let outcome = Err(DeliveryError {
                action: Action::Retry,
                reason: "closed".into(),
            });
            self.deliveries.report(&Delivery {
                tag: tag.pack(),
                outcome,
                latency: Duration::ZERO,
            });
        }
    }
}

struct Bed {
    broker: Arc<Mutex<Broker>>,
    handoff: Arc<Handoff>,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    killed: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
    offered: u64,
}

impl Bed {
    fn start(dir: &std::path::Path, queue: u64, spill_bytes: u64, instance: u64, up: bool) -> Self {
        let source = SourceId {
            instance,
            ..SourceId::default()
        };
        let mut spill = (spill_bytes > 0).then(|| Spill::open(dir, spill_bytes).unwrap());
        let path = dir.join("queue");
        let recovered = recovery::recover(&path, &[LANES], spill.as_mut()).unwrap();
        let sizes = Sizes {
            records: queue,
            record_bytes: 64 << 20,
            seals: 1024,
            seal_bytes: 1 << 20,
        };
        let memory = Arc::new(
            SharedMemory::create(&path, sizes, source, &[LANES], recovered.killed_lost).unwrap(),
        );
        let counters = Arc::new(Counters::new(Arc::clone(&memory)));
        counters.recovered.set(recovered.records);
        counters.predecessor_lost.set(recovered.lost);
        counters.killed_lost.set(recovered.killed_lost);
        let handoff = Arc::new(Handoff::new(
            &memory,
            Box::new([LANES]),
            Arc::clone(&counters),
        ));
        let deliveries = Arc::new(Deliveries::new(&handoff, Arc::clone(&counters)));
        let stop = Arc::new(AtomicBool::new(false));
        let broker = Arc::new(Mutex::new(Broker {
            up,
            room: 16,
            ..Broker::default()
        }));
        let around = Surroundings {
            memory,
            source,
            handoff: Arc::clone(&handoff),
            counters: Arc::clone(&counters),
            deliveries: Arc::clone(&deliveries),
            stop: Arc::clone(&stop),
            linger: Duration::ZERO,
            stop_within: Duration::from_millis(300),
        };
        let worker = Worker::new(
            around,
            Outlet {
                broker: Arc::clone(&broker),
                deliveries,
            },
            spill,
        );
        let killed = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let killed = Arc::clone(&killed);
            move || {
                let mut worker = worker;
                while !worker.around.stop.load(Ordering::Acquire) {
                    if killed.load(Ordering::Acquire) {
                        return;
                    }
                    if worker.turn() == 0 {
                        thread::sleep(WAITING_NAP);
                    }
                }
                worker.run();
            }
        });
        Self {
            broker,
            handoff,
            counters,
            stop,
            killed,
            thread,
            offered: 0,
        }
    }

    fn offer(&mut self, slot: u64, fact: Fact, value: &[u8]) {
        self.counters.callback(fact.kind().unwrap());
        self.offered += 1;
        let key = match fact {
            Fact::Account | Fact::Transaction | Fact::Deshred | Fact::ContactInfo => {
                &value[..value.len().min(16)]
            }
            _ => &slot.to_be_bytes(),
        };
        let front = Front {
            slot,
            fact,
            recorded: Outputs(1),
            seen: Outputs(1),
            key,
        };
        self.handoff
            .offer(front, value.len(), |out| out.extend_from_slice(value));
    }

    /// A whole block of `transactions` transactions and as many accounts, without entries.
    fn block(&mut self, slot: u64, transactions: u64) {
        self.offer(
            slot,
            Fact::Status(crate::observation::Life::Created),
            b"created",
        );
        for i in 0..transactions {
            self.offer(
                slot,
                Fact::Account,
                &[slot.to_le_bytes(), i.to_le_bytes()].concat(),
            );
            self.offer(
                slot,
                Fact::Transaction,
                &[i.to_le_bytes(), slot.to_le_bytes()].concat(),
            );
        }
        self.offer(
            slot,
            Fact::Block {
                blockhash: [7; 32],
                transactions,
                entries: 0,
            },
            b"block",
        );
        self.offer(
            slot,
            Fact::Status(crate::observation::Life::Settled),
            b"processed",
        );
    }

    fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "waited too long until {what}: {:?}",
                self.counters
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// As SIGKILL: the worker is not asked to finish anything.
    fn kill(self) -> Broker {
        self.killed.store(true, Ordering::Release);
        self.thread.join().unwrap();
        let mut broker = self.broker.lock().unwrap();
        // What the client held is gone with it.
        broker.waiting.clear();
        std::mem::take(&mut *broker)
    }

    fn stop(self) -> (Broker, Arc<Counters>, u64) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
        let broker = std::mem::take(&mut *self.broker.lock().unwrap());
        (broker, self.counters, self.offered)
    }
}

fn balance(counters: &Counters, offered: u64) {
    assert_eq!(counters.callbacks_total(), offered);
    assert_eq!(
        counters.delivered_total() + counters.spill_pending() + counters.lost_total(),
        offered,
        "{counters:?}"
    );
}

/// Sequences contiguous from 0, and in each partition the last seal of a slot counts exactly its records.
fn check_partitions(broker: &Broker) -> (u64, u64) {
    let (mut records, mut lost) = (0, 0);
    for kept in broker.partitions.values() {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last_seals: BTreeMap<u64, Seal> = BTreeMap::new();
        for (place, one) in kept.iter().enumerate() {
            assert_eq!(one.header.sequence.0, place as u64);
            if one.header.kind == Kind::Seal {
                let seal = Seal::decode(one.value.as_slice()).unwrap();
                assert_eq!(seal.records, counts.get(&seal.slot).copied().unwrap_or(0));
                last_seals.insert(seal.slot, seal);
            } else {
                if !one.header.kind.is_beside_blocks() {
                    *counts.entry(one.header.slot.0).or_default() += 1;
                }
                records += 1;
            }
        }
        lost += last_seals.values().map(|seal| seal.lost).sum::<u64>();
    }
    (records, lost)
}

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

#[test]
fn a_record_kafka_refuses_is_lost_alone_and_stated() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 16_384, 0, 1, true);
    bed.broker.lock().unwrap().refuse = Some(777);
    bed.offer(5, Fact::Account, &[1; 777]);
    bed.block(5, 10);
    bed.until("the rest is delivered", |bed| {
        bed.counters.delivered_total() == bed.offered - 1
    });
    bed.until("the slot is sealed", |bed| {
        bed.counters.seals_sealed.get() == 1
    });
    let (broker, counters, offered) = bed.stop();
    balance(&counters, offered);
    assert_eq!(counters.lost_for(LossReason::Delivery), 1);
    let stated: u64 = broker
        .partitions
        .values()
        .flatten()
        .filter(|kept| kept.header.kind == Kind::Seal)
        .map(|kept| Seal::decode(kept.value.as_slice()).unwrap().lost)
        .sum();
    assert_eq!(stated, 1);
}

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
    bed.until("all is delivered", |bed| {
        bed.counters.delivered_total() == bed.offered
    });
    let (_, counters, offered) = bed.stop();
    balance(&counters, offered);
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
    bed.until("all is delivered", |bed| {
        bed.counters.delivered_total() == bed.offered
    });
    let (broker, counters, offered) = bed.stop();
    balance(&counters, offered);
    assert_eq!(check_partitions(&broker).0, offered);
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
