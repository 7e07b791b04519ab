//! Pure: what the router remembers across lives, as records of the compacted state topic.
//!
//! One record per remembered thing, the newest per key counts, an empty value forgets. They are written in the same Kafka
//! transaction as the canonical records they belong to, so that state and stream never disagree.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use event_log::{NewRecord, Record};
use event_schema::{Gap, ObservedTopic, Pubkey, Slot, SourceId, proto::Message};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    account_state::{Remembered, RestoredAccounts},
    assembly::Extent,
    commitment::Standing,
    observation::Lane,
    router::Router,
    slot_tree::BlockId,
};

const POSITIONS: u8 = b'p';
const BLOCK: u8 = b'b';
const CLOSED: u8 = b'c';
const GAP: u8 = b'g';

/// The newest gaps are remembered, so that they can be told again: about 200 bytes each.
pub const GAPS_MAX: usize = 4_096;
/// What is in the accounts topic.
const ACCOUNTS: u8 = b'a';
/// An account whose state there is in several records.
const LARGE: u8 = b'l';

#[derive(Debug, Serialize, Deserialize)]
struct LanePosition {
    topic: u32,
    partition: u32,
    offset: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct BlockState {
    block: BlockId,
    parent: BlockId,
    told: Standing,
    /// Order of writing.
    number: u64,
    /// That blocks below it are missing was told.
    #[serde(default)]
    gap_told: bool,
    #[serde(default)]
    history: History,
}

/// When a block was told, in the order in which the router tells things, and where it lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Each telling has a number of its own; they grow across the router's lives. 0: told by a release that did not count.
    pub published: u64,
    pub confirmed: Option<u64>,
    pub finalized: Option<u64>,
    /// The first record's offset in its partition of the canonical topic; unknown until it was committed.
    pub offset: Option<i64>,
}

/// A block that an earlier life published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoredBlock {
    pub block: BlockId,
    pub parent: BlockId,
    pub told: Standing,
    pub history: History,
}

/// What earlier lives told, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Earlier {
    pub blocks: Vec<RestoredBlock>,
    /// With the numbers of their tellings.
    pub gaps: Vec<(u64, Gap)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ClosedState {
    slot: Slot,
    source: SourceId,
    block: Option<BlockId>,
    extent: Extent,
    number: u64,
}

/// A state record that cannot be read: the topic was written by something else, or damaged.
#[derive(Debug, thiserror::Error)]
#[error(
    "the state at {position} cannot be read ({problem}). Delete the router-state topic to start over (the router then \
     reads the observed topics from their beginning and publishes every block again), or restore it"
)]
pub struct StateError {
    pub position: String,
    pub problem: String,
}

/// Writes state records; counts what it writes so that age survives compaction.
#[derive(Debug)]
pub struct StateWriter {
    topic: std::sync::Arc<str>,
    number: u64,
    /// Numbers of the gaps that are remembered.
    gaps: VecDeque<u64>,
}

impl StateWriter {
    pub fn positions(&self, lanes: &BTreeMap<Lane, i64>) -> NewRecord {
        let positions: Vec<LanePosition> = lanes
            .iter()
            .map(|(lane, offset)| LanePosition {
                topic: lane.topic as u32,
                partition: lane.partition,
                offset: *offset,
            })
            .collect();
        self.record(Bytes::from_static(&[POSITIONS]), &positions)
    }

