//! The Yellowstone engine over the in-memory log, against what the canonical topic holds in the end: whatever subscribers
//! and routers do, every update comes once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use event_log::{EventLog, LogReader, MemoryLog};
use event_schema::{
    Commitment, Gap, ObservedTopic, Slot,
    proto::{
        Message,
        geyser::{
            CommitmentLevel, SlotStatus, SubscribeRequest, SubscribeRequestFilterAccounts,
            SubscribeRequestFilterBlocks, SubscribeRequestFilterBlocksMeta,
            SubscribeRequestFilterEntry, SubscribeRequestFilterSlots,
            SubscribeRequestFilterTransactions, SubscribeUpdate, subscribe_update::UpdateOneof,
        },
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_router::{
    archive::Archive,
    publication::Publication,
    router::Effect,
    subscription::Level,
    yellowstone::{
        cursor::Cursor,
        engine::{Command, Engine, EngineMetrics, News, Settings, Start, WhenSlow},
        filter::Filters,
        outbox::{Inbox, OutboxLimits, outbox},
        tips::Tips,
    },
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    chain::{History, Source, TrueBlock, interleave},
    crash::{Canonical, read_canonical},
    on_the_log::{new_record, settings},
};

mod websocket;

const QUIET: Duration = Duration::from_millis(150);

/// A router without its sockets: everything between the observed topics and the subscribers' queues.
struct Rig {
    log: Arc<MemoryLog>,
    publication: Publication,
    readers: BTreeMap<ObservedTopic, Box<dyn LogReader>>,
    news: mpsc::Sender<News>,
    commands: mpsc::Sender<Command>,
    idle: u32,
}

impl Rig {
    async fn new(log: Arc<MemoryLog>, recent_bytes: usize) -> Self {
        let (news, commands) = start_engine(&log, recent_bytes);
        let (publication, readers) = begin_life(&log, &news).await;
        Self {
            log,
            publication,
            readers,
            news,
            commands,
            idle: 0,
        }
    }

    /// The loop loses its broker and begins anew; subscribers stay.
    async fn next_life(&mut self) {
        (self.publication, self.readers) = begin_life(&self.log, &self.news).await;
        self.idle = 0;
    }

    /// The process is killed.
    async fn restart(&mut self, recent_bytes: usize) {
        (self.news, self.commands) = start_engine(&self.log, recent_bytes);
        self.next_life().await;
    }

    async fn step(&mut self, rng: &mut StdRng) {
        let topic = ObservedTopic::ALL[rng.random_range(0..3)];
        let reader = self.readers.get_mut(&topic).expect("three readers");
        let records = reader
            .poll(rng.random_range(1..60), Duration::ZERO)
            .await
            .expect("records");
        self.idle = if records.is_empty() { self.idle + 1 } else { 0 };
        let effects = self.publication.absorb(&records);
        self.tell(effects).await;
        if rng.random_bool(0.4) {
            self.commit().await;
        }
    }

    async fn tell(&self, effects: Vec<Effect>) {
        let early = |effect: &Effect| {
            matches!(
                effect,
                Effect::Early { .. } | Effect::SlotUpdate(_) | Effect::Closed { block: None, .. }
            )
        };
        let early: Vec<Effect> = effects.into_iter().filter(early).collect();
        self.news.send(News::Early(early)).await.expect("an engine");
    }

    async fn commit(&mut self) {
        let told = self.publication.commit().await.expect("committed");
        self.news
            .send(News::Committed(told))
            .await
            .expect("an engine");
    }

    fn is_done(&self) -> bool {
        self.idle > 50
    }

    async fn tick(&mut self, log_ms: i64) {
        let effects = self.publication.tick(log_ms);
        self.tell(effects).await;
    }

    async fn finish(&mut self) {
        self.tick(i64::MAX).await;
        self.commit().await;
    }

    async fn canonical(&self) -> Canonical {
        let settings = settings();
        read_canonical(
            self.log.as_ref(),
            &settings.topics,
            settings.partitions.canonical,
        )
        .await
    }
}

fn start_engine(
    log: &Arc<MemoryLog>,
    recent_bytes: usize,
) -> (mpsc::Sender<News>, mpsc::Sender<Command>) {
    let settings = settings();
    let (news, news_queue) = mpsc::channel(16);
    let (commands, command_queue) = mpsc::channel(16);
    let archive = Archive::new(
        Arc::clone(log) as Arc<dyn EventLog>,
        settings.topics.canonical.clone(),
        settings.partitions.canonical,
    );
    let engine = Engine::new(
        Settings {
            replay_blocks: 10_000,
            recent_bytes,
            when_slow: WhenSlow::CatchUp,
        },
        Arc::new(archive),
        Tips::default(),
        EngineMetrics::new(&prometheus::Registry::new()).expect("metrics"),
        commands.clone(),
    );
    tokio::spawn(engine.run(news_queue, command_queue));
    (news, commands)
}

async fn begin_life(
    log: &Arc<MemoryLog>,
    news: &mpsc::Sender<News>,
) -> (Publication, BTreeMap<ObservedTopic, Box<dyn LogReader>>) {
    let mut publication = Publication::open(log.as_ref(), settings())
        .await
        .expect("opens");
    let restored = publication.take_restored();
    news.send(News::Restored(restored))
        .await
        .expect("an engine");
    let mut readers = BTreeMap::new();
    for topic in ObservedTopic::ALL {
        let spec = publication.reader_spec(topic);
        readers.insert(topic, log.reader(spec).await.expect("a reader"));
    }
    (publication, readers)
}

/// Everything there is, at this level.
fn everything(level: Level) -> Filters {
    fn all<T: Default>() -> HashMap<String, T> {
        HashMap::from([("all".to_owned(), T::default())])
    }
    let commitment = match level {
        Level::Processed => CommitmentLevel::Processed,
        Level::Confirmed => CommitmentLevel::Confirmed,
        Level::Finalized => CommitmentLevel::Finalized,
    };
    let request = SubscribeRequest {
        accounts: all::<SubscribeRequestFilterAccounts>(),
        transactions: all::<SubscribeRequestFilterTransactions>(),
        entry: all::<SubscribeRequestFilterEntry>(),
        blocks: all::<SubscribeRequestFilterBlocks>(),
        blocks_meta: all::<SubscribeRequestFilterBlocksMeta>(),
        slots: HashMap::from([(
            "own".to_owned(),
            SubscribeRequestFilterSlots {
                filter_by_commitment: Some(true),
                ..SubscribeRequestFilterSlots::default()
            },
        )]),
        commitment: Some(commitment as i32),
        ..SubscribeRequest::default()
    };
    Filters::compile(&request, &Default::default()).expect("good filters")
}

/// What an update is about, so that it can be told from every other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Account(u64, Vec<u8>, u64),
    Transaction(u64, Vec<u8>),
    Entry(u64, u64, Vec<u8>),
    Block(u64, String),
    BlockMeta(u64, String),
    Status(u64),
}

fn seen(update: SubscribeUpdate, level: Level) -> Seen {
    assert_eq!(update.filters.len(), 1);
    assert!(update.created_at.is_some());
    match update.update_oneof.expect("an update") {
        UpdateOneof::Account(update) => {
            let info = update.account.expect("an account");
            Seen::Account(update.slot, info.pubkey, info.write_version)
        }
        UpdateOneof::Transaction(update) => {
            let info = update.transaction.expect("a transaction");
            Seen::Transaction(update.slot, info.signature)
        }
        UpdateOneof::Entry(entry) => Seen::Entry(entry.slot, entry.index, entry.hash),
        UpdateOneof::Block(block) => Seen::Block(block.slot, block.blockhash),
        UpdateOneof::BlockMeta(meta) => Seen::BlockMeta(meta.slot, meta.blockhash),
        UpdateOneof::Slot(slot) => {
            let expected = match level {
                Level::Processed => SlotStatus::SlotProcessed,
                Level::Confirmed => SlotStatus::SlotConfirmed,
                Level::Finalized => SlotStatus::SlotFinalized,
            };
            assert_eq!(slot.status(), expected);
            Seen::Status(slot.slot)
        }
        other => panic!("nobody asked for {other:?}"),
    }
}

/// What a subscriber of everything must have seen, from this slot on; sorted, with repetitions.
fn expected(canonical: &Canonical, level: Level, from: Slot) -> Vec<Seen> {
    let mut all = Vec::new();
    for ((slot, blockhash), block) in &canonical.blocks {
        let fates = canonical.fates.get(&(*slot, *blockhash));
        let reached = match level {
            Level::Processed => true,
            Level::Confirmed => fates.is_some_and(|fates| fates.contains(&Commitment::Confirmed)),
            Level::Finalized => fates.is_some_and(|fates| fates.contains(&Commitment::Finalized)),
        };
        if *slot < from || !reached {
            continue;
        }
        let mut accounts: BTreeMap<(Vec<u8>, u64), u64> = BTreeMap::new();
        for update in &block.accounts {
            let info = update.account.as_ref().expect("an account");
            let version = info.write_version;
            let key = if level == Level::Processed {
                version
            } else {
                0
            };
            let newest = accounts.entry((info.pubkey.clone(), key)).or_default();
            *newest = (*newest).max(version);
        }
        all.extend(
            accounts
                .into_iter()
                .map(|((key, _), version)| Seen::Account(slot.0, key, version)),
        );
        all.extend(
            block
                .transactions
                .iter()
                .map(|info| Seen::Transaction(slot.0, info.signature.clone())),
        );
        all.extend(
            block
                .entries
                .iter()
                .map(|entry| Seen::Entry(slot.0, entry.index, entry.hash.clone())),
        );
        all.push(Seen::Block(slot.0, block.meta.blockhash.clone()));
        all.push(Seen::BlockMeta(slot.0, block.meta.blockhash.clone()));
        all.push(Seen::Status(slot.0));
    }
    all.sort();
    all
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Extension {
    #[prost(bytes = "vec", optional, tag = "1001")]
    cursor: Option<Vec<u8>>,
    #[prost(message, optional, tag = "1002")]
    pub gap: Option<Gap>,
}

struct Client {
    id: u64,
    level: Level,
    inbox: Option<Inbox>,
    cursor: Bytes,
    got: Vec<Seen>,
    gaps: Vec<Gap>,
}

impl Client {
    fn new(level: Level) -> Self {
        Self {
            id: 0,
            level,
            inbox: None,
            cursor: Bytes::new(),
            got: Vec::new(),
            gaps: Vec::new(),
        }
    }

    async fn connect(&mut self, rig: &Rig, start: Start, bytes_max: usize) {
        self.id += 1;
        let limits = OutboxLimits {
            bytes_max,
            frames_max: 1_000,
        };
        let (outbox, inbox) = outbox(limits);
        self.inbox = Some(inbox);
        let connect = Command::Connect {
            id: self.id,
            outbox,
            filters: everything(self.level),
            start,
        };
        rig.commands.send(connect).await.expect("an engine");
        // What is told from here on is for this subscriber.
        let (answer, answered) = oneshot::channel();
        rig.commands
            .send(Command::Who(answer))
            .await
            .expect("an engine");
        answered.await.expect("an answer");
    }

    async fn disconnect(&mut self, rig: &Rig) {
        self.inbox = None;
        let gone = Command::Disconnect { id: self.id };
        rig.commands.send(gone).await.expect("an engine");
    }

    /// Reads at most so many updates; false when none came for a while.
    async fn read(&mut self, most: usize, wait: Duration) -> bool {
        let inbox = self.inbox.as_mut().expect("connected");
        for _ in 0..most {
            let Ok(frame) = tokio::time::timeout(wait, inbox.next()).await else {
                return false;
            };
            let frame = frame.unwrap_or_else(|| panic!("ended: {:?}", inbox.ending()));
            let bytes = [frame.head, frame.body, frame.tail].concat();
            let Extension { cursor, gap } = Extension::decode(bytes.as_slice()).unwrap();
            if let Some(cursor) = cursor {
                let now = Cursor::decode(&cursor).expect("a cursor");
                if let Ok(before) = Cursor::decode(&self.cursor) {
                    assert!(before < now, "{before:?}, then {now:?}");
                }
                self.cursor = cursor.into();
            }
            if let Some(gap) = gap {
                self.gaps.push(gap);
                continue;
            }
            let update = SubscribeUpdate::decode(bytes.as_slice()).expect("an update");
            self.got.push(seen(update, self.level));
        }
        true
    }
}

async fn filled_log(rng: &mut StdRng) -> Arc<MemoryLog> {
    filled_log_without(rng, |_| false).await
}

/// The source never saw some of the blocks.
async fn filled_log_without(
    rng: &mut StdRng,
    missed: impl Fn(&TrueBlock) -> bool,
) -> Arc<MemoryLog> {
    let history = History::random(rng, 40, 1_000);
    filled_log_of(rng, &history, missed).await
}

async fn filled_log_of(
    rng: &mut StdRng,
    history: &History,
    missed: impl Fn(&TrueBlock) -> bool,
) -> Arc<MemoryLog> {
    let mut source = Source::chunking(1, rng);
    source.observe(history, |block| !missed(block));
    let log = Arc::new(MemoryLog::new());
    drop(
        Publication::open(log.as_ref(), settings())
            .await
            .expect("opens"),
    );
    let topics = settings().topics;
    let records = interleave(rng, &[&source]);
    let writer = log.writer().await.expect("a writer");
    let records = records.values().flatten();
    let records = records.map(|record| new_record(&topics, record)).collect();
    writer.append(records).await.expect("appended");
    log
}

/// What is missing, and what there is too much of: short, for people.
fn assert_same(mut got: Vec<Seen>, expected: &[Seen], level: Level, seed: u64) {
    got.sort();
    if got == expected {
        return;
    }
    let count = |of: &[Seen]| {
        let mut counts: BTreeMap<Seen, i64> = BTreeMap::new();
        for seen in of {
            *counts.entry(seen.clone()).or_default() += 1;
        }
        counts
    };
    let (have, want) = (count(&got), count(expected));
    let of = |counts: &BTreeMap<Seen, i64>, seen| counts.get(seen).copied().unwrap_or(0);
    let about = |seen: &Seen| match seen {
        Seen::Account(slot, _, version) => format!("account {version} of {slot}"),
        Seen::Transaction(slot, _) => format!("transaction of {slot}"),
        Seen::Entry(slot, index, _) => format!("entry {index} of {slot}"),
        Seen::Block(slot, _) => format!("block {slot}"),
        Seen::BlockMeta(slot, _) => format!("meta of {slot}"),
        Seen::Status(slot) => format!("status of {slot}"),
    };
    let missing: Vec<String> = want
        .iter()
        .filter(|(seen, count)| of(&have, seen) < **count)
        .map(|(seen, _)| about(seen))
        .take(12)
        .collect();
    let too_many: Vec<String> = have
        .iter()
        .filter(|(seen, count)| of(&want, seen) < **count)
        .map(|(seen, _)| about(seen))
        .take(12)
        .collect();
    panic!("seed {seed}, {level:?}: missing {missing:?}, too many {too_many:?}");
}

fn random_level(rng: &mut StdRng) -> Level {
    Level::ALL[rng.random_range(0..3)]
}

/// A client that comes back with its cursor, while routers die and brokers go: no gap, no repetition, at any level.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_resumes_exactly() {
    for seed in 0..12 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let log = filled_log(rng).await;
        // Half of the time nothing fits into memory: then live tellings are read from the log.
        let recent = if rng.random_bool(0.5) { 0 } else { 1 << 30 };
        let mut rig = Rig::new(log, recent).await;
        let mut client = Client::new(random_level(rng));
        client
            .connect(&rig, Start::Cursor(Bytes::new()), 4_000)
            .await;
        // An empty cursor means "from now": the first must be there before anything is.
        while !rig.is_done() {
            rig.step(rng).await;
            client
                .read(rng.random_range(0..30), Duration::from_millis(2))
                .await;
            let cursor = Start::Cursor(client.cursor.clone());
            // Without a cursor there is nothing to resume from.
            let resumable = !client.cursor.is_empty();
            match rng.random_range(0..60) {
                0 | 1 if resumable => {
                    client.disconnect(&rig).await;
                    client.connect(&rig, cursor, 4_000).await;
                }
                2 if resumable => {
                    rig.restart(recent).await;
                    client.connect(&rig, cursor, 4_000).await;
                }
                3 => rig.next_life().await,
                _ => {}
            }
        }
        rig.finish().await;
        while client.read(1_000, QUIET).await {}
        let expected = expected(&rig.canonical().await, client.level, Slot(0));
        assert!(!expected.is_empty());
        assert_same(client.got, &expected, client.level, seed);
    }
}

