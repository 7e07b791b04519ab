//! What the router concludes, and the figures it keeps about that.

use std::sync::Arc;

use bytes::Bytes;
use event_schema::{Gap, Kind, Slot, SourceId, proto::geyser::SlotStatus};

use crate::{
    assembly::{Block, Extent},
    commitment::{Change, Standing},
    observation::Content,
    slot_tree::BlockId,
};

/// What the world must be told.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Part of a block that is not complete yet, from the source that leads this slot. Not canonical: the block may never
    /// be published, or be another source's.
    Early {
        slot: Slot,
        content: Content,
    },
    /// A report that belongs to no block: see [`Kind::is_beside_blocks`]. Another source may report the same.
    Beside {
        slot: Slot,
        kind: Kind,
        bytes: Bytes,
    },
    /// The first report of this status.
    SlotUpdate(SlotUpdate),
    /// A complete block, for the first time.
    Publish(Arc<Block>),
    /// A published block's new standing; Confirmed always precedes Finalized.
    Standing(Change),
    /// The source's slot is closed; its records up to the extent are known.
    Closed {
        slot: Slot,
        source: SourceId,
        block: Option<BlockId>,
        extent: Extent,
    },
    /// The closed slot's extent is no longer remembered.
    ClosedForgotten {
        slot: Slot,
        source: SourceId,
    },
    /// The published block is no longer remembered.
    PublishedForgotten(BlockId),
    Gap(Gap),
    /// Blocks that another router published cannot be told here any more: who listens has missed them. Never of the router's
    /// own core.
    PassedOver,
    /// The finalized block's parent was never seen: what lies between it and the chain below.
    ParentGap {
        block: BlockId,
        gap: Gap,
    },
    /// A record of a block that is closed already.
    Late {
        slot: Slot,
        source: SourceId,
        /// [`Kind::Chunk`] when its value never was whole.
        kind: Kind,
        bytes: Bytes,
        reason: &'static str,
    },
    /// Chunks that make no readable value.
    Unreadable {
        slot: Slot,
        source: SourceId,
        records: Vec<Bytes>,
        problem: String,
    },
    /// A validator began this slot.
    SlotCreated {
        slot: Slot,
        parent: Slot,
        root: Slot,
    },
    /// A validator rooted this slot.
    Rooted(Slot),
}

/// A step in a slot's life, as a validator reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotUpdate {
    pub slot: Slot,
    pub parent: Option<Slot>,
    pub status: SlotStatus,
    /// Why the slot is dead.
    pub dead_error: Option<String>,
    /// When it was reported, Unix milliseconds.
    pub at_ms: i64,
    /// The validator begins a slot that it had begun before: what was told early of it is another attempt's.
    pub again: bool,
}

/// Running totals, for metrics and the status page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub blocks: u64,
    pub events: u64,
    /// Records that were known: read again, or of a block another source delivered.
    pub duplicates: u64,
    pub gaps: u64,
    pub late: u64,
    pub damaged: u64,
    pub startup: u64,
    /// Slots closed without a block and without a gap: skipped, on an abandoned fork, or before the source's coverage.
    pub forgotten: u64,
    /// Holes of one source that another source had filled.
    pub covered: u64,
    /// Blocks that no source had whole, published from several.
    pub repaired: u64,
    /// Blocks that no sources had together, published from an RPC node's reply.
    pub fetched: u64,
}

/// Highest slots seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heads {
    pub processed: Slot,
    pub confirmed: Slot,
    pub finalized: Slot,
}

impl Heads {
    pub(super) fn raise(&mut self, slot: Slot, standing: Standing) {
        if standing == Standing::Abandoned {
            return;
        }
        self.processed = self.processed.max(slot);
        if standing >= Standing::Confirmed {
            self.confirmed = self.confirmed.max(slot);
        }
        if standing >= Standing::Finalized {
            self.finalized = self.finalized.max(slot);
        }
    }
}
