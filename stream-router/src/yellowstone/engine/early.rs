//! Pure: what was told of blocks that are not complete yet.

use std::collections::{BTreeMap, HashMap, HashSet};

use event_schema::Slot;

use crate::{dedup::EventId, observation::Content};

/// Slots remembered; more are open only when something is wrong.
const SLOTS_MAX: usize = 128;

/// Events that a subscriber has, by slot.
pub type Had = HashMap<Slot, HashSet<EventId>>;

/// See the module.
#[derive(Debug, Default)]
pub struct EarlySlots {
    slots: BTreeMap<Slot, EarlySlot>,
}

/// In the order in which they were told.
#[derive(Debug, Default)]
pub struct EarlySlot {
    contents: Vec<Content>,
    ids: HashSet<EventId>,
}

impl EarlySlot {
    pub fn has(&self, id: EventId) -> bool {
        self.ids.contains(&id)
    }

    pub fn contents(&self) -> &[Content] {
        &self.contents
    }
}

impl EarlySlots {
    /// False when it was told already.
    pub fn tell(&mut self, slot: Slot, content: &Content) -> bool {
        let early = self.slots.entry(slot).or_default();
        if !early.ids.insert(content.id) {
            return false;
        }
        early.contents.push(content.clone());
        while self.slots.len() > SLOTS_MAX {
            self.slots.pop_first();
        }
        true
    }

    /// The slot's block is published, or the slot begins anew.
    pub fn take(&mut self, slot: Slot) -> EarlySlot {
        self.slots.remove(&slot).unwrap_or_default()
    }

    pub fn open(&self) -> impl Iterator<Item = (Slot, &EarlySlot)> {
        self.slots.iter().map(|(slot, early)| (*slot, early))
    }

    /// What a subscriber that missed nothing has of the open slots.
    pub fn had(&self) -> Had {
        self.slots
            .iter()
            .map(|(slot, early)| (*slot, early.ids.clone()))
            .collect()
    }

    /// Slots up to here will not be published any more.
    pub fn forget_through(&mut self, slot: Slot) {
        self.slots = self.slots.split_off(&Slot(slot.0.saturating_add(1)));
    }
}
