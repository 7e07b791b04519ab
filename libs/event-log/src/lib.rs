//! Append and read events in a log, by explicit positions.
//!
//! The log is Kafka ([`KafkaLog`]); [`MemoryLog`] keeps the same promises in memory, so that everything above can be
//! tested without a broker. One suite of contract tests runs against both.
//!
//! * Readers are assigned partitions and offsets by their caller, who stores positions together with what it made of
//!   the records. There are no consumer groups and no committed offsets.
//! * Writers choose the partition. An append returns when every record is on the log (`acks=all`, idempotent).
//! * A transactional writer publishes a batch whole or not at all to `read_committed` readers; a newer writer with the
//!   same id fences the older one.
//!
//! What this crate deliberately does not do: it knows nothing of what the bytes mean (that is `event-schema`), keeps
//! no position for anyone, and never retries behind the caller's back beyond what the Kafka client does by itself.
//!
//! Reading order: this file (the contract), `memory` (its plainest meaning), `kafka`, `producer` (the synchronous
//! door for the validator plugin), `dead_letter`.

mod config;
mod dead_letter;
mod error;
mod kafka;
mod memory;
pub mod producer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use config::KafkaConfig;
pub use dead_letter::{DeadLetter, dead_letter, dead_letter_topic};
pub use error::{Action, Error, Result};
pub use kafka::KafkaLog;
pub use memory::{CommitFault, MemoryLog};

/// A place in the log. As the position of a record it names that record; as a reader's position it names the next
/// offset to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub topic: Arc<str>,
    pub partition: u32,
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub position: Position,
    pub key: Bytes,
    /// The one binary header of Heliograph records (Kafka header `h`); empty when the record has none.
    pub header: Bytes,
    pub value: Bytes,
    /// Unix milliseconds at which the writer created the record.
    pub timestamp_ms: i64,
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    pub topic: Arc<str>,
    pub partition: u32,
    pub key: Bytes,
    pub header: Bytes,
    /// Empty means: compaction may forget the key (a tombstone). Readers see an empty value.
    pub value: Bytes,
}

/// What a topic must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: u32,
    /// Keep the newest record per key instead of deleting by age.
    pub compacted: bool,
    /// Further broker-side topic settings, such as `("retention.ms", "3600000")`. Applied when the topic is created.
    pub config: Vec<(String, String)>,
    pub replication: i16,
}

/// Where a reader starts in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    /// After the last record that is visible when the reader is made.
    Latest,
    /// The next offset to read.
    At(i64),
}

/// Which partitions to read, from where.
#[derive(Clone, Debug)]
pub struct ReaderSpec {
    pub partitions: Vec<(Arc<str>, u32, Start)>,
    /// See only records of committed transactions, and none past the oldest undecided one. Such a reader should read
    /// one topic only: with two topics that share partition numbers, [`LogReader::lag`] cannot tell markers at the
    /// end from records and stays above 0.
    pub read_committed: bool,
}

/// A log. Cheap to share behind an `Arc`.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Creates the topics that are missing; an existing topic with another partition count is an error, because
    /// writers choose partitions by that count.
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()>;

    /// How many partitions the topic has.
    async fn partitions(&self, topic: &str) -> Result<u32>;

    /// The first offset still held and the offset after the last *stable* one: nothing at or past `high` is visible to
    /// a `read_committed` reader. Transaction markers occupy offsets of their own, so `high` may exceed the last
    /// record's offset by more than one: to know whether a reader is at the end, ask [`LogReader::lag`].
    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(i64, i64)>;

    /// `high` of [`EventLog::watermarks`] for each of these partitions, in their order, by one question.
    async fn ends(&self, partitions: &[(Arc<str>, u32)]) -> Result<Vec<i64>>;

    async fn reader(&self, spec: ReaderSpec) -> Result<Box<dyn LogReader>>;

    /// A reader for looking things up: it keeps little in memory and reads little ahead.
    async fn lookup_reader(&self, spec: ReaderSpec) -> Result<Box<dyn LogReader>>;

    /// An idempotent writer that waits for all replicas.
    async fn writer(&self) -> Result<Box<dyn LogWriter>>;

    /// A transactional writer. Returns after every older writer with the same id has been fenced and its undecided
    /// transaction aborted.
    async fn transactional_writer(
        &self,
        transactional_id: &str,
    ) -> Result<Box<dyn TransactionalWriter>>;
}

/// Reads its partitions, in offset order per partition.
#[async_trait]
pub trait LogReader: Send + Sync {
    /// Up to `max` records; returns as soon as there is at least one, or empty when there was none within `wait`.
    /// Cancelling the returned future loses no record.
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>>;

    /// The next offset to read, per partition. Storing them and starting there again continues without loss or
    /// repetition.
    fn positions(&self) -> Vec<Position>;

    /// Continues reading the partition of `to` at its offset.
    async fn seek(&mut self, to: &Position) -> Result<()>;

    /// Asks for nothing more and lets go of what was read ahead, until each partition is sought again. A reader that rests
    /// costs nothing, and seeks at once.
    async fn rest(&mut self) -> Result<()>;

    /// How many offsets lie between this reader and the end, over all its partitions; 0 exactly when everything that
    /// was visible when this was called has been returned by `poll`. While records remain it may count transaction
    /// markers too; once only markers remain it turns 0 after one more `poll`.
    async fn lag(&self) -> Result<u64>;
}

/// Appends records; clones of the work may run concurrently.
#[async_trait]
pub trait LogWriter: Send + Sync {
    /// Appends the records in the order given (per partition) and returns when all are on the log. After an error any
    /// part of the batch may have been written.
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>>;
}

/// Publishes batches whole or not at all.
#[async_trait]
pub trait TransactionalWriter: Send + Sync {
    /// Begins, appends and commits. When this returns the outcome is decided; readers see it a moment later, and before
    /// [`EventLog::transactional_writer`] returns a next writer of this id. On error the transaction was aborted, or will be when the next writer of this id
    /// is made: `read_committed` readers see none of it. The one exception is an error whose action is `Stop`: the
    /// outcome of the last commit is then unknown and is learnt by reading the log.
    async fn commit(&mut self, records: Vec<NewRecord>) -> Result<Vec<Position>>;
}
