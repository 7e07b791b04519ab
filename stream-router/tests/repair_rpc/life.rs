//! The router's own loop with its repairs, from one life to the next.

use std::{sync::Arc, time::Duration};

use event_log::{EventLog, MemoryLog};
use event_schema::Slot;
use rand::{SeedableRng, rngs::StdRng};
use service_host::Host;
use stream_router::{
    board::Board,
    config::{Config, LimitsConfig, TopicsConfig},
    metrics::Metrics,
    pipeline::{self, Outlets},
    repair::{self, RepairConfig},
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use crate::{
    crash::{Canonical, read_canonical},
    node::{assert_repaired, blocks, failing, good, source_without},
    on_the_log::{new_record, settings},
    server::Node,
    source::{Source, interleave},
};

fn config(node: &Node) -> Config {
    let topics = settings().partitions;
    Config {
        topic_prefix: "t".to_owned(),
        topics: TopicsConfig { ..topics },
        limits: LimitsConfig {
            gap_after_ms: 400,
            settle_ms: 100,
            ..LimitsConfig::default()
        },
        repair: RepairConfig {
            rpc_urls: vec![node.url()],
            backoff_ms: 50,
            backoff_max_ms: 100,
            ..RepairConfig::default()
        },
        ..Config::default()
    }
}

/// A router inside this process.
struct Router {
    host: Host,
    board: Board,
    task: JoinHandle<()>,
}

impl Router {
    fn start(log: &MemoryLog, config: Config) -> Self {
        config.check().expect("a good configuration");
        let (host, board) = (Host::detached(), Board::default());
        let metrics = Metrics::new(host.metrics()).expect("metrics");
        let (asks, offers) = repair::open(&config, &board, &metrics, &host)
            .expect("a client")
            .unzip();
        let (fanout, mut effects) = mpsc::channel(16);
        tokio::spawn(async move { while effects.recv().await.is_some() {} });
        let outlets = Outlets {
            fanout,
            stream: None,
            board: board.clone(),
            metrics,
            asks,
        };
        let (log, running) = (Arc::new(log.clone()), host.clone());
        let task = tokio::spawn(async move {
            let log: Arc<dyn EventLog> = log;
            pipeline::run(&config, log, outlets, offers, running)
                .await
                .expect("the router runs");
        });
        Self { host, board, task }
    }

    /// As SIGKILL does: nothing is finished.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        self.host.request_drain();
    }

    async fn until(&self, what: &str, reached: impl Fn(&Board) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !reached(&self.board) {
            assert!(Instant::now() < end, "{what}: {:?}", self.board.status());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn write(log: &MemoryLog, source: &Source) {
    let topics = settings().topics;
    let lanes = interleave(&mut StdRng::seed_from_u64(1), &[source]);
    let records = lanes.values().flatten();
    let batch = records.map(|record| new_record(&topics, record)).collect();
    let writer = log.writer().await.expect("a writer");
    writer.append(batch).await.expect("appended");
}

/// What is committed, once a block of the slot and its two standings are.
async fn committed(log: &MemoryLog, slot: Slot) -> Canonical {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let canonical = read_canonical(log).await;
        if canonical
            .fates
            .iter()
            .any(|((at, _), fates)| *at == slot && fates.len() == 2)
        {
            return canonical;
        }
        assert!(Instant::now() < end, "{canonical:?}");
    }
}

#[tokio::test]
async fn a_hole_is_filled_by_the_life_that_finds_a_node() {
    let history = blocks(&[100, 101, 102, 103, 104]);
    let source = source_without(&history, |slot| (101..104).contains(&slot));
    let log = MemoryLog::new();
    let nobody = failing(-32004).await;
    let first = Router::start(&log, config(&nobody));
    first
        .until("topics", |board| !board.status().lag.is_empty())
        .await;
    write(&log, &source).await;
    first
        .until("the gap is told and asked for", |board| {
            board.status().repairs.asked == 3
        })
        .await;
    let end = Instant::now() + Duration::from_secs(30);
    while read_canonical(&log).await.gaps.is_empty() {
        assert!(Instant::now() < end, "the gap is not committed");
    }
    assert!(!nobody.slots().is_empty());
    first.kill().await;

    let node = good(&history).await;
    let second = Router::start(&log, config(&node));
    let canonical = committed(&log, Slot(101)).await;
    assert_eq!(canonical.gaps, [(101, 103)], "told once");
    for block in &history.blocks[1..4] {
        assert_repaired(&canonical, block);
    }
    let status = second.board.status();
    assert_eq!((status.repairs.done, status.repairs.failed), (3, 0));
    assert_eq!(status.gap_count, 0, "of this life");
    let of_101 = second.board.slot(Slot(101));
    assert_eq!(of_101[0].source, "rpc:127.0.0.1");
    let metrics = second.host.metrics().gather();
    let done = metrics
        .iter()
        .filter(|family| family.name() == "router_repairs_total")
        .flat_map(|family| family.get_metric())
        .find(|metric| metric.get_label()[0].value() == "done")
        .map(|metric| metric.get_counter().get_value());
    assert_eq!(done, Some(3.0));
    second.kill().await;

    // A third finds nothing missing.
    let third = Router::start(&log, config(&node));
    let asked = node.slots().len();
    third
        .until("it has read all", |board| !board.status().lag.is_empty())
        .await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(
        (node.slots().len(), third.board.status().repairs.asked),
        (asked, 0)
    );
    third.kill().await;
}
