//! Wiring: canonical topic → books → PostgreSQL.
//!
//! One loop owns everything. It reads a batch, lets each partition's book say what to do, and writes all of it with the
//! positions in one database transaction before it reads on; so nothing queues up between reader and database, and the
//! reader's own bounded read-ahead is the only buffer. When the database is away the loop waits and says so; when the log
//! is away, likewise.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use event_log::{
    Action as Handling, DeadLetter, EventLog, LogReader, LogWriter, NewRecord, Position,
    ReaderSpec, Record, Start, TopicSpec, dead_letter,
};
use event_schema::{CanonicalHeader, Kind, Topics};
use service_host::Host;

use crate::book::{Action, PartitionBook};
use crate::config::Config;
use crate::entry::BlockEntry;
use crate::metrics::Metrics;
use crate::store::{Epoch, Store};

/// How long to wait before trying again what is away.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often positions are stored when nothing else is to be written.
const POSITIONS_INTERVAL: Duration = Duration::from_millis(500);
/// How often lag is measured.
const LAG_INTERVAL: Duration = Duration::from_secs(2);

pub struct Pipeline {
    config: Config,
    topics: Topics,
    log: Arc<dyn EventLog>,
    store: Store,
    epoch: Epoch,
    metrics: Metrics,
    host: Host,
    reader: Box<dyn LogReader>,
    dead_letters: Option<Box<dyn LogWriter>>,
    books: BTreeMap<u32, PartitionBook>,
    stored: Vec<Position>,
}

impl Pipeline {
    /// Waits for the canonical topic, takes over the database and continues where it stands. `None` when a drain came
    /// first.
    pub async fn start(
        config: Config,
        log: Arc<dyn EventLog>,
        store: Store,
        metrics: Metrics,
        host: Host,
    ) -> anyhow::Result<Option<Self>> {
        let topics = Topics::new(&config.topic_prefix);
        let found = patiently(
            &host,
            "kafka",
            "waiting for the canonical topic, which the router makes",
            || async { log.partitions(&topics.canonical).await },
        );
        let Some(partitions) = found.await? else {
            return Ok(None);
        };
        let epoch = store.take_over().await?;
        let stored: BTreeMap<u32, i64> = store
            .positions(&topics.canonical)
            .await?
            .into_iter()
            .collect();
        let spec = ReaderSpec {
            partitions: (0..partitions)
                .map(|number| {
                    let start = stored
                        .get(&number)
                        .map_or(Start::Earliest, |offset| Start::At(*offset));
                    (topics.canonical.clone(), number, start)
                })
                .collect(),
            read_committed: true,
        };
        let opened = patiently(&host, "kafka", "opening the canonical topic", || {
            log.reader(spec.clone())
        });
        let Some(reader) = opened.await? else {
            return Ok(None);
        };
        let books = reader
            .positions()
            .into_iter()
            .map(|position| {
                (
                    position.partition,
                    PartitionBook::new(position.offset, config.held_blocks_max),
                )
            })
            .collect();
        let dead_letters = None;
        let stored = Vec::new();
        Ok(Some(Self {
            config,
            topics,
            log,
            store,
            epoch,
            metrics,
            host,
            reader,
            dead_letters,
            books,
            stored,
        }))
    }

