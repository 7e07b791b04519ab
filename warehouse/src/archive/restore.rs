//! Files into tables, and the proof that the rows are the archived ones.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use anyhow::{Context, ensure};
use clickhouse::Client;

use super::{
    content,
    manifest::{Manifest, ParquetFile, Table},
};
use crate::{
    engine::quote_identifier,
    in_work::InWork,
    retention::{self, Note, NoteState, Place, epoch_of},
    sink::Store,
};

/// Bytes handed to the connection at a time.
const PIECE_BYTES: usize = 1 << 20;
/// What names of restores in `slots_in_work` begin with.
const WORK: &str = "restore-";

pub async fn restore(
    client: &Client,
    store: &Store,
    folder: &Path,
    into_existing: bool,
) -> anyhow::Result<()> {
    let manifest = Manifest::read(folder)?;
    manifest.verify_files(folder)?;
    let gone = dropped(store, &manifest).await?;
    // What the policy dropped comes back; what it left is not touched.
    let stays = |table: &Table| {
        !into_existing && !gone.is_empty() && !gone.keys().any(|place| place.table == table.name)
    };
    for table in manifest.tables.iter().filter(|table| !stays(table)) {
        same_columns(client, table).await?;
        let broke_off = gone
            .iter()
            .any(|(place, note)| place.table == table.name && note.state == NoteState::Returning);
        if !into_existing && !broke_off {
            let (rows, _) =
                content(client, &table.name, manifest.from_slot, manifest.to_slot).await?;
            ensure!(
                rows == 0,
                "{} has {rows} rows in slots {} to {} already: restore into empty tables, or add --into-existing if these may be the same rows",
                table.name,
                manifest.from_slot,
                manifest.to_slot
            );
        }
    }
    let range = (manifest.from_slot, manifest.to_slot);
    let withholds = knows_work(client).await?;
    if withholds {
        let name = format!("{WORK}{}", uuid::Uuid::new_v4().simple());
        InWork::of(name, vec![range]).begin(store).await?;
    }
    for table in &manifest.tables {
        if stays(table) {
            println!("{}: is not dropped, and stays as it is", table.name);
            continue;
        }
        // From the first row on nobody is told that the rows are missing on purpose.
        let notes = || gone.iter().filter(|(place, _)| place.table == table.name);
        for (place, note) in notes() {
            retention::advance(store, place, note, NoteState::Returning).await?;
        }
        for file in &table.files {
            restore_file(client, folder, table, file).await?;
        }
        for (place, note) in notes() {
            retention::advance(store, place, note, NoteState::Returned).await?;
        }
        println!("{}: {} rows are as they were", table.name, table.rows);
    }
    if withholds {
        end_work(store, range).await?;
    }
    Ok(())
}

/// Schemas of earlier releases do not; archives are restored into the schema they were made with.
async fn knows_work(client: &Client) -> anyhow::Result<bool> {
    let sql = "SELECT count() > 0 FROM system.tables WHERE database = currentDatabase() AND name = 'slots_in_work'";
    Ok(client.query(sql).fetch_one().await?)
}

/// Also of earlier tries that broke off.
async fn end_work(store: &Store, (from, to): (u64, u64)) -> anyhow::Result<()> {
    let statement = format!(
        "INSERT INTO slots_in_work (work, first_slot, last_slot, ended, recorded_at) SETTINGS insert_deduplicate = 0 \
         SELECT work, first_slot, last_slot, true, now64(3, 'UTC') FROM slots_in_work FINAL \
         WHERE NOT ended AND startsWith(work, '{WORK}') AND first_slot >= {from} AND last_slot <= {to}"
    );
    Ok(store.execute(&statement).await?)
}

/// Partitions of the archive's slots that retention dropped and that are not all back.
async fn dropped(store: &Store, manifest: &Manifest) -> anyhow::Result<BTreeMap<Place, Note>> {
    if !retention::exists(store).await? {
        return Ok(BTreeMap::new());
    }
    let mut notes = retention::notes(store).await?;
    let epochs = epoch_of(manifest.from_slot)..=epoch_of(manifest.to_slot);
    notes.retain(|place, note| {
        note.state != NoteState::Returned
            && epochs.contains(&place.epoch)
            && manifest
                .tables
                .iter()
                .any(|table| table.name == place.table)
    });
    Ok(notes)
}

/// A restore into other columns would lose or invent values.
pub(crate) async fn same_columns(client: &Client, table: &Table) -> anyhow::Result<()> {
    let columns: Vec<(String, String)> = client
        .query(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = ? \
             AND default_kind NOT IN ('ALIAS', 'EPHEMERAL', 'MATERIALIZED') ORDER BY position",
        )
        .bind(&table.name)
        .fetch_all()
        .await
        .context("cannot list the columns")?;
    ensure!(
        columns == table.columns,
        "table {} has the columns {columns:?}, the archive {:?}: bring the schema to the version the archive was made with, restore, then migrate",
        table.name,
        table.columns
    );
    Ok(())
}

async fn restore_file(
    client: &Client,
    folder: &Path,
    table: &Table,
    archived: &ParquetFile,
) -> anyhow::Result<()> {
    // The same file twice is stored once.
    let token = format!("archive:{}", archived.sha256);
    send(
        client,
        folder,
        table,
        archived,
        ("insert_deduplication_token", &token),
    )
    .await?;
    let stored = || content(client, &table.name, archived.from_slot, archived.to_slot);
    let (mut rows, mut checksum) = stored().await?;
    if rows < archived.rows {
        // The table knows the token but has not the rows: deleted since, or lost by a kill (docs/decisions/0034).
        send(client, folder, table, archived, ("insert_deduplicate", "0")).await?;
        (rows, checksum) = stored().await?;
    }
    ensure!(
        (rows, checksum.as_str()) == (archived.rows, archived.content.as_str()),
        "{}: after the restore slots {} to {} of {} have {rows} rows with checksum {checksum}, archived were {} with {}",
        archived.path,
        archived.from_slot,
        archived.to_slot,
        table.name,
        archived.rows,
        archived.content
    );
    Ok(())
}

async fn send(
    client: &Client,
    folder: &Path,
    table: &Table,
    archived: &ParquetFile,
    (setting, value): (&str, &str),
) -> anyhow::Result<()> {
    let path = folder.join(&archived.path);
    let names: Vec<String> = table
        .columns
        .iter()
        .map(|(name, _)| quote_identifier(name))
        .collect();
    let sql = format!(
        "INSERT INTO {} ({}) FORMAT Parquet",
        quote_identifier(&table.name),
        names.join(", ")
    );
    let mut insert = client
        .insert_formatted_with(sql)
        .with_setting(setting, value);
    let mut file = File::open(&path).with_context(|| path.display().to_string())?;
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let count = file
            .read(&mut piece)
            .with_context(|| path.display().to_string())?;
        if count == 0 {
            break;
        }
        piece.truncate(count);
        insert
            .send(piece.into())
            .await
            .with_context(|| archived.path.clone())?;
    }
    insert.end().await.with_context(|| archived.path.clone())?;
    Ok(())
}
