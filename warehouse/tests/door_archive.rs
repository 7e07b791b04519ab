//! Backups by the engine, and archives by `warehouse-archive`: what comes back is what was there.

mod door_process;
mod support;

use std::{path::Path, process::Command, sync::OnceLock};

use door_process::{Door, PASSWORD};
use support::{ask, post};

fn door() -> &'static Door {
    static DOOR: OnceLock<Door> = OnceLock::new();
    DOOR.get_or_init(|| Door::with("[backup]\ndir = \"DIR/backups\"\n"))
}

const COLUMNS: &str = "slot UInt64, at UInt32, raw FixedString(4), text String, maybe Nullable(UInt64), word LowCardinality(Nullable(String)), \
    list Array(LowCardinality(FixedString(4))), wide Int128, unsigned UInt128, time Nullable(DateTime('UTC')), milli DateTime64(3, 'UTC'), \
    flag Bool, state Enum8('a' = 1, 'b' = 2), nested Array(Array(UInt16)), alias_of String ALIAS hex(raw)";

/// Rows with every awkward value: raw bytes that are no UTF-8, NULLs, extremes.
const ROWS: &str = "SELECT number DIV 10, number % 10, reinterpretAsFixedString(toUInt32(number * 2654435761)), unhex('0a0aff00') || toString(number), \
    if(number % 3 = 0, NULL, number * 1000000007), if(number % 5 = 0, NULL, toString(number % 7)), \
    [reinterpretAsFixedString(toUInt32(4278190080 + number))], toInt128(number) - toInt128('170141183460469231731687303715884105728') + 1, \
    toUInt128('340282366920938463463374607431768211455') - number, if(number % 2 = 0, NULL, toDateTime(1700000000 + number, 'UTC')), \
    toDateTime64(1700000000.123, 3, 'UTC'), number % 2, if(number % 2 = 0, 'a', 'b'), [[number % 65536], []] FROM numbers(5000)";

const CONTENT: &str = "SELECT count(), sum(sipHash64(formatRow('RowBinary', *)))";

async fn fill(boss: &str, database: &str) {
    ask(boss, &format!("CREATE DATABASE IF NOT EXISTS {database}")).await;
    ask(boss, &format!("CREATE TABLE {database}.rows ({COLUMNS}) ENGINE = ReplacingMergeTree PARTITION BY slot DIV 100 ORDER BY (slot, at) SETTINGS non_replicated_deduplication_window = 100")).await;
    ask(
        boss,
        &format!("CREATE TABLE {database}.empty (slot UInt64) ENGINE = MergeTree ORDER BY slot"),
    )
    .await;
    ask(
        boss,
        &format!("CREATE TABLE {database}.slotless (a UInt64) ENGINE = MergeTree ORDER BY a"),
    )
    .await;
    // Twice: what is stored twice is archived once.
    for _ in 0..2 {
        ask(
            boss,
            &format!("INSERT INTO {database}.rows SETTINGS insert_deduplicate = 0 {ROWS}"),
        )
        .await;
    }
    ask(
        boss,
        &format!("INSERT INTO {database}.slotless SELECT number FROM numbers(10)"),
    )
    .await;
}

#[tokio::test]
async fn a_backup_comes_back_equal() {
    let door = tokio::task::spawn_blocking(door).await.unwrap();
    let boss = door.url_of("boss");
    fill(&boss, "backed").await;
    let content = format!("{CONTENT} FROM backed.rows");
    let before = ask(&boss, &content).await;
    assert!(
        ask(&boss, "BACKUP DATABASE backed TO File('full')")
            .await
            .ends_with("BACKUP_CREATED")
    );
    ask(&boss, "INSERT INTO backed.slotless VALUES (77)").await;
    // The next one stores what is new only.
    ask(
        &boss,
        "BACKUP DATABASE backed TO File('next') SETTINGS base_backup = File('full')",
    )
    .await;
    ask(&boss, "DROP DATABASE backed SYNC").await;
    assert!(
        ask(&boss, "RESTORE DATABASE backed FROM File('next')")
            .await
            .ends_with("RESTORED")
    );
    assert_eq!(ask(&boss, &content).await, before);
    assert_eq!(
        ask(&boss, "SELECT count() FROM backed.slotless").await,
        "11"
    );
    // Into another name, beside the living one.
    ask(
        &boss,
        "RESTORE DATABASE backed AS backed_before FROM File('full')",
    )
    .await;
    assert_eq!(
        ask(&boss, "SELECT count() FROM backed_before.slotless").await,
        "10"
    );
    for (user, sql) in [
        ("writer", "BACKUP DATABASE backed TO File('mine')"),
        ("analyst", "BACKUP DATABASE backed TO File('mine')"),
        ("boss", "BACKUP DATABASE backed TO File('/tmp/elsewhere')"),
        ("boss", "BACKUP DATABASE backed TO File('../elsewhere')"),
        (
            "boss",
            "BACKUP DATABASE backed TO S3('http://127.0.0.1:9/x', 'a', 'b')",
        ),
        ("boss", "RESTORE DATABASE backed AS other FROM File('none')"),
    ] {
        let (status, text) = post(&door.url_of(user), sql).await;
        assert!(status >= 400, "{user}: {sql}: {text}");
    }
}

