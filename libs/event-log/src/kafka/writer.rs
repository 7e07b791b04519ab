//! Writing outside of transactions: idempotent appends.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::producer::future_producer::{DeliveryFuture, FutureProducer};

use super::{HEADER, ORIGIN, QuietContext, REASON, creation_error, is_transient, unavailable};
use crate::{DeadLetter, Error, KafkaConfig, LogWriter, NewRecord, Position, Result};

/// How soon to offer a record again when the client's queue is full.
pub(super) const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

type Client = FutureProducer<QuietContext>;

pub(super) struct KafkaWriter {
    config: Arc<KafkaConfig>,
    client: Client,
}

impl KafkaWriter {
    pub(super) fn new(config: Arc<KafkaConfig>) -> Result<Self> {
        let client = config
            .producer()?
            .create_with_context(QuietContext)
            .map_err(|error| creation_error(&config, error))?;
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
) -> Result<Option<DeliveryFuture>> {
    let mut message: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&record.topic)
        .partition(record.partition as i32)
        .key(&record.key[..])
        .headers(headers(record));
    // Compaction forgets a key only by a null value; to readers null and empty are the same.
    if !record.value.is_empty() {
        message = message.payload(&record.value[..]);
    }
    match client.send_result(message) {
        Ok(delivery) => Ok(Some(delivery)),
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
    sent: Vec<DeliveryFuture>,
) -> Result<Vec<Position>> {
    let mut positions = Vec::with_capacity(sent.len());
    let mut failure = None;
    for (record, delivery) in records.iter().zip(sent) {
        match delivery.await {
            Ok(Ok(delivered)) => positions.push(Position {
                topic: record.topic.clone(),
                partition: record.partition,
                offset: delivered.offset,
            }),
            Ok(Err((error, _))) => {
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
