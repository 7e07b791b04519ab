//! Pure: observations in, effects out. Forks, commitment, completeness and deduplication come together here.
//!
//! The three observed topics may be read at any speed relative to each other: nothing here depends on their order, only
//! on the order within one source's partition. Time is the log's time, handed in: the point up to which every partition
//! has been read. A slot ages only while the log goes on without it, so a slow reader never makes a gap.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::RangeInclusive,
    sync::Arc,
};

use bytes::Bytes;
use event_schema::{Blockhash, Gap, GapReason, Kind, Slot, SourceId, proto::geyser::SlotStatus};

use crate::{
    announce::Announcements,
    assembly::{Block, Built, Extent, Progress, SourceSlot},
    commitment::{Change, Commitments, Standing},
    dedup::{Published, PublishedBlocks},
    observation::{self, Body, ChunkRecord, Content, Lane, Observation, Place, Report},
    sequence::{Seen, SequenceTrack},
    slot_tree::BlockId,
};

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
        }
    }
}

/// What the world must be told.
#[derive(Debug, Clone)]
pub enum Effect {
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
}

/// Highest slots seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heads {
    pub processed: Slot,
    pub confirmed: Slot,
    pub finalized: Slot,
}

#[derive(Debug, Clone)]
struct Closed {
    extent: Extent,
    /// False when the slot was given up.
    taken: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct SourceView {
    root: Slot,
    highest_sealed: Slot,
    startup: u64,
    /// The lowest slot of which it wrote block metadata: its coverage begins there.
    lowest_covered: Option<Slot>,
}

/// See the module.
#[derive(Debug)]
pub struct Router {
    limits: Limits,
    commitments: Commitments,
    published: PublishedBlocks,
    open: BTreeMap<(Slot, SourceId), SourceSlot>,
    closed: HashMap<(Slot, SourceId), Closed>,
    closed_order: VecDeque<(Slot, SourceId)>,
    tracks: HashMap<(SourceId, Lane), SequenceTrack>,
    /// Whether reading the partition began at its first record.
    read_whole: BTreeMap<Lane, bool>,
    sources: BTreeMap<SourceId, SourceView>,
    announcements: Announcements,
    open_bytes: usize,
    totals: Totals,
    heads: Heads,
}

impl Router {
    pub fn new(limits: Limits) -> Self {
        Self {
            commitments: Commitments::new(limits.tree_memory),
            published: PublishedBlocks::new(limits.published_memory),
            open: BTreeMap::new(),
            closed: HashMap::new(),
            closed_order: VecDeque::new(),
            tracks: HashMap::new(),
            read_whole: BTreeMap::new(),
            sources: BTreeMap::new(),
            announcements: Announcements::default(),
            open_bytes: 0,
            totals: Totals::default(),
            heads: Heads::default(),
            limits,
        }
    }

    /// A block published by an earlier life; oldest first.
    pub fn restore_published(&mut self, block: BlockId, parent: BlockId, told: Standing) {
        let published = Published { parent, told };
        // A second record of one block cannot be in a compacted topic; the first is kept.
        let _ = self.published.insert(block, published);
        self.commitments.restore(block, parent, told, []);
        self.raise_heads(block.slot, told);
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
        let closed = Closed {
            extent,
            taken: block.is_some(),
        };
        let view = self.sources.entry(source).or_default();
        view.lowest_covered = Some(view.lowest_covered.map_or(slot, |known| known.min(slot)));
        if self.closed.insert((slot, source), closed).is_none() {
            self.closed_order.push_back((slot, source));
        }
    }

