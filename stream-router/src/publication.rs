//! The router and its transaction: observed records in, canonical records out, each exactly once.
//!
//! Every commit carries, in one Kafka transaction, canonical records, dead letters, what the router remembers, and the
//! positions from which a next life must read again: for each partition the oldest record of a slot that is still open.
//! A next life fences this one, reads the state and continues there. What it reads twice it recognises.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use event_log::{
    EventLog, NewRecord, ReaderSpec, Record, Start, TopicSpec, TransactionalWriter, dead_letter,
};
use event_schema::{Gap, GapReason, Kind, ObservedTopic, Topics};
use tracing::{info, warn};

use crate::{
    canonical::CanonicalWriter,
    config::TopicsConfig,
    observation::{self, Lane, Place},
    router::{Effect, Limits, Router},
    state::{StateReader, StateWriter},
};

/// What a publication needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    pub topics: Topics,
    pub partitions: TopicsConfig,
    pub transactional_id: String,
    pub limits: Limits,
}

impl Settings {
    pub fn partitions_of(&self, topic: ObservedTopic) -> u32 {
        match topic {
            ObservedTopic::Accounts => self.partitions.accounts,
            ObservedTopic::Transactions => self.partitions.transactions,
            ObservedTopic::Slots => self.partitions.slots,
        }
    }

    fn specs(&self) -> Vec<TopicSpec> {
        let spec = |name: &Arc<str>, partitions, compacted| TopicSpec {
            name: name.to_string(),
            partitions,
            compacted,
            config: Vec::new(),
            replication: self.partitions.replication,
        };
        let mut specs: Vec<TopicSpec> = ObservedTopic::ALL
            .into_iter()
            .map(|topic| {
                spec(
                    self.topics.observed(topic),
                    self.partitions_of(topic),
                    false,
                )
            })
            .collect();
        specs.push(spec(
            &self.topics.canonical,
            self.partitions.canonical,
            false,
        ));
        specs.push(spec(&self.topics.router_state, 1, true));
        specs.push(spec(&self.topics.dead_letters, 1, false));
        specs
    }
}

/// See the module.
pub struct Publication {
    settings: Settings,
    router: Router,
    canonical: CanonicalWriter,
    state: StateWriter,
    writer: Box<dyn TransactionalWriter>,
    /// Next offset of every partition.
    next: BTreeMap<Lane, i64>,
    committed: BTreeMap<Lane, i64>,
    pending: Vec<NewRecord>,
    dead_letters: u64,
}

impl Publication {
    /// Takes over: fences an older router of the same id and continues from its state.
    pub async fn open(log: &dyn EventLog, settings: Settings) -> anyhow::Result<Self> {
        log.ensure_topics(&settings.specs()).await?;
        let writer = log.transactional_writer(&settings.transactional_id).await?;
        let mut router = Router::new(settings.limits);
        let state = read_state(log, &settings.topics.router_state).await?;
        let (stored, state) = state.restore(settings.topics.router_state.clone(), &mut router)?;
        let canonical =
            CanonicalWriter::new(settings.topics.clone(), settings.partitions.canonical);
        let mut publication = Self {
            settings,
            router,
            canonical,
            state,
            writer,
            next: BTreeMap::new(),
            committed: stored.clone(),
            pending: Vec::new(),
            dead_letters: 0,
        };
        publication.find_starts(log, &stored).await?;
        Ok(publication)
    }

    /// Where to read, and a gap for what the log no longer holds.
    async fn find_starts(
        &mut self,
        log: &dyn EventLog,
        stored: &BTreeMap<Lane, i64>,
    ) -> anyhow::Result<()> {
        for topic in ObservedTopic::ALL {
            for partition in 0..self.settings.partitions_of(topic) {
                let lane = Lane { topic, partition };
                let name = self.settings.topics.observed(topic).clone();
                let (low, _) = log.watermarks(&name, partition).await?;
                let wanted = stored.get(&lane).copied();
                if let Some(wanted) = wanted.filter(|wanted| *wanted < low) {
                    let detail = format!(
                        "{name}/{partition}: offsets {wanted} to {} were removed by retention before they were read",
                        low - 1
                    );
                    warn!(%detail, "raise the observed topics' retention");
                    self.pending.push(self.canonical.gap(&Gap {
                        records: (low - wanted) as u64,
                        reason: GapReason::MissingRecords as i32,
                        detail,
                        ..Gap::default()
                    }));
                }
                self.next
                    .insert(lane, wanted.map_or(low, |wanted| wanted.max(low)));
            }
        }
        Ok(())
    }

    /// One reader per topic, so that each can be paused by itself.
    pub fn reader_spec(&self, topic: ObservedTopic) -> ReaderSpec {
        let name = self.settings.topics.observed(topic);
        ReaderSpec {
            partitions: self
                .next
                .iter()
                .filter(|(lane, _)| lane.topic == topic)
                .map(|(lane, offset)| (name.clone(), lane.partition, Start::At(*offset)))
                .collect(),
            read_committed: false,
        }
    }

