//! The same rows into the same table of the same engine by three formats, in turns: what a row costs in processor time, the
//! client's and the door's together, and in time.

use std::{path::Path, time::Instant};

use anyhow::Context;
use bench::report::{Check, Report};
use clickhouse::{Client, Row};
use local_services::{ClickHouseDoor, DoorOptions};
use serde::Serialize;
use serde_json::json;
use warehouse::{
    decode::idl::Idls,
    sink::{BlockRows, InstructionRow, Store, TableBlock},
};

use crate::decode_proof::recorded;

/// Of the warehouse's page, in rows per second of processor time.
const OF_ROW_BINARY: f64 = 1.4;
const OF_JSON: f64 = 3.0;
const TABLE: &str = "instructions";
/// Ticks of /proc/PID/stat per second (USER_HZ).
const TICKS: f64 = 100.0;
/// Bytes handed to the connection at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A row as the `clickhouse` crate sends it.
#[derive(Row, Serialize)]
struct Plain<'r> {
    slot: u64,
    tx_index: u32,
    path: u32,
    stack_height: Option<u8>,
    program: [u8; 32],
    discriminator: u64,
    #[serde(serialize_with = "bytes")]
    data: &'r [u8],
    account_indexes: &'r [u8],
    success: Option<bool>,
    name: &'r str,
    outcome: &'r str,
    decoder_version: u16,
    arguments: &'r str,
    idl: &'r str,
}

fn bytes<S: serde::Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
    out.serialize_bytes(bytes)
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Native,
    RowBinary,
    RowBinaryWithTypes,
    Json,
}

const FORMATS: [(Format, &str); 4] = [
    (Format::Native, "Native (ours)"),
    (Format::RowBinary, "RowBinary (clickhouse)"),
    (Format::RowBinaryWithTypes, "RowBinaryWithNamesAndTypes"),
    (Format::Json, "JSONEachRow"),
];

#[derive(Default)]
struct Figures {
    cpu: Vec<f64>,
    wall: Vec<f64>,
}

pub fn run(folder: &Path, sizes: (usize, usize, usize), as_json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(folder, sizes, as_json))
}

