//! Worker → Kafka: the idempotent producer, and the book of what it has reported.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use event_log::{
    Action, KafkaConfig,
    producer::{Delivery, Producer, SendError},
};
use event_schema::{Kind, ObservedTopic, Topics};

use crate::{
    counters::Counters,
    drain_book::{DrainBook, Drained},
    handoff::Handoff,
    observation::{DONE, Outputs, kind_of},
    ring::{Ring, Which},
};

/// Between two attempts to replace a producer that cannot go on.
const REBUILD_INTERVAL: Duration = Duration::from_secs(1);

/// What a delivery report must tell about its record, in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// It is in a ring still.
    Live(Live),
    /// It came out of the spill; its number in the [`DrainBook`].
    Drained(u64),
}

/// A record's place in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    pub ring: Which,
    /// 24 bits.
    pub number: u64,
    pub output: usize,
    /// It is whole, or the last chunk of a value.
    pub last: bool,
}

const DRAINED: u64 = 1 << 63;
const SEALS: u64 = 1 << 62;
const LAST: u64 = 1 << 61;
const OUTPUT_AT: u32 = 56;

impl Tag {
    pub fn pack(self) -> u64 {
        match self {
            Self::Live(Live {
                ring,
                number,
                output,
                last,
            }) => {
                let seals = if ring == Which::Seals { SEALS } else { 0 };
                seals | last_bit(last) | (output as u64) << OUTPUT_AT | number
            }
            Self::Drained(number) => DRAINED | number,
        }
    }

    pub fn unpack(tag: u64) -> Self {
        if tag & DRAINED != 0 {
            return Self::Drained(tag & !DRAINED);
        }
        Self::Live(Live {
            ring: if tag & SEALS == 0 {
                Which::Records
            } else {
                Which::Seals
            },
            number: tag & 0xff_ffff,
            output: (tag >> OUTPUT_AT & 7) as usize,
            last: tag & LAST != 0,
        })
    }
}

fn last_bit(last: bool) -> u64 {
    if last { LAST } else { 0 }
}

/// A record that Kafka did not take after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    pub tag: Tag,
    /// Giving it to Kafka again cannot help.
    pub for_good: bool,
}

/// What Kafka said of the records it was given. Written by the producer's thread, read by the worker.
#[derive(Debug)]
pub struct Deliveries {
    counters: Arc<Counters>,
    records: Ring,
    seals: Ring,
    drains: Mutex<DrainBook>,
    failed: Mutex<Vec<Failed>>,
    /// Records, chunks and seals that are on the log.
    acknowledged: AtomicU64,
    /// No record of this producer will be delivered any more.
    broken: AtomicBool,
    /// From now on a failure is the unloading's doing.
    closing: AtomicBool,
}

impl Deliveries {
    pub fn new(handoff: &Handoff, counters: Arc<Counters>) -> Self {
        Self {
            counters,
            records: handoff.records.clone(),
            seals: handoff.seals.clone(),
            drains: Mutex::default(),
            failed: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }
    }

