//! The log on Kafka: topics and questions here, reading, writing and transactions in the modules below.

mod reader;
mod serving;
mod transactions;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::{
    Error, EventLog, KafkaConfig, LogReader, LogWriter, ReaderSpec, Result, TopicSpec,
    TransactionalWriter,
};

/// The Kafka header that carries a record's binary header.
pub(crate) const HEADER: &str = "h";
/// Headers of dead letters, see `dead_letter`.
pub(crate) const REASON: &str = "reason";
pub(crate) const ORIGIN: &str = "origin";

/// How long one question to the broker may take before it counts as not answering.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long making topics may take: every replica answers.
const CREATION_TIMEOUT: Duration = Duration::from_secs(20);

/// A log on a Kafka (or Redpanda) cluster. Making one needs no broker; the first use does.
#[derive(Clone)]
pub struct KafkaLog {
    config: Arc<KafkaConfig>,
    questions: Arc<BaseConsumer<Quiet>>,
}

impl KafkaLog {
    pub fn new(config: KafkaConfig) -> Result<Self> {
        let questions = config
            .metadata_client()?
            .create_with_context(Quiet(()))
            .map_err(|error| creation_error(&config, error))?;
        Ok(Self {
            config: Arc::new(config),
            questions: Arc::new(questions),
        })
    }

    /// Partition count per topic, `None` for a topic that does not exist.
    async fn partition_count(&self, topic: &str) -> Result<Option<u32>> {
        let name = topic.to_owned();
        self.ask("reading metadata", move |client| {
            let metadata = client.fetch_metadata(Some(&name), QUESTION_TIMEOUT)?;
            let count = metadata
                .topics()
                .iter()
                .find(|topic| topic.name() == name)
                .map_or(0, |topic| {
                    let led = topic
                        .partitions()
                        .iter()
                        .all(|partition| partition.leader() >= 0);
                    if topic.error().is_some() || !led {
                        0
                    } else {
                        topic.partitions().len()
                    }
                });
            Ok((count > 0).then_some(count as u32))
        })
        .await
    }

    /// Runs a blocking question off the runtime's threads.
    async fn ask<T: Send + 'static>(
        &self,
        doing: &str,
        question: impl FnOnce(&BaseConsumer<Quiet>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T> {
        let client = self.questions.clone();
        match tokio::task::spawn_blocking(move || question(&client)).await {
            Ok(answer) => answer.map_err(|error| question_error(&self.config, doing, error)),
            Err(_) => Err(unavailable(
                &self.config,
                doing,
                "the process is shutting down",
            )),
        }
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        let mut missing = Vec::new();
        for spec in topics {
            match self.partition_count(&spec.name).await? {
                Some(found) if found == spec.partitions => {}
                Some(found) => return Err(wrong_count(spec, found)),
                None => missing.push(spec),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let admin: AdminClient<DefaultClientContext> = self
            .config
            .metadata_client()?
            .create()
            .map_err(|error| creation_error(&self.config, error))?;
        let new: Vec<NewTopic<'_>> = missing.iter().map(|spec| new_topic(spec)).collect();
        let options = AdminOptions::new()
            .operation_timeout(Some(CREATION_TIMEOUT))
            .request_timeout(Some(CREATION_TIMEOUT));
        let created = admin
            .create_topics(&new, &options)
            .await
            .map_err(|error| question_error(&self.config, "creating topics", error))?;
        for result in created {
            match result {
                // Another process may have been first; the count is checked below.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(Error::Refused {
                        doing: format!("creating topic `{topic}`"),
                        reason: code.to_string(),
                    });
                }
            }
        }
        let deadline = Instant::now() + CREATION_TIMEOUT;
        for spec in missing {
            loop {
                match self.partition_count(&spec.name).await? {
                    Some(found) if found == spec.partitions => break,
                    Some(found) => return Err(wrong_count(spec, found)),
                    None if Instant::now() > deadline => {
                        let reason =
                            format!("topic `{}` was created but has no leader yet", spec.name);
                        return Err(unavailable(&self.config, "creating topics", reason));
                    }
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
        Ok(())
    }

    async fn partitions(&self, topic: &str) -> Result<u32> {
        self.partition_count(topic)
            .await?
            .ok_or_else(|| Error::UnknownTopic {
                topic: topic.to_owned(),
            })
    }

    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(i64, i64)> {
        if partition >= self.partitions(topic).await? {
            return Err(Error::UnknownPartition {
                topic: topic.to_owned(),
                partition,
            });
        }
        let name = topic.to_owned();
        self.ask("reading watermarks", move |client| {
            let deadline = Instant::now() + QUESTION_TIMEOUT;
            loop {
                match client.fetch_watermarks(&name, partition as i32, QUESTION_TIMEOUT) {
                    Err(error) if is_electing(&error) && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    answer => return answer,
                }
            }
        })
        .await
    }

    async fn ends(&self, partitions: &[(Arc<str>, u32)]) -> Result<Vec<i64>> {
        let partitions = partitions.to_vec();
        self.ask("reading the ends of partitions", move |client| {
            let deadline = Instant::now() + QUESTION_TIMEOUT;
            loop {
                match ends(client, &partitions) {
                    Err(error) if is_electing(&error) && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    answer => return answer,
                }
            }
        })
        .await
    }

    async fn reader(&self, spec: ReaderSpec) -> Result<Box<dyn LogReader>> {
        let config = self.config.consumer(spec.read_committed)?;
        Ok(Box::new(
            reader::KafkaReader::new(self.clone(), spec, config).await?,
        ))
    }

    async fn lookup_reader(&self, spec: ReaderSpec) -> Result<Box<dyn LogReader>> {
        let config = self.config.lookup_consumer(spec.read_committed)?;
        Ok(Box::new(
            reader::KafkaReader::new(self.clone(), spec, config).await?,
        ))
    }

    async fn writer(&self) -> Result<Box<dyn LogWriter>> {
        Ok(Box::new(writer::KafkaWriter::new(self.config.clone())?))
    }

    async fn transactional_writer(
        &self,
        transactional_id: &str,
    ) -> Result<Box<dyn TransactionalWriter>> {
        Ok(Box::new(
            transactions::KafkaTransactions::new(self.config.clone(), transactional_id).await?,
        ))
    }
}

/// One request per broker that leads some of them; what it asks for as a time, `End`, is the offset after the last one.
fn ends(
    client: &BaseConsumer<Quiet>,
    partitions: &[(Arc<str>, u32)],
) -> Result<Vec<i64>, KafkaError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for (topic, number) in partitions {
        asked.add_partition_offset(topic, *number as i32, Offset::End)?;
    }
    let answer = client.offsets_for_times(asked, QUESTION_TIMEOUT)?;
    let ends = partitions.iter().map(|(topic, number)| {
        let found = answer.find_partition(topic, *number as i32);
        let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
        let found = found.ok_or(unknown)?;
        found.error()?;
        match found.offset() {
            Offset::Offset(end) => Ok(end),
            _ => Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::LeaderNotAvailable,
            )),
        }
    });
    ends.collect()
}

