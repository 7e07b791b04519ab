//! A slot that is complete becomes a published block, once, and is closed.

use std::{collections::BTreeSet, sync::Arc};

use event_schema::{Blockhash, GapReason, Slot};

use super::{Effect, Router, SlotKey};
use crate::{
    assembly::{Block, Built, Extent, Progress},
    commitment::{Change, Standing},
    dedup::Published,
    slot_tree::BlockId,
};

impl Router {
    pub(super) fn advance_slot(&mut self, slot: Slot, out: &mut Vec<Effect>) {
        let keys: Vec<SlotKey> = self.open.at(slot).map(|(key, _)| key).collect();
        for key in keys {
            self.advance(key, out);
        }
    }

    /// Publishes the slot if it is complete and settled.
    pub(super) fn advance(&mut self, key: SlotKey, out: &mut Vec<Effect>) {
        let Some(slot) = self.open.get(key) else {
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

    pub(super) fn complete(&mut self, key: SlotKey, out: &mut Vec<Effect>) {
        let Some(slot) = self.open.take(key) else {
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

    pub(super) fn publish(&mut self, block: Block, out: &mut Vec<Effect>) {
        let id = block.id;
        let events = block.contents.len() as u64;
        let published = Published {
            parent: block.parent,
            told: Standing::Processed,
            gap_told: false,
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
        self.heads.raise(id.slot, Standing::Processed);
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

    pub(super) fn close(
        &mut self,
        key: SlotKey,
        block: Option<BlockId>,
        extent: Extent,
        out: &mut Vec<Effect>,
    ) {
        let forgotten = self.closed.insert(key, extent.clone(), block.is_some());
        out.push(Effect::Closed {
            slot: key.0,
            source: key.1,
            block,
            extent,
        });
        let forgotten = forgotten.into_iter();
        out.extend(forgotten.map(|(slot, source)| Effect::ClosedForgotten { slot, source }));
    }

    fn block_held_by(&self, key: SlotKey) -> Option<BlockId> {
        let blocks: BTreeSet<BlockId> = self.commitments.tree().at(key.0).collect();
        blocks
            .into_iter()
            .find(|block| self.published.contains(*block))
    }
}
