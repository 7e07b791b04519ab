//! The router's side: records onto the canonical topic, each exactly once, through a broker that is killed meanwhile.

use std::{collections::BTreeMap, time::Duration};

use event_log::{
    EventLog, KafkaConfig, KafkaLog, NewRecord, ReaderSpec, Start, TransactionalWriter,
};
use event_schema::Topics;

use crate::support::create_topics;

const PAUSE: Duration = Duration::from_millis(200);
const TRIES_MAX: usize = 300;

/// See the module.
pub struct Publisher {
    pub log: KafkaLog,
    id: String,
    writer: Option<Box<dyn TransactionalWriter>>,
    /// Offset after the last record that is known to be published, by partition.
    ends: BTreeMap<u32, i64>,
}

impl Publisher {
    pub async fn open(brokers: &str, topics: &Topics) -> anyhow::Result<Self> {
        let log = KafkaLog::new(KafkaConfig::new(brokers))?;
        create_topics(&log, topics).await?;
        Ok(Self {
            log,
            id: format!("crash-{}", topics.canonical),
            writer: None,
            ends: BTreeMap::new(),
        })
    }

    pub async fn publish(&mut self, records: Vec<NewRecord>) -> anyhow::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut last = String::new();
        for tried in 0..TRIES_MAX {
            match self.attempt(&records, tried > 0).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    // The next writer of this id ends what this one left undecided.
                    self.writer = None;
                    last = error.to_string();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        anyhow::bail!("the broker takes no records: {last}")
    }

    async fn attempt(&mut self, records: &[NewRecord], again: bool) -> event_log::Result<()> {
        if self.writer.is_none() {
            self.writer = Some(self.log.transactional_writer(&self.id).await?);
            if again && self.is_published(&records[0]).await? {
                return Ok(());
            }
        }
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        for position in writer.commit(records.to_vec()).await? {
            self.ends.insert(position.partition, position.offset + 1);
        }
        Ok(())
    }

    /// Whether a commit of unknown outcome succeeded: all of its records are there, or none.
    async fn is_published(&self, first: &NewRecord) -> event_log::Result<bool> {
        let from = self.ends.get(&first.partition);
        let start = from.map_or(Start::Earliest, |offset| Start::At(*offset));
        let spec = ReaderSpec {
            partitions: vec![(first.topic.clone(), first.partition, start)],
            read_committed: true,
        };
        let mut reader = self.log.lookup_reader(spec).await?;
        loop {
            let records = reader.poll(1_000, Duration::from_millis(300)).await?;
            let is_it = |record: &event_log::Record| {
                record.header == first.header && record.value == first.value
            };
            if records.iter().any(is_it) {
                return Ok(true);
            }
            if records.is_empty() && reader.lag().await? == 0 {
                return Ok(false);
            }
        }
    }
}