fn new_topic(spec: &TopicSpec) -> NewTopic<'_> {
    let replication = TopicReplication::Fixed(i32::from(spec.replication.max(1)));
    let mut topic = NewTopic::new(&spec.name, spec.partitions as i32, replication);
    if spec.compacted {
        topic = topic.set("cleanup.policy", "compact");
    }
    spec.config
        .iter()
        .fold(topic, |topic, (key, value)| topic.set(key, value))
}

fn wrong_count(spec: &TopicSpec, found: u32) -> Error {
    Error::PartitionCount {
        topic: spec.name.clone(),
        expected: spec.partitions,
        found,
    }
}

pub(crate) fn unavailable(
    config: &KafkaConfig,
    doing: impl Into<String>,
    reason: impl ToString,
) -> Error {
    Error::Unavailable {
        brokers: config.brokers.clone(),
        doing: doing.into(),
        reason: reason.to_string(),
    }
}

pub(crate) fn creation_error(config: &KafkaConfig, error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, reason, option, value) => Error::Config {
            option,
            reason: format!("{reason} (value `{value}`)"),
        },
        other => Error::Config {
            option: "brokers".into(),
            reason: format!("{other} (value `{}`)", config.brokers),
        },
    }
}

pub(crate) fn question_error(config: &KafkaConfig, doing: &str, error: KafkaError) -> Error {
    match error.rdkafka_error_code() {
        Some(code) if !is_transient(code) => Error::Refused {
            doing: doing.to_owned(),
            reason: error.to_string(),
        },
        _ => unavailable(config, doing, error),
    }
}

/// The partition is known but nobody leads it yet: so for a moment after its topic was made or its leader left.
fn is_electing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

/// Worth another try without anybody changing anything.
pub(crate) fn is_transient(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::BrokerDestroy
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::MessageTimedOut
            | Code::OperationTimedOut
            | Code::WaitingForCoordinator
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::QueueFull
            | Code::PurgeQueue
            | Code::PurgeInflight
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::ConcurrentTransactions
    )
}

/// Passes the client's log on to `tracing`; the reader of a line learns of an outage once from here, not from every
/// broker thread. `R`: where a producer's delivery reports go.
pub(crate) struct Quiet<R = ()>(pub(crate) R);

impl<R: Send + Sync> ClientContext for Quiet<R> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(target: "event_log::kafka", "{facility}: {message}");
            }
            _ => tracing::debug!(target: "event_log::kafka", "{facility}: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                tracing::warn!(target: "event_log::kafka", "no Kafka broker is reachable, trying again: {reason}");
            }
            // Not an error: readers see the end of their partitions all the time.
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            _ => tracing::debug!(target: "event_log::kafka", "{error}: {reason}"),
        }
    }
}

impl ConsumerContext for Quiet {}
