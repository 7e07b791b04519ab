//! The router and its transaction: observed records in, canonical records out, each exactly once.
//!
//! Every commit carries, in one Kafka transaction, canonical records, dead letters, what the router remembers, and the
//! positions from which a next life must read again: for each partition the oldest record of a slot that is still open.
//! A next life fences this one, reads the state and continues there. What it reads twice it recognises.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use event_log::{
    EventLog, NewRecord, Position, ReaderSpec, Record, Start, TopicSpec, TransactionalWriter,
    dead_letter,
};
use event_schema::{Gap, GapReason, Kind, ObservedTopic, Slot, Topics};
use tracing::{info, warn};

use crate::{
    account_state::{AccountStates, AccountsTopicConfig},
    archive::Archive,
    assembly::Block,
    canonical::CanonicalWriter,
    commitment::Standing,
    config::TopicsConfig,
    observation::{self, Lane, Place},
    router::{Effect, Limits, Mended, Router},
    slot_tree::BlockId,
    state::{Earlier, History, StateReader, StateWriter},
};

/// What a publication needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    pub topics: Topics,
    pub partitions: TopicsConfig,
    pub accounts_topic: AccountsTopicConfig,
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
        let mut leadership = spec(&self.topics.leadership, 1, true);
        // A few beats a second, read from the beginning by every router that starts: they must not pile up.
        let soon = [
            ("segment.ms", "300000"),
            ("min.cleanable.dirty.ratio", "0.1"),
        ];
        leadership.config = soon.map(|(key, value)| (key.into(), value.into())).into();
        specs.push(leadership);
        if self.accounts_topic.enabled {
            let replication = self.partitions.replication;
            specs.push(self.accounts_topic.spec(&self.topics, replication));
        }
        specs
    }

    /// Creates what is missing.
    pub async fn make_topics(&self, log: &dyn EventLog) -> event_log::Result<()> {
        log.ensure_topics(&self.specs()).await
    }
}

/// See the module.
pub struct Publication {
    settings: Settings,
    router: Router,
    canonical: CanonicalWriter,
    state: StateWriter,
    accounts: Option<AccountStates>,
    writer: Option<Box<dyn TransactionalWriter>>,
    /// Next offset of every partition.
    next: BTreeMap<Lane, i64>,
    committed: BTreeMap<Lane, i64>,
    pending: Pending,
    /// Of the published blocks that are remembered.
    histories: HashMap<BlockId, History>,
    restored: Earlier,
    /// Could not be committed by [`Publication::commit`].
    unsent: Option<Batch>,
    dead_letters: u64,
}

/// What the next transaction carries.
#[derive(Debug, Default)]
struct Pending {
    records: Vec<NewRecord>,
    bytes: usize,
    told: Vec<Telling>,
}

/// What canonical readers will know after the transaction.
#[derive(Debug)]
struct Telling {
    effect: Effect,
    number: u64,
    /// The first of its records, by its place in the transaction.
    first: usize,
}

/// One transaction.
#[derive(Debug)]
pub struct Batch {
    records: Vec<NewRecord>,
    positions: BTreeMap<Lane, i64>,
    told: Vec<Telling>,
}

impl Batch {
    /// Records that tell nothing.
    pub fn bare(records: Vec<NewRecord>) -> Self {
        Self {
            records,
            positions: BTreeMap::new(),
            told: Vec::new(),
        }
    }
}

/// An effect that is on the log: every reader of committed records sees it.
#[derive(Debug, Clone)]
pub struct Told {
    pub effect: Effect,
    /// Grows with every telling, across lives.
    pub number: u64,
    /// A block's first record, in its partition of the canonical topic.
    pub offset: Option<i64>,
}

/// Writes transactions, one after another; it may do so while the publication goes on.
pub struct Committer {
    writer: Box<dyn TransactionalWriter>,
}

impl Committer {
    /// One transaction. After an error whose action is `Retry`, call again with the same batch; after any other, drop this
    /// and the publication, and open new ones.
    pub async fn commit(&mut self, batch: &Batch) -> event_log::Result<Vec<Position>> {
        self.writer.commit(batch.records.clone()).await
    }
}

impl Publication {
    /// Takes over: fences an older router of the same id and continues from its state.
    pub async fn open(log: &dyn EventLog, settings: Settings) -> anyhow::Result<Self> {
        settings.make_topics(log).await?;
        let writer = log.transactional_writer(&settings.transactional_id).await?;
        Self::open_with(log, settings, writer).await
    }

