//! Published blocks, read from the canonical topic by their place.
//!
//! One reader per partition, shared by all who catch up: those who follow one another read on where the last stopped, and a
//! small memory of the newest reads serves those who read the same. The readers are made ahead, because making one takes
//! longer than reading a block; while nobody uses them they rest.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use event_log::{EventLog, LogReader, Position, ReaderSpec, Record, Start};
use event_schema::{
    Blockhash, CanonicalHeader, CanonicalSeal, Kind, Reassembler, Slot, SourceId,
    partition_of_slot, proto::Message,
};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    assembly::Block,
    observation::{self, Body, Content},
    slot_tree::BlockId,
    yellowstone::engine::weight,
};

const POLL: Duration = Duration::from_millis(200);
const POLL_RECORDS: usize = 512;
/// A block that is said to be on the log appears within this time, or is not there.
const PATIENCE: Duration = Duration::from_secs(10);
/// A reader that nobody used for this long rests.
const IDLE: Duration = Duration::from_secs(1);
/// Blocks kept for others who read the same: a few of mainnet's.
const MEMORY_BYTES: usize = 16 << 20;

/// Why a block cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Log(#[from] event_log::Error),
    #[error("block {block:?} is not at {partition}@{offset} of the canonical topic: {problem}")]
    Damaged {
        block: BlockId,
        partition: u32,
        offset: i64,
        problem: String,
    },
}

/// See the module.
pub struct Archive {
    log: Arc<dyn EventLog>,
    topic: Arc<str>,
    shelves: Vec<Mutex<Shelf>>,
    memory: std::sync::Mutex<Memory>,
}

#[derive(Default)]
struct Shelf {
    reader: Option<Box<dyn LogReader>>,
    /// Read, not used yet.
    ahead: VecDeque<Record>,
    /// While it does not rest.
    used: Option<Instant>,
}

#[derive(Default)]
struct Memory {
    /// With their weights and places.
    blocks: VecDeque<(Arc<Block>, usize, i64)>,
    bytes: usize,
}

impl Archive {
    pub fn new(log: Arc<dyn EventLog>, topic: Arc<str>, partitions: u32) -> Self {
        Self {
            log,
            topic,
            shelves: (0..partitions.max(1)).map(|_| Mutex::default()).collect(),
            memory: std::sync::Mutex::default(),
        }
    }

    pub fn partition_of(&self, slot: Slot) -> u32 {
        partition_of_slot(slot, self.shelves.len() as u32)
    }

    /// The block whose first record is at `offset`, or somewhere after `not_before` when that is not known.
    pub async fn block(
        &self,
        id: BlockId,
        offset: Option<i64>,
        not_before: i64,
    ) -> Result<Arc<Block>, ArchiveError> {
        let found = self.find(id, offset, not_before).await?;
        Ok(found.0)
    }

    /// The same, with the offset of its first record.
    pub async fn find(
        &self,
        id: BlockId,
        offset: Option<i64>,
        not_before: i64,
    ) -> Result<(Arc<Block>, i64), ArchiveError> {
        if let Some(found) = self.remembered(id) {
            return Ok(found);
        }
        let partition = self.partition_of(id.slot);
        let mut shelf = self.shelves[partition as usize].lock().await;
        let from = offset.unwrap_or(not_before);
        let damaged = |problem: String| ArchiveError::Damaged {
            block: id,
            partition,
            offset: from,
            problem,
        };
        self.turn_to(&mut shelf, partition, from).await?;
        let deadline = Instant::now() + PATIENCE;
        let mut open: Option<Open> = None;
        let mut first = from;
        loop {
            let Some(record) = self.next(&mut shelf, deadline).await? else {
                return Err(damaged("its records do not come to an end".to_owned()));
            };
            let header = CanonicalHeader::decode(&record.header)
                .map_err(|error| damaged(error.to_string()))?;
            if matches!(header.kind, Kind::Status | Kind::Gap)
                || BlockId::new(header.slot, header.blockhash) != id
            {
                if offset.is_some() && open.is_none() {
                    return Err(damaged("another record is there".to_owned()));
                }
                continue;
            }
            if header.index == 0 {
                open = Some(Open::new(id));
                first = record.position.offset;
            }
            let Some(reading) = &mut open else {
                continue;
            };
            if let Some(block) = reading.push(&header, &record.value).map_err(damaged)? {
                let block = Arc::new(block);
                self.remember(&block, first);
                return Ok((block, first));
            }
        }
    }

    /// The first offset still held, by partition.
    pub async fn low_watermarks(&self) -> event_log::Result<Vec<i64>> {
        let mut lows = Vec::with_capacity(self.shelves.len());
        for partition in 0..self.shelves.len() as u32 {
            lows.push(self.log.watermarks(&self.topic, partition).await?.0);
        }
        Ok(lows)
    }

    /// Makes the readers, and lets those rest that nobody uses; never ends.
    pub async fn keep(&self) {
        for partition in 0..self.shelves.len() as u32 {
            let mut shelf = self.shelves[partition as usize].lock().await;
            if shelf.reader.is_none() {
                // One that cannot be made now is made when it is needed, by somebody who can be told why not.
                shelf.reader = self.reader(partition, Start::Latest).await.ok();
                shelf.used = Some(Instant::now());
            }
        }
        loop {
            tokio::time::sleep(IDLE).await;
            for shelf in &self.shelves {
                if let Ok(mut shelf) = shelf.try_lock() {
                    shelf.rest().await;
                }
            }
        }
    }

    async fn reader(&self, partition: u32, start: Start) -> event_log::Result<Box<dyn LogReader>> {
        let spec = ReaderSpec {
            partitions: vec![(self.topic.clone(), partition, start)],
            read_committed: true,
        };
        self.log.lookup_reader(spec).await
    }

