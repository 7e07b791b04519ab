//! Tells subscribers of slots and roots how the chain grows.

use event_schema::Slot;
use serde_json::json;

use super::{Fanout, Told, index::Topic};
use crate::{assembly::Block, encoding::slot_update, router::SlotUpdate};

impl Fanout {
    pub(super) fn tell_slot_created(&mut self, slot: Slot, parent: Slot, root: Slot) {
        let value = json!({ "slot": slot, "parent": parent, "root": root });
        self.tell_all(Topic::Slots, &value.to_string().into());
    }

    pub(super) fn tell_root(&mut self, slot: Slot) {
        self.tell_all(Topic::Roots, &slot.to_string().into());
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
