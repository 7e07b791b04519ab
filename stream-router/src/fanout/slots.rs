//! Tells subscribers of slots and roots how the chain grows, and those who ask for it what is missing.

use event_schema::{Gap, Slot};
use serde_json::json;

use super::{Fanout, Told, index::Topic};
use crate::{
    assembly::Block,
    encoding::{gap_value, slot_update},
    router::SlotUpdate,
};

impl Fanout {
    pub(super) fn tell_slot_created(&mut self, slot: Slot, parent: Slot, root: Slot) {
        let value = json!({ "slot": slot, "parent": parent, "root": root });
        self.tell_all(Topic::Slots, &value.to_string().into());
    }

    pub(super) fn tell_root(&mut self, slot: Slot) {
        self.tell_all(Topic::Roots, &slot.to_string().into());
    }

    pub(super) fn tell_gap(&mut self, gap: &Gap) {
        self.tell_all(Topic::Gaps, &gap_value(gap).to_string().into());
    }

    pub(super) fn tell_slot_update(&mut self, update: &SlotUpdate) {
        let frozen = self.frozen.reported(update);
        if self.index.under(Topic::SlotsUpdates).is_empty() {
            return;
        }
        for value in [frozen, slot_update(update)].into_iter().flatten() {
            self.tell_all(Topic::SlotsUpdates, &value.into());
        }
    }

    pub(super) fn tell_frozen(&mut self, block: &Block) {
        // The figures are counted for somebody only.
        if self.index.under(Topic::SlotsUpdates).is_empty() {
            return;
        }
        if let Some(value) = self.frozen.published(block) {
            self.tell_all(Topic::SlotsUpdates, &value.into());
        }
    }

    fn tell_all(&mut self, topic: Topic, value: &Told) {
        for id in self.index.under(topic).to_vec() {
            self.notify(id, value);
        }
    }
}