    /// The number of the next telling.
    pub fn count(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub fn block(
        &mut self,
        block: BlockId,
        (parent, told, gap_told): (BlockId, Standing, bool),
        history: History,
    ) -> NewRecord {
        self.number += 1;
        let state = BlockState {
            block,
            parent,
            told,
            number: self.number,
            gap_told,
            history,
        };
        self.record(block_key(block), &state)
    }

    pub fn closed(
        &mut self,
        slot: Slot,
        source: SourceId,
        block: Option<BlockId>,
        extent: Extent,
    ) -> NewRecord {
        self.number += 1;
        let state = ClosedState {
            slot,
            source,
            block,
            extent,
            number: self.number,
        };
        self.record(closed_key(slot, source), &state)
    }

    /// A gap, by the number of its telling; the oldest is forgotten for it.
    pub fn gap(&mut self, number: u64, gap: &Gap, out: &mut Vec<NewRecord>) {
        out.push(self.raw(gap_key(number), gap.encode_to_vec().into()));
        self.gaps.push_back(number);
        while self.gaps.len() > GAPS_MAX {
            if let Some(oldest) = self.gaps.pop_front() {
                out.push(self.raw(gap_key(oldest), Bytes::new()));
            }
        }
    }

    /// What a next life must know of the accounts topic.
    pub fn accounts(&self, remembered: &Remembered, out: &mut Vec<NewRecord>) {
        let key = Bytes::from_static(&[ACCOUNTS]);
        out.push(self.record(key, &remembered.progress));
        for (account, chunks) in &remembered.large {
            let mut key = BytesMut::with_capacity(33);
            key.put_u8(LARGE);
            key.put_slice(account.as_bytes());
            out.push(match chunks {
                Some(chunks) => self.record(key.freeze(), chunks),
                None => self.raw(key.freeze(), Bytes::new()),
            });
        }
    }

    pub fn forget_block(&self, block: BlockId) -> NewRecord {
        self.raw(block_key(block), Bytes::new())
    }

    pub fn forget_closed(&self, slot: Slot, source: SourceId) -> NewRecord {
        self.raw(closed_key(slot, source), Bytes::new())
    }

    fn record<T: Serialize>(&self, key: Bytes, value: &T) -> NewRecord {
        // These types have string keys only: they always serialize.
        let value = serde_json::to_vec(value).unwrap_or_default();
        self.raw(key, value.into())
    }

    fn raw(&self, key: Bytes, value: Bytes) -> NewRecord {
        NewRecord {
            topic: self.topic.clone(),
            partition: 0,
            key,
            header: Bytes::new(),
            value,
        }
    }
}

/// What the state topic held.
#[derive(Debug)]
pub struct Restored {
    pub positions: BTreeMap<Lane, i64>,
    pub earlier: Earlier,
    pub accounts: RestoredAccounts,
    pub writer: StateWriter,
}

/// Collects the state topic's records, then rebuilds the router.
#[derive(Debug, Default)]
pub struct StateReader {
    newest: HashMap<Bytes, Record>,
}

impl StateReader {
    pub fn push(&mut self, record: Record) {
        if record.value.is_empty() {
            self.newest.remove(&record.key);
        } else {
            self.newest.insert(record.key.clone(), record);
        }
    }

