//! What sources say about slots, and what readers of published blocks are told of it.

use event_schema::proto::geyser::SlotStatus;

use super::{Effect, Router, SlotKey, SlotUpdate};
use crate::{
    commitment::{Change, Standing},
    observation::{Place, SlotReport},
};

impl Router {
    pub(super) fn on_status(
        &mut self,
        place: Place,
        (slot, source): SlotKey,
        report: SlotReport,
        out: &mut Vec<Effect>,
    ) {
        let root = self.heads.finalized;
        let SlotReport {
            status,
            parent,
            dead_error,
        } = report;
        self.unlinked.hint(slot, parent, status);
        if let Some(again) = self.announcements.status(slot, source, status) {
            out.push(Effect::SlotUpdate(SlotUpdate {
                slot,
                parent,
                status,
                dead_error,
                at_ms: place.timestamp_ms,
                again,
            }));
        }
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
                if let Some(open) = self.open.get_mut((slot, source)) {
                    open.touch(place);
                    open.dead = true;
                }
                return;
            }
            SlotStatus::SlotFirstShredReceived | SlotStatus::SlotCompleted => return,
        };
        if standing == Standing::Finalized {
            let view = self.sources.view_mut(source);
            view.root = view.root.max(slot);
            self.heads.finalized = self.heads.finalized.max(slot);
            if self.announcements.root(slot) {
                out.push(Effect::Rooted(slot));
            }
        }
        self.heads.raise(slot, standing);
        if standing > Standing::Processed {
            let changes = self.commitments.on_report(source, slot, standing);
            self.tell(changes, out);
        }
        let key = (slot, source);
        if self.closed.contains(key) && !self.open.contains(key) {
            return;
        }
        self.open.change(key, &self.closed, |open| {
            open.touch(place);
            open.processed = true;
            open.rooted |= standing == Standing::Finalized;
        });
        self.advance(key, out);
    }

    /// Passes changes of published blocks on; those of unpublished ones are told when they are published.
    pub(super) fn tell(&mut self, changes: Vec<Change>, out: &mut Vec<Effect>) {
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
            if standing == Standing::Finalized {
                self.unlinked.watch(block);
            }
            out.push(Effect::Standing(Change { block, standing }));
            if standing != Standing::Abandoned {
                self.heads.raise(block.slot, standing);
            }
        }
    }
}
