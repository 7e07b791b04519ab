//! Pure: collects what one source wrote for one slot until its seals prove that all of it is here.
//!
//! The seal's table counts the records of every partition; a partition's own seal tells where the slot's last execution begins
//! in it. A record that comes after the seal makes the slot wait for the amended one. A slot that a source replays after its block was
//! published starts over from where the published block ended. Chunks count as the records they are and are joined as
//! soon as their set is whole, in whatever order they came.

use std::{collections::BTreeMap, ops::RangeInclusive};

use bytes::Bytes;
use event_schema::{Kind, ObservedTopic, Seal, SourceId};
use serde::{Deserialize, Serialize};

use crate::{
    chunk_sets::ChunkSets,
    dedup::EventId,
    observation::{Body, ChunkRecord, Content, Lane, MetaView, Place},
    slot_tree::BlockId,
};

mod build;
mod hole;
mod union;

pub use build::{Built, Defect};
pub use hole::Hole;
pub use union::unite;

/// What a held record costs besides its bytes.
const RECORD_BYTES: usize = 128;

/// A complete block in canonical order.
#[derive(Debug)]
pub struct Block {
    pub id: BlockId,
    pub parent: BlockId,
    /// Accounts by write version, transactions by index, entries by index, the metadata.
    pub contents: Vec<Content>,
    pub accounts: u64,
    pub transactions: u64,
    pub entries: u64,
    pub meta: std::sync::Arc<MetaView>,
    pub source: SourceId,
    /// Others whose records fill holes of `source`; empty when it had the whole block.
    pub repaired_from: Vec<SourceId>,
    /// The host of the RPC node that gave the block, when no source had it.
    pub fetched_from: Option<std::sync::Arc<str>>,
}

impl Block {
    /// Who gave its records, as canonical readers are told: `validator/instance`, or `rpc:HOST`.
    pub fn origins(&self) -> Vec<String> {
        if let Some(host) = &self.fetched_from {
            return vec![format!("rpc:{host}")];
        }
        std::iter::once(&self.source)
            .chain(&self.repaired_from)
            .map(ToString::to_string)
            .collect()
    }

    /// Completed from somewhere else than the plugin that reported it.
    pub fn is_repaired(&self) -> bool {
        self.fetched_from.is_some() || !self.repaired_from.is_empty()
    }
}

/// How far into each partition a source's slot was taken; records up to there are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub lanes: Vec<LaneExtent>,
    pub entries: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneExtent {
    pub topic: u32,
    pub partition: u32,
    pub last_sequence: u64,
    pub records: u64,
}

impl Extent {
    fn lane(&self, lane: Lane) -> Option<&LaneExtent> {
        self.lanes
            .iter()
            .find(|extent| (extent.topic, extent.partition) == (lane.topic as u32, lane.partition))
    }

    pub fn covers(&self, lane: Lane, sequence: u64) -> bool {
        self.lane(lane)
            .is_some_and(|extent| sequence <= extent.last_sequence)
    }
}

/// What a slot still waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Unsealed,
    /// Sealed, but records are missing, were lost at the source, or wait for an amended seal.
    Incomplete,
    Complete,
}

#[derive(Debug, Default)]
struct LaneSlot {
    first_offset: i64,
    /// By sequence, that of the last record.
    contents: BTreeMap<u64, Content>,
    /// Of values that are not whole yet.
    chunks: ChunkSets,
    /// The newest seal of this partition.
    seal: Option<LaneSeal>,
}

#[derive(Debug, Clone, Copy)]
struct LaneSeal {
    revision: u32,
    first_sequence: u64,
    last_sequence: u64,
}

/// One source's records of one slot.
#[derive(Debug, Default)]
pub struct SourceSlot {
    lanes: BTreeMap<Lane, LaneSlot>,
    /// The newest seal of any partition: its table and totals count.
    seal: Option<Box<Seal>>,
    base: Extent,
    /// The source processed its block.
    pub processed: bool,
    pub rooted: bool,
    pub dead: bool,
    pub damaged: u64,
    /// Records held, chunks included.
    held_total: u64,
    /// Log time of its newest record, ms.
    pub last_ms: i64,
    pub bytes: usize,
}

