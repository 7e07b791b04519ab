//! Past blocks: fetched from a node that serves recorded blocks, from files and archives, proven, repaired, decoded again,
//! through the program that people run and a real engine.

mod built_door;
mod support;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
};

use axum::{Json, Router, extract::State, routing::post};
use built_door::start_door;
use chain_blocks::{ChainBlock, file};
use event_log::{EventLog, MemoryLog};
use event_schema::{
    Slot, Topics,
    proto::{Message as _, geyser::SlotStatus},
};
use local_services::ClickHouseDoor;
use serde_json::{Value, json};
use support::{ask, block_of, create_topics, start_sink, status, until};

const FIRST: u64 = 89;
const LAST: u64 = 112;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks")
}

/// A door with the schema, made by a sink that has stored these blocks of the stream.
async fn door(blocks: &[ChainBlock]) -> ClickHouseDoor {
    let door = start_door().await;
    let (log, topics) = (MemoryLog::new(), Topics::new("heliograph"));
    create_topics(&log, &topics).await.unwrap();
    let writer = log.writer().await.unwrap();
    for block in blocks {
        let slot = block.slot.0;
        let mut records = block_of(&topics, slot, 1, block.transactions.clone());
        records.extend(
            [SlotStatus::SlotConfirmed, SlotStatus::SlotFinalized]
                .map(|to| status(&topics, slot, 1, to)),
        );
        writer.append(records).await.unwrap();
    }
    let (host, sink) = start_sink(&log, &door.url());
    let url = door.url();
    until(
        &url,
        "SELECT count() FROM system.databases WHERE name = 'heliograph'",
        "1",
    )
    .await;
    until(
        &url,
        "SELECT count() > 0 FROM system.tables WHERE name = 'sink_owners'",
        "1",
    )
    .await;
    until(&url, "SELECT count() > 0 FROM heliograph.sink_owners", "1").await;
    let finalized = "SELECT count() FROM heliograph.slot_status FINAL WHERE status = 'finalized'";
    until(&url, finalized, &blocks.len().to_string()).await;
    host.request_drain();
    sink.await.unwrap().unwrap();
    door
}

fn recorded() -> Vec<ChainBlock> {
    (FIRST..=LAST)
        .map(|slot| {
            let name = format!("localnet-{slot}.base64.json.zst");
            let bytes = std::fs::read(folder().join(&name)).unwrap();
            let Ok(file::Content::Block(block)) = file::parse(&name, &bytes) else {
                panic!("{name}");
            };
            ChainBlock::try_from(block).unwrap()
        })
        .collect()
}

/// A node that keeps the recorded blocks; `hidden` ones it has lost.
async fn node(hidden: &'static [u64]) -> String {
    let mut blocks = BTreeMap::new();
    for slot in FIRST..=LAST {
        let file = std::fs::File::open(folder().join(format!("localnet-{slot}.base64.json.zst")));
        let value: Value =
            serde_json::from_reader(zstd::Decoder::new(file.unwrap()).unwrap()).unwrap();
        blocks.insert(slot, value.get("result").cloned().unwrap_or(value));
    }
    let answer = move |State(blocks): State<Arc<BTreeMap<u64, Value>>>,
                       Json(request): Json<Value>| async move {
        let number = |index: usize| request["params"][index].as_u64().unwrap_or_default();
        let id = &request["id"];
        let result = match request["method"].as_str() {
            Some("getFirstAvailableBlock") => json!(0),
            Some("getSlot") => json!(1_000_000),
            Some("getBlocks") => json!(
                blocks
                    .range(number(0)..=number(1))
                    .map(|(slot, _)| slot)
                    .collect::<Vec<_>>()
            ),
            Some("getBlock") if hidden.contains(&number(0)) => {
                return Json(
                    json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32001, "message": "Block cleaned up"}}),
                );
            }
            Some("getBlock") => blocks[&number(0)].clone(),
            _ => panic!("{request}"),
        };
        Json(json!({"jsonrpc": "2.0", "id": id, "result": result}))
    };
    let app = Router::new()
        .route("/", post(answer))
        .with_state(Arc::new(blocks));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn run(door: &ClickHouseDoor, arguments: &[&str]) -> (bool, Value, String) {
    let output: Output = tokio::process::Command::new(env!("CARGO_BIN_EXE_warehouse-history"))
        .args(["--url", &door.url(), "--json"])
        .args(arguments)
        .env_remove("HELIOGRAPH_RPC_URLS")
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = text.trim_end().rsplit('\n').next().unwrap_or_default();
    let json = serde_json::from_str(last).unwrap_or(Value::Null);
    (output.status.success(), json, format!("{text}{errors}"))
}

