//! Writing: idempotent appends, and transactions on a thread that may block.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::{DeliveryFuture, FutureProducer};
use rdkafka::producer::{FutureRecord, Producer};

use super::{HEADER, ORIGIN, QuietContext, REASON, creation_error, is_transient, unavailable};
use crate::{
    DeadLetter, Error, KafkaConfig, LogWriter, NewRecord, Position, Result, TransactionalWriter,
};

/// How soon to offer a record again when the client's queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);
/// How long one step of a transaction may take in all, retries included.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

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

fn headers(record: &NewRecord) -> OwnedHeaders {
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

fn delivery_error(config: &KafkaConfig, record: &NewRecord, error: KafkaError) -> Error {
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

/// One transaction at a time. The work runs on a blocking thread to its end even if the caller stops waiting, so the
/// lock also keeps a later call from meeting a transaction half done.
pub(super) struct KafkaTransactions(Arc<Mutex<Transactions>>);

struct Transactions {
    config: Arc<KafkaConfig>,
    id: String,
    client: Client,
}

impl KafkaTransactions {
    pub(super) async fn new(config: Arc<KafkaConfig>, id: &str) -> Result<Self> {
        let id = id.to_owned();
        blocking(config.clone(), move || {
            let client = config
                .transactional_producer(&id)?
                .create_with_context(QuietContext)
                .map_err(|error| creation_error(&config, error))?;
            let transactions = Transactions { config, id, client };
            transactions.step("taking over the transactional id", |client, left| {
                client.init_transactions(left)
            })?;
            Ok(Self(Arc::new(Mutex::new(transactions))))
        })
        .await
    }
}

#[async_trait]
impl TransactionalWriter for KafkaTransactions {
    async fn commit(&mut self, records: Vec<NewRecord>) -> Result<Vec<Position>> {
        let transactions = self.0.clone();
        let config = transactions.lock().config.clone();
        let runtime = tokio::runtime::Handle::current();
        blocking(config, move || {
            transactions.lock().publish(&runtime, &records)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    config: Arc<KafkaConfig>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(unavailable(
            &config,
            "writing a transaction",
            "the process is shutting down",
        )),
    }
}

impl Transactions {
    fn publish(
        &self,
        runtime: &tokio::runtime::Handle,
        records: &[NewRecord],
    ) -> Result<Vec<Position>> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.step("beginning a transaction", |client, _| {
            client.begin_transaction()
        })?;
        let committed = self.append(runtime, records).and_then(|positions| {
            self.step("committing a transaction", |client, left| {
                client.commit_transaction(left)
            })?;
            Ok(positions)
        });
        match committed {
            Ok(positions) => Ok(positions),
            Err(fatal @ (Error::Fenced { .. } | Error::Refused { .. })) => Err(fatal),
            Err(error) => {
                self.step("aborting a transaction", |client, left| {
                    client.abort_transaction(left)
                })?;
                Err(match error {
                    too_large @ Error::TooLarge { .. } => too_large,
                    other => Error::Aborted {
                        reason: other.to_string(),
                    },
                })
            }
        }
    }

    fn append(
        &self,
        runtime: &tokio::runtime::Handle,
        records: &[NewRecord],
    ) -> Result<Vec<Position>> {
        let mut sent = Vec::with_capacity(records.len());
        for record in records {
            sent.push(loop {
                match enqueue(&self.config, &self.client, record)? {
                    Some(delivery) => break delivery,
                    None => std::thread::sleep(QUEUE_FULL_PAUSE),
                }
            });
        }
        // Nothing gains from lingering once the whole batch is queued.
        if let Err(error) = self.client.flush(TRANSACTION_TIMEOUT) {
            return Err(unavailable(&self.config, "appending a transaction", error));
        }
        runtime
            .block_on(deliveries(&self.config, records, sent))
            .map_err(|error| match error {
                // The cause of a refused append in a transaction is told by the transaction's own state.
                Error::Refused { .. } => match self.client.client().fatal_error() {
                    Some((code, reason)) => self.fatal(code, reason),
                    None => Error::Aborted {
                        reason: error.to_string(),
                    },
                },
                other => other,
            })
    }

    /// Repeats a step while the client says that repeating can help.
    fn step(
        &self,
        doing: &str,
        run: impl Fn(&Client, Duration) -> Result<(), KafkaError>,
    ) -> Result<()> {
        let deadline = Instant::now() + TRANSACTION_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match run(&self.client, left) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match &error {
                KafkaError::Transaction(cause) if cause.is_fatal() => {
                    return Err(self.fatal(cause.code(), cause.string()));
                }
                KafkaError::Transaction(cause) if is_fencing(cause.code()) => {
                    return Err(self.fatal(cause.code(), cause.string()));
                }
                KafkaError::Transaction(cause) if cause.txn_requires_abort() => {
                    return Err(Error::Aborted {
                        reason: cause.string(),
                    });
                }
                KafkaError::Transaction(cause)
                    if cause.is_retriable() && Instant::now() < deadline =>
                {
                    tracing::debug!(target: "event_log::kafka", "{doing}: {cause}; again");
                    std::thread::sleep(Duration::from_millis(50));
                }
                KafkaError::Transaction(cause)
                    if !cause.is_retriable() && !is_transient(cause.code()) =>
                {
                    return Err(Error::Refused {
                        doing: doing.to_owned(),
                        reason: cause.string(),
                    });
                }
                _ => return Err(unavailable(&self.config, doing, error)),
            }
        }
    }

    fn fatal(&self, code: RDKafkaErrorCode, reason: String) -> Error {
        if is_fencing(code) {
            Error::Fenced {
                transactional_id: self.id.clone(),
            }
        } else {
            Error::Refused {
                doing: format!("transactions of `{}`", self.id),
                reason,
            }
        }
    }
}

fn is_fencing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
    )
}