impl SourceSlot {
    /// Records covered by `base` were published before.
    pub fn after(base: Extent) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }

    /// Every record of the slot, whatever it says: the log must be read again from the oldest while the slot is open.
    pub fn touch(&mut self, place: Place) {
        self.lanes.entry(place.lane).or_insert_with(|| LaneSlot {
            first_offset: place.offset,
            ..LaneSlot::default()
        });
        self.last_ms = self.last_ms.max(place.timestamp_ms);
    }

    pub fn add(&mut self, place: Place, sequence: u64, content: Content) {
        self.touch(place);
        self.bytes += 2 * content.bytes.len() + RECORD_BYTES;
        let records = content.records;
        if let Some(lane) = self.lanes.get_mut(&place.lane)
            && lane.contents.insert(sequence, content).is_none()
        {
            self.held_total += records;
        }
    }

    /// Returns the chunks of the value that this one completes, no longer held, and the last one's sequence.
    pub fn add_chunk(
        &mut self,
        place: Place,
        sequence: u64,
        record: ChunkRecord,
    ) -> Option<(u64, Vec<ChunkRecord>)> {
        self.touch(place);
        let cost = |record: &ChunkRecord| record.bytes.len() + RECORD_BYTES;
        self.bytes += cost(&record);
        self.held_total += 1;
        let lane = self.lanes.get_mut(&place.lane)?;
        let (last, set) = lane.chunks.add(sequence, record)?;
        self.bytes = self
            .bytes
            .saturating_sub(set.iter().map(cost).sum::<usize>());
        self.held_total = self.held_total.saturating_sub(set.len() as u64);
        Some((last, set))
    }

    pub fn seal(&mut self, place: Place, seal: Box<Seal>) {
        self.touch(place);
        if let Some(lane) = self.lanes.get_mut(&place.lane)
            && lane
                .seal
                .is_none_or(|known| known.revision <= seal.revision)
        {
            lane.seal = Some(LaneSeal {
                revision: seal.revision,
                first_sequence: seal.first_sequence,
                last_sequence: seal.last_sequence,
            });
        }
        if self
            .seal
            .as_ref()
            .is_none_or(|known| known.revision < seal.revision)
        {
            self.seal = Some(seal);
        }
    }

    pub fn first_offsets(&self) -> impl Iterator<Item = (Lane, i64)> + '_ {
        self.lanes
            .iter()
            .map(|(lane, slot)| (*lane, slot.first_offset))
    }

    pub fn is_sealed(&self) -> bool {
        self.seal.is_some()
    }

    /// Nothing but statuses and seals so far.
    pub fn is_hollow(&self) -> bool {
        self.damaged == 0 && self.held_total == 0
    }

    /// Nothing at all: what opened it turned out to belong to no block.
    pub fn is_blank(&self) -> bool {
        self.is_hollow() && !self.is_sealed() && !self.processed && !self.rooted && !self.dead
    }

    /// Sealed, everything the seals count is here, and yet there is no block metadata: the source never had the block
    /// (it joined in the middle, the slot died, or its fork was left alone).
    pub fn is_without_block(
        &self,
        missing_in: impl Fn(Lane, RangeInclusive<u64>) -> Vec<RangeInclusive<u64>>,
    ) -> bool {
        let Some(seal) = &self.seal else {
            return self.meta().is_none() && self.damaged == 0;
        };
        let lost = seal.table.iter().any(|row| row.lost > 0);
        let rows_complete = seal
            .table
            .iter()
            .all(|row| self.row_is_complete(seal, row) == Some(true));
        let unread = self.lanes.iter().any(|(lane, slot)| {
            slot.seal.is_some_and(|own| {
                !missing_in(*lane, own.first_sequence..=own.last_sequence).is_empty()
            })
        });
        self.meta().is_none()
            && self.damaged == 0
            && !lost
            && rows_complete
            && !unread
            && !self.waits_for_chunks()
    }

    /// The newest block metadata.
    pub fn meta(&self) -> Option<&std::sync::Arc<MetaView>> {
        self.lanes
            .iter()
            .filter(|(lane, _)| lane.topic == ObservedTopic::Slots)
            .flat_map(|(_, slot)| slot.contents.iter().rev())
            .filter_map(|(sequence, content)| match &content.body {
                Body::BlockMeta(meta) => Some((*sequence, meta)),
                _ => None,
            })
            .max_by_key(|(sequence, _)| *sequence)
            .map(|(_, meta)| meta)
    }

    pub fn progress(&self) -> Progress {
        let Some(seal) = &self.seal else {
            return Progress::Unsealed;
        };
        if seal.partial {
            return Progress::Incomplete;
        }
        // Counting every record at every record would be quadratic: first the cheap sum.
        let due: u64 = seal
            .table
            .iter()
            .filter(|row| row.topic != ObservedTopic::Slots as u32)
            .map(|row| row.records)
            .sum::<u64>()
            .saturating_add(seal.entries);
        if self.base.lanes.is_empty() && self.held_total <= due {
            return Progress::Incomplete;
        }
        let rows_complete = seal
            .table
            .iter()
            .all(|row| self.row_is_complete(seal, row) == Some(true));
        let slots_complete = self.entries_due(seal) == self.held_entries()
            && (self.meta().is_some() || !self.base.lanes.is_empty());
        // A record of a partition that the table leaves out came after this seal: an amended one follows.
        let all_in_table = self.lanes.keys().all(|lane| {
            self.held(*lane) == 0
                || seal
                    .table
                    .iter()
                    .any(|row| (row.topic, row.partition) == (lane.topic as u32, lane.partition))
        });
        if rows_complete && slots_complete && all_in_table && !self.waits_for_chunks() {
            Progress::Complete
        } else {
            Progress::Incomplete
        }
    }

    /// `None` for a topic this release does not know: such a slot never completes.
    fn row_is_complete(&self, seal: &Seal, row: &event_schema::SealedPartition) -> Option<bool> {
        let lane = Lane {
            topic: ObservedTopic::try_from(row.topic).ok()?,
            partition: row.partition,
        };
        if row.lost > 0 {
            return Some(false);
        }
        // Only a partition's own seal tells where this execution of the slot begins in it: what lies before is another's.
        let begun = self.lane_seal(lane, seal.revision).is_some();
        let holds = self
            .lanes
            .get(&lane)
            .is_some_and(|slot| !slot.contents.is_empty() || slot.chunks.last().is_some());
        if !begun && (row.records > 0 || holds) {
            return Some(false);
        }
        // Slot statuses travel in this topic and go on after the seal; its content is checked by the seal's totals.
        if lane.topic == ObservedTopic::Slots {
            return Some(true);
        }
        Some(self.held(lane) == row.records.saturating_sub(self.counted_before(lane, seal)))
    }

    /// The partition's own seal, of the revision that counts.
    fn lane_seal(&self, lane: Lane, revision: u32) -> Option<LaneSeal> {
        self.lanes
            .get(&lane)?
            .seal
            .filter(|seal| seal.revision == revision)
    }

    /// Records of the published block that this seal counts again.
    fn counted_before(&self, lane: Lane, seal: &Seal) -> u64 {
        match (self.base.lane(lane), self.lane_seal(lane, seal.revision)) {
            (Some(base), Some(own)) if own.first_sequence <= base.last_sequence => base.records,
            _ => 0,
        }
    }

    /// The first sequence that counts: what a seal's range leaves out belongs to an earlier, abandoned attempt at the slot.
    fn counted_from(&self, lane: Lane) -> u64 {
        self.seal
            .as_ref()
            .and_then(|seal| self.lane_seal(lane, seal.revision))
            .map_or(0, |seal| seal.first_sequence)
    }

    /// Contents that count.
    fn counting(&self, lane: Lane) -> impl Iterator<Item = (&u64, &Content)> {
        let first = self.counted_from(lane);
        self.lanes
            .get(&lane)
            .into_iter()
            .flat_map(move |slot| slot.contents.range(first..))
    }

    /// What [`Self::counting`] goes through, partition by partition.
    fn into_contents(self) -> Vec<Content> {
        let lanes = self.lanes.keys();
        let firsts: Vec<u64> = lanes.map(|lane| self.counted_from(*lane)).collect();
        let lanes = self.lanes.into_values().zip(firsts);
        lanes
            .flat_map(|(mut lane, first)| lane.contents.split_off(&first).into_values())
            .collect()
    }

    /// Records that count, chunks included.
    fn held(&self, lane: Lane) -> u64 {
        let contents: u64 = self
            .counting(lane)
            .map(|(_, content)| content.records)
            .sum();
        let first = self.counted_from(lane);
        contents
            + self
                .lanes
                .get(&lane)
                .map_or(0, |slot| slot.chunks.records_from(first))
    }

    /// Some value lacks chunks.
    fn waits_for_chunks(&self) -> bool {
        self.lanes
            .iter()
            .any(|(lane, slot)| slot.chunks.records_from(self.counted_from(*lane)) > 0)
    }

    fn held_entries(&self) -> u64 {
        let lanes = self.lanes.keys().copied();
        lanes
            .filter(|lane| lane.topic == ObservedTopic::Slots)
            .flat_map(|lane| self.counting(lane))
            .filter(|(_, content)| matches!(content.id, EventId::Entry(_)))
            .count() as u64
    }

    fn entries_due(&self, seal: &Seal) -> u64 {
        let counted_before = self
            .lanes
            .keys()
            .any(|lane| lane.topic == ObservedTopic::Slots && self.counted_before(*lane, seal) > 0);
        let before = if counted_before { self.base.entries } else { 0 };
        seal.entries.saturating_sub(before)
    }

    /// To be remembered when the slot is closed.
    pub fn extent(&self) -> Extent {
        let lanes = self.lanes.iter().filter_map(|(lane, slot)| {
            let before = self.base.lane(*lane);
            let sealed = slot.seal.map(|seal| seal.last_sequence);
            let held = slot.contents.last_key_value().map(|(last, _)| *last);
            let before_last = before.map(|base| base.last_sequence);
            let last_sequence = [sealed, held, slot.chunks.last(), before_last]
                .into_iter()
                .flatten()
                .max()?;
            let records: u64 = slot.contents.values().map(|content| content.records).sum();
            Some(LaneExtent {
                topic: lane.topic as u32,
                partition: lane.partition,
                last_sequence,
                records: records
                    + slot.chunks.records_from(0)
                    + before.map_or(0, |base| base.records),
            })
        });
        Extent {
            lanes: lanes.collect(),
            entries: self.held_entries() + self.base.entries,
        }
    }

    /// What came after the slot's block was published; empty while none was.
    pub fn late(self) -> Vec<(Kind, Bytes)> {
        if self.base.lanes.is_empty() {
            return Vec::new();
        }
        let lanes = self.lanes.into_values();
        lanes
            .flat_map(|lane| {
                let contents = lane.contents.into_values();
                let chunks = lane.chunks.into_records();
                contents
                    .map(|content| (content.kind(), content.bytes))
                    .chain(chunks.map(|record| (Kind::Chunk, record.bytes)))
            })
            .collect()
    }
}
