//! Whether an archive holds exactly the rows of a partition.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use clickhouse::Client;
use sha2::{Digest, Sha256};

use super::plan::{
    Archived, Note, Partition, Place, Proof, SLOTS_PER_EPOCH, last_slot, was_proven,
};
use crate::archive::{
    content,
    manifest::{FILE_NAME, Manifest, Table},
    restore::same_columns,
};

/// The archives below the policy's folders, each manifest read once.
#[derive(Default)]
pub struct Archives {
    by_root: BTreeMap<PathBuf, Vec<Found>>,
}

struct Found {
    folder: PathBuf,
    manifest: anyhow::Result<(Manifest, String)>,
}

impl Archives {
    pub async fn prove(
        &mut self,
        client: &Client,
        root: &Path,
        place: &Place,
        partition: &Partition,
        note: Option<&Note>,
    ) -> Proof {
        if !self.by_root.contains_key(root) {
            match look(root) {
                Ok(found) => drop(self.by_root.insert(root.to_owned(), found)),
                Err(error) => return Proof::Lacking(format!("archive {error:#}")),
            }
        }
        let mut why = Vec::new();
        for found in self.by_root.get(root).into_iter().flatten() {
            let (manifest, sha256) = match &found.manifest {
                Ok(read) => read,
                Err(error) => {
                    why.push(format!("{error:#}"));
                    continue;
                }
            };
            let Some(table) = of_place(manifest, place) else {
                continue;
            };
            let proven = note.is_some_and(|note| was_proven(note, partition, sha256));
            match compare(client, &found.folder, table, place, proven).await {
                Ok(()) => {
                    return Proof::Archived(Archived {
                        folder: found.folder.display().to_string(),
                        manifest_sha256: sha256.clone(),
                    });
                }
                Err(error) => why.push(format!("{}: {error:#}", found.folder.display())),
            }
        }
        let epoch = place.epoch;
        if why.is_empty() {
            why.push(format!(
                "no archive of the whole epoch with this table in {root}; make one: warehouse-archive export {root}/epoch-{epoch} --epoch {epoch}",
                root = root.display()
            ));
        }
        Proof::Lacking(why.join("; "))
    }
}

/// The archive's table, if it is of exactly this epoch. A longer range would not tell the epoch's rows from its neighbours'.
fn of_place<'m>(manifest: &'m Manifest, place: &Place) -> Option<&'m Table> {
    let whole = (place.epoch * SLOTS_PER_EPOCH, last_slot(place.epoch));
    ((manifest.from_slot, manifest.to_slot) == whole)
        .then(|| {
            manifest
                .tables
                .iter()
                .find(|table| table.name == place.table)
        })
        .flatten()
}

/// `root` itself and the folders in it, as far as they have a manifest.
fn look(root: &Path) -> anyhow::Result<Vec<Found>> {
    let entries = std::fs::read_dir(root).with_context(|| root.display().to_string())?;
    let mut folders = vec![root.to_owned()];
    for entry in entries {
        folders.push(entry.with_context(|| root.display().to_string())?.path());
    }
    folders.sort();
    folders.retain(|folder| folder.join(FILE_NAME).exists());
    let found = folders.into_iter().map(|folder| Found {
        manifest: read(&folder),
        folder,
    });
    Ok(found.collect())
}

fn read(folder: &Path) -> anyhow::Result<(Manifest, String)> {
    let manifest = Manifest::read(folder)?;
    let path = folder.join(FILE_NAME);
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok((manifest, hex::encode(Sha256::digest(&bytes))))
}

/// `proven`: the rows were compared before, by a run that broke off after it had begun to drop them.
async fn compare(
    client: &Client,
    folder: &Path,
    table: &Table,
    place: &Place,
    proven: bool,
) -> anyhow::Result<()> {
    let (from, to) = (place.epoch * SLOTS_PER_EPOCH, last_slot(place.epoch));
    ensure!(
        table.covers(from, to),
        "its files do not hold every slot of the epoch once; export again"
    );
    table.verify_files(folder)?;
    if proven {
        return Ok(());
    }
    same_columns(client, table).await?;
    let mut rows = 0;
    for file in &table.files {
        let (there, checksum) = content(client, &table.name, file.from_slot, file.to_slot).await?;
        ensure!(
            (there, checksum.as_str()) == (file.rows, file.content.as_str()),
            "slots {} to {} have {there} rows with checksum {checksum}, archived are {} with {}; export the epoch again",
            file.from_slot,
            file.to_slot,
            file.rows,
            file.content
        );
        rows += there;
    }
    let (there, _) = match table.files.is_empty() {
        true => content(client, &table.name, from, to).await?,
        false => (rows, String::new()),
    };
    ensure!(
        (there, rows) == (table.rows, table.rows),
        "the epoch has {there} rows, archived are {}; export it again",
        table.rows
    );
    Ok(())
}
