//! The plain way to Kafka, to compare throughput with: the callback hands each message to the client and forgets it.
//!
//! The log's client always waits for all replicas; with the single broker of a bench that is the same one append as waiting
//! for the leader only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{GeyserPluginError, Result};
use event_log::{
    KafkaConfig,
    producer::{Producer, SendError},
};
use event_schema::{ObservedTopic, Topics, partition_of};

use super::baseline::Sink;

/// How long a callback sleeps when the client's queue is full: the plain way has nowhere else to put the message.
const FULL_NAP: Duration = Duration::from_millis(1);

/// How the client treats messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// As librdkafka does unless told otherwise: it gathers messages for 5 ms, uncompressed.
    ClientDefault,
    /// Every message is a request of its own.
    OneMessagePerRequest,
}

impl Batching {
    pub fn options(self) -> Vec<(String, String)> {
        let pairs: &[(&str, &str)] = match self {
            Self::ClientDefault => &[("compression.type", "none")],
            Self::OneMessagePerRequest => &[
                ("compression.type", "none"),
                ("linger.ms", "0"),
                ("batch.num.messages", "1"),
            ],
        };
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }
}

/// See the module.
pub struct PlainKafka {
    producer: Producer,
    topics: Topics,
    partitions: u32,
    failed: Arc<AtomicU64>,
}

impl PlainKafka {
    /// To topics that are there already, with so many partitions each.
    pub fn new(
        brokers: &str,
        prefix: &str,
        partitions: u32,
        batching: Batching,
    ) -> event_log::Result<Self> {
        let mut config = KafkaConfig::new(brokers);
        config.options.extend(batching.options());
        let failed = Arc::new(AtomicU64::new(0));
        let counted = failed.clone();
        let producer = Producer::new(&config, move |delivery| {
            if delivery.outcome.is_err() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        Ok(Self {
            producer,
            topics: Topics::new(prefix),
            partitions,
            failed,
        })
    }

    /// Messages that the client gave up.
    pub fn failed(&self) -> Arc<AtomicU64> {
        self.failed.clone()
    }
}

impl Sink for PlainKafka {
    fn send(&self, topic: ObservedTopic, key: &[u8], bytes: Vec<u8>) -> Result<()> {
        let name = self.topics.observed(topic);
        let partition = partition_of(key, self.partitions);
        loop {
            match self.producer.try_send(name, partition, key, &[], &bytes, 0) {
                Ok(()) => return Ok(()),
                Err(SendError::QueueFull) => thread::sleep(FULL_NAP),
                Err(SendError::Fatal(reason)) => {
                    return Err(GeyserPluginError::Custom(reason.into()));
                }
            }
        }
    }
}