/// Count and checksum of every table with slots, but for what says where a block came from.
async fn contents(door: &ClickHouseDoor) -> BTreeMap<String, String> {
    let url = format!("{}/?database=heliograph", door.url());
    let tables = "SELECT table FROM system.columns WHERE database = 'heliograph' AND name = 'slot' AND table IN (SELECT name FROM system.tables WHERE database = 'heliograph' AND engine LIKE '%MergeTree') ORDER BY table";
    let mut found = BTreeMap::new();
    for table in ask(&url, tables).await.lines() {
        let columns = match table {
            "blocks" => "slot, blockhash, parent_slot, block_time, transactions",
            "slot_status" => "slot, blockhash, status",
            _ => "*",
        };
        let sql = format!(
            "SELECT count(), sum(sipHash64(formatRow('RowBinary', {columns}))) FROM {table}"
        );
        found.insert(table.to_owned(), ask(&url, &sql).await);
    }
    assert!(found.len() >= 12, "{found:?}");
    found
}

async fn execute(door: &ClickHouseDoor, sql: &str) {
    ask(&format!("{}/?database=heliograph", door.url()), sql).await;
}

const SPAN: [&str; 4] = ["--from", "89", "--to", "112"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_fills_an_empty_warehouse_and_repairs_a_damaged_one() {
    let door = door(&[]).await;
    let url = node(&[]).await;
    let (well, told, text) = run(&door, &[&["backfill", "--rpc", &url][..], &SPAN].concat()).await;
    assert!(
        well && told["stored"] == 24 && told["transactions"] == 129,
        "{text}"
    );
    let whole = contents(&door).await;
    assert!(whole["transactions"].starts_with("129\t"), "{whole:?}");
    assert_eq!(whole["transactions_raw"].split('\t').next(), Some("129"));
    let (well, told, text) = run(&door, &[&["verify", "--rpc", &url][..], &SPAN].concat()).await;
    assert!(
        well && told["findings"] == 0 && told["blocks_on_chain"] == 24,
        "{text}"
    );

    // Again: nothing is fetched, nothing changes.
    let (well, told, text) = run(&door, &[&["backfill", "--rpc", &url][..], &SPAN].concat()).await;
    assert!(
        well && told["stored"] == 0 && told["replaced"] == 0,
        "{text}"
    );
    assert_eq!(contents(&door).await, whole);

    for damage in [
        "DELETE FROM instructions WHERE slot = 92",
        "DELETE FROM transactions WHERE slot = 95 AND tx_index = 0",
        "DELETE FROM slot_status WHERE slot = 97",
        "DELETE FROM transactions_raw WHERE slot = 110",
        // A slot whose own row is gone, as a run leaves it that broke off; and one that is gone whole.
        "DELETE FROM blocks WHERE slot = 99",
        "DELETE FROM blocks WHERE slot = 101",
        "DELETE FROM transactions WHERE slot = 101",
        "DELETE FROM transactions_raw WHERE slot = 101",
        "DELETE FROM instructions WHERE slot = 101",
    ] {
        execute(&door, damage).await;
    }
    let (well, told, text) = run(&door, &[&["verify"][..], &SPAN].concat()).await;
    assert!(!well && told["blocks_on_chain"].is_null(), "{text}");
    let (well, told, text) = run(&door, &[&["verify", "--rpc", &url][..], &SPAN].concat()).await;
    let slots: Vec<u64> = told["slots"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|finding| finding["slot"].as_u64())
        .collect();
    assert!(!well && slots == [92, 95, 97, 99, 101, 110], "{text}");
    let (well, told, text) = run(
        &door,
        &[&["verify", "--repair", "--rpc", &url][..], &SPAN].concat(),
    )
    .await;
    assert!(well && told["left"] == 0, "{text}");
    assert_eq!(contents(&door).await, whole);
}

/// Below the sink's bound all rows are shown as final, except of slots that somebody began to write and did not end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_broke_off_is_in_no_final_view_until_it_is_whole() {
    // The stream is far beyond these slots, in every partition.
    let mut stream: Vec<ChainBlock> = recorded().into_iter().take(8).collect();
    for (block, slot) in stream.iter_mut().zip(1_000..) {
        block.slot = Slot(slot);
    }
    let door = door(&stream).await;
    let url = node(&[]).await;
    let backfill = [&["backfill", "--rpc", &url][..], &SPAN].concat();
    let (well, told, text) = run(&door, &backfill).await;
    assert!(
        well && told["stored"] == 24 && told["withheld"] == 0,
        "{text}"
    );
    let count = |condition: &str| {
        format!(
            "SELECT (SELECT decided_below FROM heliograph.finality) > {LAST}, (SELECT count() FROM heliograph.slots_withheld), \
             count(), uniqExact(slot) FROM heliograph.transactions_finalized WHERE {condition}"
        )
    };
    let all = format!("slot <= {LAST}");
    let whole = ask(&door.url(), &count(&all)).await;
    assert!(whole.starts_with("1\t0\t129\t"), "{whole}");

    // As a run leaves it that was killed while it replaced two slots.
    let begun = [
        "INSERT INTO slots_in_work VALUES ('history-killed-1', 95, 96, false, now64(3))",
        "DELETE FROM transactions WHERE slot = 95 AND tx_index = 0",
    ];
    for statement in begun {
        execute(&door, statement).await;
    }
    let shown = ask(&door.url(), &count("slot IN (95, 96)")).await;
    assert_eq!(shown, "1\t2\t0\t0");
    // A run that does not touch them says so.
    let elsewhere = ["backfill", "--rpc", &url, "--from", "100", "--to", "101"];
    let (_, told, text) = run(&door, &elsewhere).await;
    assert_eq!(told["withheld"], 1, "{text}");
    assert!(text.contains("no view of final rows shows them"), "{text}");

    let (well, told, text) = run(&door, &backfill).await;
    assert!(
        well && told["replaced"] == 1 && told["withheld"] == 0,
        "{text}"
    );
    assert_eq!(ask(&door.url(), &count(&all)).await, whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_dropped_stays_away_until_it_is_asked_for() {
    let door = door(&[]).await;
    let url = node(&[]).await;
    let backfill = [&["backfill", "--rpc", &url][..], &SPAN].concat();
    let (well, _, text) = run(&door, &backfill).await;
    assert!(well, "{text}");
    let whole = contents(&door).await;
    execute(&door, "INSERT INTO retention_journal (table_name, epoch, state) VALUES ('instructions', 0, 'dropping')").await;
    execute(&door, "ALTER TABLE instructions DROP PARTITION ID '0'").await;
    let left = contents(&door).await;

    let verify = [&["verify", "--rpc", &url][..], &SPAN].concat();
    let (well, told, text) = run(&door, &verify).await;
    assert!(
        well && told["dropped_by_policy"][0]["tables"][0] == "instructions",
        "{text}"
    );
    let (well, told, text) = run(&door, &backfill).await;
    assert!(
        well && told["stored"] == 0 && told["dropped_by_policy"] == 24,
        "{text}"
    );
    let (well, told, text) = run(&door, &[&["redecode"][..], &SPAN].concat()).await;
    assert!(
        well && told["slots"] == 0 && told["dropped_by_policy"] == 24,
        "{text}"
    );
    assert_eq!(contents(&door).await, left);

    // A true hole is told; storing its block would bring instructions back, so it is not filled.
    execute(&door, "DELETE FROM transactions_raw WHERE slot = 99").await;
    let (well, told, text) = run(&door, &[&verify[..], &["--repair"]].concat()).await;
    assert!(
        !well && told["findings"] == 1 && text.contains("restore it from its archive"),
        "{text}"
    );
    assert_eq!(contents(&door).await["instructions"], left["instructions"]);

    let (well, told, text) = run(&door, &[&backfill[..], &["--refetch-dropped"]].concat()).await;
    assert!(well && told["dropped_by_policy"] == 0, "{text}");
    assert_eq!(contents(&door).await, whole);
    let (well, told, text) = run(&door, &verify).await;
    assert!(
        well && told["dropped_by_policy"].as_array().unwrap().is_empty(),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_has_lost_is_said_and_files_give_it() {
    let door = door(&[]).await;
    let url = node(&[100]).await;
    let span = ["--from", "98", "--to", "102"];
    let (well, told, text) = run(&door, &[&["backfill", "--rpc", &url][..], &span].concat()).await;
    assert!(!well && told["stored"] == 4, "{text}");
    assert_eq!(told["failed"][0]["slot"], 100, "{text}");
    assert!(
        text.contains("slot 100: could not be had") && text.contains("cleaned up"),
        "{text}"
    );
    let files = folder();
    let files = files.to_str().unwrap();
    let (well, told, text) =
        run(&door, &[&["backfill", "--file", files][..], &SPAN].concat()).await;
    assert!(well && told["stored"] == 20 && told["known"] == 4, "{text}");
    let (well, _, text) = run(&door, &[&["verify"][..], &SPAN].concat()).await;
    assert!(well, "{text}");

    let (well, _, text) = run(&door, &[&["backfill"][..], &SPAN].concat()).await;
    assert!(
        !well && text.contains("--rpc URL, --file PATH or --archive PATH"),
        "{text}"
    );
    let (well, _, text) = run(
        &door,
        &["backfill", "--file", files, "--from", "9", "--to", "2"],
    )
    .await;
    assert!(
        !well && text.contains("--from 9 is behind --to 2"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_goes_first() {
    let blocks = recorded();
    let door = door(&blocks[..20]).await;
    let url = node(&[]).await;
    let (well, _, text) = run(&door, &[&["backfill", "--rpc", &url][..], &SPAN].concat()).await;
    assert!(!well && text.contains("--beside-the-stream"), "{text}");
    // The stream's own blocks have other hashes here than the node's: final ones are never overwritten.
    let before = contents(&door).await;
    let files = folder();
    let arguments = [
        "backfill",
        "--beside-the-stream",
        "--file",
        files.to_str().unwrap(),
    ];
    let (well, told, text) = run(
        &door,
        &[&arguments[..], &["--from", "89", "--to", "100"]].concat(),
    )
    .await;
    assert!(
        !well && told["stored"] == 0 && told["refused"].as_array().unwrap().len() == 12,
        "{text}"
    );
    assert!(text.contains("is stored as final"), "{text}");
    assert_eq!(contents(&door).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decoding_again_gives_the_same_rows_also_after_a_run_that_broke_off() {
    let blocks = recorded();
    let door = door(&blocks).await;
    // What accounts state is not in the raw form: it stays.
    for statement in [
        "INSERT INTO mint_states (mint, slot, source, states, supply) VALUES (repeat('m', 32), 100, 'account', ['supply'], 7)",
        "INSERT INTO program_states (account, slot, source) VALUES (repeat('p', 32), 100, 'account')",
    ] {
        execute(&door, statement).await;
    }
    let whole = contents(&door).await;
    // What the raw form gives back, signatures that end with a zero included.
    let told: Vec<String> = blocks
        .iter()
        .flat_map(|block| &block.transactions)
        .map(|info| hex::encode_upper(info.transaction.as_ref().unwrap().encode_to_vec()))
        .collect();
    let url = format!("{}/?database=heliograph", door.url());
    let sql = "SELECT hex(transaction) FROM transactions_whole ORDER BY slot, tx_index";
    assert_eq!(ask(&url, sql).await.lines().collect::<Vec<_>>(), told);
    assert!(
        blocks
            .iter()
            .flat_map(|block| &block.transactions)
            .any(|info| info.signature.ends_with(&[0]))
    );
    execute(&door, "DELETE FROM instructions WHERE tx_index % 2 = 0").await;
    execute(&door, "DELETE FROM balance_changes WHERE slot = 100").await;
    execute(
        &door,
        "DELETE FROM mint_states WHERE source = 'instruction'",
    )
    .await;
    execute(
        &door,
        "ALTER TABLE transactions UPDATE base_fee = 77 WHERE 1 SETTINGS mutations_sync = 1",
    )
    .await;
    assert_ne!(contents(&door).await, whole);
    let (well, told, text) = run(&door, &[&["redecode"][..], &SPAN].concat()).await;
    assert!(
        well && told["slots"] == 24 && told["transactions"] == 129,
        "{text}"
    );
    assert_eq!(contents(&door).await, whole);

    // As a run leaves it that is killed when the old rows are gone.
    for step in [
        "CREATE TABLE redecode_staging AS transactions ENGINE = MergeTree ORDER BY (slot, tx_index)",
        "INSERT INTO redecode_staging SELECT * FROM transactions WHERE slot IN (90, 91)",
        "DELETE FROM instructions WHERE slot IN (90, 91)",
        "DELETE FROM transactions WHERE slot IN (90, 91)",
        // And one that is killed later on, when all transactions are there.
        "INSERT INTO slots_in_work VALUES ('redecode-killed-0', 92, 93, false, now64(3))",
        "DELETE FROM balance_changes WHERE slot IN (92, 93)",
    ] {
        execute(&door, step).await;
    }
    let withheld = "SELECT count() FROM heliograph.slots_withheld";
    let files = folder();
    let backfill = ["backfill", "--file", files.to_str().unwrap()];
    run(
        &door,
        &[&backfill[..], &["--from", "92", "--to", "93"]].concat(),
    )
    .await;
    assert_eq!(ask(&door.url(), withheld).await, "2");
    let (well, _, text) = run(&door, &["redecode", "--from", "105", "--to", "105"]).await;
    assert!(
        well && text.contains("broke off, at slots [90, 91]"),
        "{text}"
    );
    assert_eq!(contents(&door).await, whole);
    assert_eq!(ask(&door.url(), withheld).await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_of_the_first_blocks() {
    let Some(data) = std::env::var_os("HELIOGRAPH_DATA").map(PathBuf::from) else {
        eprintln!("SKIPPED: HELIOGRAPH_DATA is not set; no recorded archive was stored");
        return;
    };
    let door = door(&[]).await;
    let archive = data.join("blocks/mainnet-epoch0-part1.car");
    let archive = archive.to_str().unwrap();
    let arguments = ["backfill", "--archive", archive, "--from", "0", "--to", "9"];
    let (well, told, text) = run(&door, &arguments).await;
    assert!(
        well && told["stored"] == 10 && told["transactions"] == 34,
        "{text}"
    );
    let (well, _, text) = run(&door, &["verify", "--from", "0", "--to", "9"]).await;
    assert!(well, "{text}");
    let url = format!("{}/?database=heliograph", door.url());
    let unknown = "SELECT count(), countIf(fee IS NULL), countIf(success IS NULL), countIf(is_vote) FROM transactions";
    assert_eq!(ask(&url, unknown).await, "34\t34\t34\t34");

    let cut = tempfile::NamedTempFile::new().unwrap();
    let bytes = std::fs::read(archive).unwrap();
    std::fs::write(cut.path(), &bytes[..bytes.len() / 2]).unwrap();
    let path = cut.path().to_str().unwrap();
    let (well, _, text) = run(
        &door,
        &["backfill", "--archive", path, "--from", "0", "--to", "9"],
    )
    .await;
    assert!(
        !well && text.contains("byte ") && text.contains("truncated"),
        "{text}"
    );
}