    /// Runs until drained. A batch that has been read is written before the drain ends.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let (mut stored, mut measured) = (Instant::now(), Instant::now());
        while !self.host.draining() {
            let wait = Duration::from_millis(self.config.poll_wait_ms);
            let drain = self.host.drain();
            let polled = tokio::select! {
                polled = self.reader.poll(self.config.batch_records_max.max(1), wait) => polled,
                () = drain => break,
            };
            let records = match polled {
                Ok(records) => records,
                Err(error) if error.action() == Handling::Retry => {
                    self.host.ready("kafka", false);
                    tracing::warn!("{error}; trying again");
                    self.pause().await;
                    continue;
                }
                Err(error) => return Err(error).context("reading the canonical topic"),
            };
            if !records.is_empty() {
                self.host.ready("kafka", true);
                self.take(&records).await?;
            }
            if stored.elapsed() > POSITIONS_INTERVAL {
                stored = Instant::now();
                self.commit(&[]).await?;
            }
            if measured.elapsed() > LAG_INTERVAL {
                measured = Instant::now();
                self.measure().await;
            }
        }
        self.commit(&[]).await
    }

    /// Books the records and writes what follows from them.
    async fn take(&mut self, records: &[Record]) -> anyhow::Result<()> {
        let mut actions = Vec::new();
        for record in records {
            let partition = record.position.partition;
            let Some(book) = self.books.get_mut(&partition) else {
                continue;
            };
            match book.push(record) {
                Ok(booked) => actions.extend(booked.into_iter().map(|action| (partition, action))),
                Err(poison) => {
                    tracing::error!(position = %record.position, "dead letter: {poison}");
                    self.bury(vec![dead_letter(record, &poison.to_string())])
                        .await?;
                }
            }
            if let Some((_, Action::Reread(offset))) = actions.last() {
                // What else was read of this batch will come again, from the stored positions on.
                let offset = *offset;
                return self.reread(partition, offset, actions).await;
            }
        }
        self.commit(&actions).await
    }

    /// Goes back to a block whose content was let go. Other partitions continue where their books stand.
    async fn reread(
        &mut self,
        partition: u32,
        offset: i64,
        actions: Vec<(u32, Action)>,
    ) -> anyhow::Result<()> {
        tracing::warn!(
            partition,
            offset,
            "more blocks are unconfirmed than `held_blocks_max`; reading one again"
        );
        self.commit(&actions).await?;
        for (number, book) in &self.books {
            let offset = if *number == partition {
                offset
            } else {
                book.next_offset()
            };
            let topic = self.topics.canonical.clone();
            self.reader
                .seek(&Position {
                    topic,
                    partition: *number,
                    offset,
                })
                .await?;
        }
        Ok(())
    }

    /// Writes actions and positions; repeats until the database took them.
    async fn commit(&mut self, actions: &[(u32, Action)]) -> anyhow::Result<()> {
        let positions: Vec<Position> = self
            .books
            .iter()
            .map(|(partition, book)| Position {
                topic: self.topics.canonical.clone(),
                partition: *partition,
                offset: book.resume_offset(),
            })
            .collect();
        if actions.is_empty() && positions == self.stored {
            return Ok(());
        }
        let posted: Vec<&BlockEntry> = actions
            .iter()
            .filter_map(|(_, action)| match action {
                Action::Post(entry) => Some(&**entry),
                _ => None,
            })
            .collect();
        self.bury(broken(&self.topics, &posted)).await?;
        let written = loop {
            let timer = self.metrics.commit_seconds.start_timer();
            match self.store.commit(self.epoch, actions, &positions).await {
                Ok(written) => {
                    timer.observe_duration();
                    break written;
                }
                Err(error) if error.is_transient() => {
                    timer.stop_and_discard();
                    self.host.ready("database", false);
                    tracing::warn!("{error}; trying again");
                    if self.host.draining() {
                        anyhow::bail!(
                            "drained while PostgreSQL was away; what was not written is read again at the next start"
                        );
                    }
                    self.pause().await;
                }
                Err(error) => return Err(error).context("writing to PostgreSQL"),
            }
        };
        self.host.ready("database", true);
        self.stored = positions;
        self.metrics.wrote(written);
        self.metrics.held_blocks.set(
            self.books
                .values()
                .map(|book| book.held_blocks() as i64)
                .sum(),
        );
        if let Some(slot) = posted.iter().map(|entry| entry.slot.0 as i64).max() {
            self.metrics.slot.set(self.metrics.slot.get().max(slot));
        }
        for (partition, action) in actions {
            if let Action::Gap { gap, .. } = action {
                self.metrics.gaps.inc();
                tracing::warn!(
                    partition,
                    first = gap.first_slot,
                    last = gap.last_slot,
                    "a gap in the stream: {}",
                    gap.detail
                );
            }
        }
        Ok(())
    }

    /// Puts records on the dead-letter topic. They must be there before the position moves past them.
    async fn bury(&mut self, letters: Vec<NewRecord>) -> anyhow::Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let count = letters.len() as u64;
        if self.dead_letters.is_none() {
            let topic = TopicSpec {
                name: self.topics.dead_letters.to_string(),
                partitions: 1,
                compacted: false,
                config: Vec::new(),
                replication: 1,
            };
            if self.log.partitions(&topic.name).await.is_err() {
                self.log
                    .ensure_topics(&[topic])
                    .await
                    .context("making the dead-letter topic")?;
            }
            self.dead_letters = Some(self.log.writer().await?);
        }
        if let Some(writer) = &self.dead_letters {
            writer
                .append(letters)
                .await
                .context("writing dead letters")?;
        }
        self.metrics.dead_letters.inc_by(count);
        Ok(())
    }

    async fn measure(&self) {
        let lag = tokio::select! {
            lag = self.reader.lag() => lag,
            () = self.host.drain() => return,
        };
        match lag {
            Ok(lag) => {
                self.host.ready("kafka", true);
                self.metrics.lag_offsets.set(lag as i64);
            }
            Err(error) => {
                self.host.ready("kafka", false);
                tracing::warn!("{error}");
            }
        }
    }

    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE) => {}
            () = self.host.drain() => {}
        }
    }
}