async fn measure(
    folder: &Path,
    (count, rounds, batch): (usize, usize, usize),
    as_json: bool,
) -> anyhow::Result<()> {
    let rows = rows(folder, count)?;
    let door =
        tokio::task::spawn_blocking(|| ClickHouseDoor::start(DoorOptions::default())).await??;
    let database = Client::default().with_url(door.url());
    create(&database).await?;
    let client = database.with_database("ingest");
    let store = Store::new(&door.url(), "ingest", "", "");
    let mut figures: Vec<Figures> = FORMATS.iter().map(|_| Figures::default()).collect();
    let mut content: Option<(u64, u64)> = None;
    for round in 0..rounds {
        for (place, (format, name)) in FORMATS.iter().enumerate() {
            client
                .query(&format!("TRUNCATE TABLE {TABLE} SYNC"))
                .execute()
                .await?;
            let (cpu, started) = (cpu(&door)?, Instant::now());
            for part in rows.instructions.chunks(batch) {
                insert(&store, &client, *format, part).await?;
            }
            figures[place].wall.push(started.elapsed().as_secs_f64());
            figures[place].cpu.push(self::cpu(&door)? - cpu);
            let stored: (u64, u64) = client
                .query(&format!(
                    "SELECT count(), sum(sipHash64(formatRow('RowBinary', *))) FROM {TABLE}"
                ))
                .fetch_one()
                .await?;
            let first = *content.get_or_insert(stored);
            anyhow::ensure!(
                stored == first && stored.0 == rows.instructions.len() as u64,
                "{name} stored {stored:?} instead of {first:?}"
            );
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    tell(&rows, (count, rounds, batch), figures, as_json)
}

fn tell(
    rows: &BlockRows,
    (count, rounds, batch): (usize, usize, usize),
    figures: Vec<Figures>,
    as_json: bool,
) -> anyhow::Result<()> {
    let total = rows.instructions.len() as f64;
    let rates: Vec<(f64, f64)> = figures
        .into_iter()
        .map(|figures| (total / median(figures.cpu), total / median(figures.wall)))
        .collect();
    let (ours, ours_wall) = rates[0];
    println!(
        "{:<28} {:>14} {:>10} {:>12} {:>10}",
        "format", "rows/CPU-s", "ours is", "rows/s", "ours is"
    );
    for ((_, name), (cpu, wall)) in FORMATS.iter().zip(&rates) {
        println!(
            "{name:<28} {cpu:>14.0} {:>9.2}x {wall:>12.0} {:>9.2}x",
            ours / cpu,
            ours_wall / wall
        );
    }
    if as_json {
        let params = json!({"table": TABLE, "rows": count, "rounds": rounds, "batch": batch});
        let mut report = Report::new("warehouse ingest", params);
        for ((_, name), (cpu, wall)) in FORMATS.iter().zip(&rates) {
            report.figure(&format!("{name}: rows per CPU second"), cpu.round());
            report.figure(&format!("{name}: rows per second"), wall.round());
        }
        report.checks.extend([
            Check::at_least("of_row_binary", ours / rates[1].0, OF_ROW_BINARY),
            Check::at_least("of_json_each_row", ours / rates[3].0, OF_JSON),
        ]);
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Instructions of the recorded transactions, in slot after slot until there are so many.
fn rows(folder: &Path, count: usize) -> anyhow::Result<BlockRows> {
    let found = recorded::read(folder);
    let (mut rows, idls) = (BlockRows::default(), Idls::default());
    for (index, recorded) in (0..).zip(&found.transactions) {
        rows.add_transaction(1, index, &recorded.update, None, &idls);
    }
    let once = std::mem::take(&mut rows.instructions);
    anyhow::ensure!(!once.is_empty(), "{}: no transactions", folder.display());
    let slots = (1..).flat_map(|slot| once.iter().map(move |row| (slot, row)));
    for (slot, row) in slots.take(count) {
        let mut row = row.clone();
        row.slot = slot;
        rows.instructions.push(row);
    }
    Ok(rows)
}

/// The table as the sink's own script has it, alone, and without merges, which would fall on whoever comes next.
async fn create(client: &Client) -> anyhow::Result<()> {
    client
        .query("CREATE DATABASE IF NOT EXISTS ingest")
        .execute()
        .await?;
    let client = client.clone().with_database("ingest");
    let scripts = [
        include_str!("../../migrations/0001_core_tables.sql"),
        include_str!("../../migrations/0003_decoded.sql"),
        include_str!("../../migrations/0007_account_indexes.sql"),
    ];
    for statement in scripts.iter().flat_map(|script| script.split(";\n")) {
        let of_table = [
            format!("CREATE TABLE IF NOT EXISTS {TABLE}\n"),
            format!("ALTER TABLE {TABLE}\n"),
        ];
        if of_table.iter().any(|start| statement.contains(start)) {
            let statement = statement.replace('?', "??");
            client
                .query(&statement)
                .execute()
                .await
                .with_context(|| statement.clone())?;
        }
    }
    // No format writes it any more, and the crate would ask for it.
    client
        .query(&format!("ALTER TABLE {TABLE} DROP COLUMN accounts"))
        .execute()
        .await?;
    client
        .query(&format!(
            "ALTER TABLE {TABLE} MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1"
        ))
        .execute()
        .await?;
    Ok(())
}

async fn insert(
    store: &Store,
    client: &Client,
    format: Format,
    rows: &[InstructionRow],
) -> anyhow::Result<()> {
    let client = client
        .clone()
        .with_setting("async_insert", "0")
        .with_setting("max_insert_threads", "1");
    match format {
        // As the sink sends it.
        Format::Native => {
            let fence = "(SELECT count() FROM system.one) = 1";
            let token = uuid::Uuid::new_v4().to_string();
            store
                .insert_if(fence, &TableBlock::of(rows), &token)
                .await?;
        }
        Format::RowBinary | Format::RowBinaryWithTypes => {
            let client = client.with_validation(format == Format::RowBinaryWithTypes);
            let mut insert = client.insert::<Plain<'_>>(TABLE).await?;
            for row in rows {
                insert.write(&plain(row)).await?;
            }
            insert.end().await?;
        }
        Format::Json => {
            let mut insert =
                client.insert_formatted_with(format!("INSERT INTO {TABLE} FORMAT JSONEachRow"));
            let mut text = Vec::with_capacity(2 * PIECE_BYTES);
            for row in rows {
                json_row(row, &mut text);
                if text.len() >= PIECE_BYTES {
                    insert.send(std::mem::take(&mut text).into()).await?;
                    text.reserve(2 * PIECE_BYTES);
                }
            }
            insert.send(text.into()).await?;
            insert.end().await?;
        }
    }
    Ok(())
}

fn plain(row: &InstructionRow) -> Plain<'_> {
    Plain {
        slot: row.slot,
        tx_index: row.tx_index,
        path: row.path,
        stack_height: row.stack_height,
        program: row.program,
        discriminator: row.discriminator,
        data: &row.data.0,
        account_indexes: &row.account_indexes,
        success: row.success,
        name: row.name,
        outcome: row.outcome,
        decoder_version: row.decoder_version,
        arguments: &row.arguments,
        idl: row.idl,
    }
}

/// As short as the format allows: keys as their bytes, which the server takes as they are.
fn json_row(row: &InstructionRow, out: &mut Vec<u8>) {
    use std::io::Write;
    let _ = write!(
        out,
        "{{\"slot\":{},\"tx_index\":{},\"path\":{},\"stack_height\":{},\"discriminator\":{},\"decoder_version\":{},\"success\":{},\"program\":",
        row.slot,
        row.tx_index,
        row.path,
        row.stack_height
            .map_or("null".into(), |height| height.to_string()),
        row.discriminator,
        row.decoder_version,
        row.success
            .map_or("null", |success| if success { "true" } else { "false" }),
    );
    text(&row.program, out);
    for (name, value) in [
        ("data", row.data.0.as_slice()),
        ("name", row.name.as_bytes()),
        ("outcome", row.outcome.as_bytes()),
        ("arguments", row.arguments.as_bytes()),
        ("idl", row.idl.as_bytes()),
    ] {
        let _ = write!(out, ",\"{name}\":");
        text(value, out);
    }
    out.extend_from_slice(b",\"account_indexes\":[");
    for (place, index) in row.account_indexes.iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        let _ = write!(out, "{comma}{index}");
    }
    out.extend_from_slice(b"]}\n");
}

fn text(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Seconds of processor time that this process and the door have taken.
fn cpu(door: &ClickHouseDoor) -> anyhow::Result<f64> {
    let taken = |pid: &str| -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // After the name, which may hold anything: fields 14 and 15.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
        let (user, system) = (ticks(11), ticks(12));
        let sum = user.zip(system).map(|(user, system)| user + system);
        Ok(sum.context("/proc/PID/stat is not understood")? / TICKS)
    };
    Ok(taken("self")? + taken(&door.pid().to_string())?)
}
