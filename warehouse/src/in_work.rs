//! Slots whose rows are being written, told to the views of final rows: below the sink's bound these show every row there
//! is, so they must know which slots are not whole. What breaks off stays told, until the slots are whole.

use std::collections::BTreeSet;

use crate::sink::{Store, StoreError};

/// Statements name at most so many ranges.
const RANGES: usize = 1_000;

/// One piece of work; its name is its own.
#[derive(Debug)]
pub struct InWork {
    name: String,
    ranges: Vec<(u64, u64)>,
}

impl InWork {
    /// `ranges`: first and last slots.
    pub fn of(name: String, ranges: Vec<(u64, u64)>) -> Self {
        Self { name, ranges }
    }

    /// To be told before the first row changes.
    pub async fn begin(&self, store: &Store) -> Result<(), StoreError> {
        self.write(store, false).await
    }

    /// All of it is whole.
    pub async fn end(&self, store: &Store) -> Result<(), StoreError> {
        self.write(store, true).await
    }

    async fn write(&self, store: &Store, ended: bool) -> Result<(), StoreError> {
        for ranges in self.ranges.chunks(RANGES) {
            let rows: Vec<String> = ranges
                .iter()
                .map(|(first, last)| {
                    format!(
                        "('{}', {first}, {last}, {ended}, now64(3, 'UTC'))",
                        self.name
                    )
                })
                .collect();
            let statement = format!(
                "INSERT INTO slots_in_work (work, first_slot, last_slot, ended, recorded_at) SETTINGS insert_deduplicate = 0 VALUES {}",
                rows.join(", ")
            );
            store.execute(&statement).await?;
        }
        Ok(())
    }
}

/// Runs of neighbours.
pub fn ranges(slots: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for slot in slots.iter().copied() {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(slot) => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_these_slots_and_no_others(slots in prop::collection::btree_set(0_u64..60, 0..40)) {
            let ranges = ranges(&slots);
            let held: Vec<u64> = ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(held, slots.into_iter().collect::<Vec<_>>());
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
