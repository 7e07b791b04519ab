//! Records into the observed topics of a broker, and out of the canonical one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use event_log::{
    EventLog, KafkaConfig, KafkaLog, LogReader, LogWriter, ReaderSpec, Record, Start, TopicSpec,
};
use event_schema::{CanonicalHeader, Kind, ObservedTopic, Topics};

use super::{
    audit::{Audit, Findings},
    services::Router,
    source::{PARTITIONS, Written},
    truth::Truth,
};

/// Partitions of the canonical topic, as the router has it by default.
pub const CANONICAL_PARTITIONS: u32 = 4;
const TOPICS_LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
const POLL_RECORDS: usize = 20_000;
/// After everything has come, what should not come is waited for as long.
const AFTERMATH: Duration = Duration::from_millis(1_500);
/// Of the router's log, when it was at fault.
const FAULT_LINES: usize = 200;

/// The topics of one router, on one broker.
pub struct Stage {
    log: KafkaLog,
    writer: Box<dyn LogWriter>,
    pub topics: Topics,
}

impl Stage {
    /// Makes the observed topics.
    pub async fn open(brokers: &str, prefix: &str) -> anyhow::Result<Self> {
        let log = KafkaLog::new(KafkaConfig::new(brokers))?;
        let topics = Topics::new(prefix);
        let specs = ObservedTopic::ALL.map(|topic| TopicSpec {
            name: topics.observed(topic).to_string(),
            partitions: PARTITIONS[topic as usize - 1],
            compacted: false,
            config: Vec::new(),
            replication: 1,
        });
        log.ensure_topics(&specs).await?;
        let writer = log.writer().await?;
        Ok(Self {
            log,
            writer,
            topics,
        })
    }

    /// Returns when the log has them.
    pub async fn append(&self, written: Vec<Written>) -> anyhow::Result<()> {
        let records = written.into_iter().map(|written| written.record).collect();
        self.writer
            .append(records)
            .await
            .context("appending observed records")?;
        Ok(())
    }

    /// Of the canonical topic from its beginning, once there is one.
    pub async fn canonical(&self) -> anyhow::Result<Box<dyn LogReader>> {
        let name = &self.topics.canonical;
        let begin = Instant::now();
        let partitions = loop {
            match self.log.partitions(name).await {
                Ok(partitions) => break partitions,
                Err(e) if begin.elapsed() > TOPICS_LIMIT => {
                    return Err(e).with_context(|| format!("topic {name} was not made"));
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        };
        let partitions = (0..partitions).map(|number| (Arc::clone(name), number, Start::Earliest));
        let spec = ReaderSpec {
            partitions: partitions.collect(),
            read_committed: true,
        };
        Ok(self.log.reader(spec).await?)
    }

    /// Records of the accounts topic, once it grows no more.
    pub async fn account_states(&self) -> anyhow::Result<u64> {
        let name = &self.topics.accounts;
        let partitions = self.log.partitions(name).await?;
        let partitions: Vec<_> = (0..partitions)
            .map(|partition| (Arc::clone(name), partition))
            .collect();
        let mut before = None;
        loop {
            let ends = self.log.ends(&partitions).await?;
            let now = ends.into_iter().map(|end| end.max(0) as u64).sum();
            if before.replace(now) == Some(now) {
                return Ok(now);
            }
            tokio::time::sleep(AFTERMATH).await;
        }
    }

    /// Reads until all that must come has come, and a while longer; at the latest when nothing came for `quiet`.
    pub async fn audit<'a>(
        &self,
        truth: &'a Truth,
        quiet: Duration,
        router: &mut Router,
    ) -> anyhow::Result<Audit<'a>> {
        let mut reader = self.canonical().await?;
        let mut audit = Audit::new(truth);
        let mut heard = Instant::now();
        loop {
            let records = reader.poll(POLL_RECORDS, LOOK * 5).await?;
            if !records.is_empty() {
                heard = Instant::now();
            }
            records.iter().for_each(|record| audit.add(record));
            let patience = if audit.is_complete() {
                AFTERMATH
            } else {
                quiet
            };
            if records.is_empty() && heard.elapsed() > patience {
                return Ok(audit);
            }
            router.must_run()?;
        }
    }

    /// As [`Stage::audit`], when only the verdict is wanted. Faults are told on standard error, with what the router said.
    pub async fn findings(
        &self,
        truth: &Truth,
        quiet: Duration,
        router: &mut Router,
    ) -> anyhow::Result<Findings> {
        let audit = self.audit(truth, quiet, router).await?;
        for fault in audit.faults() {
            eprintln!("FAULT {fault}");
        }
        let findings = audit.findings();
        if findings.wrong_rows() > 0 {
            eprintln!("{}", router.history(FAULT_LINES));
        }
        Ok(findings)
    }

    /// Waits until a reader of committed records has seen so many events. Returns how many there were before `limit`.
    pub async fn count_events(
        &self,
        events: u64,
        quiet: Duration,
        router: &mut Router,
    ) -> anyhow::Result<Counted> {
        let mut reader = self.canonical().await?;
        let mut counted = Counted::default();
        let mut heard = Instant::now();
        while counted.events < events {
            let records = reader.poll(POLL_RECORDS, LOOK).await?;
            if records.is_empty() {
                if heard.elapsed() > quiet {
                    bail!(
                        "the router published {} of {events} events and stopped:\n{}",
                        counted.events,
                        router.log_tail()
                    );
                }
                router.must_run()?;
                continue;
            }
            heard = Instant::now();
            counted.first.get_or_insert(heard);
            counted.last = Some(heard);
            counted.events += records.iter().map(events_in).sum::<u64>();
        }
        Ok(counted)
    }
}

/// When events came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    pub events: u64,
    pub first: Option<Instant>,
    pub last: Option<Instant>,
}

/// 1 if the record is an event, or the last chunk of one.
fn events_in(record: &Record) -> u64 {
    let is_event = CanonicalHeader::decode(&record.header).is_ok_and(|header| match header.kind {
        Kind::Account | Kind::Transaction | Kind::Entry | Kind::BlockMeta => true,
        Kind::Chunk => event_schema::chunk::Piece::read(&record.value)
            .is_ok_and(|piece| piece.index + 1 == piece.count),
        _ => false,
    });
    u64::from(is_event)
}
