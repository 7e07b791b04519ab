//! Writing outside of transactions: idempotent appends.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, ProducerContext};
use tokio::sync::oneshot;

use super::serving::serve;
use super::{HEADER, ORIGIN, Quiet, REASON, creation_error, is_transient, unavailable};
use crate::{DeadLetter, Error, KafkaConfig, LogWriter, NewRecord, Position, Result};

/// How soon to offer a record again when the client's queue is full.
pub(super) const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

type Client = BaseProducer<Quiet<Reports>>;

/// Where a record came to lie.
type Report = Result<i64, KafkaError>;

pub(super) struct KafkaWriter {
    config: Arc<KafkaConfig>,
    client: Arc<Client>,
}

/// Tells each append what became of its record.
struct Reports;

impl ProducerContext<NoCustomPartitioner> for Quiet<Reports> {
    type DeliveryOpaque = Box<oneshot::Sender<Report>>;

    fn delivery(&self, result: &DeliveryResult<'_>, told: Self::DeliveryOpaque) {
        // Who appended may have stopped waiting.
        let _ = told.send(match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        });
    }
}

impl KafkaWriter {
    pub(super) fn new(config: Arc<KafkaConfig>) -> Result<Self> {
        let client = config
            .producer()?
            .create_with_context(Quiet(Reports))
            .map_err(|error| creation_error(&config, error))?;
        let client = Arc::new(client);
        serve(Arc::clone(&client), "writer")?;
        Ok(Self { config, client })
    }
}

#[async_trait]
impl LogWriter for KafkaWriter {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>> {
        let mut sent = Vec::with_capacity(records.len());
        for record in &records {
            sent.push(loop {
                match enqueue(&self.config, &self.client, record)? {
                    Some(delivery) => break delivery,
                    None => tokio::time::sleep(QUEUE_FULL_PAUSE).await,
                }
            });
        }
        deliveries(&self.config, &records, sent).await
    }
}

/// Hands the record to the client's queue; `None` when the queue is full.
fn enqueue(
    config: &KafkaConfig,
    client: &Client,
    record: &NewRecord,
) -> Result<Option<oneshot::Receiver<Report>>> {
    let (told, report) = oneshot::channel();
    let mut message = BaseRecord::with_opaque_to(&record.topic, Box::new(told))
        .partition(record.partition as i32)
        .key(&record.key[..])
        .headers(headers(record));
    // Compaction forgets a key only by a null value; to readers null and empty are the same.
    if !record.value.is_empty() {
        message = message.payload(&record.value[..]);
    }
    match client.send(message) {
        Ok(()) => Ok(Some(report)),
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(None),
        Err((error, _)) => Err(delivery_error(config, record, error)),
    }
}

pub(super) fn headers(record: &NewRecord) -> OwnedHeaders {
    let Some(letter) = DeadLetter::decode(&record.header) else {
        return OwnedHeaders::new_with_capacity(1).insert(Header {
            key: HEADER,
            value: Some(&record.header[..]),
        });
    };
    OwnedHeaders::new_with_capacity(3)
        .insert(Header {
            key: HEADER,
            value: Some(&letter.header[..]),
        })
        .insert(Header {
            key: REASON,
            value: Some(&letter.reason),
        })
        .insert(Header {
            key: ORIGIN,
            value: Some(&letter.origin),
        })
}

async fn deliveries(
    config: &KafkaConfig,
    records: &[NewRecord],
    sent: Vec<oneshot::Receiver<Report>>,
) -> Result<Vec<Position>> {
    let mut positions = Vec::with_capacity(sent.len());
    let mut failure = None;
    for (record, delivery) in records.iter().zip(sent) {
        match delivery.await {
            Ok(Ok(offset)) => positions.push(Position {
                topic: record.topic.clone(),
                partition: record.partition,
                offset,
            }),
            Ok(Err(error)) => {
                failure.get_or_insert_with(|| delivery_error(config, record, error));
            }
            Err(_) => {
                failure.get_or_insert_with(|| {
                    unavailable(config, "appending", "the writer was closed")
                });
            }
        }
    }
    failure.map_or(Ok(positions), Err)
}

pub(super) fn delivery_error(config: &KafkaConfig, record: &NewRecord, error: KafkaError) -> Error {
    let topic = record.topic.to_string();
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => Error::TooLarge {
            topic,
            bytes: record.key.len() + record.header.len() + record.value.len(),
        },
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Error::UnknownTopic { topic }
        }
        Some(RDKafkaErrorCode::UnknownPartition) => Error::UnknownPartition {
            topic,
            partition: record.partition,
        },
        Some(code) if is_transient(code) => {
            unavailable(config, format!("appending to `{topic}`"), error)
        }
        _ => Error::Refused {
            doing: format!("appending to `{topic}`"),
            reason: error.to_string(),
        },
    }
}
