//! Parts of blocks: where each record goes, and what a whole value changes.

use std::sync::Arc;

use bytes::Bytes;
use event_schema::{Kind, ObservedTopic, Seal, SealedPartition};

use super::{Effect, Router, SlotKey};
use crate::{
    assembly::SourceSlot,
    observation::{self, Body, ChunkRecord, Content, Lane, Place, Report},
    sequence::Seen,
};

impl Router {
    /// Whether the record belongs into an open slot. One that comes too late for its own is passed on.
    pub(super) fn is_wanted(
        &mut self,
        key: SlotKey,
        lane: Lane,
        (sequence, seen): (u64, Seen),
        kind: Kind,
        bytes: &Bytes,
        out: &mut Vec<Effect>,
    ) -> bool {
        // Nearly every record is of an open slot that was never closed.
        if !self.closed.contains(key) {
            return true;
        }
        let in_gap = self.closed.was_given_up(key);
        let covered = self.closed.covers(key, lane, sequence);
        if covered && !(in_gap && seen == Seen::Late) {
            self.totals.duplicates += 1;
            return false;
        }
        if in_gap && self.is_mended(key, kind) {
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

    pub(super) fn on_content(
        &mut self,
        place: Place,
        key: SlotKey,
        sequence: u64,
        content: Content,
        out: &mut Vec<Effect>,
    ) {
        let meta = match &content.body {
            Body::BlockMeta(meta) => Some(Arc::clone(meta)),
            _ => None,
        };
        if meta.is_none() && self.announcements.leads(key) && !self.closed.contains(key) {
            out.push(Effect::Early {
                slot: key.0,
                content: content.clone(),
            });
        }
        self.open
            .change(key, &self.closed, |slot| slot.add(place, sequence, content));
        if let Some(meta) = meta {
            self.sources.cover(key.1, key.0);
            let changes = self.commitments.on_block(key.1, meta.block, meta.parent);
            self.tell(changes, out);
            // A child shows that its parent was processed.
            self.advance_slot(meta.parent.slot, out);
        }
        self.advance(key, out);
    }

    pub(super) fn on_chunk(
        &mut self,
        place: Place,
        key: SlotKey,
        sequence: u64,
        record: ChunkRecord,
        out: &mut Vec<Effect>,
    ) {
        let Some((last, set)) = self.open.change(key, &self.closed, |slot| {
            slot.add_chunk(place, sequence, record)
        }) else {
            return;
        };
        let report = observation::read_chunks(key.0, place.lane.topic, &set);
        match report {
            Ok(Report::Content(content)) => self.on_content(place, key, last, content, out),
            Ok(Report::Startup) => {
                self.totals.startup += 1;
                self.sources.view_mut(key.1).startup += 1;
                self.drop_blank(key);
            }
            Ok(Report::Status(report)) => {
                self.drop_blank(key);
                self.on_status(place, key, report, out);
            }
            Ok(
                Report::Beside(..) | Report::Seal(_) | Report::Chunk(_) | Report::Damaged { .. },
            ) => {}
            Err(problem) => {
                let records = set.len() as u64;
                self.totals.damaged += records;
                self.open
                    .change(key, &self.closed, |slot| slot.damaged += records);
                out.push(Effect::Unreadable {
                    slot: key.0,
                    source: key.1,
                    records: set.into_iter().map(|record| record.bytes).collect(),
                    problem,
                });
            }
        }
    }

    /// Closes a slot that was only opened by chunks of something that is in no block.
    fn drop_blank(&mut self, key: SlotKey) {
        if self.open.get(key).is_some_and(SourceSlot::is_blank) {
            self.open.take(key);
        }
    }

    pub(super) fn on_seal(
        &mut self,
        place: Place,
        key: SlotKey,
        sequence: u64,
        seal: Box<Seal>,
        out: &mut Vec<Effect>,
    ) {
        let view = self.sources.view_mut(key.1);
        let is_content = |row: &SealedPartition| row.topic != ObservedTopic::Accounts as u32;
        // The seal of the state loaded at start is written under some slot, but is not about that slot's block.
        if view.startup > 0
            && (seal.transactions, seal.entries) == (0, 0)
            && !seal.table.iter().any(is_content)
            && !self.open.contains(key)
        {
            return;
        }
        view.highest_sealed = view.highest_sealed.max(key.0);
        if self.closed.covers(key, place.lane, sequence) {
            return;
        }
        // The seal of a published slot's other partitions arrives after the slot was complete.
        if !self.open.contains(key) && self.closed.contains(key) {
            return;
        }
        self.open
            .change(key, &self.closed, |slot| slot.seal(place, seal));
        self.advance(key, out);
    }

    /// A record of the block that cannot be read.
    pub(super) fn on_damaged(&mut self, place: Place, key: SlotKey, sequence: u64) {
        if self.closed.covers(key, place.lane, sequence) {
            return;
        }
        self.open.change(key, &self.closed, |slot| {
            slot.touch(place);
            slot.damaged += 1;
        });
    }
}
