//! Bytes on disk per transaction: every column of every table, beside a plain schema of the same rows in the same engine.

use std::path::Path;

use anyhow::Context;
use bench::report::{Check, Report};
use clickhouse::{Client, Row};
use local_services::{ClickHouseDoor, DoorOptions};
use serde::Deserialize;
use serde_json::json;

use crate::{decode_proof::recorded, stored::load};

/// Of the warehouse's page: bytes of a non-vote transaction in all tables but the raw one.
const CORE_BYTES: f64 = 200.0;
/// And of what a plain schema takes.
const OF_PLAIN: f64 = 0.4;
/// What is kept beside the core: the raw messages, and writes of accounts, which are not of transactions.
const BESIDE: &[&str] = &["transactions_raw", "account_updates"];
/// Columns told one by one.
const TOLD: usize = 20;

#[derive(Row, Deserialize, Clone)]
struct Column {
    table: String,
    column: String,
    rows: u64,
    bytes: u64,
}

pub fn run(folder: &Path, as_json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(folder, as_json))
}

async fn measure(folder: &Path, as_json: bool) -> anyhow::Result<()> {
    let found = recorded::read(folder);
    let door =
        tokio::task::spawn_blocking(|| ClickHouseDoor::start(DoorOptions::default())).await??;
    let client = Client::default()
        .with_url(door.url())
        .with_database("heliograph");
    let (transactions, votes) = load(&found, &client, &door.url()).await?;
    let ours = columns(&client, "heliograph").await?;
    plain(&client, &ours).await?;
    let theirs = columns(&client, "plain").await?;

    let of = |columns: &[Column], table: Option<&str>, beside: bool| -> f64 {
        let counted = columns.iter().filter(|column| match table {
            Some(table) => column.table == table,
            None => beside == BESIDE.contains(&column.table.as_str()),
        });
        counted.map(|column| column.bytes).sum::<u64>() as f64
    };
    let others = (transactions - votes).max(1) as f64;
    println!(
        "{} blocks, {transactions} transactions, {votes} of them votes; bytes after OPTIMIZE FINAL, per non-vote transaction",
        found.blocks.len()
    );
    println!(
        "{:<20} {:>9} {:>10} {:>10} {:>7}",
        "table", "rows", "ours", "plain", "ratio"
    );
    let mut tables: Vec<&str> = ours.iter().map(|column| column.table.as_str()).collect();
    tables.dedup();
    for table in tables {
        let rows = ours.iter().find(|column| column.table == table);
        let (a, b) = (
            of(&ours, Some(table), false),
            of(&theirs, Some(table), false),
        );
        println!(
            "{table:<20} {:>9} {:>10.1} {:>10.1} {:>7.2}",
            rows.map_or(0, |column| column.rows),
            a / others,
            b / others,
            a / b.max(1.0)
        );
    }
    let (core, core_plain) = (of(&ours, None, false), of(&theirs, None, false));
    println!(
        "core (without {}): {:.1} bytes, plain {:.1}, ratio {:.2}; raw messages {:.1}",
        BESIDE.join(" and "),
        core / others,
        core_plain / others,
        core / core_plain,
        of(&ours, Some("transactions_raw"), false) / others,
    );
    let mut largest = ours.clone();
    largest.sort_by_key(|column| std::cmp::Reverse(column.bytes));
    for column in largest.iter().take(TOLD) {
        println!(
            "{:>10.1}  {}.{}",
            column.bytes as f64 / others,
            column.table,
            column.column
        );
    }
    if as_json {
        let mut report = Report::new("warehouse bytes", json!({"data": folder}));
        report.figure("transactions", transactions);
        report.figure("votes", votes);
        report.figure("core_bytes_per_non_vote_transaction", core / others);
        report.figure("plain_bytes_per_non_vote_transaction", core_plain / others);
        report.figure(
            "raw_bytes_per_non_vote_transaction",
            of(&ours, Some("transactions_raw"), false) / others,
        );
        let ledger: serde_json::Map<_, _> = ours
            .iter()
            .map(|column| {
                let name = format!("{}.{}", column.table, column.column);
                (name, json!(column.bytes))
            })
            .collect();
        report.figure("bytes_by_column", ledger);
        report.checks.extend([
            Check::at_most(
                "core_bytes_per_non_vote_transaction",
                core / others,
                CORE_BYTES,
            ),
            Check::at_most("of_plain", core / core_plain, OF_PLAIN),
        ]);
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// Bytes of every column, compressed, with its marks. Merged first.
async fn columns(client: &Client, database: &str) -> anyhow::Result<Vec<Column>> {
    let tables: Vec<String> = client
        .query(
            "SELECT DISTINCT table FROM system.columns WHERE database = ? AND name = 'slot' \
             AND table IN (SELECT name FROM system.tables WHERE database = ? AND engine LIKE '%MergeTree') AND table != 'slot_status'",
        )
        .bind(database)
        .bind(database)
        .fetch_all()
        .await?;
    for table in &tables {
        // Small parts keep all columns in one file, which has no bytes by column.
        client
            .query(&format!("ALTER TABLE {database}.{table} MODIFY SETTING min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0"))
            .execute()
            .await?;
        client
            .query(&format!("OPTIMIZE TABLE {database}.{table} FINAL"))
            .execute()
            .await
            .with_context(|| table.clone())?;
    }
    // The first index of a part and its skip indexes belong to no column.
    let sql = "SELECT table, column, rows, bytes FROM (SELECT table, column, sum(rows) AS rows, sum(column_bytes_on_disk) AS bytes FROM system.parts_columns WHERE database = ? AND active AND table IN ? GROUP BY table, column
         UNION ALL
         SELECT table, 'indexes' AS column, toUInt64(0) AS rows, sum(primary_key_size) + sum(secondary_indices_compressed_bytes) AS bytes FROM system.parts WHERE database = ? AND active AND table IN ? GROUP BY table)
         ORDER BY table, rows DESC, column";
    Ok(client
        .query(sql)
        .bind(database)
        .bind(&tables)
        .bind(database)
        .bind(&tables)
        .fetch_all()
        .await?)
}

/// The same rows as a plain schema has them: keys as base58 text, the signature in every table, no codecs.
async fn plain(client: &Client, ours: &[Column]) -> anyhow::Result<()> {
    client
        .query("CREATE DATABASE IF NOT EXISTS plain")
        .execute()
        .await?;
    let mut tables: Vec<&str> = ours.iter().map(|column| column.table.as_str()).collect();
    tables.dedup();
    for table in tables.into_iter().filter(|table| !BESIDE.contains(table)) {
        let source = match table {
            "instructions" => "instructions_with_accounts",
            table => table,
        };
        let columns: Vec<(String, String)> = client
            .query(
                "SELECT name, type FROM system.columns WHERE database = 'heliograph' AND table = ? \
                 AND default_kind NOT IN ('ALIAS', 'MATERIALIZED') ORDER BY position",
            )
            .bind(source)
            .fetch_all()
            .await?;
        let mut chosen: Vec<String> = columns
            .iter()
            .map(|(name, kind)| plain_column(name, kind))
            .collect();
        let of_transaction = columns.iter().any(|(name, _)| name == "tx_index");
        let join = if of_transaction && table != "transactions" {
            chosen.push("base58Encode(known.signature) AS tx_signature".into());
            "LEFT JOIN (SELECT slot, tx_index, signature FROM heliograph.transactions) AS known ON known.slot = ours.slot AND known.tx_index = ours.tx_index"
        } else {
            ""
        };
        let sql = format!(
            "CREATE TABLE plain.{table} ENGINE = MergeTree PARTITION BY intDiv(slot, 432000) ORDER BY slot SETTINGS allow_nullable_key = 1 AS SELECT {} FROM heliograph.{source} AS ours {join} ORDER BY slot",
            chosen.join(", ")
        );
        client
            .query(&sql)
            .execute()
            .await
            .with_context(|| table.to_owned())?;
    }
    Ok(())
}

fn plain_column(name: &str, kind: &str) -> String {
    let column = format!("ours.{name}");
    let text = match (kind.contains("FixedString"), kind) {
        (true, kind) if kind.starts_with("Array") => {
            format!("arrayMap(key -> base58Encode(key), {column})")
        }
        (true, kind) if kind.contains("Nullable") => {
            format!("if(isNull({column}), NULL, base58Encode(assumeNotNull({column})))")
        }
        (true, _) => format!("base58Encode({column})"),
        (false, "LowCardinality(String)") => format!("CAST({column} AS String)"),
        _ => column,
    };
    format!("{text} AS {name}")
}
