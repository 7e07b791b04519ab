//! The real binary on a real Kafka and PostgreSQL, killed with SIGKILL again and again while blocks flow: every
//! confirmed transaction is in the ledger once, and the books balance.

mod fixture;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use event_log::{EventLog, KafkaConfig, KafkaLog, TopicSpec};
use event_schema::Topics;
use event_schema::proto::geyser::SlotStatus;
use fixture::{Block, transfer};
use local_services::{Kafka, KafkaOptions, Postgres, PostgresOptions, free_port};
use serde_json::Value;

const PARTITIONS: u32 = 2;
const BLOCKS: u64 = 120;
const TRANSACTIONS_PER_BLOCK: u64 = 40;
const KILLS: u64 = 8;

struct Sink {
    child: Child,
    api: String,
}

impl Sink {
    fn start(config: &Path, api: u16) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_ledger-sink"))
            .args(["--config", config.to_str().unwrap()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            api: format!("127.0.0.1:{api}"),
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks until the answer will do.
    fn wait<T>(&self, enough: impl Fn(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let check = self.check();
            if let Some(found) = check.as_ref().and_then(&enough) {
                return found;
            }
            assert!(Instant::now() < deadline, "it never came: {check:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn check(&self) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.api).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        write!(
            stream,
            "GET /v1/check?deep=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nothing_is_lost_or_doubled_by_kills() {
    let kafka = Kafka::start(KafkaOptions::default()).unwrap();
    let postgres = Postgres::start(PostgresOptions::default()).unwrap();
    postgres.create_database("heliograph").unwrap();
    let api = free_port();
    let file = std::env::temp_dir().join(format!("ledger-sink-killed-{}.toml", std::process::id()));
    let text = format!(
        "database_url = \"{}\"\nlisten = \"127.0.0.1:{api}\"\nbatch_records_max = 50\n\
         [kafka]\nbrokers = \"{}\"\n[host]\nadmin = \"127.0.0.1:0\"\n",
        postgres.url("heliograph"),
        kafka.brokers()
    );
    std::fs::write(&file, text).unwrap();

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut sink = Sink::start(&file, api);
    let mut written = 0;
    runtime.block_on(feed(&kafka, |block| {
        if block % (BLOCKS / KILLS) == 5 {
            // Killed while it works, not before it began.
            written = sink.wait(|check| {
                check["transactions"]
                    .as_u64()
                    .filter(|count| *count > written)
            });
            sink.kill();
            sink = Sink::start(&file, api);
        }
    }));

    let expected = BLOCKS * TRANSACTIONS_PER_BLOCK;
    let check =
        sink.wait(|check| (check["slots"]["finalized"]["count"] == BLOCKS).then(|| check.clone()));
    assert_eq!(check["transactions"], expected, "{check}");
    assert_eq!(check["lamport_identity"]["exact"], expected, "{check}");
    assert_eq!(check["balanced"], true, "{check}");
    let _ = std::fs::remove_file(&file);
}

/// Publishes blocks, each confirmed two blocks later and finalized five later, calling `between` before each.
async fn feed(kafka: &Kafka, mut between: impl FnMut(u64)) {
    let log = KafkaLog::new(KafkaConfig::new(kafka.brokers())).unwrap();
    let topics = Topics::new(Topics::DEFAULT_PREFIX);
    let name = topics.canonical.to_string();
    let spec = TopicSpec {
        name,
        partitions: PARTITIONS,
        compacted: false,
        config: vec![],
        replication: 1,
    };
    log.ensure_topics(&[spec]).await.unwrap();
    let mut writer = log.transactional_writer("router").await.unwrap();
    let block = |slot: u64| {
        let transactions = (0..TRANSACTIONS_PER_BLOCK).map(|index| {
            let mut update = transfer(1, 2, slot + 1).build(slot * 1_000 + index);
            update.index = index;
            update
        });
        Block::new(slot, transactions.collect())
    };
    for slot in 0..BLOCKS + 5 {
        between(slot);
        let mut records = Vec::new();
        if slot < BLOCKS {
            records.extend(block(slot).records(&topics, PARTITIONS));
        }
        for (behind, status) in [
            (2, SlotStatus::SlotConfirmed),
            (5, SlotStatus::SlotFinalized),
        ] {
            if let Some(decided) = slot.checked_sub(behind).filter(|decided| *decided < BLOCKS) {
                records.push(Block::new(decided, Vec::new()).status(&topics, PARTITIONS, status));
            }
        }
        writer.commit(records).await.unwrap();
    }
}