    pub fn observe(&mut self, observation: Observation, out: &mut Vec<Effect>) {
        let Observation {
            place,
            source,
            slot,
            sequence,
            report,
        } = observation;
        // A partition read from its very beginning shows every source from its first record on.
        let whole = *self
            .read_whole
            .entry(place.lane)
            .or_insert(place.offset == 0);
        let track = self
            .tracks
            .entry((source, place.lane))
            .or_insert_with(|| SequenceTrack::starting(whole));
        let seen = track.observe(sequence);
        if seen == Seen::Again {
            self.totals.duplicates += 1;
            return;
        }
        let key = (slot, source);
        match report {
            Report::Startup => {
                self.totals.startup += 1;
                self.sources.entry(source).or_default().startup += 1;
            }
            Report::Status { status, parent } => {
                self.on_status(place, source, slot, status, parent, out);
            }
            Report::Damaged { content } => {
                self.totals.damaged += 1;
                if !content || self.is_closed_for(key, place.lane, sequence) {
                    return;
                }
                let slot = self.open_slot(key);
                slot.touch(place);
                slot.damaged += 1;
            }
            Report::Seal(seal) => {
                let view = self.sources.entry(source).or_default();
                let is_content = |row: &event_schema::SealedPartition| {
                    row.topic != event_schema::ObservedTopic::Accounts as u32
                };
                // The seal of the state loaded at start is written under some slot, but is not about that slot's block.
                if view.startup > 0
                    && (seal.transactions, seal.entries) == (0, 0)
                    && !seal.table.iter().any(is_content)
                    && !self.open.contains_key(&key)
                {
                    return;
                }
                view.highest_sealed = view.highest_sealed.max(slot);
                if self.is_closed_for(key, place.lane, sequence) {
                    return;
                }
                // The seal of a published slot's other partitions arrives after the slot was complete.
                if !self.open.contains_key(&key) && self.closed.contains_key(&key) {
                    return;
                }
                self.open_slot(key).seal(place, seal);
                self.advance(key, out);
            }
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

    /// Whether the record belongs into an open slot. One that comes too late for its own is passed on.
    fn is_wanted(
        &mut self,
        key: (Slot, SourceId),
        lane: Lane,
        (sequence, seen): (u64, Seen),
        kind: Kind,
        bytes: &Bytes,
        out: &mut Vec<Effect>,
    ) -> bool {
        let in_gap = self.closed.get(&key).is_some_and(|closed| !closed.taken);
        let covered = self.is_closed_for(key, lane, sequence);
        if covered && !(in_gap && seen == Seen::Late) {
            self.totals.duplicates += 1;
            return false;
        }
        if in_gap {
            self.totals.late += 1;
            out.push(Effect::Late {
                slot: key.0,
                source: key.1,
                kind,
                bytes: bytes.clone(),
                reason: "arrived after its slot was given up",
            });
        }
        !in_gap
    }

    fn on_content(
        &mut self,
        place: Place,
        key: (Slot, SourceId),
        sequence: u64,
        content: Content,
        out: &mut Vec<Effect>,
    ) {
        let meta = match &content.body {
            Body::BlockMeta(meta) => Some(Arc::clone(meta)),
            _ => None,
        };
        self.fill(key, |slot| slot.add(place, sequence, content));
        if let Some(meta) = meta {
            self.cover(key.1, key.0);
            let changes = self.commitments.on_block(key.1, meta.block, meta.parent);
            self.tell(changes, out);
            // A child shows that its parent was processed.
            self.advance_slot(meta.parent.slot, out);
        }
        self.advance(key, out);
    }

    fn on_chunk(
        &mut self,
        place: Place,
        key: (Slot, SourceId),
        sequence: u64,
        record: ChunkRecord,
        out: &mut Vec<Effect>,
    ) {
        let Some((last, set)) = self.fill(key, |slot| slot.add_chunk(place, sequence, record))
        else {
            return;
        };
        let report = observation::read_chunks(key.0, place.lane.topic, &set);
        match report {
            Ok(Report::Content(content)) => self.on_content(place, key, last, content, out),
            Ok(Report::Startup) => {
                self.totals.startup += 1;
                self.sources.entry(key.1).or_default().startup += 1;
                self.drop_blank(key);
            }
            Ok(Report::Status { status, parent }) => {
                self.drop_blank(key);
                self.on_status(place, key.1, key.0, status, parent, out);
            }
            Ok(Report::Seal(_) | Report::Chunk(_) | Report::Damaged { .. }) => {}
            Err(problem) => {
                let records = set.len() as u64;
                self.totals.damaged += records;
                self.fill(key, |slot| slot.damaged += records);
                out.push(Effect::Unreadable {
                    slot: key.0,
                    source: key.1,
                    records: set.into_iter().map(|record| record.bytes).collect(),
                    problem,
                });
            }
        }
    }

    /// Changes the open slot and keeps count of the memory it holds.
    fn fill<T>(&mut self, key: (Slot, SourceId), change: impl FnOnce(&mut SourceSlot) -> T) -> T {
        let slot = self.open_slot(key);
        let before = slot.bytes;
        let result = change(slot);
        let after = slot.bytes;
        self.open_bytes = (self.open_bytes + after).saturating_sub(before);
        result
    }

    /// Closes a slot that was only opened by chunks of something that is in no block.
    fn drop_blank(&mut self, key: (Slot, SourceId)) {
        if self.open.get(&key).is_some_and(SourceSlot::is_blank) {
            self.take(key);
        }
    }

    /// `log_ms`: every partition has been read up to this time of the log.
    pub fn tick(&mut self, log_ms: i64, out: &mut Vec<Effect>) {
        let keys: Vec<(Slot, SourceId)> = self.open.keys().copied().collect();
        for key in keys {
            let Some(slot) = self.open.get(&key) else {
                continue;
            };
            let quiet_ms = log_ms.saturating_sub(slot.last_ms);
            if slot.progress() == Progress::Complete {
                if quiet_ms >= self.limits.settle_ms {
                    self.complete(key, out);
                }
            } else if quiet_ms >= self.limits.gap_after_ms && !self.another_is_fresh(key, log_ms) {
                self.give_up(key, quiet_ms, out);
            }
        }
        while self.open_bytes > self.limits.open_bytes {
            let oldest = self
                .open
                .iter()
                .filter(|(_, slot)| slot.bytes > 0)
                .min_by_key(|(_, slot)| slot.last_ms)
                .map(|(key, slot)| (*key, slot.progress()));
            let Some((key, progress)) = oldest else { break };
            if progress == Progress::Complete {
                self.complete(key, out);
                continue;
            }
            self.gap(
                key,
                Some("the router's memory for open slots is full (limits.open_mebibytes)"),
                out,
            );
        }
    }

    /// The oldest offset of the lane that an open slot still needs.
    pub fn low_watermarks(&self) -> BTreeMap<Lane, i64> {
        let mut lowest = BTreeMap::new();
        for slot in self.open.values() {
            for (lane, offset) in slot.first_offsets() {
                let entry = lowest.entry(lane).or_insert(offset);
                *entry = offset.min(*entry);
            }
        }
        lowest
    }

    pub fn published_parent(&self, block: BlockId) -> Option<BlockId> {
        self.published.get(block).map(|published| published.parent)
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
        self.open_bytes
    }

    pub fn remembered_blocks(&self) -> usize {
        self.published.len()
    }

    pub fn sources(&self) -> impl Iterator<Item = SourceId> + '_ {
        self.sources.keys().copied()
    }

    fn on_status(
        &mut self,
        place: Place,
        source: SourceId,
        slot: Slot,
        status: SlotStatus,
        parent: Option<Slot>,
        out: &mut Vec<Effect>,
    ) {
        let root = self.heads.finalized;
        let standing = match status {
            SlotStatus::SlotCreatedBank | SlotStatus::SlotProcessed => {
                if let Some(parent) = parent
                    && self
                        .announcements
                        .slot(slot, source, status == SlotStatus::SlotCreatedBank)
                {
                    out.push(Effect::SlotCreated { slot, parent, root });
                }
                if status == SlotStatus::SlotCreatedBank {
                    return;
                }
                Standing::Processed
            }
            SlotStatus::SlotConfirmed => Standing::Confirmed,
            SlotStatus::SlotFinalized => Standing::Finalized,
            SlotStatus::SlotDead => {
                self.commitments.on_dead(source, slot);
                if let Some(open) = self.open.get_mut(&(slot, source)) {
                    open.touch(place);
                    open.dead = true;
                }
                return;
            }
            SlotStatus::SlotFirstShredReceived | SlotStatus::SlotCompleted => return,
        };
        if standing == Standing::Finalized {
            let view = self.sources.entry(source).or_default();
            view.root = view.root.max(slot);
            self.heads.finalized = self.heads.finalized.max(slot);
            if self.announcements.root(slot) {
                out.push(Effect::Rooted(slot));
            }
        }
        self.raise_heads(slot, standing);
        if standing > Standing::Processed {
            let changes = self.commitments.on_report(source, slot, standing);
            self.tell(changes, out);
        }
        let key = (slot, source);
        if self.closed.contains_key(&key) && !self.open.contains_key(&key) {
            return;
        }
        let open = self.open_slot(key);
        open.touch(place);
        open.processed = true;
        open.rooted |= standing == Standing::Finalized;
        self.advance(key, out);
    }

    fn open_slot(&mut self, key: (Slot, SourceId)) -> &mut SourceSlot {
        let closed = &self.closed;
        self.open.entry(key).or_insert_with(|| {
            closed.get(&key).map_or_else(SourceSlot::default, |closed| {
                SourceSlot::after(closed.extent.clone())
            })
        })
    }

    fn is_closed_for(&self, key: (Slot, SourceId), lane: Lane, sequence: u64) -> bool {
        self.closed
            .get(&key)
            .is_some_and(|closed| closed.extent.covers(lane, sequence))
    }

    fn cover(&mut self, source: SourceId, slot: Slot) {
        let view = self.sources.entry(source).or_default();
        view.lowest_covered = Some(view.lowest_covered.map_or(slot, |known| known.min(slot)));
    }

    fn advance_slot(&mut self, slot: Slot, out: &mut Vec<Effect>) {
        let keys: Vec<(Slot, SourceId)> = self
            .open
            .range((slot, SourceId::default())..)
            .take_while(|((other, _), _)| *other == slot)
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.advance(key, out);
        }
    }

