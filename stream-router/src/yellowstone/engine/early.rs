//! Pure: what was told of blocks that are not complete yet.

use std::collections::BTreeMap;

use event_schema::Slot;
use foldhash::{HashMap, HashSet};

use crate::{dedup::EventId, observation::Content};

/// Slots remembered. The router gives slots up long before there are so many.
const SLOTS_MAX: usize = 4_096;

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

    /// The slot's block is published, or given up, or the slot begins anew.
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
}
