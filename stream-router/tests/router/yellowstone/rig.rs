//! A router without its sockets, over a log in memory that a source has filled.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event_log::{EventLog, LogReader, MemoryLog};
use event_schema::ObservedTopic;
use rand::{Rng, rngs::StdRng};
use stream_router::{
    archive::Archive,
    publication::Publication,
    router::Effect,
    yellowstone::{
        engine::{Command, Engine, EngineMetrics, News, Settings, WhenSlow},
        tips::Tips,
    },
};
use tokio::sync::mpsc;

use crate::{
    chain::{History, TrueBlock},
    crash::{Canonical, read_canonical},
    on_the_log::{new_record, settings},
    source::{Source, interleave},
};

/// A router without its sockets: everything between the observed topics and the subscribers' queues.
pub struct Rig {
    pub log: Arc<MemoryLog>,
    pub publication: Publication,
    pub readers: BTreeMap<ObservedTopic, Box<dyn LogReader>>,
    pub news: mpsc::Sender<News>,
    pub commands: mpsc::Sender<Command>,
    pub idle: u32,
}

impl Rig {
    pub async fn new(log: Arc<MemoryLog>, recent_bytes: usize) -> Self {
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
    pub async fn next_life(&mut self) {
        (self.publication, self.readers) = begin_life(&self.log, &self.news).await;
        self.idle = 0;
    }

    /// The process is killed.
    pub async fn restart(&mut self, recent_bytes: usize) {
        (self.news, self.commands) = start_engine(&self.log, recent_bytes);
        self.next_life().await;
    }

    pub async fn step(&mut self, rng: &mut StdRng) {
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

    /// Everything that is there; nothing of it is told early.
    pub async fn absorb_all(&mut self) {
        for (topic, reader) in &mut self.readers {
            let records = reader.poll(100_000, Duration::ZERO).await.expect("records");
            assert!(!records.is_empty(), "{topic:?}");
            let _ = self.publication.absorb(&records);
        }
    }

    pub async fn tell(&self, effects: Vec<Effect>) {
        let early = |effect: &Effect| {
            matches!(
                effect,
                Effect::Early { .. } | Effect::SlotUpdate(_) | Effect::Closed { block: None, .. }
            )
        };
        let early: Vec<Effect> = effects.into_iter().filter(early).collect();
        self.news.send(News::Early(early)).await.expect("an engine");
    }

    pub async fn commit(&mut self) {
        let told = self.publication.commit().await.expect("committed");
        self.news
            .send(News::Committed(told))
            .await
            .expect("an engine");
    }

    pub fn is_done(&self) -> bool {
        self.idle > 50
    }

    pub async fn tick(&mut self, log_ms: i64) {
        let effects = self.publication.tick(log_ms);
        self.tell(effects).await;
    }

    pub async fn finish(&mut self) {
        self.tick(i64::MAX).await;
        self.commit().await;
    }

    pub async fn canonical(&self) -> Canonical {
        let settings = settings();
        read_canonical(
            self.log.as_ref(),
            &settings.topics,
            settings.partitions.canonical,
        )
        .await
    }
}

pub fn start_engine(
    log: &Arc<MemoryLog>,
    recent_bytes: usize,
) -> (mpsc::Sender<News>, mpsc::Sender<Command>) {
    start_engine_that_remembers(log, recent_bytes, 10_000)
}

pub fn start_engine_that_remembers(
    log: &Arc<MemoryLog>,
    recent_bytes: usize,
    replay_blocks: usize,
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
            replay_blocks,
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

pub async fn begin_life(
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

pub async fn filled_log(rng: &mut StdRng) -> Arc<MemoryLog> {
    filled_log_without(rng, |_| false).await
}

/// The source never saw some of the blocks.
pub async fn filled_log_without(
    rng: &mut StdRng,
    missed: impl Fn(&TrueBlock) -> bool,
) -> Arc<MemoryLog> {
    let history = History::random(rng, 40, 1_000);
    filled_log_of(rng, &history, missed).await
}

pub async fn filled_log_of(
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