    /// Held by the producer's thread for a moment, and by the worker; never by a callback.
    pub fn drains(&self) -> MutexGuard<'_, DrainBook> {
        self.drains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Failed records since the last call. They are not settled.
    pub fn take_failed(&self) -> Vec<Failed> {
        std::mem::take(&mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many times Kafka has said that it has a record.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub fn report(&self, delivery: &Delivery) {
        let tag = Tag::unpack(delivery.tag);
        if let Err(error) = &delivery.outcome {
            // What is dropped while unloading is in the ring or on disk still.
            if self.closing.load(Ordering::Acquire) {
                return;
            }
            self.counters.kafka_errors.add(1);
            if error.action == Action::Stop {
                self.broken.store(true, Ordering::Release);
            }
            let failed = Failed {
                tag,
                for_good: error.action == Action::Drop,
            };
            self.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(failed);
            return;
        }
        self.acknowledged.fetch_add(1, Ordering::Release);
        self.counters.kafka_latency.add(delivery.latency);
        match tag {
            Tag::Live(live) => {
                let ring = match live.ring {
                    Which::Records => &self.records,
                    Which::Seals => &self.seals,
                };
                if live.last
                    && let Some(held) = ring.get(live.number)
                {
                    let note = held.note();
                    let (word, kind) = match live.ring {
                        Which::Records => (Outputs(note.x).word(live.output), kind_of(&note)),
                        Which::Seals => (0, Some(Kind::Seal)),
                    };
                    if let Some(place) = held.word(word) {
                        place.store(DONE, Ordering::Release);
                    }
                    if let Some(kind) = kind {
                        self.counters.delivered(kind);
                    }
                }
                ring.settle(live.number);
            }
            Tag::Drained(number) => {
                let settled = self.drains().settle(number);
                if let Some(drained) = settled {
                    self.left_the_spill(&drained);
                    if drained.lane.is_some() && drained.last {
                        self.counters.delivered(drained.kind);
                    }
                }
            }
        }
    }

    /// Counts a record that waits on disk no longer.
    pub fn left_the_spill(&self, drained: &Drained) {
        match drained {
            Drained { lane: None, .. } => self.counters.inherited.add(1),
            Drained {
                kind: Kind::Seal, ..
            } => self.counters.drained_seals.add(1),
            Drained { last: true, .. } => self.counters.drained.add(1),
            Drained { .. } => {}
        }
    }
}

/// Where the worker puts numbered records.
pub trait Outlet {
    /// Kafka has answered, and has the topics.
    fn is_ready(&self) -> bool;
    /// Takes the record or says why not; never waits.
    fn try_send(
        &mut self,
        output: usize,
        topic: ObservedTopic,
        partition: u32,
        key: &[u8],
        header: &[u8],
        value: &[u8],
        tag: Tag,
    ) -> Result<(), SendError>;
    fn in_flight(&self) -> usize;
    /// Waits until all is reported; false when `timeout` came first.
    fn flush(&mut self, timeout: Duration) -> bool;
    /// Gives up what is in flight, reporting it as failed; later records start anew.
    fn close(&mut self);
}

/// See the module.
pub struct KafkaOutlet {
    config: KafkaConfig,
    /// By output.
    topics: Vec<Topics>,
    deliveries: Arc<Deliveries>,
    ready: Arc<AtomicBool>,
    producer: Option<Producer>,
    built: Instant,
}

impl KafkaOutlet {
    /// Needs no broker. `ready` is set by who checks the topics.
    pub fn new(
        mut config: KafkaConfig,
        topics: Vec<Topics>,
        deliveries: Arc<Deliveries>,
        ready: Arc<AtomicBool>,
    ) -> event_log::Result<Self> {
        let bounded = ["delivery.timeout.ms", "message.timeout.ms"];
        if !bounded
            .iter()
            .any(|option| config.options.contains_key(*option))
        {
            // For ever: the client's queue is bounded, and behind it stands the spill. Giving up would make a hole.
            config
                .options
                .insert("delivery.timeout.ms".into(), "0".into());
        }
        let gathered = ["linger.ms", "queue.buffering.max.ms"];
        if !gathered
            .iter()
            .any(|option| config.options.contains_key(*option))
        {
            // The worker gathers, see `pacing.rs`; the client would only add to it.
            config.options.insert("linger.ms".into(), "0".into());
        }
        let producer = build(&config, &deliveries)?;
        Ok(Self {
            config,
            topics,
            deliveries,
            ready,
            producer: Some(producer),
            built: Instant::now(),
        })
    }

    /// A producer with a fatal error never sends again; another one does, with a new producer id.
    fn replace_broken(&mut self) {
        let broken = self.deliveries.broken.load(Ordering::Acquire) || self.producer.is_none();
        if !broken || self.built.elapsed() < REBUILD_INTERVAL {
            return;
        }
        self.built = Instant::now();
        self.producer = None;
        match build(&self.config, &self.deliveries) {
            Ok(producer) => {
                log::warn!(target: crate::LOG_TARGET, "heliograph: the Kafka producer had failed for good and was replaced");
                self.producer = Some(producer);
                self.deliveries.broken.store(false, Ordering::Release);
            }
            Err(error) => {
                log::error!(target: crate::LOG_TARGET, "heliograph: cannot replace the Kafka producer: {error}")
            }
        }
    }
}

fn build(config: &KafkaConfig, deliveries: &Arc<Deliveries>) -> event_log::Result<Producer> {
    let deliveries = Arc::clone(deliveries);
    Producer::new(config, move |delivery| deliveries.report(&delivery))
}

impl Outlet for KafkaOutlet {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    fn try_send(
        &mut self,
        output: usize,
        topic: ObservedTopic,
        partition: u32,
        key: &[u8],
        header: &[u8],
        value: &[u8],
        tag: Tag,
    ) -> Result<(), SendError> {
        self.replace_broken();
        match &self.producer {
            Some(producer) if !self.deliveries.broken.load(Ordering::Acquire) => producer.try_send(
                self.topics[output].observed(topic),
                partition,
                key,
                header,
                value,
                tag.pack(),
            ),
            _ => Err(SendError::QueueFull),
        }
    }

    fn in_flight(&self) -> usize {
        self.producer.as_ref().map_or(0, Producer::in_flight)
    }

    fn flush(&mut self, timeout: Duration) -> bool {
        self.producer
            .as_ref()
            .is_none_or(|producer| producer.flush(timeout))
    }

    fn close(&mut self) {
        self.producer = None;
        self.built = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tags_survive_packing(
            index in 0_u64..1 << 63, last: bool, seals: bool, number in 0_u64..1 << 24, output in 0_usize..8,
        ) {
            let ring = if seals { Which::Seals } else { Which::Records };
            for tag in [Tag::Drained(index), Tag::Live(Live { ring, number, output, last })] {
                prop_assert_eq!(Tag::unpack(tag.pack()), tag);
            }
        }
    }
}
