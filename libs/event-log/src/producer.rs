//! The synchronous door to the log, for the validator plugin.
//!
//! No async runtime: one thread of the producer's own serves delivery reports. `try_send` never blocks. Dropping the
//! producer discards what has not been delivered (flush first), joins its thread and the client's threads, and returns
//! only then: nothing runs on when the library is unloaded afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext,
};
use thiserror::Error as ThisError;

use crate::kafka::{HEADER, Quiet, creation_error, is_transient};
use crate::{Action, Error, KafkaConfig, Result};

/// How long the serving thread waits for an event; bounds how long a drop waits for it.
const SERVE_INTERVAL: Duration = Duration::from_millis(100);

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The tag given to `try_send`.
    pub tag: u64,
    /// The record's offset, or why it is not on the log.
    pub outcome: Result<i64, DeliveryError>,
    /// From `try_send` to this report.
    pub latency: Duration,
}

/// Why a record did not reach the log. The client has already retried for `delivery.timeout.ms`.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{reason}")]
pub struct DeliveryError {
    /// `Retry`: sending it again may succeed. `Drop`: this record never will. `Stop`: no record will.
    pub action: Action,
    pub reason: String,
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum SendError {
    /// Bounded memory is used up; try again after deliveries.
    #[error("the producer's queue is full")]
    QueueFull,
    /// This record (or any) can never be sent.
    #[error("{0}")]
    Fatal(String),
}

/// An idempotent producer with `acks=all`. Threads may share it by reference.
pub struct Producer {
    client: Arc<BaseProducer<Quiet<Reports>, NoCustomPartitioner>>,
    in_flight: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Producer {
    /// Needs no broker: records wait in bounded memory until one answers. `on_delivery` is called from one thread and
    /// should be quick; it must not panic.
    pub fn new(
        config: &KafkaConfig,
        on_delivery: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Result<Self> {
        let in_flight = Arc::new(AtomicUsize::new(0));
        let reports = Reports {
            in_flight: in_flight.clone(),
            on_delivery: Box::new(on_delivery),
        };
        let client: BaseProducer<Quiet<Reports>, NoCustomPartitioner> = config
            .producer()?
            .create_with_context(Quiet(reports))
            .map_err(|error| creation_error(config, error))?;
        let client = Arc::new(client);
        let stop = Arc::new(AtomicBool::new(false));
        let serving = std::thread::Builder::new()
            .name("kafka-deliveries".into())
            .spawn({
                let (client, stop) = (client.clone(), stop.clone());
                move || {
                    while !stop.load(Ordering::Acquire) {
                        client.poll(SERVE_INTERVAL);
                    }
                }
            })
            .map_err(|error| Error::Refused {
                doing: "starting the delivery thread".into(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            client,
            in_flight,
            stop,
            serving: Some(serving),
        })
    }

    /// Takes the record into the queue (copying it) or says at once that it cannot.
    pub fn try_send(
        &self,
        topic: &str,
        partition: u32,
        key: &[u8],
        header: &[u8],
        payload: &[u8],
        tag: u64,
    ) -> Result<(), SendError> {
        let headers = OwnedHeaders::new_with_capacity(1).insert(Header {
            key: HEADER,
            value: Some(header),
        });
        let record = BaseRecord::with_opaque_to(
            topic,
            Box::new(Pending {
                tag,
                since: Instant::now(),
            }),
        )
        .partition(partition as i32)
        .key(key)
        .payload(payload)
        .headers(headers);
        // Counted before it can be reported.
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let Err((error, _)) = self.client.send(record) else {
            return Ok(());
        };
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        Err(match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => SendError::QueueFull,
            _ => SendError::Fatal(format!(
                "{error} ({} bytes for `{topic}`/{partition})",
                payload.len()
            )),
        })
    }

    /// Serves delivery reports on the calling thread as well, for up to `timeout`. Never needed: the producer's thread
    /// does it.
    pub fn poll(&self, timeout: Duration) {
        self.client.poll(timeout);
    }

    /// Waits until nothing is in flight; false when `timeout` came first.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.client.flush(timeout).is_ok()
    }

    /// Records taken but not yet reported.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(serving) = self.serving.take() {
            // A panic in `on_delivery` has ended the thread already; there is nobody left to tell.
            let _ = serving.join();
        }
    }
}

struct Pending {
    tag: u64,
    since: Instant,
}

struct Reports {
    in_flight: Arc<AtomicUsize>,
    on_delivery: Box<dyn Fn(Delivery) + Send + Sync>,
}

impl ProducerContext<NoCustomPartitioner> for Quiet<Reports> {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Box<Pending>) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(DeliveryError {
                action: action(error),
                reason: error.to_string(),
            }),
        };
        // Reported first: whoever sees nothing in flight has seen every report.
        (self.0.on_delivery)(Delivery {
            tag: pending.tag,
            outcome,
            latency: pending.since.elapsed(),
        });
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}

fn action(error: &KafkaError) -> Action {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            Action::Drop
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Action::Retry
        }
        Some(code) if is_transient(code) => Action::Retry,
        _ => Action::Stop,
    }
}