    /// Publishes the slot if it is complete and settled.
    fn advance(&mut self, key: (Slot, SourceId), out: &mut Vec<Effect>) {
        let Some(slot) = self.open.get(&key) else {
            return;
        };
        if slot.progress() != Progress::Complete {
            return;
        }
        let settled = slot.processed
            || slot.meta().is_some_and(|meta| {
                self.published.contains(meta.block)
                    || !self.commitments.tree().children(meta.block).is_empty()
            });
        if settled {
            self.complete(key, out);
        }
    }

    fn complete(&mut self, key: (Slot, SourceId), out: &mut Vec<Effect>) {
        let Some(slot) = self.take(key) else {
            return;
        };
        let extent = slot.extent();
        match slot.build(key.1) {
            Ok(Built::Block(block)) => {
                let id = block.id;
                self.publish(*block, out);
                self.close(key, Some(id), extent, out);
            }
            Ok(Built::Late(contents)) => {
                let records = contents
                    .into_iter()
                    .map(|content| (content.kind(), content.bytes));
                self.push_late(key, records.collect(), out);
                let block = self.block_held_by(key);
                self.close(key, block, extent, out);
            }
            Err(defect) => {
                self.push_gap(
                    key,
                    Blockhash::default(),
                    0,
                    GapReason::MissingRecords,
                    defect.to_string(),
                    out,
                );
                self.close(key, None, extent, out);
            }
        }
    }

