//! The slots that are not concluded yet, and the memory they hold.

use std::collections::BTreeMap;

use event_schema::{Slot, SourceId};

use super::{SlotKey, closed::ClosedSlots};
use crate::{
    assembly::{Progress, SourceSlot},
    observation::Lane,
};

/// By slot, then by source.
#[derive(Debug, Default)]
pub struct OpenSlots {
    slots: BTreeMap<SlotKey, SourceSlot>,
    bytes: usize,
}

impl OpenSlots {
    pub fn contains(&self, key: SlotKey) -> bool {
        self.slots.contains_key(&key)
    }

    pub fn get(&self, key: SlotKey) -> Option<&SourceSlot> {
        self.slots.get(&key)
    }

    pub fn get_mut(&mut self, key: SlotKey) -> Option<&mut SourceSlot> {
        self.slots.get_mut(&key)
    }

    /// Changes the slot, opened if need be from where it was closed.
    pub fn change<T>(
        &mut self,
        key: SlotKey,
        closed: &ClosedSlots,
        change: impl FnOnce(&mut SourceSlot) -> T,
    ) -> T {
        let slot = self.slots.entry(key).or_insert_with(|| {
            closed
                .extent(key)
                .map_or_else(SourceSlot::default, |extent| {
                    SourceSlot::after(extent.clone())
                })
        });
        let before = slot.bytes;
        let result = change(slot);
        self.bytes = (self.bytes + slot.bytes).saturating_sub(before);
        result
    }

    pub fn take(&mut self, key: SlotKey) -> Option<SourceSlot> {
        let slot = self.slots.remove(&key)?;
        self.bytes = self.bytes.saturating_sub(slot.bytes);
        Some(slot)
    }

    pub fn keys(&self) -> Vec<SlotKey> {
        self.slots.keys().copied().collect()
    }

    /// Every source's view of the slot.
    pub fn at(&self, slot: Slot) -> impl Iterator<Item = (SlotKey, &SourceSlot)> {
        self.slots
            .range((slot, SourceId::default())..)
            .take_while(move |((other, _), _)| *other == slot)
            .map(|(key, slot)| (*key, slot))
    }

    /// The one that holds memory and has been quiet for longest.
    pub fn stalest(&self) -> Option<(SlotKey, Progress)> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.bytes > 0)
            .min_by_key(|(_, slot)| slot.last_ms)
            .map(|(key, slot)| (*key, slot.progress()))
    }

    /// The oldest offset of each lane that a slot still needs.
    pub fn low_watermarks(&self) -> BTreeMap<Lane, i64> {
        let mut lowest = BTreeMap::new();
        for slot in self.slots.values() {
            for (lane, offset) in slot.first_offsets() {
                let entry = lowest.entry(lane).or_insert(offset);
                *entry = offset.min(*entry);
            }
        }
        lowest
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
