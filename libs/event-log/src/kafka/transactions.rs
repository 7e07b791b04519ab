//! Transactions, on a thread that may block.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::{Condvar, Mutex};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer, ProducerContext};

use super::serving::serve;
use super::writer::{QUEUE_FULL_PAUSE, delivery_error, headers};
use super::{Quiet, creation_error, is_transient, unavailable};
use crate::{Error, KafkaConfig, NewRecord, Position, Result, TransactionalWriter};

/// How long one step of a transaction may take in all, retries included.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

type Client = BaseProducer<Quiet<Deliveries>>;

/// Where the records of the transaction in flight came to lie. A record is known by its place in the transaction: at a hundred
/// thousand per second, a channel for each would cost more than its encoding.
#[derive(Default)]
struct Deliveries {
    told: Mutex<Told>,
    all_told: Condvar,
}

#[derive(Default)]
struct Told {
    /// Which transaction this is about: what is told late of an aborted one does not count.
    transaction: u32,
    offsets: Vec<Option<i64>>,
    /// Records without a report.
    silent: usize,
    /// The first one, and the record that it is about.
    failure: Option<(usize, KafkaError)>,
}

impl Deliveries {
    /// The next transaction, of so many records.
    fn begin(&self, records: usize) -> u32 {
        let mut told = self.told.lock();
        let transaction = told.transaction.wrapping_add(1);
        *told = Told {
            transaction,
            offsets: vec![None; records],
            silent: records,
            failure: None,
        };
        transaction
    }

    /// Waits until every record is reported, or one has failed. `None`: it took too long.
    fn wait(&self, limit: Duration) -> Option<Result<Vec<Option<i64>>, (usize, KafkaError)>> {
        let mut told = self.told.lock();
        let deadline = Instant::now() + limit;
        while told.silent > 0 && told.failure.is_none() {
            if self.all_told.wait_until(&mut told, deadline).timed_out() {
                return None;
            }
        }
        Some(match told.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut told.offsets)),
        })
    }
}

/// The client hands back a number with every record.
fn tag(transaction: u32, at: usize) -> usize {
    (transaction as usize) << 32 | at
}

impl ProducerContext<NoCustomPartitioner> for Quiet<Deliveries> {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        let mut told = self.0.told.lock();
        if (tag >> 32) as u32 != told.transaction {
            return;
        }
        let at = tag & u32::MAX as usize;
        match result {
            Ok(message) => {
                if let Some(offset) = told.offsets.get_mut(at) {
                    *offset = Some(message.offset());
                }
            }
            Err((error, _)) => {
                told.failure.get_or_insert_with(|| (at, error.clone()));
            }
        }
        told.silent = told.silent.saturating_sub(1);
        if told.silent == 0 || told.failure.is_some() {
            self.0.all_told.notify_all();
        }
    }
}

/// One transaction at a time. The work runs on a blocking thread to its end even if the caller stops waiting, so the
/// lock also keeps a later call from meeting a transaction half done.
pub(super) struct KafkaTransactions(Arc<Mutex<Transactions>>);

struct Transactions {
    config: Arc<KafkaConfig>,
    id: String,
    client: Arc<Client>,
}

impl KafkaTransactions {
    pub(super) async fn new(config: Arc<KafkaConfig>, id: &str) -> Result<Self> {
        let id = id.to_owned();
        blocking(config.clone(), move || {
            let client: Client = config
                .transactional_producer(&id)?
                .create_with_context(Quiet(Deliveries::default()))
                .map_err(|error| creation_error(&config, error))?;
            let client = Arc::new(client);
            serve(Arc::clone(&client), "transactions")?;
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
        blocking(config, move || transactions.lock().publish(&records)).await
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
    fn publish(&self, records: &[NewRecord]) -> Result<Vec<Position>> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.step("beginning a transaction", |client, _| {
            client.begin_transaction()
        })?;
        let positions = match self.append(records) {
            Ok(positions) => positions,
            Err(fatal @ (Error::Fenced { .. } | Error::Refused { .. })) => return Err(fatal),
            Err(error) => return Err(self.abort(error)?),
        };
        self.step("committing a transaction", |client, left| {
            client.commit_transaction(left)
        })
        .map_err(|error| self.undecided(error))?;
        Ok(positions)
    }

    /// Nothing of it was committed; after this, nothing will be.
    fn abort(&self, cause: Error) -> Result<Error> {
        self.step("aborting a transaction", |client, left| {
            client.abort_transaction(left)
        })?;
        Ok(match cause {
            too_large @ Error::TooLarge { .. } => too_large,
            other => Error::Aborted {
                reason: other.to_string(),
            },
        })
    }

    /// The broker decides before it answers, and the answer may be lost or be an error of what came after. The client then
    /// often offers to abort, and says that it did, whatever the broker decided.
    fn undecided(&self, error: Error) -> Error {
        match error {
            fenced @ Error::Fenced { .. } => fenced,
            other => Error::Undecided {
                transactional_id: self.id.clone(),
                reason: other.to_string(),
            },
        }
    }

    fn append(&self, records: &[NewRecord]) -> Result<Vec<Position>> {
        let transaction = self.client.client().context().0.begin(records.len());
        for (at, record) in records.iter().enumerate() {
            self.enqueue(record, tag(transaction, at))?;
        }
        // Nothing gains from lingering once the whole batch is queued. This only wakes the client: waiting in it is slow, for
        // it looks at what was delivered ten times a second.
        let _ = self.client.flush(Duration::ZERO);
        match self.client.client().context().0.wait(TRANSACTION_TIMEOUT) {
            Some(Ok(offsets)) => self.positions(records, offsets),
            None => Err(unavailable(
                &self.config,
                "appending a transaction",
                format!("not delivered after {TRANSACTION_TIMEOUT:?}"),
            )),
            Some(Err((at, error))) => {
                let record = records.get(at).or(records.first());
                let told = match record {
                    Some(record) => delivery_error(&self.config, record, error),
                    None => unavailable(&self.config, "appending a transaction", error),
                };
                Err(self.cause(told))
            }
        }
    }

    /// Hands the record to the client, as soon as its queue has room.
    fn enqueue(&self, record: &NewRecord, tag: usize) -> Result<()> {
        loop {
            let mut message = BaseRecord::with_opaque_to(&record.topic, tag)
                .partition(record.partition as i32)
                .key(&record.key[..])
                .headers(headers(record));
            // Compaction forgets a key only by a null value; to readers null and empty are the same.
            if !record.value.is_empty() {
                message = message.payload(&record.value[..]);
            }
            match self.client.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(QUEUE_FULL_PAUSE);
                }
                Err((error, _)) => {
                    return Err(delivery_error(&self.config, record, error));
                }
            }
        }
    }

    fn positions(&self, records: &[NewRecord], offsets: Vec<Option<i64>>) -> Result<Vec<Position>> {
        let positions = records.iter().zip(offsets).map(|(record, offset)| {
            // Nothing is in flight any more, and nothing failed.
            let silent = || unavailable(&self.config, "appending", "a record was not reported");
            Ok(Position {
                topic: record.topic.clone(),
                partition: record.partition,
                offset: offset.ok_or_else(silent)?,
            })
        });
        positions.collect()
    }

    /// The cause of a refused append in a transaction is told by the transaction's own state.
    fn cause(&self, error: Error) -> Error {
        match error {
            Error::Refused { .. } => match self.client.client().fatal_error() {
                Some((code, reason)) => self.fatal(code, reason),
                None => Error::Aborted {
                    reason: error.to_string(),
                },
            },
            other => other,
        }
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
