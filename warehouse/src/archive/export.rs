//! Tables into files, and the manifest last.

use std::{fs::File, io::Write, path::Path};

use anyhow::{Context, ensure};
use clickhouse::Client;
use sha2::{Digest, Sha256};

use super::{
    COLLAPSED, Export, content,
    manifest::{FORMAT_VERSION, Manifest, ParquetFile, Table},
    plan::{Range, ranges},
};
use crate::{engine::quote_identifier, sink::is_rollup};

pub async fn export(client: &Client, options: &Export) -> anyhow::Result<()> {
    let range = match (options.epoch, options.from_slot, options.to_slot) {
        (Some(epoch), ..) => Range {
            from: epoch * options.slots_per_epoch,
            to: (epoch + 1) * options.slots_per_epoch - 1,
        },
        (None, Some(from), Some(to)) => Range { from, to },
        _ => anyhow::bail!("name --epoch, or --from-slot and --to-slot"),
    };
    ensure!(
        range.from <= range.to,
        "--from-slot {} is behind --to-slot {}",
        range.from,
        range.to
    );
    let folder = &options.folder;
    std::fs::create_dir(folder)
        .with_context(|| format!("{}: an export wants a folder of its own", folder.display()))?;
    let engine_version: String = client
        .query("SELECT version()")
        .fetch_one()
        .await
        .context("the server does not answer")?;
    let mut tables = Vec::new();
    for (name, columns) in tables_with_slots(client, &options.table).await? {
        let table = export_table(client, folder, &name, columns, range, options).await?;
        let bytes: u64 = table.files.iter().map(|file| file.bytes).sum();
        println!(
            "{name}: {} rows, {} files, {bytes} bytes",
            table.rows,
            table.files.len()
        );
        tables.push(table);
    }
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        engine_version,
        from_slot: range.from,
        to_slot: range.to,
        epoch: options.epoch,
        tables,
    };
    manifest.write(folder)?;
    println!(
        "slots {} to {} are in {}",
        range.from,
        range.to,
        folder.display()
    );
    Ok(())
}

type Columns = Vec<(String, String)>;

/// Tables that store rows by slot, with the columns they store.
async fn tables_with_slots(
    client: &Client,
    wanted: &[String],
) -> anyhow::Result<Vec<(String, Columns)>> {
    let columns: Vec<(String, String, String)> = client
        .query(
            "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() \
             AND default_kind NOT IN ('ALIAS', 'EPHEMERAL', 'MATERIALIZED') AND table IN \
             (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree') \
             ORDER BY table, position",
        )
        .fetch_all()
        .await
        .context("cannot list the tables")?;
    let mut tables: Vec<(String, Columns)> = Vec::new();
    for (table, name, kind) in columns {
        match tables.last_mut().filter(|(last, _)| *last == table) {
            Some((_, columns)) => columns.push((name, kind)),
            None => tables.push((table, vec![(name, kind)])),
        }
    }
    tables.retain(|(_, columns)| columns.iter().any(|(name, _)| name == "slot"));
    if let Some(missing) = wanted
        .iter()
        .find(|name| !tables.iter().any(|(table, _)| table == *name))
    {
        anyhow::bail!("there is no table {missing} with a column slot in this database");
    }
    // Rollups are made anew from what they sum up.
    if wanted.is_empty() {
        tables.retain(|(table, _)| !is_rollup(table));
    } else {
        tables.retain(|(table, _)| wanted.contains(table));
    }
    Ok(tables)
}

async fn export_table(
    client: &Client,
    folder: &Path,
    name: &str,
    columns: Columns,
    range: Range,
    options: &Export,
) -> anyhow::Result<Table> {
    let table = quote_identifier(name);
    let counts: Vec<(u64, u64)> = client
        .query(&format!(
            "SELECT toUInt64(slot) AS at, count() FROM {table} WHERE slot BETWEEN ? AND ? GROUP BY at ORDER BY at"
        ))
        .bind(range.from)
        .bind(range.to)
        .with_setting(COLLAPSED.0, COLLAPSED.1)
        .fetch_all()
        .await
        .with_context(|| format!("table {name}"))?;
    let mut files = Vec::new();
    if !counts.is_empty() {
        std::fs::create_dir(folder.join(name)).with_context(|| name.to_owned())?;
        for part in ranges(&counts, range, options.rows_per_file) {
            files.push(export_file(client, folder, name, &columns, part).await?);
        }
    }
    Ok(Table {
        name: name.to_owned(),
        columns,
        rows: files.iter().map(|file| file.rows).sum(),
        files,
    })
}

async fn export_file(
    client: &Client,
    folder: &Path,
    table: &str,
    columns: &Columns,
    range: Range,
) -> anyhow::Result<ParquetFile> {
    let path = format!("{table}/{}-{}.parquet", range.from, range.to);
    let names: Vec<String> = columns
        .iter()
        .map(|(name, _)| quote_identifier(name))
        .collect();
    // Counted before and after: rows that arrive in between would make the file and its figures differ.
    let before = content(client, table, range.from, range.to).await?;
    let mut cursor = client
        .query(&format!(
            "SELECT {} FROM {} WHERE slot BETWEEN ? AND ?",
            names.join(", "),
            quote_identifier(table)
        ))
        .bind(range.from)
        .bind(range.to)
        .with_setting(COLLAPSED.0, COLLAPSED.1)
        .with_setting("output_format_parquet_compression_method", "zstd")
        // Without it texts would be marked as UTF-8, which raw keys are not.
        .with_setting("output_format_parquet_string_as_string", "0")
        .fetch_bytes("Parquet")
        .with_context(|| path.clone())?;
    let target = folder.join(&path);
    let mut file = File::create_new(&target).with_context(|| target.display().to_string())?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    while let Some(piece) = cursor.next().await.with_context(|| path.clone())? {
        file.write_all(&piece)
            .with_context(|| target.display().to_string())?;
        hash.update(&piece);
        bytes += piece.len() as u64;
    }
    file.sync_all()
        .with_context(|| target.display().to_string())?;
    let (rows, checksum) = content(client, table, range.from, range.to).await?;
    ensure!(
        (rows, &checksum) == (before.0, &before.1),
        "{table}: rows of slots {} to {} changed while they were exported; export again when they are final",
        range.from,
        range.to
    );
    Ok(ParquetFile {
        path,
        from_slot: range.from,
        to_slot: range.to,
        rows,
        bytes,
        sha256: hex::encode(hash.finalize()),
        content: checksum,
    })
}
