//! Pure: several sources report the same slot; live subscribers are told once.

use std::collections::{HashMap, VecDeque};

use event_schema::{Slot, SourceId};

/// The newest slots and roots that were announced, [`Announcements::MEMORY`] of each.
#[derive(Debug, Default)]
pub struct Announcements {
    slots: Recent<SourceId>,
    roots: Recent<()>,
}

impl Announcements {
    pub const MEMORY: usize = 8_192;

    /// Whether to announce that `source` began the slot. A source that creates the bank again (it dumped the slot and
    /// replays it) is announced again; `created` tells that from its later reports of the same bank.
    pub fn slot(&mut self, slot: Slot, source: SourceId, created: bool) -> bool {
        match self.slots.get(slot) {
            Some(first) => created && *first == source,
            None => {
                self.slots.insert(slot, source);
                true
            }
        }
    }

    pub fn root(&mut self, slot: Slot) -> bool {
        let new = self.roots.get(slot).is_none();
        if new {
            self.roots.insert(slot, ());
        }
        new
    }
}

#[derive(Debug)]
struct Recent<T> {
    known: HashMap<Slot, T>,
    arrivals: VecDeque<Slot>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            arrivals: VecDeque::new(),
        }
    }
}

impl<T> Recent<T> {
    fn get(&self, slot: Slot) -> Option<&T> {
        self.known.get(&slot)
    }

    fn insert(&mut self, slot: Slot, value: T) {
        if self.known.insert(slot, value).is_none() {
            self.arrivals.push_back(slot);
        }
        while self.arrivals.len() > Announcements::MEMORY {
            if let Some(old) = self.arrivals.pop_front() {
                self.known.remove(&old);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_announced_once_unless_its_source_begins_again() {
        let (one, two) = (
            SourceId::default(),
            SourceId {
                instance: 2,
                ..SourceId::default()
            },
        );
        let mut announcements = Announcements::default();
        assert!(announcements.slot(Slot(5), one, true));
        assert!(!announcements.slot(Slot(5), two, true));
        assert!(!announcements.slot(Slot(5), one, false));
        assert!(announcements.slot(Slot(5), one, true));
        assert!(announcements.root(Slot(5)));
        assert!(!announcements.root(Slot(5)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut announcements = Announcements::default();
        for slot in 0..3 * Announcements::MEMORY as u64 {
            announcements.root(Slot(slot));
        }
        assert_eq!(announcements.roots.known.len(), Announcements::MEMORY);
        assert_eq!(announcements.roots.arrivals.len(), Announcements::MEMORY);
    }
}