/// A subscriber at processed that reads too slowly again and again: what it got early is not repeated, nothing is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_behind_misses_nothing_and_gets_nothing_twice() {
    for seed in 100..112 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let log = filled_log(rng).await;
        let mut rig = Rig::new(log, 1 << 30).await;
        let mut client = Client::new(Level::Processed);
        client.connect(&rig, Start::Now, 3_000).await;
        while !rig.is_done() {
            rig.step(rng).await;
            if rng.random_bool(0.3) {
                client
                    .read(rng.random_range(0..60), Duration::from_millis(2))
                    .await;
            }
        }
        rig.finish().await;
        while client.read(1_000, QUIET).await {}
        let expected = expected(&rig.canonical().await, Level::Processed, Slot(0));
        let published: BTreeSet<u64> = expected
            .iter()
            .filter_map(|seen| match seen {
                Seen::Status(slot) => Some(*slot),
                _ => None,
            })
            .collect();
        // Of blocks that never became whole it may have got something, too.
        client.got.retain(|seen| match seen {
            Seen::Account(slot, ..)
            | Seen::Transaction(slot, ..)
            | Seen::Entry(slot, ..)
            | Seen::Block(slot, _)
            | Seen::BlockMeta(slot, _)
            | Seen::Status(slot) => published.contains(slot),
        });
        assert_same(client.got, &expected, client.level, seed);
    }
}