/// Dead letters of transactions that break an identity: the update as it was read, with the reason.
fn broken(topics: &Topics, blocks: &[&BlockEntry]) -> Vec<NewRecord> {
    let mut letters = Vec::new();
    for block in blocks {
        for entry in &block.transactions {
            let (Some(why), Some(original)) = (entry.broken(), &entry.original) else {
                continue;
            };
            let signature = entry
                .signature
                .map_or_else(|| "without signature".into(), |it| it.to_string());
            tracing::error!(slot = block.slot.0, signature, "not posted: {why}");
            let header = CanonicalHeader {
                kind: Kind::Transaction,
                slot: block.slot,
                blockhash: block.blockhash,
                index: u32::try_from(entry.index).unwrap_or(u32::MAX),
            };
            let letter = DeadLetter {
                reason: format!("ledger identity: {why}"),
                origin: format!(
                    "{} slot {} transaction {signature}",
                    topics.canonical, block.slot
                ),
                header: Bytes::copy_from_slice(&header.encode()),
            };
            letters.push(NewRecord {
                topic: topics.dead_letters.clone(),
                partition: 0,
                key: entry
                    .signature
                    .map_or_else(Bytes::new, |it| Bytes::copy_from_slice(it.as_bytes())),
                header: letter.encode(),
                value: Bytes::from(original.clone()),
            });
        }
        if let Some(why) = &block.rewards_broken {
            tracing::error!(slot = block.slot.0, "block rewards not posted: {why}");
        }
    }
    letters
}

/// Repeats what may come to work, saying so; `None` when a drain came first.
pub async fn patiently<T, F>(
    host: &Host,
    part: &str,
    doing: &str,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<Option<T>>
where
    F: Future<Output = event_log::Result<T>>,
{
    let mut waiting = Waiting::new(host, part);
    loop {
        let error = match attempt().await {
            Ok(value) => {
                host.ready(part, true);
                return Ok(Some(value));
            }
            Err(error) => error,
        };
        let absent = matches!(error, event_log::Error::UnknownTopic { .. });
        if !absent && error.action() != Handling::Retry {
            return Err(error).context(doing.to_owned());
        }
        if waiting.again(doing, &error).await.is_none() {
            return Ok(None);
        }
    }
}

/// Opens the ledger's database, waiting for the server; `None` when a drain came first.
pub async fn open_store(host: &Host, database_url: &str) -> anyhow::Result<Option<Store>> {
    let mut waiting = Waiting::new(host, "database");
    loop {
        let error = match Store::open(database_url).await {
            Ok(store) => {
                host.ready("database", true);
                return Ok(Some(store));
            }
            Err(error) if !error.is_transient() => {
                return Err(error).context("opening the ledger's database");
            }
            Err(error) => error,
        };
        if waiting
            .again("waiting for PostgreSQL at `database_url`", &error)
            .await
            .is_none()
        {
            return Ok(None);
        }
    }
}

/// Pauses between attempts; says why at first and then every ten seconds.
struct Waiting<'a> {
    host: &'a Host,
    part: &'a str,
    attempts: u32,
}

impl<'a> Waiting<'a> {
    fn new(host: &'a Host, part: &'a str) -> Self {
        Self {
            host,
            part,
            attempts: 0,
        }
    }

    /// `None` when a drain came.
    async fn again(&mut self, doing: &str, error: &impl std::fmt::Display) -> Option<()> {
        if self.attempts.is_multiple_of(10) {
            tracing::warn!("{doing}: {error}");
        }
        self.attempts += 1;
        self.host.ready(self.part, false);
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE) => Some(()),
            () = self.host.drain() => None,
        }
    }
}
