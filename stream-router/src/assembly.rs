//! Pure: collects what one source wrote for one slot until its seals prove that all of it is here.
//!
//! The seal's table counts the records of every partition, so one seal suffices to know the whole extent. A record that
//! comes after the seal makes the slot wait for the amended one. A slot that a source replays after its block was
//! published starts over from where the published block ended.

use std::{collections::BTreeMap, ops::RangeInclusive};

use event_schema::{GapReason, ObservedTopic, Seal, SourceId};
use serde::{Deserialize, Serialize};

use crate::{
    dedup::EventId,
    observation::{Body, Content, Lane, MetaView, Place},
    slot_tree::BlockId,
};

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

/// What a complete slot amounts to.
#[derive(Debug)]
pub enum Built {
    Block(Box<Block>),
    /// Records of a block that was published already.
    Late(Vec<Content>),
}

/// Why sealed records do not make a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    #[error("sealed without block metadata")]
    NoMetadata,
    #[error("sealed with {0} different block metadata records")]
    SeveralBlocks(usize),
    #[error("the metadata counts {counted} {what}, {held} are sealed")]
    Count {
        what: &'static str,
        counted: u64,
        held: u64,
    },
}

/// What is missing, for the gap record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// 0 when not known.
    pub records: u64,
    pub reason: GapReason,
    pub detail: String,
}

#[derive(Debug, Default)]
struct LaneSlot {
    first_offset: i64,
    /// By sequence.
    contents: BTreeMap<u64, Content>,
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
        self.bytes += 2 * content.bytes.len() + 128;
        if let Some(lane) = self.lanes.get_mut(&place.lane)
            && lane.contents.insert(sequence, content).is_none()
        {
            self.held_total += 1;
        }
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
        self.meta().is_none() && self.damaged == 0 && !lost && rows_complete && !unread
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
        if rows_complete && slots_complete && all_in_table {
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
        // Slot statuses travel in this topic and go on after the seal; its content is checked by the seal's totals.
        if lane.topic == ObservedTopic::Slots {
            return Some(true);
        }
        let base = self.base.lane(lane);
        if base.is_some() && row.records > 0 && self.lane_seal(lane, seal.revision).is_none() {
            return Some(false);
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

    /// Contents that count: what a seal's range leaves out belongs to an earlier, abandoned attempt at the slot.
    fn counting(&self, lane: Lane) -> impl Iterator<Item = (&u64, &Content)> {
        let first = self
            .seal
            .as_ref()
            .and_then(|seal| self.lane_seal(lane, seal.revision))
            .map_or(0, |seal| seal.first_sequence);
        self.lanes
            .get(&lane)
            .into_iter()
            .flat_map(move |slot| slot.contents.range(first..))
    }

    fn held(&self, lane: Lane) -> u64 {
        self.counting(lane).count() as u64
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
            let last_sequence = [sealed, held, before.map(|base| base.last_sequence)]
                .into_iter()
                .flatten()
                .max()?;
            Some(LaneExtent {
                topic: lane.topic as u32,
                partition: lane.partition,
                last_sequence,
                records: slot.contents.len() as u64 + before.map_or(0, |base| base.records),
            })
        });
        Extent {
            lanes: lanes.collect(),
            entries: self.held_entries() + self.base.entries,
        }
    }

    /// What came after the slot's block was published; empty while none was.
    pub fn late(self) -> Vec<Content> {
        if self.base.lanes.is_empty() {
            return Vec::new();
        }
        let lanes = self.lanes.into_values();
        lanes.flat_map(|lane| lane.contents.into_values()).collect()
    }