fn archive(door: &Door, database: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_warehouse-archive"))
        .args(arguments)
        .env("HELIOGRAPH_SQL_URL", door.url())
        .env("HELIOGRAPH_SQL_USER", "boss")
        .env("HELIOGRAPH_SQL_PASSWORD", PASSWORD)
        .env("HELIOGRAPH_SQL_DATABASE", database)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn good(door: &Door, database: &str, arguments: &[&str]) -> String {
    let (success, text) = archive(door, database, arguments);
    assert!(success, "{arguments:?}: {text}");
    text
}

fn refused(door: &Door, database: &str, arguments: &[&str], words: &str) {
    let (success, text) = archive(door, database, arguments);
    assert!(!success && text.contains(words), "{arguments:?}: {text}");
}

fn parquet_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder.join("rows"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

#[test]
fn an_archive_comes_back_equal_or_not_at_all() {
    let door = door();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let boss = door.url_of("boss");
    let ask = |sql: &str| runtime.block_on(ask(&boss, sql));
    runtime.block_on(fill(&boss, "archived"));
    let whole = format!("{CONTENT} FROM archived.rows FINAL");
    let middle = format!("{whole} WHERE slot BETWEEN 100 AND 299");
    let before = (ask(&whole), ask(&middle));
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("epoch-1");
    let at = folder.to_str().unwrap();
    // Epoch 1 of 100 slots and a range: slots 100 to 199, and to 299.
    good(
        door,
        "archived",
        &[
            "export",
            scratch.path().join("short").to_str().unwrap(),
            "--epoch",
            "1",
            "--slots-per-epoch",
            "100",
        ],
    );
    let said = good(
        door,
        "archived",
        &[
            "export",
            at,
            "--from-slot",
            "100",
            "--to-slot",
            "299",
            "--rows-per-file",
            "300",
        ],
    );
    assert!(
        said.contains("rows: 2000 rows, 7 files")
            && said.contains("empty: 0 rows, 0 files")
            && !said.contains("slotless"),
        "{said}"
    );
    good(door, "archived", &["verify", at]);
    refused(
        door,
        "archived",
        &["export", at, "--from-slot", "100", "--to-slot", "299"],
        "folder of its own",
    );
    refused(
        door,
        "archived",
        &["restore", at],
        "2000 rows in slots 100 to 299 already",
    );
    ask("DELETE FROM archived.rows WHERE slot BETWEEN 100 AND 299");
    assert_ne!(ask(&whole), before.0);
    good(door, "archived", &["restore", at]);
    assert_eq!((ask(&whole), ask(&middle)), before);
    // A second time, beside the rows: equal keys collapse, and it is equal again.
    good(door, "archived", &["restore", at, "--into-existing"]);
    assert_eq!(ask(&whole), before.0);

    // What was restored and deleted comes back once more: its tokens are known, its rows are not there.
    ask("DELETE FROM archived.rows WHERE slot BETWEEN 100 AND 299");
    good(door, "archived", &["restore", at]);
    assert_eq!(ask(&whole), before.0);

    // Another schema is refused before anything is written.
    ask("DELETE FROM archived.rows WHERE slot BETWEEN 100 AND 299");
    ask("ALTER TABLE archived.rows ADD COLUMN later UInt8");
    refused(
        door,
        "archived",
        &["restore", at],
        "bring the schema to the version",
    );
    ask("ALTER TABLE archived.rows DROP COLUMN later");
    // So is a damaged file, a missing one, and a folder without a manifest.
    let file = parquet_files(&folder).remove(3);
    let bytes = std::fs::read(&file).unwrap();
    let mut damaged = bytes.clone();
    let half = damaged.len() / 2;
    damaged[half] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    refused(door, "archived", &["verify", at], "is damaged");
    refused(door, "archived", &["restore", at], "is damaged");
    std::fs::remove_file(&file).unwrap();
    refused(door, "archived", &["restore", at], "parquet");
    assert_eq!(
        ask("SELECT count() FROM archived.rows WHERE slot BETWEEN 100 AND 299"),
        "0"
    );
    std::fs::write(&file, &bytes).unwrap();
    // A manifest that lies about rows is found out by the comparison after the restore.
    let manifest = folder.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let content = text
        .split("\"content\": \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    std::fs::write(&manifest, text.replace(&content, "12345")).unwrap();
    refused(door, "archived", &["restore", at], "after the restore");
    std::fs::remove_file(&manifest).unwrap();
    refused(
        door,
        "archived",
        &["verify", at],
        "was its export finished?",
    );
}
