//! Pure: observations in, effects out. Forks, commitment, completeness and deduplication come together here.
//!
//! The three observed topics may be read at any speed relative to each other: nothing here depends on their order, only
//! on the order within one source's partition. Time is the log's time, handed in: the point up to which every partition
//! has been read. A slot ages only while the log goes on without it, so a slow reader never makes a gap.

use std::collections::BTreeMap;

use event_schema::{Kind, Slot, SourceId};

use crate::{
    announce::Announcements,
    assembly::Extent,
    commitment::{Commitments, Standing},
    dedup::{Published, PublishedBlocks},
    observation::{Lane, Observation, Report},
    sequence::Seen,
    slot_tree::BlockId,
};

mod closed;
mod contents;
mod effect;
mod giving_up;
mod mending;
mod open;
mod publishing;
mod sources;
mod statuses;
mod unlinked;

use closed::ClosedSlots;
pub use effect::{Effect, Heads, SlotUpdate, Totals};
pub use mending::{Contradiction, Mended, RPC_NODE};
use open::OpenSlots;
use sources::Sources;
use unlinked::Unlinked;

/// Knobs of the pure core; see `config.rs` for their meaning to an operator.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A slot without news for this long, in log time, is given up, ms.
    pub gap_after_ms: i64,
    /// A complete slot that nobody reported as processed is published after this long, ms.
    pub settle_ms: i64,
    /// An unsealed slot is given up only this far below its source's root.
    pub unsealed_slots: u64,
    /// Published blocks remembered against later copies.
    pub published_memory: usize,
    /// Blocks in the tree, for commitment.
    pub tree_memory: usize,
    /// Closed slots per source whose extents are remembered.
    pub closed_memory: usize,
    /// Records of open slots held at most, bytes.
    pub open_bytes: usize,
    /// A hole between two blocks is told as a gap up to this many slots; beyond, coverage begins anew.
    pub gap_slots: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            gap_after_ms: 10_000,
            settle_ms: 2_000,
            unsealed_slots: 32,
            published_memory: 432_000,
            tree_memory: 65_536,
            closed_memory: 16_384,
            open_bytes: 1 << 30,
            gap_slots: 432_000,
        }
    }
}

/// One source's view of one slot.
pub(crate) type SlotKey = (Slot, SourceId);

/// See the module.
#[derive(Debug)]
pub struct Router {
    limits: Limits,
    commitments: Commitments,
    published: PublishedBlocks,
    open: OpenSlots,
    closed: ClosedSlots,
    sources: Sources,
    announcements: Announcements,
    unlinked: Unlinked,
    totals: Totals,
    heads: Heads,
}

impl Router {
    pub fn new(limits: Limits) -> Self {
        Self {
            commitments: Commitments::new(limits.tree_memory),
            published: PublishedBlocks::new(limits.published_memory),
            open: OpenSlots::default(),
            closed: ClosedSlots::new(limits.closed_memory),
            sources: Sources::default(),
            announcements: Announcements::default(),
            unlinked: Unlinked::default(),
            totals: Totals::default(),
            heads: Heads::default(),
            limits,
        }
    }

    /// A block published by an earlier life; oldest first.
    pub fn restore_published(
        &mut self,
        block: BlockId,
        parent: BlockId,
        told: Standing,
        gap_told: bool,
    ) {
        let published = Published {
            parent,
            told,
            gap_told,
        };
        if told == Standing::Finalized && !gap_told {
            self.unlinked.watch(block);
        }
        // A second record of one block cannot be in a compacted topic; the first is kept.
        let _ = self.published.insert(block, published);
        self.commitments.restore(block, parent, told, []);
        self.heads.raise(block.slot, told);
    }

    /// A slot that an earlier life had closed.
    pub fn restore_closed(
        &mut self,
        slot: Slot,
        source: SourceId,
        block: Option<BlockId>,
        extent: Extent,
    ) {
        if let Some(published) = block.and_then(|block| self.published.get(block).copied()) {
            let block = block.unwrap_or_default();
            self.commitments
                .restore(block, published.parent, published.told, [source]);
        }
        self.sources.cover(source, slot);
        self.closed.restore((slot, source), extent, block.is_some());
    }

    pub fn observe(&mut self, observation: Observation, out: &mut Vec<Effect>) {
        let Observation {
            place,
            source,
            slot,
            sequence,
            report,
        } = observation;
        let seen = self.sources.observe(place, source, sequence);
        if seen == Seen::Again {
            self.totals.duplicates += 1;
            return;
        }
        let key = (slot, source);
        match report {
            // Its sequence is seen, so that there is no hole; no block knows of it.
            Report::Beside(kind, bytes) => out.push(Effect::Beside { slot, kind, bytes }),
            Report::Startup => {
                self.totals.startup += 1;
                self.sources.view_mut(source).startup += 1;
            }
            Report::Status(report) => self.on_status(place, key, report, out),
            Report::Damaged { content } => {
                self.totals.damaged += 1;
                if content {
                    self.on_damaged(place, key, sequence);
                }
            }
            Report::Seal(seal) => self.on_seal(place, key, sequence, seal, out),
            Report::Content(content) => {
                let (kind, bytes) = (content.kind(), &content.bytes);
                if self.is_wanted(key, place.lane, (sequence, seen), kind, bytes, out) {
                    self.on_content(place, key, sequence, content, out);
                }
            }
            Report::Chunk(record) => {
                let bytes = &record.bytes;
                if self.is_wanted(key, place.lane, (sequence, seen), Kind::Chunk, bytes, out) {
                    self.on_chunk(place, key, sequence, record, out);
                }
            }
        }
    }

    /// The oldest offset of the lane that an open slot still needs.
    pub fn low_watermarks(&self) -> BTreeMap<Lane, i64> {
        self.open.low_watermarks()
    }

    pub fn published(&self, block: BlockId) -> Option<&Published> {
        self.published.get(block)
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    pub fn heads(&self) -> Heads {
        self.heads
    }

    pub fn open_slots(&self) -> usize {
        self.open.len()
    }

    pub fn open_bytes(&self) -> usize {
        self.open.bytes()
    }

    pub fn remembered_blocks(&self) -> usize {
        self.published.len()
    }

    pub fn sources(&self) -> impl Iterator<Item = SourceId> + '_ {
        self.sources.ids()
    }
}