    /// Call when [`Progress::Complete`]. Records with the same content identity become one.
    pub fn build(self, source: SourceId) -> Result<Built, Defect> {
        let lanes: Vec<Lane> = self.lanes.keys().copied().collect();
        let mut events: BTreeMap<EventId, Content> = BTreeMap::new();
        let mut metas: Vec<std::sync::Arc<MetaView>> = Vec::new();
        for lane in lanes {
            for (_, content) in self.counting(lane) {
                if let Body::BlockMeta(meta) = &content.body
                    && !metas.iter().any(|known| known.block == meta.block)
                {
                    metas.push(std::sync::Arc::clone(meta));
                }
                events.insert(content.id, content.clone());
            }
        }
        let contents: Vec<Content> = events.into_values().collect();
        let meta = match (metas.len(), metas.pop()) {
            (1, Some(meta)) => meta,
            (0, _) if !self.base.lanes.is_empty() => return Ok(Built::Late(contents)),
            (0, _) => return Err(Defect::NoMetadata),
            (several, _) => return Err(Defect::SeveralBlocks(several)),
        };
        let count = |wanted: event_schema::Kind| {
            contents
                .iter()
                .filter(|content| content.kind() == wanted)
                .count() as u64
        };
        let (accounts, transactions, entries) = (
            count(event_schema::Kind::Account),
            count(event_schema::Kind::Transaction),
            count(event_schema::Kind::Entry),
        );
        agree("transactions", meta.transactions, transactions)?;
        // A source may be configured not to stream entries, and a validator counts none for the blocks it led itself.
        if entries > 0 && meta.entries > 0 {
            agree("entries", meta.entries, entries)?;
        }
        Ok(Built::Block(Box::new(Block {
            id: meta.block,
            parent: meta.parent,
            contents,
            accounts,
            transactions,
            entries,
            meta,
            source,
        })))
    }

    /// What is missing now. `missing_in` tells the unread sequence numbers of a partition.
    pub fn hole(
        &self,
        missing_in: impl Fn(Lane, RangeInclusive<u64>) -> Vec<RangeInclusive<u64>>,
    ) -> Hole {
        let Some(seal) = &self.seal else {
            let held: usize = self.lanes.values().map(|lane| lane.contents.len()).sum();
            return Hole {
                records: 0,
                reason: GapReason::NeverSealed,
                detail: format!("{held} records, no seal"),
            };
        };
        let mut lost = 0;
        let mut missing = 0;
        let mut details = Vec::new();
        for row in &seal.table {
            let Ok(topic) = ObservedTopic::try_from(row.topic) else {
                details.push(format!("unknown topic {}", row.topic));
                continue;
            };
            let lane = Lane {
                topic,
                partition: row.partition,
            };
            let (due, held) = if topic == ObservedTopic::Slots {
                let metas = u64::from(self.meta().is_some());
                (self.entries_due(seal) + 1, self.held_entries() + metas)
            } else {
                (
                    row.records.saturating_sub(self.counted_before(lane, seal)),
                    self.held(lane),
                )
            };
            lost += row.lost;
            missing += due.saturating_sub(held);
            if row.lost == 0 && due == held {
                continue;
            }
            let unread = self
                .lanes
                .get(&lane)
                .and_then(|slot| slot.seal)
                .map(|own| missing_in(lane, own.first_sequence..=own.last_sequence))
                .unwrap_or_default();
            details.push(format!(
                "{topic:?}/{}: {held} of {due} records, {} lost at the source, missing sequences {}",
                row.partition,
                row.lost,
                ranges(&unread),
            ));
        }
        if self.damaged > 0 {
            details.push(format!("{} unreadable records", self.damaged));
        }
        Hole {
            records: lost + missing,
            reason: if lost > 0 {
                GapReason::LostAtSource
            } else {
                GapReason::MissingRecords
            },
            detail: details.join("; "),
        }
    }
}

fn agree(what: &'static str, counted: u64, held: u64) -> Result<(), Defect> {
    if counted == held {
        return Ok(());
    }
    Err(Defect::Count {
        what,
        counted,
        held,
    })
}

fn ranges(ranges: &[RangeInclusive<u64>]) -> String {
    if ranges.is_empty() {
        return "not known".to_owned();
    }
    let texts = ranges.iter().take(16).map(|range| {
        if range.start() == range.end() {
            range.start().to_string()
        } else {
            format!("{}-{}", range.start(), range.end())
        }
    });
    let mut text = texts.collect::<Vec<_>>().join(",");
    if ranges.len() > 16 {
        text.push_str(&format!(" and {} more ranges", ranges.len() - 16));
    }
    text
}
