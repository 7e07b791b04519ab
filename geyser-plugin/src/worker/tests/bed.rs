//! A worker whose outlet is away, slow, forgetful or refusing on command.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use event_log::{
    Action,
    producer::{Delivery, DeliveryError},
};
use event_schema::Seal;

use crate::{
    observation::{Front, Outputs},
    recovery,
    shared_memory::Sizes,
    worker::*,
};

const LANES: Lanes = Lanes {
    accounts: 2,
    transactions: 2,
    slots: 1,
    first: 0,
};

#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) header: ObservedHeader,
    pub(super) value: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Broker {
    pub(super) up: bool,
    /// Records its client takes while it does not acknowledge.
    pub(super) room: usize,
    /// Refuse values of this length for good.
    pub(super) refuse: Option<usize>,
    /// Nobody leads this one: its records are not acknowledged.
    pub(super) leaderless: Option<(ObservedTopic, u32)>,
    /// So long after a client was closed the next one takes its first record.
    pub(super) new_client: Duration,
    /// So long a client holds records before the first answer.
    pub(super) first_answer: Duration,
    pub(super) closed_at: Option<Instant>,
    pub(super) holds_since: Option<Instant>,
    pub(super) waiting: VecDeque<(ObservedTopic, u32, Kept, Tag)>,
    pub(super) partitions: BTreeMap<(ObservedTopic, u32), Vec<Kept>>,
}

#[derive(Clone)]
struct Outlet {
    broker: Arc<Mutex<Broker>>,
    deliveries: Arc<Deliveries>,
}

impl Outlet {
    fn deliver(&self) {
        let mut broker = self.broker.lock().unwrap();
        let first_answer = broker.first_answer;
        let is_early = |since: Instant| since.elapsed() < first_answer;
        if !broker.up || broker.holds_since.is_some_and(is_early) {
            return;
        }
        let leaderless = broker.leaderless;
        let (answered, waiting) = std::mem::take(&mut broker.waiting)
            .into_iter()
            .partition(|(topic, partition, ..)| Some((*topic, *partition)) != leaderless);
        broker.waiting = waiting;
        let answered: VecDeque<_> = answered;
        for (topic, partition, kept, tag) in answered {
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

impl crate::outlet::Outlet for Outlet {
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
        let new_client = broker.new_client;
        let is_new = |closed: Instant| closed.elapsed() < new_client;
        if broker.waiting.len() >= broker.room || broker.closed_at.is_some_and(is_new) {
            return Err(SendError::QueueFull);
        }
        broker.holds_since.get_or_insert_with(Instant::now);
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
        let mut broker = self.broker.lock().unwrap();
        broker.closed_at = Some(Instant::now());
        broker.holds_since = None;
        for (.., tag) in broker.waiting.drain(..) {
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

pub(super) struct Bed {
    pub(super) broker: Arc<Mutex<Broker>>,
    pub(super) handoff: Arc<Handoff>,
    pub(super) counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    killed: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
    pub(super) offered: u64,
}

impl Bed {
    pub(super) fn start(
        dir: &std::path::Path,
        queue: u64,
        spill_bytes: u64,
        instance: u64,
        up: bool,
    ) -> Self {
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

    pub(super) fn offer(&mut self, slot: u64, fact: Fact, value: &[u8]) {
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
    pub(super) fn block(&mut self, slot: u64, transactions: u64) {
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

    pub(super) fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
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
    pub(super) fn kill(self) -> Broker {
        self.killed.store(true, Ordering::Release);
        self.thread.join().unwrap();
        let mut broker = self.broker.lock().unwrap();
        // What the client held is gone with it.
        broker.waiting.clear();
        std::mem::take(&mut *broker)
    }

    /// With Kafka in good health: all of it is delivered, and then it stops.
    pub(super) fn delivers_all(self) -> (Broker, Arc<Counters>, u64) {
        self.until("all is delivered", |bed| {
            bed.counters.delivered_total() == bed.offered
        });
        let ended = self.stop();
        balance(&ended.1, ended.2);
        ended
    }

    pub(super) fn stop(self) -> (Broker, Arc<Counters>, u64) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
        let broker = std::mem::take(&mut *self.broker.lock().unwrap());
        (broker, self.counters, self.offered)
    }
}

pub(super) fn balance(counters: &Counters, offered: u64) {
    assert_eq!(counters.callbacks_total(), offered);
    assert_eq!(
        counters.delivered_total() + counters.spill_pending() + counters.lost_total(),
        offered,
        "{counters:?}"
    );
}

/// Sequences contiguous from 0, and in each partition the last seal of a slot counts exactly its records.
pub(super) fn check_partitions(broker: &Broker) -> (u64, u64) {
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