    /// Continues from the state that the writer's making has closed: no older router can add to it.
    pub async fn open_with(
        log: &dyn EventLog,
        settings: Settings,
        writer: Box<dyn TransactionalWriter>,
    ) -> anyhow::Result<Self> {
        let mut router = Router::new(settings.limits);
        let state = read_state(log, &settings.topics.router_state).await?;
        let restored = state.restore(settings.topics.router_state.clone(), &mut router)?;
        let canonical =
            CanonicalWriter::new(settings.topics.clone(), settings.partitions.canonical);
        let histories = restored
            .earlier
            .blocks
            .iter()
            .map(|restored| (restored.block, restored.history));
        let accounts = if settings.accounts_topic.enabled {
            let mut watermarks = Vec::new();
            for partition in 0..settings.partitions.canonical {
                let topic = &settings.topics.canonical;
                watermarks.push(log.watermarks(topic, partition).await?);
            }
            Some(AccountStates::new(
                &settings.accounts_topic,
                &settings.topics,
                &watermarks,
                restored.accounts,
                &restored.earlier.blocks,
                settings.limits.gap_after_ms,
            ))
        } else {
            None
        };
        let mut publication = Self {
            settings,
            router,
            accounts,
            canonical,
            state: restored.writer,
            writer: Some(writer),
            next: BTreeMap::new(),
            committed: restored.positions.clone(),
            pending: Pending::default(),
            histories: histories.collect(),
            restored: restored.earlier,
            unsent: None,
            dead_letters: 0,
        };
        publication.find_starts(log, &restored.positions).await?;
        Ok(publication)
    }

    /// What earlier lives told; given away once.
    pub fn take_restored(&mut self) -> Earlier {
        std::mem::take(&mut self.restored)
    }

    /// The one who writes the transactions. Without it, [`Publication::commit`] does.
    pub fn take_committer(&mut self) -> Option<Committer> {
        self.writer.take().map(|writer| Committer { writer })
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
                    let gap = Gap {
                        records: (low - wanted) as u64,
                        reason: GapReason::MissingRecords as i32,
                        detail,
                        ..Gap::default()
                    };
                    self.tell_gap(&Effect::Gap(gap.clone()), &gap);
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
        if let Some(accounts) = &mut self.accounts {
            accounts.tick(log_ms);
        }
        effects
    }

    /// Takes a block that an RPC node gave. Returns what became of it, and what live subscribers may be told at once.
    pub fn mend(&mut self, block: Block) -> (Mended, Vec<Effect>) {
        let mut effects = Vec::new();
        let mended = self.router.mend(block, &mut effects);
        self.write(&effects);
        (mended, effects)
    }

    /// Holes that an earlier life told and nobody has filled, first and last slot; to be called once.
    pub fn told_holes(&mut self) -> Vec<(Slot, Slot)> {
        self.router.told_holes()
    }

