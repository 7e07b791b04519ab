//! Which sources' slots are closed and how far each was taken, in bounded memory.

use std::collections::VecDeque;

use event_schema::{Slot, SourceId};
use foldhash::HashMap;

use super::SlotKey;
use crate::{assembly::Extent, observation::Lane};

/// The newest `capacity` closed slots.
#[derive(Debug)]
pub struct ClosedSlots {
    slots: HashMap<SlotKey, Closed>,
    order: VecDeque<SlotKey>,
    capacity: usize,
}

#[derive(Debug, Clone)]
struct Closed {
    extent: Extent,
    /// False when the slot was given up.
    taken: bool,
}

impl ClosedSlots {
    pub fn new(capacity: usize) -> Self {
        Self {
            slots: HashMap::default(),
            order: VecDeque::new(),
            capacity,
        }
    }

    /// As an earlier life had it. Forgets nothing: that life did.
    pub fn restore(&mut self, key: SlotKey, extent: Extent, taken: bool) {
        if self.slots.insert(key, Closed { extent, taken }).is_none() {
            self.order.push_back(key);
        }
    }

    /// Returns the slots that had to be forgotten.
    pub fn insert(&mut self, key: SlotKey, extent: Extent, taken: bool) -> Vec<(Slot, SourceId)> {
        self.restore(key, extent, taken);
        let mut forgotten = Vec::new();
        while self.order.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.slots.remove(&oldest);
                forgotten.push(oldest);
            }
        }
        forgotten
    }

    pub fn contains(&self, key: SlotKey) -> bool {
        self.slots.contains_key(&key)
    }

    pub fn extent(&self, key: SlotKey) -> Option<&Extent> {
        self.slots.get(&key).map(|closed| &closed.extent)
    }

    pub fn was_given_up(&self, key: SlotKey) -> bool {
        self.slots.get(&key).is_some_and(|closed| !closed.taken)
    }

    /// The record was there when the slot was closed.
    pub fn covers(&self, key: SlotKey, lane: Lane, sequence: u64) -> bool {
        self.extent(key)
            .is_some_and(|extent| extent.covers(lane, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assembly::LaneExtent;
    use event_schema::ObservedTopic;

    #[test]
    fn the_oldest_is_forgotten_and_a_slot_closed_again_keeps_its_place() {
        let lane = Lane {
            topic: ObservedTopic::Slots,
            partition: 0,
        };
        let extent = |last_sequence| Extent {
            lanes: vec![LaneExtent {
                topic: lane.topic as u32,
                partition: 0,
                last_sequence,
                records: 1,
            }],
            entries: 0,
        };
        let key = |slot| (Slot(slot), SourceId::default());
        let mut closed = ClosedSlots::new(2);
        assert!(closed.insert(key(9), extent(1), false).is_empty());
        assert!(closed.insert(key(3), extent(5), true).is_empty());
        assert!(closed.was_given_up(key(9)) && !closed.was_given_up(key(3)));
        assert!(closed.insert(key(9), extent(8), true).is_empty());
        assert!(closed.covers(key(9), lane, 8) && !closed.covers(key(9), lane, 9));
        assert_eq!(closed.insert(key(7), extent(9), true), [key(9)]);
        assert!(!closed.contains(key(9)) && closed.contains(key(3)));
    }
}