/// Old slots come from the log, at every level, and then the live ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_slots_come_from_the_log() {
    for seed in 200..212 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let log = filled_log(rng).await;
        let mut rig = Rig::new(log, 1 << 30).await;
        for _ in 0..rng.random_range(20..60) {
            rig.step(rng).await;
        }
        rig.commit().await;
        if rng.random_bool(0.5) {
            rig.restart(1 << 30).await;
        }
        let canonical = rig.canonical().await;
        let slots: Vec<Slot> = canonical.blocks.keys().map(|(slot, _)| *slot).collect();
        let Some(from) = slots.get(rng.random_range(0..slots.len().max(1))) else {
            continue;
        };
        let mut client = Client::new(random_level(rng));
        client.connect(&rig, Start::Slot(*from), 100_000).await;
        while !rig.is_done() {
            rig.step(rng).await;
            client.read(50, Duration::from_millis(1)).await;
        }
        rig.finish().await;
        while client.read(1_000, QUIET).await {}
        let canonical = rig.canonical().await;
        // What becomes whole later may lie below.
        client.got.retain(|seen| match seen {
            Seen::Account(slot, ..)
            | Seen::Transaction(slot, ..)
            | Seen::Entry(slot, ..)
            | Seen::Block(slot, _)
            | Seen::BlockMeta(slot, _)
            | Seen::Status(slot) => *slot >= from.0,
        });
        let expected = expected(&canonical, client.level, *from);
        assert_same(client.got, &expected, client.level, seed);
    }
}

