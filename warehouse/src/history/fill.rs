//! Finalized blocks into the tables: in batches, a block's own row and its status last, so that what broke off is seen as
//! such and done again by the next run.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use chain_blocks::ChainBlock;
use event_schema::{CanonicalSeal, SlotBlock};
use futures::{StreamExt, future::try_join_all, stream};
use serde_json::json;

use super::{
    Backfill, LEFT_TO_THE_STREAM, Outcome,
    audit::{Deed, Refusal, deed, is_whole},
    progress::Progress,
    shelf::{self, Range, Shelf, Standing},
    source::{self, Given},
    withheld,
};
use crate::{
    decode::idl::Idls,
    in_work::{self, InWork},
    retention::{self, Dropped, NoteState},
    sink::{BlockRows, Millis, SlotStatusRow, Store, StoreError, TableBlock},
};

/// A batch ends with the block that reaches this many transactions, or this many blocks.
const BATCH_TRANSACTIONS: usize = 10_000;
const BATCH_BLOCKS: usize = 512;
/// Place of what is known from the chain itself among news of the stream, which counts from 0: behind all of them.
const VERSION: u64 = 1 << 63;
/// How far behind a block its parent, and before it its child, is looked for.
const REACH: u64 = 1_000;

/// Takes blocks in any order, near ones best together.
pub struct Filler<'s> {
    store: &'s Store,
    idls: Arc<Idls>,
    /// Distinguishes the tokens of this run: what another run stored and somebody deleted is no repetition.
    run: String,
    /// Batches that were stored.
    pieces: u64,
    batch: Vec<Given>,
    transactions: usize,
    pub done: Tally,
}

#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub stored: u64,
    pub replaced: u64,
    pub finalized: u64,
    pub known: u64,
    pub transactions: u64,
    /// Blocks that were not stored, and why.
    pub refused: Vec<(u64, String)>,
}

impl<'s> Filler<'s> {
    pub fn new(store: &'s Store, idls: Idls) -> Self {
        Self {
            store,
            idls: Arc::new(idls),
            run: uuid::Uuid::new_v4().simple().to_string(),
            pieces: 0,
            batch: Vec::new(),
            transactions: 0,
            done: Tally::default(),
        }
    }

    pub async fn take(&mut self, given: Given) -> Result<(), StoreError> {
        self.transactions += given.block.transactions.len();
        self.batch.push(given);
        if self.transactions >= BATCH_TRANSACTIONS || self.batch.len() >= BATCH_BLOCKS {
            self.flush().await?;
        }
        Ok(())
    }

    pub async fn flush(&mut self) -> Result<(), StoreError> {
        self.transactions = 0;
        let mut batch = std::mem::take(&mut self.batch);
        batch.sort_by_key(|given| given.block.slot);
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            return Ok(());
        };
        let from = batch.iter().map(|given| given.block.parent_slot.0).min();
        let around = Range {
            from: from
                .unwrap_or(first.block.slot.0)
                .max(first.block.slot.0.saturating_sub(REACH)),
            to: last.block.slot.0.saturating_add(REACH),
        };
        let shelf = shelf::look(self.store, around).await?;
        let (mut news, mut leave, mut standing) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for given in batch {
            let slot = given.block.slot.0;
            if !seen.insert(slot) {
                self.done.known += 1;
                continue;
            }
            match judge(&shelf, &given.block) {
                Err(refusal) => {
                    let text = format!("{}: {refusal}", given.from);
                    self.done.refused.push((slot, text));
                }
                Ok(Deed::Nothing) => self.done.known += 1,
                Ok(Deed::Finalize) => {
                    self.done.finalized += 1;
                    standing.push(given.block);
                }
                Ok(deed) => {
                    if deed == Deed::Replace {
                        self.done.replaced += 1;
                        leave.push(slot);
                    } else {
                        self.done.stored += 1;
                    }
                    self.done.transactions += given.block.transactions.len() as u64;
                    news.push(given);
                }
            }
        }
        self.pieces += 1;
        let name = format!("history-{}-{}", self.run, self.pieces);
        let slots: BTreeSet<u64> = news.iter().map(|given| given.block.slot.0).collect();
        let work = InWork::of(name, in_work::ranges(&slots));
        work.begin(self.store).await?;
        self.forget(&leave).await?;
        let statuses = statuses(
            &shelf,
            news.iter().map(|given| &given.block).chain(&standing),
        );
        self.store_blocks(news).await?;
        let token = format!("history-{}-status-{}", self.run, first_slot(&statuses));
        self.store
            .insert(&TableBlock::of(&statuses), Some(&token))
            .await?;
        work.end(self.store).await
    }

    /// Deletes every row of these slots but their statuses.
    async fn forget(&self, slots: &[u64]) -> Result<(), StoreError> {
        if slots.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = slots.iter().map(u64::to_string).collect();
        for table in BlockRows::TABLES {
            let sql = format!("DELETE FROM {table} WHERE slot IN ({})", list.join(", "));
            self.store.execute(&sql).await?;
        }
        Ok(())
    }

    async fn store_blocks(&self, news: Vec<Given>) -> Result<(), StoreError> {
        let Some(first) = news.first().map(|given| given.block.slot.0) else {
            return Ok(());
        };
        let idls = Arc::clone(&self.idls);
        let built = tokio::task::spawn_blocking(move || {
            let mut rows = BlockRows::default();
            for given in news {
                rows.add(&slot_block(given), &idls);
            }
            rows.tables()
        });
        let tables = built.await.map_err(|error| StoreError::Refused {
            url: String::new(),
            problem: format!("rows could not be built: {error}"),
        })?;
        let (own, others): (Vec<_>, Vec<_>) =
            tables.iter().partition(|block| block.table == "blocks");
        for part in [others, own] {
            try_join_all(part.into_iter().map(|block| async move {
                let token = format!("history-{}-{}-{first}", self.run, block.table);
                self.store.insert(block, Some(&token)).await
            }))
            .await?;
        }
        Ok(())
    }
}

