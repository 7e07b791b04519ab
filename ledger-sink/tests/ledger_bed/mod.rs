//! A database of its own, a log in memory, and the sink between them; and blocks for it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use event_log::{EventLog, MemoryLog, NewRecord, ReaderSpec, Start, TopicSpec};
use event_schema::Topics;
use event_schema::proto::confirmed_block::Reward;
use event_schema::proto::geyser::SlotStatus;
use ledger_sink::config::Config;
use ledger_sink::metrics::Metrics;
use ledger_sink::pipeline::{Pipeline, open_store};
use ledger_sink::store::Store;
use local_services::Postgres;
use serde_json::Value;
use service_host::Host;
use sqlx::Row;

use crate::fixture::{Block, Built, TOKEN, amount_data, key, transfer};

pub const PARTITIONS: u32 = 2;

pub struct Bed {
    pub log: MemoryLog,
    pub topics: Topics,
    pub config: Config,
    pub store: tokio::sync::OnceCell<Store>,
}

static DATABASES: AtomicU32 = AtomicU32::new(0);

impl Bed {
    pub fn new(postgres: &Postgres) -> Self {
        let name = format!("ledger_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        postgres.create_database(&name).unwrap();
        let config = Config {
            database_url: postgres.url(&name),
            poll_wait_ms: 10,
            ..Config::default()
        };
        Self {
            log: MemoryLog::new(),
            topics: Topics::new(&config.topic_prefix),
            config,
            store: Default::default(),
        }
    }

    pub async fn make_topic(&self) {
        let name = self.topics.canonical.to_string();
        let spec = TopicSpec {
            name,
            partitions: PARTITIONS,
            compacted: false,
            config: vec![],
            replication: 1,
        };
        self.log.ensure_topics(&[spec]).await.unwrap();
    }

    pub async fn publish(&self, records: Vec<NewRecord>) {
        self.log
            .transactional_writer("router")
            .await
            .unwrap()
            .commit(records)
            .await
            .unwrap();
    }

    pub async fn block(&self, block: &Block) {
        self.publish(block.records(&self.topics, PARTITIONS)).await;
    }

    pub async fn status(&self, block: &Block, status: SlotStatus) {
        self.publish(vec![block.status(&self.topics, PARTITIONS, status)])
            .await;
    }

    pub async fn store(&self) -> Store {
        let open = async || {
            open_store(&Host::detached(), &self.config.database_url)
                .await
                .unwrap()
                .unwrap()
        };
        self.store.get_or_init(open).await.clone()
    }

    /// Runs the sink until `done` holds, then drains it.
    pub async fn run_until<F: Future<Output = bool>>(&self, done: impl Fn(Store) -> F) -> Host {
        let host = Host::detached();
        let sink = tokio::spawn(sink(self.config.clone(), self.log.clone(), host.clone()));
        let store = self.store().await;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done(store.clone()).await {
            assert!(Instant::now() < deadline, "it never happened");
            assert!(!sink.is_finished(), "the sink ended: {:?}", sink.await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        host.request_drain();
        sink.await.unwrap().unwrap();
        host
    }

    /// Runs the sink until it has seen everything.
    pub async fn run_to_end(&self) {
        let ends = self.ends().await;
        self.run_until(|store| {
            let ends = ends.clone();
            async move {
                let positions = store.positions("heliograph.canonical").await.unwrap();
                positions == ends
            }
        })
        .await;
    }

    /// The positions of a sink that holds nothing: after the last record, before its marker.
    pub async fn ends(&self) -> Vec<(u32, i64)> {
        let mut ends = Vec::new();
        for partition in 0..PARTITIONS {
            let start = vec![(self.topics.canonical.clone(), partition, Start::Earliest)];
            let mut reader = self
                .log
                .reader(ReaderSpec {
                    partitions: start,
                    read_committed: true,
                })
                .await
                .unwrap();
            let records = reader.poll(usize::MAX, Duration::ZERO).await.unwrap();
            ends.push((
                partition,
                records
                    .last()
                    .map_or(0, |record| record.position.offset + 1),
            ));
        }
        ends
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = ledger_sink::server::router(self.store().await.pool().clone());
        let server = tokio::spawn(async move { axum::serve(listener, api).await });
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (
            status,
            serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap(),
        )
    }

    pub async fn check(&self) -> Value {
        let (status, check) = self.get("/v1/check?deep=true").await;
        assert_eq!(status, 200, "{check}");
        assert_eq!(check["balanced"], true, "{check}");
        check
    }

    /// Every row of the entries, in order: equal ledgers have equal dumps.
    pub async fn dump(&self) -> Vec<String> {
        let rows = sqlx::query(
            "SELECT concat_ws(' ', s.slot, s.blockhash, s.state, p.tx_index, p.reversal, p.ordinal, account, asset, amount)
             FROM postings p JOIN slots s ON s.id = p.block_id
             UNION ALL SELECT concat_ws(' ', 'balance', account, asset, net, observed, observed_slot) FROM balances
             UNION ALL SELECT concat_ws(' ', 'tx', slot, tx_index, signature, state, token_identity) FROM transactions
             ORDER BY 1",
        )
        .fetch_all(self.store().await.pool())
        .await
        .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

pub async fn sink(config: Config, log: MemoryLog, host: Host) -> anyhow::Result<()> {
    let Some(store) = open_store(&host, &config.database_url).await? else {
        return Ok(());
    };
    let metrics = Metrics::register(host.metrics())?;
    match Pipeline::start(config, Arc::new(log), store, metrics, host).await? {
        Some(pipeline) => pipeline.run().await,
        None => Ok(()),
    }
}

/// Blocks with a bit of everything, slots `from..from + count`.
pub fn history(from: u64, count: u64) -> Vec<Block> {
    (from..from + count)
        .map(|slot| {
            let first = slot * 10;
            let mint = Built::new(5_000)
                .lamports(key(1), 1_000_000, 995_000)
                .instruction(TOKEN, &[key(100), key(5), key(1)], &amount_data(&[7], 50))
                .tokens(
                    TOKEN,
                    key(5),
                    key(100),
                    Some(slot * 50),
                    Some(slot * 50 + 50),
                );
            let mut transactions =
                vec![transfer(1, 2, slot + 1).build(first), mint.build(first + 1)];
            transactions.push(
                Built::new(5_000)
                    .lamports(key(3), 9_000, 4_000)
                    .failed()
                    .build(first + 2),
            );
            for (index, update) in transactions.iter_mut().enumerate() {
                update.index = index as u64;
            }
            let mut block = Block::new(slot, transactions);
            block.rewards = vec![Reward {
                pubkey: key(9).to_string(),
                lamports: 7_500,
                post_balance: 7_500 * (slot + 1),
                reward_type: 1,
                ..Default::default()
            }];
            block
        })
        .collect()
}