    fn publish(&mut self, block: Block, out: &mut Vec<Effect>) {
        let id = block.id;
        let events = block.contents.len() as u64;
        let published = Published {
            parent: block.parent,
            told: Standing::Processed,
        };
        match self.published.insert(id, published) {
            Err(_) => {
                self.totals.duplicates += events;
                return;
            }
            Ok(forgotten) => out.extend(forgotten.map(Effect::PublishedForgotten)),
        }
        self.totals.blocks += 1;
        self.totals.events += events;
        self.raise_heads(id.slot, Standing::Processed);
        out.push(Effect::Publish(Arc::new(block)));
        let standing = self.commitments.standing(id);
        self.tell(
            vec![Change {
                block: id,
                standing,
            }],
            out,
        );
    }

    /// Passes changes of published blocks on; those of unpublished ones are told when they are published.
    fn tell(&mut self, changes: Vec<Change>, out: &mut Vec<Effect>) {
        for Change { block, standing } in changes {
            let Some(published) = self.published.get_mut(block) else {
                continue;
            };
            if published.told >= standing {
                continue;
            }
            let skipped_confirmed =
                standing == Standing::Finalized && published.told < Standing::Confirmed;
            published.told = standing;
            if skipped_confirmed {
                out.push(Effect::Standing(Change {
                    block,
                    standing: Standing::Confirmed,
                }));
            }
            out.push(Effect::Standing(Change { block, standing }));
            if standing != Standing::Abandoned {
                self.raise_heads(block.slot, standing);
            }
        }
    }