fn judge(shelf: &Shelf, block: &ChainBlock) -> Result<Deed, Refusal> {
    let parent = block.parent_blockhash.map(|hash| hash.0);
    deed(
        shelf,
        block.slot.0,
        block.blockhash.0,
        (block.parent_slot.0, parent),
        block.transactions.len() as u64,
    )
}

/// The block as the stream would have it, if it had come from a node by the router's repair.
fn slot_block(given: Given) -> SlotBlock {
    let block = given.block;
    let parent = block.parent_blockhash.map(|hash| hash.0.to_vec());
    SlotBlock {
        slot: block.slot,
        blockhash: block.blockhash,
        first_offset: 0,
        next_offset: 0,
        accounts: Vec::new(),
        entries: Vec::new(),
        seal: CanonicalSeal {
            slot: block.slot.0,
            blockhash: block.blockhash.0.to_vec(),
            parent_slot: block.parent_slot.0,
            parent_blockhash: parent.unwrap_or_default(),
            transactions: block.transactions.len() as u64,
            sources: vec![given.from],
            repaired: true,
            ..CanonicalSeal::default()
        },
        transactions: block.transactions,
        meta: block.meta,
    }
}

/// Final ones; and other blocks known of the same slots are not on the chain.
fn statuses<'b>(shelf: &Shelf, blocks: impl Iterator<Item = &'b ChainBlock>) -> Vec<SlotStatusRow> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_millis() as i64);
    let row = |slot, blockhash, status| SlotStatusRow {
        slot,
        blockhash,
        status,
        version: VERSION,
        recorded_at: Millis(now),
    };
    let mut rows = Vec::new();
    for block in blocks {
        let slot = block.slot.0;
        let others = shelf
            .get(&slot)
            .into_iter()
            .flat_map(|stored| &stored.statuses);
        let others = others.filter(|(hash, standing)| {
            *hash != block.blockhash.0 && *standing != Standing::Abandoned
        });
        rows.extend(others.map(|(hash, _)| row(slot, *hash, "abandoned")));
        let known = shelf.get(&slot);
        if !known.is_some_and(|stored| stored.is_finalized(block.blockhash.0)) {
            rows.push(row(slot, block.blockhash.0, "finalized"));
        }
    }
    rows
}

fn first_slot(statuses: &[SlotStatusRow]) -> u64 {
    statuses.first().map_or(0, |row| row.slot)
}

pub async fn backfill(store: &Store, options: &Backfill, idls: Idls) -> anyhow::Result<Outcome> {
    let mut range = options.span.range()?;
    let mut left = 0;
    if !options.beside_the_stream
        && let Some(newest) = shelf::newest(store).await?
    {
        let bound = newest.saturating_sub(LEFT_TO_THE_STREAM);
        let to = range.to.min(bound);
        anyhow::ensure!(
            to >= range.from,
            "the stream has stored slot {newest}, and slots behind {bound} are left to it: ask for older ones, or add --beside-the-stream where no sink runs"
        );
        left = range.to - to;
        range.to = to;
    }
    let mut dropped = shelf::dropped(store, range).await?;
    // What is to come back is not passed over; and is missed again once its source is there.
    let back = match options.refetch_dropped {
        true => std::mem::take(&mut dropped),
        false => Dropped::default(),
    };
    let mut passed = 0;
    let mut filler = Filler::new(store, idls);
    let mut failed: Vec<(u64, String)> = Vec::new();
    if !options.rpc.urls.is_empty() {
        let nodes = options.rpc.nodes()?;
        let chain = source::listed(&nodes, range).await?;
        take_back(store, &back).await?;
        let shelf = shelf::look(store, range).await?;
        let (left_out, wanted): (Vec<u64>, Vec<u64>) =
            chain.into_iter().partition(|slot| dropped.touches(*slot));
        passed = left_out.len() as u64;
        let wanted: Vec<u64> = wanted
            .into_iter()
            .filter(|slot| !shelf.get(slot).is_some_and(is_whole))
            .collect();
        failed = fetch_all(&nodes, &wanted, options.rpc.concurrency.into(), &mut filler).await?;
    } else if !options.files.is_empty() {
        let files = source::files(&options.files, range)?;
        take_back(store, &back).await?;
        let progress = Progress::new("read", files.len() as u64);
        for (index, path) in files.iter().enumerate() {
            match source::read(path)? {
                Ok(given) if dropped.touches(given.block.slot.0) => passed += 1,
                Ok(given) => filler.take(given).await?,
                Err(reason) => eprintln!("{}: skipped: {reason}", path.display()),
            }
            progress.tell(index as u64, || format!("{} stored", filler.done.stored));
        }
    } else if !options.archives.is_empty() {
        let progress = Progress::new("read", range.slots());
        for path in &options.archives {
            let blocks = source::archive(path)?;
            take_back(store, &back).await?;
            for block in blocks {
                // What came before the damage is stored.
                let block = match block {
                    Ok(block) => block,
                    Err(error) => {
                        filler.flush().await?;
                        return Err(anyhow::Error::new(error).context(path.display().to_string()));
                    }
                };
                let slot = block.slot.0;
                if slot > range.to {
                    break;
                }
                if range.contains(slot) && dropped.touches(slot) {
                    passed += 1;
                } else if range.contains(slot) {
                    filler.take(source::of_archive(path, block)).await?;
                    progress.tell(slot - range.from, || {
                        format!("{} stored", filler.done.stored)
                    });
                }
            }
        }
    } else {
        anyhow::bail!("name where the blocks come from: --rpc URL, --file PATH or --archive PATH");
    }
    filler.flush().await?;
    let beside = Beside {
        left,
        passed,
        withheld: withheld::end_what_is_whole(store).await?,
    };
    Ok(outcome(range, &beside, &filler.done, &failed))
}