    /// Fills the router. Returns the positions to read the observed topics from, what was told, and the writer that continues.
    pub fn restore(
        self,
        topic: std::sync::Arc<str>,
        router: &mut Router,
    ) -> Result<Restored, StateError> {
        let mut positions = BTreeMap::new();
        let mut blocks: Vec<BlockState> = Vec::new();
        let mut closed: Vec<ClosedState> = Vec::new();
        let mut gaps: BTreeMap<u64, Gap> = BTreeMap::new();
        let mut accounts = RestoredAccounts::default();
        for record in self.newest.into_values() {
            match record.key.first() {
                Some(&POSITIONS) => {
                    for position in read::<Vec<LanePosition>>(&record)? {
                        let topic = ObservedTopic::try_from(position.topic).map_err(|topic| {
                            StateError {
                                position: record.position.to_string(),
                                problem: format!("unknown topic {topic}"),
                            }
                        })?;
                        let lane = Lane {
                            topic,
                            partition: position.partition,
                        };
                        positions.insert(lane, position.offset);
                    }
                }
                Some(&BLOCK) => blocks.push(read(&record)?),
                Some(&CLOSED) => closed.push(read(&record)?),
                Some(&GAP) => drop(gaps.insert(gap_number(&record)?, gap(&record)?)),
                Some(&ACCOUNTS) => accounts.progress = read(&record)?,
                Some(&LARGE) => {
                    let account =
                        Pubkey::try_from(&record.key[1..]).map_err(|error| StateError {
                            position: record.position.to_string(),
                            problem: error.to_string(),
                        })?;
                    accounts.large.insert(account, read(&record)?);
                }
                _ => {
                    return Err(StateError {
                        position: record.position.to_string(),
                        problem: "unknown key".to_owned(),
                    });
                }
            }
        }
        // In the order of publication; what an older release wrote comes first, in its order.
        blocks.sort_by_key(|block| (block.history.published, block.number));
        closed.sort_by_key(|closed| closed.number);
        let number = [
            blocks.iter().map(|block| block.number).max(),
            closed.last().map(|closed| closed.number),
            gaps.keys().next_back().copied(),
        ]
        .into_iter()
        .flatten()
        .max()
        .unwrap_or(0);
        for state in &blocks {
            router.restore_published(state.block, state.parent, state.told, state.gap_told);
        }
        let blocks = blocks.into_iter().map(|state| RestoredBlock {
            block: state.block,
            parent: state.parent,
            told: state.told,
            history: state.history,
        });
        for state in closed {
            router.restore_closed(state.slot, state.source, state.block, state.extent);
        }
        Ok(Restored {
            positions,
            accounts,
            writer: StateWriter {
                topic,
                number,
                gaps: gaps.keys().copied().collect(),
            },
            earlier: Earlier {
                blocks: blocks.collect(),
                gaps: gaps.into_iter().collect(),
            },
        })
    }
}

/// What a record of the state topic says of a published block, for one who follows the topic.
pub fn published_block(record: &Record) -> Result<Option<RestoredBlock>, StateError> {
    if record.key.first() != Some(&BLOCK) || record.value.is_empty() {
        return Ok(None);
    }
    let state: BlockState = read(record)?;
    Ok(Some(RestoredBlock {
        block: state.block,
        parent: state.parent,
        told: state.told,
        history: state.history,
    }))
}

/// A gap that a record of the state topic tells of, with the number of its telling; the same reader's.
pub fn told_gap(record: &Record) -> Result<Option<(u64, Gap)>, StateError> {
    if record.key.first() != Some(&GAP) || record.value.is_empty() {
        return Ok(None);
    }
    Ok(Some((gap_number(record)?, gap(record)?)))
}

fn read<T: DeserializeOwned>(record: &Record) -> Result<T, StateError> {
    serde_json::from_slice(&record.value).map_err(|error| StateError {
        position: record.position.to_string(),
        problem: error.to_string(),
    })
}

fn gap(record: &Record) -> Result<Gap, StateError> {
    Gap::decode(record.value.clone()).map_err(|error| StateError {
        position: record.position.to_string(),
        problem: error.to_string(),
    })
}

fn gap_number(record: &Record) -> Result<u64, StateError> {
    let number = record.key.get(1..).and_then(|key| key.try_into().ok());
    number.map(u64::from_be_bytes).ok_or_else(|| StateError {
        position: record.position.to_string(),
        problem: format!("a gap's key has {} bytes, expected 9", record.key.len()),
    })
}

fn gap_key(number: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(9);
    key.put_u8(GAP);
    key.put_u64(number);
    key.freeze()
}

fn block_key(block: BlockId) -> Bytes {
    let mut key = BytesMut::with_capacity(41);
    key.put_u8(BLOCK);
    key.put_u64(block.slot.0);
    key.put_slice(block.blockhash.as_bytes());
    key.freeze()
}

fn closed_key(slot: Slot, source: SourceId) -> Bytes {
    let mut key = BytesMut::with_capacity(49);
    key.put_u8(CLOSED);
    key.put_u64(slot.0);
    key.put_slice(source.validator.as_bytes());
    key.put_u64(source.instance);
    key.freeze()
}
