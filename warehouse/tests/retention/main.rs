//! Old epochs dropped and moved by policy, through the program that people run, beside a running sink, on a real engine.

mod cold;
#[path = "../door_process/mod.rs"]
mod door_process;
mod dropping;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use door_process::{Door, PASSWORD};
use event_log::{EventLog, LogWriter, MemoryLog};
use event_schema::{Topics, proto::geyser::SlotStatus};
use serde_json::Value;
use service_host::Host;
use sha2::{Digest, Sha256};
use support::{ask, block, create_topics, start_sink, status, until};
use tokio::task::JoinHandle;

const EPOCH: u64 = 432_000;
/// In the epochs 0 to 3; the last one is far enough behind epoch 2 that no stream is still there.
const SLOTS: [u64; 10] = [
    10,
    11,
    12,
    EPOCH + 10,
    EPOCH + 11,
    2 * EPOCH + 10,
    2 * EPOCH + 11,
    3 * EPOCH + 10,
    3 * EPOCH + 11,
    3 * EPOCH + 600,
];
/// Confirmed, and not final for a while.
const LATE: u64 = EPOCH + 11;

const COLD_AND_BACKUP: &str =
    "[engine]\ncold_path = \"DIR/cold\"\n[backup]\ndir = \"DIR/backups\"\n";

struct Warehouse {
    door: Door,
    writer: Box<dyn LogWriter>,
    topics: Topics,
    sink: (Host, JoinHandle<anyhow::Result<()>>),
}

impl Warehouse {
    /// Every block but [`LATE`] is final. The sink runs on.
    async fn start(more: &'static str) -> Self {
        let door = tokio::task::spawn_blocking(move || Door::with(more)).await;
        let door = door.unwrap();
        let (log, topics) = (MemoryLog::new(), Topics::new("heliograph"));
        create_topics(&log, &topics).await.unwrap();
        let writer = log.writer().await.unwrap();
        for slot in SLOTS {
            let mut records = block(&topics, slot, 1, 3);
            records.push(status(&topics, slot, 1, SlotStatus::SlotConfirmed));
            if slot != LATE {
                records.push(status(&topics, slot, 1, SlotStatus::SlotFinalized));
            }
            writer.append(records).await.unwrap();
        }
        let sink = start_sink(&log, &door.url());
        let warehouse = Self {
            door,
            writer,
            topics,
            sink,
        };
        warehouse.until_final(SLOTS.len() - 1).await;
        warehouse
    }

    async fn until_final(&self, count: usize) {
        let url = self.door.url();
        let made = "SELECT count() FROM system.tables WHERE database = 'heliograph' AND name = 'dropped_epochs'";
        until(&url, made, "1").await;
        let sql = "SELECT count() FROM heliograph.slot_status FINAL WHERE status = 'finalized'";
        until(&url, sql, &count.to_string()).await;
    }

    async fn decide_the_late_slot(&self) {
        let record = status(&self.topics, LATE, 1, SlotStatus::SlotFinalized);
        self.writer.append(vec![record]).await.unwrap();
        self.until_final(SLOTS.len()).await;
    }

