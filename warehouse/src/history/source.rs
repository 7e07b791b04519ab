//! Where past blocks come from: RPC nodes, files, archives. Each gives finalized blocks of a range, or says why not.

use std::{
    collections::BTreeSet,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use chain_blocks::{
    ChainBlock,
    car::Archive,
    file::{self, Content},
    rpc::{Nodes, Reply},
};
use event_schema::Slot;

use super::shelf::Range;

/// Most slots that `getBlocks` answers for (solana-rpc, MAX_GET_CONFIRMED_BLOCKS_RANGE).
const LISTED_MAX: u64 = 500_000;
/// How often a block is asked for in vain.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A block and who gave it, as `blocks.sources` tells it.
pub struct Given {
    pub block: ChainBlock,
    pub from: String,
}

/// The slots of the range with finalized blocks, by the first node that keeps all of it.
pub async fn listed(nodes: &Nodes, range: Range) -> anyhow::Result<BTreeSet<u64>> {
    let mut reasons = Vec::new();
    for node in nodes.in_turn() {
        match listed_by(nodes, node, range).await {
            Ok(slots) => {
                nodes.prefer(node);
                return Ok(slots);
            }
            Err(reason) => reasons.push(format!("{}: {reason}", nodes.host(node))),
        }
    }
    bail!(
        "no RPC node tells which blocks there are: {}",
        reasons.join("; ")
    )
}

async fn listed_by(nodes: &Nodes, node: usize, range: Range) -> Result<BTreeSet<u64>, String> {
    let first = nodes.first_available(node).await?;
    if first.0 > range.from {
        return Err(format!("it keeps blocks from slot {first} only"));
    }
    let finalized = nodes.finalized(node).await?;
    if finalized.0 < range.to {
        return Err(format!("its newest finalized slot is {finalized}"));
    }
    let mut slots = BTreeSet::new();
    for piece in range.pieces(LISTED_MAX) {
        slots.extend(
            nodes
                .slots_with_blocks(node, Slot(piece.from), Slot(piece.to))
                .await?,
        );
    }
    Ok(slots)
}

/// The block of a slot, from one node after another, patiently.
pub async fn fetched(nodes: &Nodes, slot: u64) -> Result<Given, String> {
    let mut pause = FIRST_PAUSE;
    let mut reasons = Vec::new();
    for attempt in 1..=TRIES {
        reasons.clear();
        for node in nodes.in_turn() {
            let host = nodes.host(node);
            match nodes.ask(node, Slot(slot)).await {
                Reply::Block(reply) => {
                    let read = tokio::task::spawn_blocking(move || {
                        chain_blocks::block(Slot(slot), *reply)
                    });
                    match read.await {
                        Ok(Ok(block)) => {
                            nodes.prefer(node);
                            let from = format!("rpc:{host}");
                            return Ok(Given { block, from });
                        }
                        Ok(Err(disbelief)) => reasons.push(format!("{host}: {disbelief}")),
                        Err(error) => reasons.push(format!("{host}: {error}")),
                    }
                }
                Reply::NoBlock(said)
                | Reply::NotYet(said)
                | Reply::Gone(said)
                | Reply::VersionRefused(said)
                | Reply::Failed(said) => reasons.push(format!("{host}: {said}")),
            }
        }
        if attempt < TRIES {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    Err(reasons.join("; "))
}

/// Block files of the range, by slot. Files of other slots are not opened.
pub fn files(paths: &[PathBuf], range: Range) -> anyhow::Result<Vec<PathBuf>> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for path in paths {
        let listed: Vec<PathBuf> = if path.is_dir() {
            std::fs::read_dir(path)
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
                .with_context(|| format!("--file {}", path.display()))?
        } else {
            ensure!(
                path.is_file(),
                "--file {}: there is no such file",
                path.display()
            );
            vec![path.clone()]
        };
        for file in listed.into_iter().filter(|file| file.is_file()) {
            match file::slot_of_name(&name(&file)) {
                Some(slot) if range.contains(slot) => found.push((slot, file)),
                Some(_) => {}
                None if path.is_dir() => {}
                None => bail!(
                    "--file {}: no slot in its name; rename it so that a part of the name is the slot, as in mainnet-285000037.json.zst",
                    file.display()
                ),
            }
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, file)| file).collect())
}

/// `Ok(Err(..))`: the file holds no whole block, for this reason.
pub fn read(path: &Path) -> anyhow::Result<Result<Given, String>> {
    let name = name(path);
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    match file::parse(&name, &bytes).with_context(|| path.display().to_string())? {
        Content::Skipped(reason) => Ok(Err(reason)),
        Content::Block(block) => {
            let block = ChainBlock::try_from(block).with_context(|| path.display().to_string())?;
            let from = format!("file:{name}");
            Ok(Ok(Given { block, from }))
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

pub fn archive(path: &Path) -> anyhow::Result<Archive<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("--archive {}", path.display()))?;
    Ok(Archive::new(BufReader::with_capacity(1 << 20, file)))
}

pub fn of_archive(path: &Path, block: ChainBlock) -> Given {
    Given {
        block,
        from: format!("archive:{}", name(path)),
    }
}
