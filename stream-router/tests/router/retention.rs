//! What is not on the log any more, because nobody read it in time: whoever listens is told, or ended.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use event_log::{
    EventLog, LogReader, LogWriter, MemoryLog, ReaderSpec, Result, TopicSpec, TransactionalWriter,
};
use event_schema::{Blockhash, GapReason, ObservedTopic, Slot};
use rand::{SeedableRng, rngs::StdRng};
use service_host::Host;
use stream_router::{
    account_state::AccountsTopicConfig,
    board::Board,
    commitment::Standing,
    config::Config,
    leadership::Standby,
    metrics::Metrics,
    pipeline::Outlets,
    router::Effect,
    slot_tree::BlockId,
    state::{Earlier, History, RestoredBlock},
};
use tokio::sync::mpsc;

use crate::{
    leadership::{NO_GAPS_MS, Router, empty_log, publisher},
    on_the_log::settings,
};

/// A log of which the oldest records of some topics are gone.
struct Shortened {
    log: MemoryLog,
    /// By topic and partition: the first offset that is still there.
    lows: HashMap<(Arc<str>, u32), i64>,
}

#[async_trait]
impl EventLog for Shortened {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        self.log.ensure_topics(topics).await
    }

    async fn partitions(&self, topic: &str) -> Result<u32> {
        self.log.partitions(topic).await
    }

    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(i64, i64)> {
        let (low, high) = self.log.watermarks(topic, partition).await?;
        let shortened = self.lows.get(&(topic.into(), partition));
        Ok((shortened.copied().unwrap_or(low), high))
    }

    async fn ends(&self, partitions: &[(Arc<str>, u32)]) -> Result<Vec<i64>> {
        self.log.ends(partitions).await
    }

    async fn reader(&self, spec: ReaderSpec) -> Result<Box<dyn LogReader>> {
        self.log.reader(spec).await
    }

    async fn lookup_reader(&self, spec: ReaderSpec) -> Result<Box<dyn LogReader>> {
        self.log.lookup_reader(spec).await
    }

    async fn writer(&self) -> Result<Box<dyn LogWriter>> {
        self.log.writer().await
    }

    async fn transactional_writer(&self, id: &str) -> Result<Box<dyn TransactionalWriter>> {
        self.log.transactional_writer(id).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_removed_unread_is_told_to_the_publishers_own_subscribers() {
    let rng = &mut StdRng::seed_from_u64(3);
    let (_history, mut feed, log, writer) = empty_log(rng).await;
    feed.append(writer.as_ref(), 1, 2).await;
    let first = Router::serving(
        &log,
        "first",
        None,
        AccountsTopicConfig::default(),
        NO_GAPS_MS,
    );
    let routers = [Some(first)];
    publisher(&routers).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let [first] = routers;
    first.expect("runs").drain().await;
    feed.append(writer.as_ref(), 2, 2).await;

    let topic = settings()
        .topics
        .observed(ObservedTopic::Transactions)
        .clone();
    let (_, end) = log.watermarks(&topic, 0).await.expect("watermarks");
    let log = Arc::new(Shortened {
        log,
        lows: HashMap::from([((topic.clone(), 0), end)]),
    });
    let second = Router::on(
        log,
        "second",
        None,
        AccountsTopicConfig::default(),
        NO_GAPS_MS,
    );
    let removed = || {
        let effects = second.effects.lock().expect("no panic");
        let mut gaps = effects.iter().filter_map(|effect| match effect {
            Effect::Gap(gap) => Some(gap.clone()),
            _ => None,
        });
        gaps.find(|gap| gap.detail.contains("were removed by retention"))
    };
    let began = Instant::now();
    let gap = loop {
        if let Some(gap) = removed() {
            break gap;
        }
        assert!(began.elapsed().as_secs() < 20, "no gap was told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(gap.reason, GapReason::MissingRecords as i32);
    assert!(gap.records > 0, "{gap:?}");
    assert!(gap.detail.starts_with(&format!("{topic}/0: ")), "{gap:?}");
    second.drain().await;
}

/// A block that the canonical topic has no more cannot be told.
#[tokio::test]
async fn whoever_listens_is_ended_when_a_block_cannot_be_read_any_more() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    settings().make_topics(log.as_ref()).await.expect("topics");
    let host = Host::detached();
    let (fanout, mut told) = mpsc::channel(16);
    let outlets = Outlets {
        fanout,
        stream: None,
        board: Board::default(),
        metrics: Metrics::new(host.metrics()).expect("metrics"),
        asks: None,
    };
    let config = Config {
        topic_prefix: "t".to_owned(),
        topics: settings().partitions,
        ..Config::default()
    };
    let mut standby = Standby::new(&config, log, &host).expect("a standby");
    let earlier = |slots: std::ops::RangeInclusive<u64>| {
        let id = |slot| BlockId::new(Slot(slot), Blockhash([slot as u8; 32]));
        let block = |slot| RestoredBlock {
            block: id(slot),
            parent: id(slot - 1),
            told: Standing::Processed,
            history: History::default(),
        };
        Earlier {
            blocks: slots.map(block).collect(),
            gaps: Vec::new(),
        }
    };
    standby.tell(&earlier(5..=6), &outlets).await.expect("told");
    told.try_recv().expect_err("history is no news");
    standby.tell(&earlier(5..=7), &outlets).await.expect("told");
    let effects = told.try_recv().expect("7 is missed");
    assert!(matches!(effects.as_slice(), [Effect::PassedOver]));
    standby.tell(&earlier(5..=7), &outlets).await.expect("told");
    told.try_recv().expect_err("told once");
}