    fn raise_heads(&mut self, slot: Slot, standing: Standing) {
        let heads = &mut self.heads;
        if standing == Standing::Abandoned {
            return;
        }
        heads.processed = heads.processed.max(slot);
        if standing >= Standing::Confirmed {
            heads.confirmed = heads.confirmed.max(slot);
        }
        if standing >= Standing::Finalized {
            heads.finalized = heads.finalized.max(slot);
        }
    }

    fn take(&mut self, key: (Slot, SourceId)) -> Option<SourceSlot> {
        let slot = self.open.remove(&key)?;
        self.open_bytes = self.open_bytes.saturating_sub(slot.bytes);
        Some(slot)
    }

    fn close(
        &mut self,
        key: (Slot, SourceId),
        block: Option<BlockId>,
        extent: Extent,
        out: &mut Vec<Effect>,
    ) {
        let closed = Closed {
            extent: extent.clone(),
            taken: block.is_some(),
        };
        if self.closed.insert(key, closed).is_none() {
            self.closed_order.push_back(key);
        }
        out.push(Effect::Closed {
            slot: key.0,
            source: key.1,
            block,
            extent,
        });
        while self.closed_order.len() > self.limits.closed_memory {
            if let Some((slot, source)) = self.closed_order.pop_front() {
                self.closed.remove(&(slot, source));
                out.push(Effect::ClosedForgotten { slot, source });
            }
        }
    }

    /// Another source may still deliver the slot: its records keep coming.
    fn another_is_fresh(&self, key: (Slot, SourceId), log_ms: i64) -> bool {
        self.open
            .range((key.0, SourceId::default())..)
            .take_while(|((slot, _), _)| *slot == key.0)
            .any(|(other, slot)| {
                *other != key && log_ms.saturating_sub(slot.last_ms) < self.limits.gap_after_ms
            })
    }