/// From here on these rows are missed again, until they are all fetched.
async fn take_back(store: &Store, dropped: &Dropped) -> Result<(), StoreError> {
    for (place, note) in retention::notes(store).await? {
        let tables = dropped.epochs().find(|(epoch, _)| *epoch == place.epoch);
        if tables.is_some_and(|(_, tables)| tables.contains(&place.table)) {
            retention::advance(store, &place, &note, NoteState::Returned).await?;
        }
    }
    Ok(())
}

/// Fetches these slots and stores them, in order. What could not be had is given back.
pub async fn fetch_all(
    nodes: &chain_blocks::rpc::Nodes,
    wanted: &[u64],
    concurrency: usize,
    filler: &mut Filler<'_>,
) -> Result<Vec<(u64, String)>, StoreError> {
    let progress = Progress::new("fetched", wanted.len() as u64);
    let mut failed = Vec::new();
    let mut blocks = stream::iter(wanted.iter().copied())
        .map(|slot| async move { (slot, source::fetched(nodes, slot).await) })
        .buffered(concurrency);
    let mut done = 0;
    while let Some((slot, fetched)) = blocks.next().await {
        match fetched {
            Ok(given) => filler.take(given).await?,
            Err(reason) => failed.push((slot, reason)),
        }
        done += 1;
        progress.tell(done, || format!("{} could not be had", failed.len()));
    }
    Ok(failed)
}

/// What was not filled, and why.
struct Beside {
    /// Slots that the stream stores.
    left: u64,
    /// Blocks of epochs that retention dropped.
    passed: u64,
    /// Slots that some run began and that are not whole.
    withheld: u64,
}

fn outcome(range: Range, beside: &Beside, done: &Tally, failed: &[(u64, String)]) -> Outcome {
    let Beside {
        left,
        passed,
        withheld,
    } = beside;
    let mut text = format!(
        "slots {} to {}: {} blocks with {} transactions stored ({} of them in place of what was there), {} marked as final, {} were there",
        range.from,
        range.to,
        done.stored + done.replaced,
        done.transactions,
        done.replaced,
        done.finalized,
        done.known,
    );
    if *left > 0 {
        text += &format!("; the last {left} slots are left to the stream");
    }
    if *passed > 0 {
        text += &format!(
            "; {passed} blocks are of epochs dropped by policy and stay away (restore the epochs, or add --refetch-dropped)"
        );
    }
    if *withheld > 0 {
        text += &format!(
            "\n{withheld} slots that a run began to store are not whole, and no view of final rows shows them: SELECT * FROM slots_in_work FINAL WHERE NOT ended, and backfill them"
        );
    }
    for (slot, reason) in &done.refused {
        text += &format!("\nslot {slot}: refused: {reason}");
    }
    for (slot, reason) in failed {
        text += &format!("\nslot {slot}: could not be had: {reason}");
    }
    let told = |list: &[(u64, String)]| -> Vec<_> {
        list.iter()
            .map(|(slot, reason)| json!({"slot": slot, "reason": reason}))
            .collect()
    };
    Outcome {
        text,
        json: json!({
            "from": range.from,
            "to": range.to,
            "stored": done.stored,
            "replaced": done.replaced,
            "finalized": done.finalized,
            "known": done.known,
            "transactions": done.transactions,
            "left_to_the_stream": left,
            "withheld": withheld,
            "dropped_by_policy": passed,
            "refused": told(&done.refused),
            "failed": told(failed),
        }),
        well: done.refused.is_empty() && failed.is_empty(),
    }
}
