//! Pure: several sources report the same slot; live subscribers are told once.

use std::collections::VecDeque;

use event_schema::{Slot, SourceId, proto::geyser::SlotStatus};
use foldhash::HashMap;

/// The newest slots and roots that were announced, [`Announcements::MEMORY`] of each.
#[derive(Debug, Default)]
pub struct Announcements {
    slots: Recent<SourceId>,
    roots: Recent<()>,
    /// Statuses told, a bit each, and who began the slot.
    statuses: Recent<(u8, SourceId)>,
    /// Whose records of the slot are told before the block is complete.
    leaders: Recent<SourceId>,
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

    /// Whether to tell this status of the slot: the first time (`Some(false)`), and again when the source that first reported
    /// the slot begins it anew (`Some(true)`).
    pub fn status(&mut self, slot: Slot, source: SourceId, status: SlotStatus) -> Option<bool> {
        let bit = 1 << (status as u8 & 7);
        let again = status == SlotStatus::SlotCreatedBank;
        let (told, first) = match self.statuses.get(slot) {
            Some((told, first)) => (*told, *first),
            None => (0, source),
        };
        let anew = again && told & bit != 0 && first == source;
        if told & bit != 0 && !anew {
            return None;
        }
        // A slot that begins anew has its statuses again, except that its shreds are the same.
        let kept = if anew {
            told & (1 << SlotStatus::SlotFirstShredReceived as u8)
        } else {
            told
        };
        self.statuses.insert(slot, (kept | bit, first));
        Some(anew)
    }

    /// Whether the source leads this slot: it is the first of which a record came.
    pub fn leads(&mut self, (slot, source): (Slot, SourceId)) -> bool {
        if let Some(leader) = self.leaders.get(slot) {
            return *leader == source;
        }
        self.leaders.insert(slot, source);
        true
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
            known: HashMap::default(),
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
    fn a_status_is_told_once_and_again_when_the_slot_begins_anew() {
        let (one, two) = (
            SourceId::default(),
            SourceId {
                instance: 2,
                ..SourceId::default()
            },
        );
        let (created, dead) = (SlotStatus::SlotCreatedBank, SlotStatus::SlotDead);
        let mut announcements = Announcements::default();
        let shred = SlotStatus::SlotFirstShredReceived;
        let mut told = |source, status| announcements.status(Slot(5), source, status);
        assert_eq!(told(one, shred), Some(false));
        assert_eq!(told(one, created), Some(false));
        assert_eq!(told(two, created), None);
        assert_eq!(told(two, dead), Some(false));
        assert_eq!(told(one, dead), None);
        assert_eq!(told(one, created), Some(true));
        assert_eq!(told(one, dead), Some(false));
        assert_eq!(told(two, shred), None);
    }

    #[test]
    fn one_source_leads_a_slot() {
        let two = SourceId {
            instance: 2,
            ..SourceId::default()
        };
        let mut announcements = Announcements::default();
        assert!(announcements.leads((Slot(5), two)));
        assert!(!announcements.leads((Slot(5), SourceId::default())));
        assert!(announcements.leads((Slot(5), two)));
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