    fn write(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Publish(block) => {
                    if let Some(host) = &block.fetched_from {
                        info!(
                            slot = %block.id.slot,
                            block = %block.id.blockhash,
                            from = %host,
                            transactions = block.transactions,
                            "no source had the block; fetched by RPC"
                        );
                    }
                    if !block.repaired_from.is_empty() {
                        info!(
                            slot = %block.id.slot,
                            from = %block.source,
                            filled_from = ?block.repaired_from.iter().map(ToString::to_string).collect::<Vec<_>>(),
                            "no source had the block whole; repaired"
                        );
                    }
                    let number = self.tell(effect);
                    self.pending.add(|out| self.canonical.block(block, out));
                    let history = History {
                        published: number,
                        ..History::default()
                    };
                    self.histories.insert(block.id, history);
                    self.remember(block.id);
                    if let Some(accounts) = &mut self.accounts {
                        accounts.published(block, number);
                    }
                }
                Effect::Standing(change) => {
                    let number = self.tell(effect);
                    self.pending
                        .add(|out| out.extend(self.canonical.standing(*change)));
                    if let Some(history) = self.histories.get_mut(&change.block) {
                        match change.standing {
                            Standing::Confirmed => history.confirmed = Some(number),
                            Standing::Finalized => history.finalized = Some(number),
                            Standing::Processed | Standing::Abandoned => {}
                        }
                    }
                    self.remember(change.block);
                    if let Some(accounts) = &mut self.accounts {
                        accounts.standing(*change, number);
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
                    self.histories.remove(block);
                    self.pending.push(self.state.forget_block(*block));
                }
                Effect::Gap(gap) => self.tell_gap(effect, gap),
                Effect::ParentGap { block, gap } => {
                    warn!(slots = format!("{}..={}", gap.first_slot, gap.last_slot), detail = %gap.detail, "gap");
                    self.tell_gap(effect, gap);
                    self.remember(*block);
                }
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
                    self.pending.add(|out| out.extend(letters));
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
                        self.pending.add(|out| out.extend(letters));
                    }
                }
                Effect::Early { .. }
                | Effect::Beside { .. }
                | Effect::SlotUpdate(_)
                | Effect::SlotCreated { .. }
                | Effect::Rooted(_) => {}
            }
        }
    }

    fn tell_gap(&mut self, effect: &Effect, gap: &Gap) {
        let number = self.tell(effect);
        self.pending.push(self.canonical.gap(gap));
        self.pending.add(|out| self.state.gap(number, gap, out));
    }

    /// Notes that the records that follow tell this effect.
    fn tell(&mut self, effect: &Effect) -> u64 {
        let number = self.state.count();
        self.pending.told.push(Telling {
            effect: effect.clone(),
            number,
            first: self.pending.records.len(),
        });
        number
    }

    /// Writes down what a next life must know of the block.
    fn remember(&mut self, block: BlockId) {
        let Some(published) = self.router.published(block) else {
            return;
        };
        let history = self.histories.get(&block).copied().unwrap_or_default();
        let standing = (published.parent, published.told, published.gap_told);
        let record = self.state.block(block, standing, history);
        self.pending.push(record);
    }

    /// Something waits to be committed, other than progress.
    pub fn has_pending(&self) -> bool {
        let accounts = self.accounts.as_ref();
        !self.pending.records.is_empty() || accounts.is_some_and(AccountStates::is_due)
    }

    /// [`Self::settle`] has something to read.
    pub fn needs_log(&self) -> bool {
        self.accounts.as_ref().is_some_and(AccountStates::needs_log)
    }

    /// Reads what the accounts topic needs from the log. To be called when no batch is on its way; without it the accounts
    /// topic stays behind, and nothing else does.
    pub async fn settle(&mut self, log: &dyn EventLog, archive: &Archive) -> anyhow::Result<()> {
        match &mut self.accounts {
            Some(accounts) => accounts.settle(log, archive).await,
            None => Ok(()),
        }
    }

    /// Bytes that wait to be committed.
    pub fn pending_bytes(&self) -> usize {
        self.pending.bytes
    }

    /// Everything since the last batch; `None` when nothing is new.
    pub fn take_batch(&mut self) -> Option<Batch> {
        if let Some(accounts) = &mut self.accounts {
            let (state, pending) = (&self.state, &mut self.pending);
            pending.add(|out| {
                if let Some(remembered) = accounts.write(out) {
                    state.accounts(&remembered, out);
                }
            });
        }
        let positions = self.resume_positions();
        if self.pending.records.is_empty() && positions == self.committed {
            return None;
        }
        let Pending {
            mut records, told, ..
        } = std::mem::take(&mut self.pending);
        records.push(self.state.positions(&positions));
        Some(Batch {
            records,
            positions,
            told,
        })
    }

    /// The batch is on the log, its records at these positions.
    pub fn committed(&mut self, batch: Batch, positions: &[Position]) -> Vec<Told> {
        self.committed = batch.positions;
        if let Some(accounts) = &mut self.accounts {
            for position in positions {
                if position.topic == self.settings.topics.canonical {
                    accounts.reached(position.partition, position.offset);
                }
            }
        }
        let mut all = Vec::with_capacity(batch.told.len());
        for Telling {
            effect,
            number,
            first,
        } in batch.told
        {
            let mut offset = None;
            if let Effect::Publish(block) = &effect {
                offset = positions.get(first).map(|position| position.offset);
                if let Some(history) = self.histories.get_mut(&block.id) {
                    history.offset = offset;
                }
                if let (Some(accounts), Some(offset)) = (&mut self.accounts, offset) {
                    accounts.located(block.id, offset);
                }
                // Written with the next transaction: a life that ends before finds the block by reading.
                self.remember(block.id);
            }
            all.push(Told {
                effect,
                number,
                offset,
            });
        }
        all
    }

    /// Commits everything since the last time. After an error whose action is `Retry`, call again; after any other, drop
    /// this and open a new one.
    pub async fn commit(&mut self) -> event_log::Result<Vec<Told>> {
        let Some(batch) = self.unsent.take().or_else(|| self.take_batch()) else {
            return Ok(Vec::new());
        };
        let Some(writer) = &mut self.writer else {
            return Ok(Vec::new());
        };
        match writer.commit(batch.records.clone()).await {
            Ok(positions) => Ok(self.committed(batch, &positions)),
            Err(error) => {
                self.unsent = Some(batch);
                Err(error)
            }
        }
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

impl Pending {
    fn push(&mut self, record: NewRecord) {
        self.bytes += record.value.len() + record.header.len() + record.key.len();
        self.records.push(record);
    }

    fn add(&mut self, write: impl FnOnce(&mut Vec<NewRecord>)) {
        let before = self.records.len();
        write(&mut self.records);
        let added = self.records.get(before..).unwrap_or_default();
        self.bytes += added
            .iter()
            .map(|record| record.value.len() + record.header.len() + record.key.len())
            .sum::<usize>();
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
