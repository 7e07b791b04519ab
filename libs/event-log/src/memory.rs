//! The log in memory: the contract in its plainest form, for tests.
//!
//! Like Kafka it spends an offset on every transaction marker, hides undecided and aborted records from
//! `read_committed` readers, and fences older transactional writers. It keeps everything: no retention, no compaction
//! (a compacted topic may always still hold what compaction would remove).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    Error, EventLog, LogReader, LogWriter, NewRecord, Position, ReaderSpec, Record, Result, Start,
    TopicSpec, TransactionalWriter,
};

/// The same limit as the Kafka clients of this crate are given.
const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How the next commit of a [`MemoryLog`] fails, see [`MemoryLog::fail_next_commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// The broker aborts: the records are on the log, marked aborted; `commit` returns `Error::Aborted`.
    Abort,
    /// The writer dies between append and commit: the transaction stays undecided until the next writer of this id.
    Crash,
}

/// A log in this process. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    grown: Notify,
}

#[derive(Default)]
struct State {
    topics: HashMap<Arc<str>, Vec<Partition>>,
    /// The epoch of the newest writer per transactional id.
    epochs: HashMap<String, u64>,
    transactions: Vec<Outcome>,
    fault: Option<CommitFault>,
}

#[derive(Default)]
struct Partition {
    entries: Vec<Entry>,
}

struct Entry {
    transaction: Option<usize>,
    /// `None`: a transaction marker.
    record: Option<Record>,
}

struct Outcome {
    id: String,
    state: Decision,
    touched: Vec<(Arc<str>, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    Undecided,
    Committed,
    Aborted,
}

impl MemoryLog {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next transactional commit on this log fail in the given way.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        self.0.state.lock().fault = Some(fault);
    }
}

impl State {
    fn partition(&mut self, topic: &str, partition: u32) -> Result<&mut Partition> {
        let partitions = self
            .topics
            .get_mut(topic)
            .ok_or_else(|| Error::UnknownTopic {
                topic: topic.to_owned(),
            })?;
        partitions
            .get_mut(partition as usize)
            .ok_or_else(|| Error::UnknownPartition {
                topic: topic.to_owned(),
                partition,
            })
    }

    fn decision(&self, entry: &Entry) -> Decision {
        entry
            .transaction
            .map_or(Decision::Committed, |transaction| {
                self.transactions[transaction].state
            })
    }

    /// The offset after the last one a `read_committed` reader may look at.
    fn stable_end(&self, topic: &str, partition: u32) -> i64 {
        let entries = &self.topics[topic][partition as usize].entries;
        let undecided = entries
            .iter()
            .position(|entry| self.decision(entry) == Decision::Undecided);
        undecided.unwrap_or(entries.len()) as i64
    }

    fn end(&self, topic: &str, partition: u32, read_committed: bool) -> i64 {
        if read_committed {
            self.stable_end(topic, partition)
        } else {
            self.topics[topic][partition as usize].entries.len() as i64
        }
    }

    fn append(&mut self, record: NewRecord, transaction: Option<usize>) -> Result<Position> {
        let partition = self.partition(&record.topic, record.partition)?;
        let position = Position {
            topic: record.topic,
            partition: record.partition,
            offset: partition.entries.len() as i64,
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let record = Record {
            position: position.clone(),
            key: record.key,
            header: record.header,
            value: record.value,
            timestamp_ms: now.as_millis() as i64,
        };
        partition.entries.push(Entry {
            transaction,
            record: Some(record),
        });
        Ok(position)
    }

    fn check_size(&self, record: &NewRecord) -> Result<()> {
        let bytes = record.key.len() + record.header.len() + record.value.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(Error::TooLarge {
                topic: record.topic.to_string(),
                bytes,
            });
        }
        Ok(())
    }

    fn decide(&mut self, transaction: usize, decision: Decision) {
        let outcome = &mut self.transactions[transaction];
        outcome.state = decision;
        for (topic, partition) in std::mem::take(&mut outcome.touched) {
            if let Ok(partition) = self.partition(&topic, partition) {
                partition.entries.push(Entry {
                    transaction: None,
                    record: None,
                });
            }
        }
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        let mut state = self.0.state.lock();
        for spec in topics {
            let partitions = state
                .topics
                .entry(spec.name.as_str().into())
                .or_insert_with(|| (0..spec.partitions).map(|_| Partition::default()).collect());
            if partitions.len() != spec.partitions as usize {
                return Err(Error::PartitionCount {
                    topic: spec.name.clone(),
                    expected: spec.partitions,
                    found: partitions.len() as u32,
                });
            }
        }
        Ok(())
    }

    async fn partitions(&self, topic: &str) -> Result<u32> {
        let state = self.0.state.lock();
        let partitions = state.topics.get(topic).ok_or_else(|| Error::UnknownTopic {
            topic: topic.to_owned(),
        })?;
        Ok(partitions.len() as u32)
    }

    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(i64, i64)> {
        let mut state = self.0.state.lock();
        state.partition(topic, partition)?;
        Ok((0, state.stable_end(topic, partition)))
    }

    async fn ends(&self, partitions: &[(Arc<str>, u32)]) -> Result<Vec<i64>> {
        let mut state = self.0.state.lock();
        let ends = partitions.iter().map(|(topic, partition)| {
            state.partition(topic, *partition)?;
            Ok(state.stable_end(topic, *partition))
        });
        ends.collect()
    }

    async fn reader(&self, spec: ReaderSpec) -> Result<Box<dyn LogReader>> {
        let mut state = self.0.state.lock();
        let mut positions = Vec::with_capacity(spec.partitions.len());
        for (topic, partition, start) in spec.partitions {
            state.partition(&topic, partition)?;
            let offset = match start {
                Start::Earliest => 0,
                Start::Latest => state.stable_end(&topic, partition),
                Start::At(offset) if offset >= 0 => offset,
                Start::At(offset) => {
                    let high = state.stable_end(&topic, partition);
                    return Err(Error::OffsetOutOfRange {
                        topic: topic.to_string(),
                        partition,
                        offset,
                        low: 0,
                        high,
                    });
                }
            };
            positions.push(Position {
                topic,
                partition,
                offset,
            });
        }
        Ok(Box::new(MemoryReader {
            log: self.clone(),
            resting: vec![false; positions.len()],
            positions,
            read_committed: spec.read_committed,
            turn: 0,
        }))
    }

    async fn lookup_reader(&self, spec: ReaderSpec) -> Result<Box<dyn LogReader>> {
        self.reader(spec).await
    }

    async fn writer(&self) -> Result<Box<dyn LogWriter>> {
        Ok(Box::new(MemoryWriter(self.clone())))
    }

    async fn transactional_writer(
        &self,
        transactional_id: &str,
    ) -> Result<Box<dyn TransactionalWriter>> {
        let mut state = self.0.state.lock();
        let epoch = state.epochs.entry(transactional_id.to_owned()).or_default();
        *epoch += 1;
        let epoch = *epoch;
        for transaction in 0..state.transactions.len() {
            let outcome = &state.transactions[transaction];
            if outcome.id == transactional_id && outcome.state == Decision::Undecided {
                state.decide(transaction, Decision::Aborted);
            }
        }
        drop(state);
        self.0.grown.notify_waiters();
        Ok(Box::new(MemoryTransactions {
            log: self.clone(),
            id: transactional_id.to_owned(),
            epoch,
        }))
    }
}

struct MemoryReader {
    log: MemoryLog,
    positions: Vec<Position>,
    /// Of each position: nothing is read from it until it is sought.
    resting: Vec<bool>,
    read_committed: bool,
    /// Which partition goes first in the next poll, so that a busy one does not starve the others.
    turn: usize,
}

impl MemoryReader {
    fn take(&mut self, max: usize) -> Vec<Record> {
        let state = self.log.0.state.lock();
        let mut batch = Vec::new();
        let count = self.positions.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            if self.resting[at] {
                continue;
            }
            let position = &mut self.positions[at];
            let end = state.end(&position.topic, position.partition, self.read_committed);
            let entries = &state.topics[&position.topic][position.partition as usize].entries;
            while position.offset < end && batch.len() < max {
                let entry = &entries[position.offset as usize];
                position.offset += 1;
                if self.read_committed && state.decision(entry) == Decision::Aborted {
                    continue;
                }
                batch.extend(entry.record.clone());
            }
        }
        self.turn = self.turn.wrapping_add(1) % count.max(1);
        batch
    }
}

#[async_trait]
impl LogReader for MemoryReader {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>> {
        let deadline = tokio::time::Instant::now() + wait;
        let shared = self.log.0.clone();
        loop {
            let grown = shared.grown.notified();
            tokio::pin!(grown);
            // Registered before looking, so that no growth falls between the look and the wait.
            grown.as_mut().enable();
            let batch = self.take(max);
            if !batch.is_empty() || max == 0 {
                return Ok(batch);
            }
            if tokio::time::timeout_at(deadline, grown).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    fn positions(&self) -> Vec<Position> {
        self.positions.clone()
    }

    async fn seek(&mut self, to: &Position) -> Result<()> {
        let unknown = || Error::UnknownPartition {
            topic: to.topic.to_string(),
            partition: to.partition,
        };
        let same =
            |position: &Position| position.topic == to.topic && position.partition == to.partition;
        let at = self.positions.iter().position(same).ok_or_else(unknown)?;
        if to.offset < 0 {
            let high = self.log.0.state.lock().stable_end(&to.topic, to.partition);
            let (topic, partition, offset) = (to.topic.to_string(), to.partition, to.offset);
            return Err(Error::OffsetOutOfRange {
                topic,
                partition,
                offset,
                low: 0,
                high,
            });
        }
        self.positions[at].offset = to.offset;
        self.resting[at] = false;
        Ok(())
    }

    async fn rest(&mut self) -> Result<()> {
        self.resting.fill(true);
        Ok(())
    }

    async fn lag(&self) -> Result<u64> {
        let state = self.log.0.state.lock();
        let behind = |position: &Position| {
            (state.end(&position.topic, position.partition, self.read_committed) - position.offset)
                .max(0) as u64
        };
        Ok(self.positions.iter().map(behind).sum())
    }
}

struct MemoryWriter(MemoryLog);

#[async_trait]
impl LogWriter for MemoryWriter {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>> {
        let mut state = self.0.0.state.lock();
        let append = |record: NewRecord| {
            state.check_size(&record)?;
            state.append(record, None)
        };
        let positions = records.into_iter().map(append).collect();
        drop(state);
        self.0.0.grown.notify_waiters();
        positions
    }
}

struct MemoryTransactions {
    log: MemoryLog,
    id: String,
    epoch: u64,
}

#[async_trait]
impl TransactionalWriter for MemoryTransactions {
    async fn commit(&mut self, records: Vec<NewRecord>) -> Result<Vec<Position>> {
        let positions = self.publish(records);
        self.log.0.grown.notify_waiters();
        positions
    }
}

impl MemoryTransactions {
    fn publish(&self, records: Vec<NewRecord>) -> Result<Vec<Position>> {
        let mut state = self.log.0.state.lock();
        if state.epochs.get(&self.id) != Some(&self.epoch) {
            return Err(Error::Fenced {
                transactional_id: self.id.clone(),
            });
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let mut touched: Vec<(Arc<str>, u32)> = records
            .iter()
            .map(|record| (record.topic.clone(), record.partition))
            .collect();
        touched.sort();
        touched.dedup();
        for (topic, partition) in &touched {
            state.partition(topic, *partition)?;
        }
        for record in &records {
            state.check_size(record)?;
        }
        let transaction = state.transactions.len();
        state.transactions.push(Outcome {
            id: self.id.clone(),
            state: Decision::Undecided,
            touched,
        });
        let positions = records
            .into_iter()
            .map(|record| state.append(record, Some(transaction)))
            .collect::<Result<Vec<Position>>>()?;
        match state.fault.take() {
            None => {
                state.decide(transaction, Decision::Committed);
                Ok(positions)
            }
            Some(CommitFault::Abort) => {
                state.decide(transaction, Decision::Aborted);
                Err(Error::Aborted {
                    reason: "a fault was asked for".into(),
                })
            }
            Some(CommitFault::Crash) => Err(Error::Unavailable {
                brokers: "memory".into(),
                doing: "committing a transaction".into(),
                reason: "a crash was asked for".into(),
            }),
        }
    }
}
