//! Reading by explicit positions.
//!
//! The end of a partition needs care: commit and abort markers, and the records of aborted transactions, occupy
//! offsets that never reach the reader. "Next offset = last stable offset" is therefore false at the end of any
//! transactional topic. The client does tell when it has fetched up to the end (`PartitionEOF`), but not which end, and
//! only once per end. So `lag` asks for the last stable offset first and, if the reader looks idle below it, lets the
//! partition fetch again from its position: an end announced *after* that question proves that nothing visible lies
//! between, and the position moves up to the offset asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::{
    HEADER, KafkaLog, ORIGIN, QUESTION_TIMEOUT, Quiet, REASON, creation_error, is_transient,
    unavailable,
};
use crate::{DeadLetter, Error, EventLog, LogReader, Position, ReaderSpec, Record, Result, Start};

pub(super) struct KafkaReader {
    log: KafkaLog,
    consumer: Arc<StreamConsumer<Quiet>>,
    partitions: Mutex<Vec<Partition>>,
    index: HashMap<(Arc<str>, u32), usize>,
}

struct Partition {
    topic: Arc<str>,
    number: u32,
    /// The next offset to hand out.
    next: i64,
    /// The end was announced and no record has come since.
    at_end: bool,
    /// An end known to `lag`; the next announcement of the end proves that it was reached.
    probing: Option<i64>,
    /// Nothing is fetched until it is sought.
    resting: bool,
}

impl KafkaReader {
    pub(super) async fn new(log: KafkaLog, spec: ReaderSpec, config: ClientConfig) -> Result<Self> {
        let mut partitions = Vec::with_capacity(spec.partitions.len());
        let mut index = HashMap::new();
        let mut list = TopicPartitionList::with_capacity(spec.partitions.len());
        for (topic, number, start) in spec.partitions {
            let (low, high) = log.watermarks(&topic, number).await?;
            let next = match start {
                Start::Earliest => low,
                Start::Latest => high,
                Start::At(offset) if offset >= low => offset,
                Start::At(offset) => {
                    return Err(Error::OffsetOutOfRange {
                        topic: topic.to_string(),
                        partition: number,
                        offset,
                        low,
                        high,
                    });
                }
            };
            list.add_partition_offset(&topic, number as i32, Offset::Offset(next))
                .map_err(|error| Error::Refused {
                    doing: "assigning partitions".into(),
                    reason: error.to_string(),
                })?;
            index.insert((topic.clone(), number), partitions.len());
            partitions.push(Partition {
                topic,
                number,
                next,
                at_end: false,
                probing: None,
                resting: false,
            });
        }
        let consumer: StreamConsumer<Quiet> = config
            .create_with_context(Quiet(()))
            .map_err(|error| creation_error(&log.config, error))?;
        consumer.assign(&list).map_err(|error| Error::Refused {
            doing: "assigning partitions".into(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            log,
            consumer: Arc::new(consumer),
            partitions: Mutex::new(partitions),
            index,
        })
    }

    fn accept(&self, message: &BorrowedMessage<'_>) -> Option<Record> {
        let number = message.partition() as u32;
        let mut partitions = self.partitions.lock();
        // Few partitions per reader: comparing names beats hashing an owned key.
        let partition = partitions
            .iter_mut()
            .find(|partition| partition.number == number && *partition.topic == *message.topic())?;
        // After a seek the client may still hand out what it had fetched before.
        if message.offset() < partition.next {
            return None;
        }
        partition.next = message.offset() + 1;
        partition.at_end = false;
        let position = Position {
            topic: partition.topic.clone(),
            partition: number,
            offset: message.offset(),
        };
        Some(record(position, message))
    }

    /// A transient failure is the client's to heal; what cannot heal is the caller's to know.
    fn note(&self, error: KafkaError) -> Result<()> {
        match error {
            KafkaError::PartitionEOF(number) => {
                self.reached_end(number as u32);
                Ok(())
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => {
                let partitions = self.partitions.lock();
                let positions: Vec<String> = partitions
                    .iter()
                    .map(|part| format!("{}/{}@{}", part.topic, part.number, part.next))
                    .collect();
                Err(Error::Refused {
                    doing: format!("reading {}", positions.join(", ")),
                    reason: "a position is no longer on the log: reset the stored position, or raise the topic's retention"
                        .into(),
                })
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => {
                let topic = self
                    .partitions
                    .lock()
                    .first()
                    .map(|part| part.topic.to_string())
                    .unwrap_or_default();
                Err(Error::UnknownTopic { topic })
            }
            other => match other.rdkafka_error_code() {
                Some(code) if is_transient(code) => {
                    tracing::debug!(target: "event_log::kafka", "reading goes on after: {other}");
                    Ok(())
                }
                _ => Err(Error::Refused {
                    doing: "reading".into(),
                    reason: other.to_string(),
                }),
            },
        }
    }

    /// The announcement names only the partition's number, so it means nothing when two topics share the number.
    fn reached_end(&self, number: u32) {
        let mut partitions = self.partitions.lock();
        let mut named = partitions.iter_mut().filter(|part| part.number == number);
        if let (Some(partition), None) = (named.next(), named.next()) {
            partition.at_end = true;
            if let Some(end) = partition.probing.take() {
                partition.next = partition.next.max(end);
            }
        }
    }
}

#[async_trait]
impl LogReader for KafkaReader {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut batch = Vec::new();
        let mut messages = self.consumer.stream();
        while batch.len() < max {
            // Only the wait for the first record suspends: from then on nothing is lost if the caller lets go.
            let next = if batch.is_empty() {
                match tokio::time::timeout_at(deadline, messages.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                }
            } else {
                match messages.next().now_or_never() {
                    Some(next) => next,
                    None => break,
                }
            };
            // The client's stream has no end.
            let Some(next) = next else { break };
            match next {
                Ok(message) => batch.extend(self.accept(&message)),
                Err(error) => match self.note(error) {
                    Ok(()) => {}
                    // What was read is handed out first; the client repeats an error that stays.
                    Err(error) if batch.is_empty() => return Err(error),
                    Err(_) => break,
                },
            }
        }
        Ok(batch)
    }

    fn positions(&self) -> Vec<Position> {
        let partitions = self.partitions.lock();
        partitions
            .iter()
            .map(|part| Position {
                topic: part.topic.clone(),
                partition: part.number,
                offset: part.next,
            })
            .collect()
    }

    async fn seek(&mut self, to: &Position) -> Result<()> {
        let Some(&at) = self.index.get(&(to.topic.clone(), to.partition)) else {
            return Err(Error::UnknownPartition {
                topic: to.topic.to_string(),
                partition: to.partition,
            });
        };
        let (low, high) = self.log.watermarks(&to.topic, to.partition).await?;
        if to.offset < low {
            let (topic, partition, offset) = (to.topic.to_string(), to.partition, to.offset);
            return Err(Error::OffsetOutOfRange {
                topic,
                partition,
                offset,
                low,
                high,
            });
        }
        if self.partitions.lock()[at].resting {
            self.wake(to.topic.clone(), to.partition).await?;
        }
        self.refetch(to.topic.clone(), to.partition, to.offset)
            .await?;
        let partition = &mut self.partitions.lock()[at];
        partition.resting = false;
        partition.next = to.offset;
        partition.at_end = false;
        partition.probing = None;
        Ok(())
    }

    async fn rest(&mut self) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for partition in self.partitions.lock().iter_mut() {
            partition.resting = true;
            list.add_partition(&partition.topic, partition.number as i32);
        }
        self.consume("resting", move |consumer| consumer.pause(&list))
            .await
    }

    async fn lag(&self) -> Result<u64> {
        let asked: Vec<(Arc<str>, u32)> = self
            .partitions
            .lock()
            .iter()
            .map(|part| (part.topic.clone(), part.number))
            .collect();
        let mut lag = 0;
        for (at, (topic, number)) in asked.into_iter().enumerate() {
            let (_, high) = self.log.watermarks(&topic, number).await?;
            let refetch = {
                let partition = &mut self.partitions.lock()[at];
                if high <= partition.next {
                    continue;
                }
                lag += (high - partition.next) as u64;
                (partition.at_end && partition.probing.is_none()).then(|| {
                    partition.at_end = false;
                    partition.probing = Some(high);
                    partition.next
                })
            };
            if let Some(offset) = refetch {
                self.refetch(topic, number, offset).await?;
            }
        }
        Ok(lag)
    }
}

impl KafkaReader {
    async fn refetch(&self, topic: Arc<str>, number: u32, offset: i64) -> Result<()> {
        let doing = format!("seeking {topic}/{number}@{offset}");
        let (number, offset) = (number as i32, Offset::Offset(offset));
        self.consume(doing, move |consumer| {
            consumer.seek(&topic, number, offset, QUESTION_TIMEOUT)
        })
        .await
    }

