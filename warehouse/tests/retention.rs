//! Old epochs dropped and moved by policy, through the program that people run, beside a running sink, on a real engine.

mod door_process;
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
    async fn contents(&self) -> BTreeMap<(u64, String), String> {
        let tables = self
            .ask("SELECT name FROM system.tables WHERE database = 'heliograph' AND partition_key = 'intDiv(slot, 432000)'")
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_archive_holds_is_dropped_told_and_brought_back() {
    let warehouse = Warehouse::start("").await;
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("archive");
    std::fs::create_dir(&root).unwrap();
    let policy = scratch.path().join("policy.toml");
    let text = format!("[default]\nkeep_epochs = 2\narchive = {root:?}\n");

    // What cannot work is refused, with the field and the fix.
    for (more, field, fix) in [
        ("keep = 1\n", "`default.keep`", "Use keep_epochs"),
        (
            "[tables.slot_status]\n",
            "`tables.slot_status`",
            "Remove the section",
        ),
        ("[tables.swap]\n", "`tables.swap`", "routes"),
        (
            "cold_after_epochs = 1\n",
            "`storage_policy, cold_volume`",
            "Set engine.cold_path",
        ),
    ] {
        write(&policy, &format!("{text}{more}"));
        let (well, _, told) = warehouse.retain(&policy, &[]).await;
        assert!(
            !well && told.contains(field) && told.contains(fix),
            "{told}"
        );
    }
    write(&policy, &text);

    // One more part in a partition that a drop will break off in.
    let boss = warehouse.door.url_of("boss");
    ask(&boss, "SYSTEM STOP MERGES heliograph.account_updates").await;
    warehouse
        .ask("INSERT INTO account_updates SELECT * REPLACE (7 AS write_version) FROM account_updates WHERE slot = 432010")
        .await;
    let before = warehouse.contents().await;
    let old: Vec<&(u64, String)> = before
        .keys()
        .filter(|(epoch, table)| *epoch < 2 && table != "blocks")
        .collect();
    assert!(old.len() >= 14, "{old:?}");
    // Nothing is archived, and the late slot of epoch 1 is not decided.
    for more in [&[][..], &["--apply"]] {
        let (well, told, text) = warehouse.retain(&policy, more).await;
        assert!(!well && told["drop"]["partitions"] == 0, "{text}");
        let reason = of(&told, 0, "transactions")["reason"].as_str().unwrap();
        assert!(reason.contains("no archive of the whole epoch"), "{reason}");
        let reason = of(&told, 1, "transactions")["reason"].as_str().unwrap();
        assert!(reason.contains("slot 432011 is not decided"), "{reason}");
        assert!(of(&told, 2, "transactions")["reason"] == "within the epochs to keep");
        assert!(
            of(&told, 3, "transactions")["reason"]
                .as_str()
                .unwrap()
                .contains("newest final slot")
        );
        assert!(of(&told, 0, "blocks")["reason"] == "no rule for it");
    }
    let first = warehouse.export(&root, 0).await;
    warehouse.export(&root, 1).await;

    // A dry run says what --apply would do, and does nothing.
    let (well, told, text) = warehouse.retain(&policy, &[]).await;
    let of_first = old.iter().filter(|(epoch, _)| *epoch == 0).count();
    assert!(!well && told["drop"]["partitions"] == of_first, "{text}");
    assert!(of(&told, 0, "transactions")["rows"] == 9 && told["drop"]["bytes"].as_u64() > Some(0));
    assert!(text.contains("--apply does it"), "{text}");
    assert_eq!(warehouse.contents().await, before);
    assert_eq!(
        warehouse.ask("SELECT count() FROM retention_journal").await,
        "0"
    );

    // A damaged file, a damaged manifest, rows that no archive has: what they are about stays.
    let file = std::fs::read_dir(Path::new(&first).join("transactions")).unwrap();
    let file = file.map(|entry| entry.unwrap().path()).next().unwrap();
    let manifest = Path::new(&first).join("manifest.json");
    for (path, word) in [(&file, "is damaged"), (&manifest, "manifest.json")] {
        let good = std::fs::read(path).unwrap();
        std::fs::write(path, &good[..good.len() - 9]).unwrap();
        let (well, told, text) = warehouse.retain(&policy, &[]).await;
        let told = of(&told, 0, "transactions");
        assert!(!well && told["deed"] == "keep", "{text}");
        assert!(told["reason"].as_str().unwrap().contains(word), "{text}");
        std::fs::write(path, good).unwrap();
    }
    warehouse
        .ask("INSERT INTO account_updates SELECT * REPLACE (1000000000 AS write_version) FROM account_updates WHERE slot = 10")
        .await;
    let (_, told, text) = warehouse.retain(&policy, &[]).await;
    let reason = of(&told, 0, "account_updates")["reason"].as_str().unwrap();
    assert!(reason.contains("export the epoch again"), "{text}");
    warehouse.drop_newest_part(0).await;
    assert_eq!(warehouse.contents().await, before);

    warehouse.decide_the_late_slot().await;
    a_drop_that_broke_off(&warehouse, &policy, &root).await;
    ask(&boss, "SYSTEM START MERGES heliograph.account_updates").await;
    // Killed at every partition in turn, it ends where one run would have; and the stream goes on.
    let killed = async {
        let mut kills = 0;
        while !warehouse
            .retain_until(&policy, "dropping ", 1 + kills % 3)
            .await
        {
            kills += 1;
            assert!(kills < 60);
        }
        kills
    };
    let (kills, ()) = tokio::join!(killed, warehouse.feed(20));
    assert!(kills >= 5, "{kills}");
    let fed = warehouse.contents().await;
    let before: BTreeMap<_, _> = before
        .iter()
        .map(|(place, content)| match place.0 {
            3 => (place.clone(), fed[place].clone()),
            _ => (place.clone(), content.clone()),
        })
        .collect();
    let mut left = before.clone();
    left.retain(|place, _| !old.contains(&place));
    assert_eq!(warehouse.contents().await, left);
    assert_eq!(warehouse.notes("1").await, old.len().to_string());
    let ended = "SELECT count() FROM (SELECT argMax(state, recorded_at) AS newest FROM retention_journal GROUP BY table_name, epoch) WHERE newest != 'dropped'";
    assert_eq!(warehouse.ask(ended).await, "0");
    let of_rows = "table_name = 'transactions' AND epoch = 0 AND rows_dropped = 9 AND endsWith(archive_folder, '/epoch-0') AND length(archive_manifest_sha256) = 64";
    assert_eq!(warehouse.notes(of_rows).await, "1");
    let (well, told, text) = warehouse.retain(&policy, &["--apply"]).await;
    assert!(well && told["drop"]["partitions"] == 0, "{text}");

    history_knows(&warehouse).await;

    // It comes back, equal, and may go and come again; also when a restore was killed, beside which nothing is dropped.
    for kills in [0, 3] {
        for _ in 0..kills {
            assert!(
                !warehouse
                    .killed_at(&["restore", &first], "rows are as they were", 1)
                    .await
            );
        }
        if kills > 0 {
            let away: usize = warehouse.notes("epoch = 0").await.parse().unwrap();
            assert!(away > 0 && away < of_first);
        }
        let (well, text) = warehouse.archive(&["restore", &first]).await;
        assert!(well && text.contains("blocks: is not dropped"), "{text}");
        assert_eq!(warehouse.notes("epoch = 0").await, "0");
        let mut back = before.clone();
        back.retain(|place, _| place.0 != 1 || !old.contains(&place));
        assert_eq!(warehouse.contents().await, back);
        let (well, told, text) = warehouse
            .history(&["verify", "--from", "0", "--to", "12"])
            .await;
        assert!(
            well && told["dropped_by_policy"] == serde_json::json!([]),
            "{text}"
        );
        let (well, told, text) = warehouse.retain(&policy, &["--apply"]).await;
        assert!(well && told["drop"]["partitions"] == of_first, "{text}");
        assert_eq!(warehouse.contents().await, left);
    }
    fetched_again(&warehouse).await;
    warehouse.end().await;
}

/// Some of a partition's parts are gone already: the archive cannot be compared any more, and need not be.
async fn a_drop_that_broke_off(warehouse: &Warehouse, policy: &Path, root: &Path) {
    let parts = "SELECT name FROM system.parts WHERE active AND rows > 0 AND database = 'heliograph' AND table = 'account_updates' AND partition = '1' ORDER BY name";
    let parts = warehouse.ask(parts).await;
    let first = parts.lines().next().unwrap();
    let manifest = std::fs::read(root.join("epoch-1/manifest.json")).unwrap();
    let sha256 = hex::encode(Sha256::digest(&manifest));
    let note = format!(
        "INSERT INTO retention_journal SELECT table, 1, 'dropping', sum(rows), sum(bytes_on_disk), toUInt64(max(greatest(toInt64(max_block_number), toInt64(data_version)))), '', '{sha256}', now64(6) \
         FROM system.parts WHERE active AND database = 'heliograph' AND table = 'account_updates' AND partition = '1' GROUP BY table"
    );
    let due = async || {
        let (_, told, text) = warehouse.retain(policy, &[]).await;
        (of(&told, 1, "account_updates")["deed"].clone(), text)
    };
    assert!(parts.lines().count() > 1, "{parts}");
    assert_eq!(due().await.0, "drop");
    let of_note = warehouse.ask("SELECT count() FROM retention_journal").await;
    assert_eq!(of_note, "0");
    warehouse.ask(&note).await;
    warehouse
        .ask(&format!("ALTER TABLE account_updates DROP PART '{first}'"))
        .await;
    let (deed, text) = due().await;
    assert!(deed == "drop", "{text}");
    // Rows that came in since are no leftovers.
    warehouse
        .ask("INSERT INTO account_updates SELECT * REPLACE (8 AS write_version) FROM account_updates WHERE slot BETWEEN 432000 AND 863999 LIMIT 1")
        .await;
    let (deed, text) = due().await;
    assert!(deed == "keep", "{text}");
    warehouse.drop_newest_part(1).await;
    assert_eq!(due().await.0, "drop");
}

/// Neither a finding nor fetched nor decoded.
async fn history_knows(warehouse: &Warehouse) {
    let (well, told, text) = warehouse
        .history(&["verify", "--from", "0", "--to", "900000"])
        .await;
    assert!(well && told["findings"] == 0, "{text}");
    assert!(
        text.contains("epoch 1: dropped by policy, and not looked for:"),
        "{text}"
    );
    assert_eq!(told["dropped_by_policy"][0]["epoch"], 0);
    let whole = warehouse.contents().await;
    let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
    let file = ["--file", blocks.to_str().unwrap()];
    let span = ["--from", "89", "--to", "112"];
    let (well, told, text) = warehouse
        .history(&[&["backfill"][..], &file, &span].concat())
        .await;
    assert!(
        well && told["stored"] == 0 && told["dropped_by_policy"] == 24,
        "{text}"
    );
    let (well, told, text) = warehouse
        .history(&["redecode", "--from", "0", "--to", "900000"])
        .await;
    // Of epoch 2 alone.
    assert!(well && told["slots"] == 2, "{text}");
    assert_eq!(warehouse.contents().await, whole);
}

/// On request they are; and what is not yet there is missed again.
async fn fetched_again(warehouse: &Warehouse) {
    let sourceless = [
        "backfill",
        "--refetch-dropped",
        "--from",
        "89",
        "--to",
        "112",
    ];
    let (well, _, text) = warehouse.history(&sourceless).await;
    assert!(
        !well && text.contains("name where the blocks come from"),
        "{text}"
    );
    assert_ne!(warehouse.notes("epoch = 0").await, "0");
    let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
    let arguments = [
        "backfill",
        "--refetch-dropped",
        "--from",
        "89",
        "--to",
        "112",
        "--file",
        blocks.to_str().unwrap(),
    ];
    let (well, told, text) = warehouse.history(&arguments).await;
    assert!(well && told["stored"] == 24, "{text}");
    assert_eq!(
        warehouse
            .notes("epoch = 0 AND table_name != 'account_updates'")
            .await,
        "0"
    );
    assert_eq!(
        warehouse
            .notes("epoch = 0 AND table_name = 'account_updates'")
            .await,
        "1"
    );
    let (well, _, text) = warehouse
        .history(&["verify", "--from", "89", "--to", "112"])
        .await;
    assert!(well, "{text}");
    let (well, told, text) = warehouse
        .history(&["verify", "--from", "0", "--to", "12"])
        .await;
    assert!(!well && told["findings"] == 3, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_moved_to_the_cold_volume_stays_readable_and_is_never_lost() {
    let mut warehouse = Warehouse::start(COLD_AND_BACKUP).await;
    warehouse.decide_the_late_slot().await;
    let before = warehouse.contents().await;
    let scratch = tempfile::tempdir().unwrap();
    let policy = scratch.path().join("policy.toml");
    write(&policy, "[default]\ncold_after_epochs = 2\n");
    let disks = "SELECT DISTINCT disk_name, partition FROM system.parts WHERE active AND database = 'heliograph' AND table IN ('transactions', 'instructions') ORDER BY ALL";
    let hot = "default\t0\ndefault\t1\ndefault\t2\ndefault\t3";
    let moved = "cold\t0\ncold\t1\ndefault\t2\ndefault\t3";
    let (well, told, text) = warehouse.retain(&policy, &[]).await;
    assert!(
        well && told["move"]["partitions"].as_u64() > Some(13),
        "{text}"
    );
    assert_eq!(warehouse.ask(disks).await, hot);
    for kill in 0..4 {
        assert!(
            !warehouse
                .retain_until(&policy, "moving ", 1 + kill % 2)
                .await
        );
        assert_eq!(warehouse.contents().await, before);
    }
    let (well, _, text) = warehouse.retain(&policy, &["--apply"]).await;
    assert!(well, "{text}");
    assert_eq!(warehouse.ask(disks).await, moved);
    assert_eq!(warehouse.contents().await, before);
    assert!(
        before
            .keys()
            .any(|(epoch, table)| *epoch == 0 && table == "blocks")
    );
    let blocks = "SELECT DISTINCT disk_name FROM system.parts WHERE active AND database = 'heliograph' AND table = 'blocks'";
    assert_eq!(warehouse.ask(blocks).await, "default");
    let (well, told, text) = warehouse.retain(&policy, &["--apply"]).await;
    assert!(well && told["move"]["partitions"] == 0, "{text}");

    let restarted = tokio::task::spawn_blocking(move || {
        warehouse.door.kill_and_restart();
        warehouse
    });
    warehouse = restarted.await.unwrap();
    assert_eq!(warehouse.contents().await, before);
    assert_eq!(warehouse.ask(disks).await, moved);

    // A backup holds both volumes.
    let boss = warehouse.door.url_of("boss");
    ask(&boss, "BACKUP DATABASE heliograph TO File('both')").await;
    ask(
        &boss,
        "RESTORE DATABASE heliograph AS copied FROM File('both')",
    )
    .await;
    let of = |database: &str| {
        format!(
            "SELECT count(), sum(sipHash64(formatRow('RowBinary', *))) FROM {database}.transactions"
        )
    };
    assert_eq!(
        ask(&boss, &of("copied")).await,
        ask(&boss, &of("heliograph")).await
    );

    // What lies there is archived and dropped like everything else.
    let root = scratch.path().join("archive");
    std::fs::create_dir(&root).unwrap();
    warehouse.export(&root, 0).await;
    write(
        &policy,
        &format!("[default]\nkeep_epochs = 3\ncold_after_epochs = 2\narchive = {root:?}\n"),
    );
    let (well, _, text) = warehouse.retain(&policy, &["--apply"]).await;
    assert!(well, "{text}");
    let mut left = before;
    left.retain(|(epoch, table), _| *epoch > 0 || table == "blocks");
    assert_eq!(warehouse.contents().await, left);

    // Without its disk, and without its setting, the door does not open, and says why.
    let (cold, elsewhere) = (
        warehouse.door.dir().join("cold"),
        warehouse.door.dir().join("elsewhere"),
    );
    let config = warehouse.door.dir().join("door.toml");
    warehouse.door.child.kill();
    std::fs::rename(&cold, &elsewhere).unwrap();
    refuses_to_open(&config, "Is its disk mounted?");
    let whole = std::fs::read_to_string(&config).unwrap();
    write(&config, &whole.replace("cold_path", "# cold_path"));
    refuses_to_open(&config, "engine.cold_path is empty");
    write(&config, &whole);
    std::fs::rename(&elsewhere, &cold).unwrap();
    let restarted = tokio::task::spawn_blocking(move || {
        warehouse.door.kill_and_restart();
        warehouse
    });
    warehouse = restarted.await.unwrap();
    assert_eq!(warehouse.contents().await, left);
    warehouse.end().await;
}

fn refuses_to_open(config: &Path, words: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_warehouse-door"))
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && text.contains(words), "{text}");
}