    /// Nothing came for long: decide what the slot was.
    fn give_up(&mut self, key: (Slot, SourceId), quiet_ms: i64, out: &mut Vec<Effect>) {
        let Some(slot) = self.open.get(&key) else {
            return;
        };
        let view = self.sources.get(&key.1).copied().unwrap_or_default();
        let sealed = slot.is_sealed();
        // A source that fell silent is overtaken by the others, but not at once: it may be on another cluster's clock.
        let below = |head: Slot, by: u64| key.0.0.saturating_add(by) <= head.0;
        let below_horizon = below(view.root, self.limits.unsealed_slots)
            || below(view.highest_sealed, 16 * self.limits.unsealed_slots)
            || (quiet_ms >= 6 * self.limits.gap_after_ms
                && below(self.heads.finalized, self.limits.unsealed_slots));
        if !sealed && !slot.dead && !slot.rooted && !below_horizon {
            return;
        }
        let meta = slot.meta().cloned();
        let delivered = match &meta {
            Some(meta) => self.published.contains(meta.block),
            None => self
                .commitments
                .tree()
                .at(key.0)
                .any(|block| self.published.contains(block)),
        };
        if delivered {
            self.totals.covered += u64::from(!slot.is_hollow());
            if let Some(slot) = self.take(key) {
                self.push_late(key, slot.late(), out);
            }
            return;
        }
        let before_coverage = view.lowest_covered.is_none_or(|lowest| key.0 < lowest);
        let skipped = slot.dead || (!slot.rooted && self.commitments.passed_by(key.0));
        let never_on_chain = !slot.rooted && slot.is_hollow();
        let tracks = &self.tracks;
        let without_block =
            slot.is_without_block(|lane, range| missing(tracks, key.1, lane, range));
        if without_block && (before_coverage || skipped || never_on_chain) {
            self.totals.forgotten += 1;
            let hollow = slot.is_hollow();
            if let Some(slot) = self.take(key)
                && !hollow
            {
                // Its seals may still come.
                self.close(key, None, slot.extent(), out);
            }
            return;
        }
        self.gap(key, None, out);
    }

    fn push_late(
        &mut self,
        (slot, source): (Slot, SourceId),
        records: Vec<(Kind, Bytes)>,
        out: &mut Vec<Effect>,
    ) {
        self.totals.late += records.len() as u64;
        out.extend(records.into_iter().map(|(kind, bytes)| Effect::Late {
            slot,
            source,
            kind,
            bytes,
            reason: "arrived after its block was published",
        }));
    }

    fn gap(&mut self, key: (Slot, SourceId), why: Option<&str>, out: &mut Vec<Effect>) {
        let Some(slot) = self.take(key) else {
            return;
        };
        let tracks = &self.tracks;
        let hole = slot.hole(|lane, range| missing(tracks, key.1, lane, range));
        let detail = match why {
            Some(why) => format!("{why}: {}", hole.detail),
            None => hole.detail,
        };
        let blockhash = slot
            .meta()
            .map_or_else(Blockhash::default, |meta| meta.block.blockhash);
        self.push_gap(key, blockhash, hole.records, hole.reason, detail, out);
        self.close(key, None, slot.extent(), out);
    }

    fn push_gap(
        &mut self,
        (slot, source): (Slot, SourceId),
        blockhash: Blockhash,
        records: u64,
        reason: GapReason,
        detail: String,
        out: &mut Vec<Effect>,
    ) {
        self.totals.gaps += 1;
        let detail = if blockhash == Blockhash::default() {
            detail
        } else {
            format!("block {blockhash}: {detail}")
        };
        out.push(Effect::Gap(Gap {
            first_slot: slot.0,
            last_slot: slot.0,
            records,
            reason: reason as i32,
            source: source.to_string(),
            detail,
        }));
    }

    fn block_held_by(&self, key: (Slot, SourceId)) -> Option<BlockId> {
        let blocks: BTreeSet<BlockId> = self.commitments.tree().at(key.0).collect();
        blocks
            .into_iter()
            .find(|block| self.published.contains(*block))
    }
}

fn missing(
    tracks: &HashMap<(SourceId, Lane), SequenceTrack>,
    source: SourceId,
    lane: Lane,
    range: RangeInclusive<u64>,
) -> Vec<RangeInclusive<u64>> {
    tracks
        .get(&(source, lane))
        .map(|track| track.missing_in(range))
        .unwrap_or_default()
}