    async fn wake(&self, topic: Arc<str>, number: u32) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, number as i32);
        let doing = format!("reading {topic}/{number} again");
        self.consume(doing, move |consumer| consumer.resume(&list))
            .await
    }

    /// Has the client do what may block, off the runtime's threads.
    async fn consume(
        &self,
        doing: impl Into<String>,
        order: impl FnOnce(&StreamConsumer<Quiet>) -> KafkaResult<()> + Send + 'static,
    ) -> Result<()> {
        let consumer = self.consumer.clone();
        let done = tokio::task::spawn_blocking(move || order(&consumer)).await;
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unavailable(&self.log.config, doing, error)),
            Err(_) => Err(unavailable(
                &self.log.config,
                doing,
                "the process is shutting down",
            )),
        }
    }
}

fn record(position: Position, message: &BorrowedMessage<'_>) -> Record {
    let (key, value) = (
        message.key().unwrap_or_default(),
        message.payload().unwrap_or_default(),
    );
    let (mut own, mut reason, mut origin) = (&[][..], None, None);
    if let Some(headers) = message.headers() {
        for header in headers.iter() {
            let value = header.value.unwrap_or_default();
            match header.key {
                HEADER => own = value,
                REASON => reason = Some(String::from_utf8_lossy(value).into_owned()),
                ORIGIN => origin = Some(String::from_utf8_lossy(value).into_owned()),
                _ => {}
            }
        }
    }
    // One piece of memory for all of the record: key and header are small and live as long as the value.
    let mut whole = Vec::with_capacity(key.len() + own.len() + value.len());
    whole.extend_from_slice(key);
    whole.extend_from_slice(own);
    whole.extend_from_slice(value);
    let mut rest = Bytes::from(whole);
    let key = rest.split_to(key.len());
    let own = rest.split_to(own.len());
    let header = match reason {
        Some(reason) => DeadLetter {
            reason,
            origin: origin.unwrap_or_default(),
            header: own,
        }
        .encode(),
        None => own,
    };
    Record {
        position,
        key,
        header,
        value: rest,
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
    }
}