    /// Takes records of any observed topic, each partition in order. Returns what live subscribers may be told at once.
    pub fn absorb(&mut self, records: &[Record]) -> Vec<Effect> {
        let mut effects = Vec::new();
        for record in records {
            let Some(topic) = self
                .settings
                .topics
                .observed_by_name(&record.position.topic)
            else {
                continue;
            };
            let lane = Lane {
                topic,
                partition: record.position.partition,
            };
            let place = Place {
                lane,
                offset: record.position.offset,
                timestamp_ms: record.timestamp_ms,
            };
            let (observation, poison) = observation::read(place, &record.header, &record.value);
            if let Some(poison) = poison {
                warn!(position = %record.position, reason = %poison, "record dead-lettered");
                self.dead_letters += 1;
                self.pending.push(dead_letter(record, &poison.to_string()));
            }
            self.next.insert(lane, record.position.offset + 1);
            if let Some(observation) = observation {
                self.router.observe(observation, &mut effects);
            }
        }
        self.write(&effects);
        effects
    }

    /// `log_ms`: every partition has been read up to this time of the log.
    pub fn tick(&mut self, log_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.router.tick(log_ms, &mut effects);
        self.write(&effects);
        effects
    }

    fn write(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Publish(block) => {
                    if !block.repaired_from.is_empty() {
                        info!(
                            slot = %block.id.slot,
                            from = %block.source,
                            filled_from = ?block.repaired_from.iter().map(ToString::to_string).collect::<Vec<_>>(),
                            "no source had the block whole; repaired"
                        );
                    }
                    self.canonical.block(block, &mut self.pending);
                    let record = self.state.block(
                        block.id,
                        block.parent,
                        crate::commitment::Standing::Processed,
                    );
                    self.pending.push(record);
                }
                Effect::Standing(change) => {
                    self.pending.extend(self.canonical.standing(*change));
                    if let Some(parent) = self.router.published_parent(change.block) {
                        let record = self.state.block(change.block, parent, change.standing);
                        self.pending.push(record);
                    }
                }
                Effect::Closed {
                    slot,
                    source,
                    block,
                    extent,
                } => {
                    let record = self.state.closed(*slot, *source, *block, extent.clone());
                    self.pending.push(record);
                }
                Effect::ClosedForgotten { slot, source } => {
                    self.pending.push(self.state.forget_closed(*slot, *source));
                }
                Effect::PublishedForgotten(block) => {
                    self.pending.push(self.state.forget_block(*block));
                }
                Effect::Gap(gap) => self.pending.push(self.canonical.gap(gap)),
                Effect::Late {
                    slot,
                    source,
                    kind,
                    bytes,
                    reason,
                } => {
                    self.dead_letters += 1;
                    let letters =
                        self.canonical
                            .dead_letters((*slot, *source), *kind, bytes, reason);
                    self.pending.extend(letters);
                }
                Effect::Unreadable {
                    slot,
                    source,
                    records,
                    problem,
                } => {
                    warn!(%slot, %source, reason = %problem, "chunks dead-lettered");
                    for bytes in records {
                        self.dead_letters += 1;
                        let letters = self.canonical.dead_letters(
                            (*slot, *source),
                            Kind::Chunk,
                            bytes,
                            problem,
                        );
                        self.pending.extend(letters);
                    }
                }
                Effect::SlotCreated { .. } | Effect::Rooted(_) => {}
            }
        }
    }

    /// Something waits to be committed, other than progress.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// One transaction with everything since the last. After an error whose action is `Retry`, call again; after any
    /// other, drop this and open a new one.
    pub async fn commit(&mut self) -> event_log::Result<()> {
        let positions = self.resume_positions();
        if self.pending.is_empty() && positions == self.committed {
            return Ok(());
        }
        let mut records = self.pending.clone();
        records.push(self.state.positions(&positions));
        self.writer.commit(records).await?;
        self.pending.clear();
        self.committed = positions;
        Ok(())
    }

    fn resume_positions(&self) -> BTreeMap<Lane, i64> {
        let needed = self.router.low_watermarks();
        self.next
            .iter()
            .map(|(lane, next)| (*lane, needed.get(lane).map_or(*next, |low| *low.min(next))))
            .collect()
    }

    pub fn router(&self) -> &Router {
        &self.router
    }

    pub fn dead_letters(&self) -> u64 {
        self.dead_letters
    }
}

async fn read_state(log: &dyn EventLog, topic: &Arc<str>) -> anyhow::Result<StateReader> {
    let mut reader = log
        .reader(ReaderSpec {
            partitions: vec![(topic.clone(), 0, Start::Earliest)],
            read_committed: true,
        })
        .await
        .context("reading the router's state")?;
    let mut state = StateReader::default();
    loop {
        let records = reader.poll(10_000, Duration::from_millis(100)).await?;
        let at_end = records.is_empty();
        for record in records {
            state.push(record);
        }
        if at_end && reader.lag().await? == 0 {
            return Ok(state);
        }
    }
}