/// Whoever listens hears of every gap once, with its extent, in its place: a cursor from before it repeats it, one from behind
/// it does not, also on a router that was not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_told_once_in_its_place() {
    let mut told = 0;
    for seed in 400..408 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let log = filled_log_without(rng, |block| block.id.slot.0 % 7 == 3).await;
        let mut rig = Rig::new(log, 1 << 30).await;
        let mut resuming = Client::new(random_level(rng));
        let from_now = Start::Cursor(Bytes::new());
        resuming.connect(&rig, from_now, 4_000).await;
        let mut live = Client::new(random_level(rng));
        live.id = 1_000;
        live.connect(&rig, Start::Now, 1 << 20).await;
        let mut killed = false;
        let mut log_ms = 0;
        while !rig.is_done() {
            rig.step(rng).await;
            if rng.random_bool(0.2) {
                log_ms += 500;
                rig.tick(log_ms).await;
            }
            resuming
                .read(rng.random_range(0..30), Duration::from_millis(2))
                .await;
            let resumable = !resuming.cursor.is_empty();
            let cursor = Start::Cursor(resuming.cursor.clone());
            match rng.random_range(0..60) {
                0 | 1 if resumable => {
                    resuming.disconnect(&rig).await;
                    resuming.connect(&rig, cursor, 4_000).await;
                }
                2 if resumable => {
                    rig.restart(1 << 30).await;
                    resuming.connect(&rig, cursor, 4_000).await;
                    killed = true;
                }
                3 => rig.next_life().await,
                _ => {}
            }
        }
        // A hole is told when it has been known for a while.
        rig.tick(log_ms).await;
        rig.finish().await;
        while resuming.read(1_000, QUIET).await {}
        let canonical = rig.canonical().await;
        let extents = |gaps: &[Gap]| {
            let extent = |gap: &Gap| (gap.first_slot, gap.last_slot, gap.records, gap.reason);
            let mut extents: Vec<_> = gaps.iter().map(extent).collect();
            extents.sort_unstable();
            extents
        };
        let gaps = extents(&canonical.gaps);
        told += gaps.len();
        assert_eq!(extents(&resuming.gaps), gaps, "seed {seed}");
        let expected = expected(&canonical, resuming.level, Slot(0));
        assert_same(resuming.got, &expected, resuming.level, seed);
        if !killed {
            while live.read(1_000, QUIET).await {}
            assert_eq!(extents(&live.gaps), gaps, "seed {seed}");
        }
        // Later ones hear of those that concern what they ask for.
        rig.restart(1 << 30).await;
        let from = *canonical.blocks.keys().map(|(slot, _)| slot).min().unwrap();
        let mut late = Client::new(random_level(rng));
        late.connect(&rig, Start::Slot(from), 100_000).await;
        while late.read(1_000, QUIET).await {}
        let mut concerned = canonical.gaps.clone();
        concerned.retain(|gap| gap.last_slot >= from.0);
        assert_eq!(extents(&late.gaps), extents(&concerned), "seed {seed}");
    }
    assert!(told > 8, "{told} gaps");
}

/// What is not in the log is refused with what there is.
#[tokio::test]
async fn a_slot_that_is_too_old_is_refused() {
    let rng = &mut StdRng::seed_from_u64(300);
    let log = filled_log(rng).await;
    let mut rig = Rig::new(log, 1 << 30).await;
    while !rig.is_done() {
        rig.step(rng).await;
    }
    rig.finish().await;
    let first = rig.canonical().await.blocks.keys().next().unwrap().0;
    let mut client = Client::new(Level::Processed);
    client.connect(&rig, Start::Slot(Slot(1)), 1_000).await;
    let inbox = client.inbox.as_mut().unwrap();
    assert!(inbox.next().await.is_none());
    assert_eq!(
        inbox.ending(),
        stream_router::yellowstone::outbox::Ending::SlotUnavailable {
            first_available: Some(first.0)
        }
    );
    client
        .connect(&rig, Start::Cursor(Bytes::from_static(b"?")), 1_000)
        .await;
    let inbox = client.inbox.as_mut().unwrap();
    assert!(inbox.next().await.is_none());
    assert!(matches!(
        inbox.ending(),
        stream_router::yellowstone::outbox::Ending::CursorUnusable(_)
    ));
}
