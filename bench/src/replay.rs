//! A folder of block files, slot after slot, through one or more sources.
//!
//! A slot that is met again (the same block in another encoding) goes to the next source, as if a second validator had
//! seen it. Skipped and damaged files are reported and the run goes on.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Serialize;

use crate::{
    block_file::{self, Block, Content},
    host::{Source, ThreadEnded},
};

/// One line of the run's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Line {
    Driven {
        file: String,
        slot: u64,
        blockhash: String,
        parent_slot: u64,
        transactions: usize,
        votes: usize,
        /// 1 is the first `--config`.
        source: usize,
    },
    Skipped {
        file: String,
        skipped: String,
    },
    Failed {
        file: String,
        error: String,
    },
}

/// The last line of the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub done: bool,
    pub blocks: usize,
    pub skipped: usize,
    pub failed: usize,
    pub transactions: usize,
}

/// The block files at `path` (a folder, or one file) in the order of their slots.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.into()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.is_file() && !name_of(&entry).starts_with('.') {
            files.push(entry);
        }
    }
    files.sort_by_cached_key(|file| {
        let name = name_of(file);
        (block_file::slot_of_name(&name), name)
    });
    Ok(files)
}

/// Where benches take their block files: `given`, else `$HELIOGRAPH_DATA/blocks`, else those of the repository.
pub fn blocks_folder(given: Option<&Path>) -> io::Result<PathBuf> {
    if let Some(folder) = given {
        return if folder.exists() {
            Ok(folder.into())
        } else {
            Err(io::Error::other(format!(
                "--blocks {}: no such folder. Fix: name one with block files",
                folder.display()
            )))
        };
    }
    let data = std::env::var_os("HELIOGRAPH_DATA").map(|data| PathBuf::from(data).join("blocks"));
    [data, Some("localnet/blocks".into())]
        .into_iter()
        .flatten()
        .find(|folder| folder.exists())
        .ok_or_else(|| {
            io::Error::other(
                "no block files. Fix: name a folder by --blocks or by HELIOGRAPH_DATA, or run from the repository's root",
            )
        })
}

/// Reads one file; `Err` is the line that reports why there is no block.
pub fn read(file: &Path) -> Result<Block, Line> {
    let name = name_of(file);
    let failed = |error: String| Line::Failed {
        file: name.clone(),
        error,
    };
    let bytes = fs::read(file).map_err(|e| failed(e.to_string()))?;
    match block_file::parse(&name, &bytes) {
        Ok(Content::Block(block)) => Ok(block),
        Ok(Content::Skipped(skipped)) => Err(Line::Skipped {
            file: name,
            skipped,
        }),
        Err(e) => Err(failed(e.to_string())),
    }
}

/// Drives the files through the sources and reports each as soon as its transactions and metadata are delivered. The same
/// seed makes block metadata overtake the same transactions.
pub fn run(
    files: &[PathBuf],
    sources: &mut [Source],
    seed: u64,
    mut report: impl FnMut(&Line),
) -> Result<Totals, ThreadEnded> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut met: HashMap<u64, usize> = HashMap::new();
    let mut totals = Totals::default();
    for file in files {
        let line = match read(file) {
            Ok(block) => {
                let times = met.entry(block.slot).or_default();
                *times += 1;
                match sources.get_mut(*times - 1) {
                    Some(source) => {
                        let block = Arc::new(block);
                        let after = random.random_range(0..=block.transactions.len());
                        source.drive(&block, after)?;
                        driven(name_of(file), &block, *times)
                    }
                    None => Line::Skipped {
                        file: name_of(file),
                        skipped: format!(
                            "slot {} has gone through every source given ({}); another --config adds a source",
                            block.slot,
                            sources.len()
                        ),
                    },
                }
            }
            Err(line) => line,
        };
        totals.add(&line);
        report(&line);
    }
    totals.done = true;
    Ok(totals)
}

impl Totals {
    fn add(&mut self, line: &Line) {
        match line {
            Line::Driven { transactions, .. } => {
                self.blocks += 1;
                self.transactions += transactions;
            }
            Line::Skipped { .. } => self.skipped += 1,
            Line::Failed { .. } => self.failed += 1,
        }
    }
}

fn driven(file: String, block: &Block, source: usize) -> Line {
    Line::Driven {
        file,
        slot: block.slot,
        blockhash: block.blockhash.to_string(),
        parent_slot: block.parent_slot,
        transactions: block.transactions.len(),
        votes: block.votes(),
        source,
    }
}

fn name_of(file: &Path) -> String {
    file.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
