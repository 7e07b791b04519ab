//! Time passes: slots that will not be complete are repaired from one another, told as gaps, or forgotten when there never
//! was a block to publish.

use std::collections::BTreeSet;

use bytes::Bytes;
use event_schema::{Blockhash, Gap, GapReason, Kind, Slot, SourceId};

use super::{Effect, Router, SlotKey};
use crate::{
    assembly::{Progress, unite},
    slot_tree::BlockId,
};

impl Router {
    /// `log_ms`: every partition has been read up to this time of the log.
    pub fn tick(&mut self, log_ms: i64, out: &mut Vec<Effect>) {
        for key in self.open.keys() {
            let Some(slot) = self.open.get(key) else {
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
        self.tell_unlinked(log_ms, out);
        while self.open.bytes() > self.limits.open_bytes {
            let Some((key, progress)) = self.open.stalest() else {
                break;
            };
            if progress == Progress::Complete {
                self.complete(key, out);
                continue;
            }
            self.repair(key.0, out);
            if !self.open.contains(key) {
                continue;
            }
            self.gap(
                key,
                Some("the router's memory for open slots is full (limits.open_mebibytes)"),
                out,
            );
        }
    }

    /// Another source may still deliver the slot: its records keep coming.
    fn another_is_fresh(&self, key: SlotKey, log_ms: i64) -> bool {
        self.open.at(key.0).any(|(other, slot)| {
            other != key && log_ms.saturating_sub(slot.last_ms) < self.limits.gap_after_ms
        })
    }

    /// Nothing came for long: decide what the slot was.
    fn give_up(&mut self, key: SlotKey, quiet_ms: i64, out: &mut Vec<Effect>) {
        let Some(slot) = self.open.get(key) else {
            return;
        };
        let view = self.sources.view(key.1);
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
        self.repair(key.0, out);
        let Some(slot) = self.open.get(key) else {
            return;
        };
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
            if let Some(slot) = self.open.take(key) {
                self.push_late(key, slot.late(), out);
            }
            return;
        }
        let before_coverage = view.lowest_covered.is_none_or(|lowest| key.0 < lowest);
        let skipped = slot.dead || (!slot.rooted && self.commitments.passed_by(key.0));
        let never_on_chain = !slot.rooted && slot.is_hollow();
        let without_block =
            slot.is_without_block(|lane, range| self.sources.missing(key.1, lane, range));
        if without_block && (before_coverage || skipped || never_on_chain) {
            self.totals.forgotten += 1;
            let hollow = slot.is_hollow();
            if let Some(slot) = self.open.take(key)
                && !hollow
            {
                // Its seals may still come.
                self.close(key, None, slot.extent(), out);
            }
            return;
        }
        self.gap(key, None, out);
    }

    /// Publishes the slot's blocks that several sources have together, though none of them has all.
    fn repair(&mut self, slot: Slot, out: &mut Vec<Effect>) {
        let metas = self.open.at(slot).filter_map(|(_, slot)| slot.meta());
        let blocks: BTreeSet<BlockId> = metas.map(|meta| meta.block).collect();
        for id in blocks {
            if self.published.contains(id) {
                continue;
            }
            let slots = self.open.at(slot).map(|((_, source), slot)| (source, slot));
            let Some(block) = unite(id, slots) else {
                continue;
            };
            let sources: Vec<SourceId> = std::iter::once(block.source)
                .chain(block.repaired_from.iter().copied())
                .collect();
            self.totals.repaired += 1;
            self.publish(block, out);
            for source in sources {
                if let Some(taken) = self.open.take((slot, source)) {
                    self.close((slot, source), Some(id), taken.extent(), out);
                }
            }
        }
    }

    pub(super) fn push_late(
        &mut self,
        (slot, source): SlotKey,
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

    fn gap(&mut self, key: SlotKey, why: Option<&str>, out: &mut Vec<Effect>) {
        let Some(slot) = self.open.take(key) else {
            return;
        };
        let hole = slot.hole(|lane, range| self.sources.missing(key.1, lane, range));
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

    pub(super) fn push_gap(
        &mut self,
        (slot, source): SlotKey,
        blockhash: Blockhash,
        records: u64,
        reason: GapReason,
        detail: String,
        out: &mut Vec<Effect>,
    ) {
        self.totals.gaps += 1;
        self.unlinked.gap_told(slot);
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
}