    async fn turn_to(
        &self,
        shelf: &mut Shelf,
        partition: u32,
        offset: i64,
    ) -> Result<(), ArchiveError> {
        // What is already in hand and lies before is not needed.
        while shelf
            .ahead
            .front()
            .is_some_and(|record| record.position.offset < offset)
        {
            shelf.ahead.pop_front();
        }
        if shelf
            .ahead
            .front()
            .is_some_and(|record| record.position.offset == offset)
        {
            return Ok(());
        }
        shelf.ahead.clear();
        let to = Position {
            topic: self.topic.clone(),
            partition,
            offset,
        };
        // Taken out: one whose seeking is cut off or fails is not kept, for nobody knows where it stands.
        if let Some(mut reader) = shelf.reader.take() {
            if !shelf.is_awake() || reader.positions().first() != Some(&to) {
                reader.seek(&to).await?;
            }
            shelf.reader = Some(reader);
        } else {
            shelf.reader = Some(self.reader(partition, Start::At(offset)).await?);
        }
        shelf.used = Some(Instant::now());
        Ok(())
    }

    async fn next(
        &self,
        shelf: &mut Shelf,
        deadline: Instant,
    ) -> Result<Option<Record>, ArchiveError> {
        loop {
            if let Some(record) = shelf.ahead.pop_front() {
                return Ok(Some(record));
            }
            let Some(reader) = &mut shelf.reader else {
                return Ok(None);
            };
            let polled = reader.poll(POLL_RECORDS, POLL).await;
            match polled {
                Ok(records) => {
                    shelf.ahead.extend(records);
                    shelf.used = Some(Instant::now());
                }
                Err(error) => {
                    // A broken reader is not kept.
                    shelf.reader = None;
                    return Err(error.into());
                }
            }
            if shelf.ahead.is_empty() && Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    fn remembered(&self, id: BlockId) -> Option<(Arc<Block>, i64)> {
        let memory = self.memory();
        let found = memory.blocks.iter().find(|(block, ..)| block.id == id);
        found.map(|(block, _, first)| (Arc::clone(block), *first))
    }

    fn remember(&self, block: &Arc<Block>, first: i64) {
        let weight = weight(block);
        let mut memory = self.memory();
        memory.bytes += weight;
        memory.blocks.push_back((Arc::clone(block), weight, first));
        while memory.bytes > MEMORY_BYTES
            && let Some((_, weight, _)) = memory.blocks.pop_front()
        {
            memory.bytes = memory.bytes.saturating_sub(weight);
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        // A panic while holding it leaves at most a wrong sum.
        self.memory
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Shelf {
    fn is_awake(&self) -> bool {
        self.used.is_some()
    }

    async fn rest(&mut self) {
        if self.used.is_none_or(|used| used.elapsed() < IDLE) {
            return;
        }
        self.ahead = VecDeque::new();
        self.used = None;
        if let Some(mut reader) = self.reader.take() {
            // One that cannot rest is not kept.
            self.reader = reader.rest().await.is_ok().then_some(reader);
        }
    }
}

/// A block that is being read.
struct Open {
    id: BlockId,
    next: u32,
    chunks: Reassembler,
    contents: Vec<Content>,
}

impl Open {
    fn new(id: BlockId) -> Self {
        Self {
            id,
            next: 0,
            chunks: Reassembler::new(),
            contents: Vec::new(),
        }
    }

    /// The block, when this was its seal.
    fn push(
        &mut self,
        header: &CanonicalHeader,
        value: &bytes::Bytes,
    ) -> Result<Option<Block>, String> {
        if header.index != self.next {
            return Err(format!(
                "record {} where {} was due",
                header.index, self.next
            ));
        }
        self.next += 1;
        let position = u64::from(header.index);
        let pushed = self.chunks.push(header.kind, header.slot, position, value);
        if let Some(broken) = pushed.broken {
            return Err(broken.to_string());
        }
        let Some(whole) = pushed.whole else {
            return Ok(None);
        };
        if whole.kind != Kind::Seal {
            let content = observation::read_canonical(whole.kind, header.slot, &whole.value)?;
            self.contents.push(content);
            return Ok(None);
        }
        let seal = CanonicalSeal::decode(whole.value).map_err(|error| error.to_string())?;
        self.close(&seal).map(Some)
    }

    fn close(&mut self, seal: &CanonicalSeal) -> Result<Block, String> {
        let contents = std::mem::take(&mut self.contents);
        let meta = contents
            .iter()
            .rev()
            .find_map(|content| match &content.body {
                Body::BlockMeta(meta) => Some(Arc::clone(meta)),
                _ => None,
            });
        let meta = meta.ok_or("no block metadata before the seal")?;
        let count = |kind| {
            let of_kind = contents.iter().filter(|content| content.kind() == kind);
            of_kind.count() as u64
        };
        let counts = [Kind::Account, Kind::Transaction, Kind::Entry].map(count);
        if counts != [seal.accounts, seal.transactions, seal.entries] {
            return Err("its seal counts other records".to_owned());
        }
        let [accounts, transactions, entries] = counts;
        let parent = Blockhash::try_from(seal.parent_blockhash.as_slice());
        let mut sources = seal.sources.iter();
        let fetched_from = sources.find_map(|source| source.strip_prefix("rpc:"));
        Ok(Block {
            id: self.id,
            parent: BlockId::new(
                Slot(seal.parent_slot),
                parent.map_err(|error| error.to_string())?,
            ),
            contents,
            accounts,
            transactions,
            entries,
            meta,
            source: SourceId::default(),
            repaired_from: Vec::new(),
            fetched_from: fetched_from.map(Arc::from),
        })
    }
}