    /// So many further blocks of epoch 3, one after the other.
    async fn feed(&self, blocks: u64) {
        for slot in 3 * EPOCH + 700..3 * EPOCH + 700 + blocks {
            let mut records = block(&self.topics, slot, 1, 3);
            let standings = [SlotStatus::SlotConfirmed, SlotStatus::SlotFinalized];
            records.extend(standings.map(|to| status(&self.topics, slot, 1, to)));
            self.writer.append(records).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.until_final(SLOTS.len() + blocks as usize).await;
    }

    async fn ask(&self, sql: &str) -> String {
        ask(&format!("{}/?database=heliograph", self.door.url()), sql).await
    }

    /// Count and checksum of every table's rows, by epoch. Empty ones are left out.
    /// Rollups apart, which the sink makes meanwhile.
    async fn contents(&self) -> BTreeMap<(u64, String), String> {
        let tables = self
            .ask("SELECT name FROM system.tables WHERE database = 'heliograph' AND partition_key = 'intDiv(slot, 432000)' AND NOT endsWith(name, '_rollup')")
            .await;
        let mut found = BTreeMap::new();
        for table in tables.lines() {
            let sql = format!(
                "SELECT intDiv(slot, 432000) AS epoch, count(), sum(sipHash64(formatRow('RowBinary', *))) FROM {table} FINAL GROUP BY epoch"
            );
            for line in self.ask(&sql).await.lines() {
                let (epoch, content) = line.split_once('\t').unwrap();
                let key = (epoch.parse().unwrap(), table.to_owned());
                found.insert(key, content.to_owned());
            }
        }
        found
    }

    /// Of `account_updates`, whose merges are stopped.
    async fn drop_newest_part(&self, epoch: u64) {
        let sql = format!(
            "SELECT argMax(name, min_block_number) FROM system.parts WHERE active AND rows > 0 AND database = 'heliograph' AND table = 'account_updates' AND partition = '{epoch}'"
        );
        let name = self.ask(&sql).await;
        self.ask(&format!("ALTER TABLE account_updates DROP PART '{name}'"))
            .await;
    }

    async fn notes(&self, condition: &str) -> String {
        let sql = format!("SELECT count() FROM dropped_epochs WHERE {condition}");
        self.ask(&sql).await
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("HELIOGRAPH_SQL_URL", self.door.url())
            .env("HELIOGRAPH_SQL_USER", "writer")
            .env("HELIOGRAPH_SQL_PASSWORD", PASSWORD)
            .env("HELIOGRAPH_SQL_DATABASE", "heliograph")
            .env_remove("HELIOGRAPH_RPC_URLS");
        command
    }

    /// Success, the JSON of the last line, and all text.
    async fn run(&self, program: &str, arguments: &[&str]) -> (bool, Value, String) {
        let mut command = self.command(program, arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.trim_end().rsplit('\n').next().unwrap_or_default();
        let json = serde_json::from_str(last).unwrap_or(Value::Null);
        (output.status.success(), json, format!("{text}{errors}"))
    }

    async fn archive(&self, arguments: &[&str]) -> (bool, String) {
        let (well, _, text) = self
            .run(env!("CARGO_BIN_EXE_warehouse-archive"), arguments)
            .await;
        (well, text)
    }

    async fn export(&self, root: &Path, epoch: u64) -> String {
        let folder = root.join(format!("epoch-{epoch}"));
        let folder = folder.to_str().unwrap().to_owned();
        let (well, text) = self
            .archive(&["export", &folder, "--epoch", &epoch.to_string()])
            .await;
        assert!(well, "{text}");
        folder
    }

    async fn retain(&self, policy: &Path, more: &[&str]) -> (bool, Value, String) {
        let policy = policy.to_str().unwrap();
        let arguments = [&["retain", "--json", "--policy", policy][..], more].concat();
        self.run(env!("CARGO_BIN_EXE_warehouse-archive"), &arguments)
            .await
    }

    async fn history(&self, arguments: &[&str]) -> (bool, Value, String) {
        let arguments = [&["--json"][..], arguments].concat();
        self.run(env!("CARGO_BIN_EXE_warehouse-history"), &arguments)
            .await
    }

    /// Kills `warehouse-archive` when it has said the last of so many lines with these words. `true`: it ended before.
    async fn killed_at(&self, arguments: &[&str], words: &'static str, lines: usize) -> bool {
        let program = env!("CARGO_BIN_EXE_warehouse-archive");
        let both = ["-c", "exec \"$0\" \"$@\" 2>&1", program];
        let mut command = self.command("sh", &[&both[..], arguments].concat());
        let killed = tokio::task::spawn_blocking(move || {
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let said = BufReader::new(child.stdout.take().unwrap()).lines();
            let last = said
                .map_while(Result::ok)
                .filter(|line| line.contains(words))
                .nth(lines - 1);
            if last.is_some() {
                child.kill().unwrap();
            }
            child.wait().unwrap();
            last.is_none()
        });
        killed.await.unwrap()
    }

    async fn retain_until(&self, policy: &Path, deed: &'static str, partitions: usize) -> bool {
        let policy = policy.to_str().unwrap();
        let arguments = ["retain", "--apply", "--policy", policy];
        self.killed_at(&arguments, deed, partitions).await
    }

    async fn end(self) {
        self.sink.0.request_drain();
        self.sink.1.await.unwrap().unwrap();
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn of<'j>(told: &'j Value, epoch: u64, table: &str) -> &'j Value {
    let partitions = told["partitions"].as_array().unwrap();
    partitions
        .iter()
        .find(|told| told["epoch"] == epoch && told["table"] == table)
        .unwrap_or(&Value::Null)
}
