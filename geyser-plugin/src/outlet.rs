//! Worker → Kafka: the idempotent producer, and the book of what it has reported.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
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
    counters::{Counters, LossReason},
    lane::{Lane, Lanes},
};

/// Between two attempts to replace a producer that cannot go on.
const REBUILD_INTERVAL: Duration = Duration::from_secs(1);

/// What a delivery report must tell about its record, in 64 bits: kind, lane, slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    pub kind: Kind,
    /// `None` for records of an earlier instance.
    pub lane: Option<Lane>,
    pub slot: u64,
}

impl Tag {
    const SLOT_BITS: u32 = 50;
    const LANE_BITS: u32 = 10;
    const NO_LANE: u64 = Lanes::MAX as u64;

    pub fn pack(self) -> u64 {
        let lane = self.lane.map_or(Self::NO_LANE, |lane| u64::from(lane.0));
        let slot = self.slot & ((1 << Self::SLOT_BITS) - 1);
        (self.kind as u64) << (Self::SLOT_BITS + Self::LANE_BITS) | lane << Self::SLOT_BITS | slot
    }

    pub fn unpack(tag: u64) -> Option<Self> {
        let lane = tag >> Self::SLOT_BITS & ((1 << Self::LANE_BITS) - 1);
        Some(Self {
            kind: Kind::try_from((tag >> (Self::SLOT_BITS + Self::LANE_BITS)) as u8).ok()?,
            lane: (lane != Self::NO_LANE).then_some(Lane(lane as u16)),
            slot: tag & ((1 << Self::SLOT_BITS) - 1),
        })
    }
}

/// What Kafka said of the records it was given. Written by the producer's thread, read by the worker.
#[derive(Debug)]
pub struct Deliveries {
    counters: Arc<Counters>,
    /// Reports per lane; the last place is for records of earlier instances.
    reported: Box<[AtomicU64]>,
    failed: Mutex<Vec<Tag>>,
    /// No record of this producer will be delivered any more.
    broken: AtomicBool,
    /// From now on a failure is the unloading's doing.
    closing: AtomicBool,
}

impl Deliveries {
    pub fn new(lanes: Lanes, counters: Arc<Counters>) -> Self {
        Self {
            counters,
            reported: (0..=lanes.count()).map(|_| AtomicU64::new(0)).collect(),
            failed: Mutex::default(),
            broken: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }
    }

    /// Index into per-lane books.
    pub fn place(&self, lane: Option<Lane>) -> usize {
        lane.map_or(self.reported.len() - 1, |lane| usize::from(lane.0))
    }

    pub fn reported(&self, place: usize) -> u64 {
        self.reported[place].load(Ordering::Acquire)
    }

    /// Failed records of this instance since the last call.
    pub fn take_failed(&self) -> Vec<Tag> {
        std::mem::take(&mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub fn report(&self, delivery: &Delivery) {
        let Some(tag) = Tag::unpack(delivery.tag) else {
            return;
        };
        match &delivery.outcome {
            Ok(_) if tag.lane.is_some() => self.counters.delivered(tag.kind),
            Ok(_) => {}
            Err(error) => {
                self.counters.kafka_errors.add(1);
                let closing = self.closing.load(Ordering::Acquire);
                if error.action == Action::Stop && !closing {
                    self.broken.store(true, Ordering::Release);
                }
                self.count_failed(
                    tag,
                    if closing {
                        LossReason::Unload
                    } else {
                        LossReason::Delivery
                    },
                );
                self.failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(tag);
            }
        }
        self.counters
            .kafka_latency_micros
            .add(delivery.latency.as_micros() as u64);
        self.reported[self.place(tag.lane)].fetch_add(1, Ordering::Release);
    }

    pub fn count_failed(&self, tag: Tag, reason: LossReason) {
        match tag {
            Tag { lane: None, .. } => self.counters.inherited_lost.add(1),
            // Seals are not observations; a hole in the sequence shows that one is missing.
            Tag {
                kind: Kind::Seal, ..
            } => {}
            _ => self.counters.lost(reason, 1),
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
    /// Gives up what is in flight, reporting it as failed.
    fn close(&mut self);
}

/// See the module.
pub struct KafkaOutlet {
    config: KafkaConfig,
    topics: Topics,
    deliveries: Arc<Deliveries>,
    ready: Arc<AtomicBool>,
    producer: Option<Producer>,
    built: Instant,
}

impl KafkaOutlet {
    /// Needs no broker. `ready` is set by who checks the topics.
    pub fn new(
        mut config: KafkaConfig,
        topics: Topics,
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
                self.topics.observed(topic),
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tags_survive_packing(kind in 1_u8..=8, lane in proptest::option::of(0_u16..1023), slot in 0_u64..1 << 50) {
            let tag = Tag { kind: Kind::try_from(kind).unwrap(), lane: lane.map(Lane), slot };
            prop_assert_eq!(Tag::unpack(tag.pack()), Some(tag));
        }
    }
}
