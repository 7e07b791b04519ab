//! Pure: the chunks that one source wrote into one partition for one slot, until each value is whole.
//!
//! Kept by sequence, which says where in its set a chunk belongs: the order in which they are read does not matter, and a
//! chunk that comes late still completes its value.

use std::collections::BTreeMap;

use crate::observation::ChunkRecord;

/// See the module. Its memory is that of the slot, which bounds it.
#[derive(Debug, Default)]
pub struct ChunkSets {
    by_sequence: BTreeMap<u64, ChunkRecord>,
}

/// Values that are not whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfinished {
    pub values: u64,
    pub chunks_lacking: u64,
}

impl ChunkSets {
    /// Returns the set that is whole now, in order and taken out, and the sequence of its last chunk. The caller has
    /// checked that the set's sequences exist.
    pub fn add(&mut self, sequence: u64, record: ChunkRecord) -> Option<(u64, Vec<ChunkRecord>)> {
        let first = first_of(sequence, &record);
        let last = first.saturating_add(u64::from(record.piece.count).saturating_sub(1));
        let piece = record.piece.clone();
        self.by_sequence.insert(sequence, record);
        let whole = self.by_sequence.range(first..=last).count() as u64 == u64::from(piece.count)
            && self
                .by_sequence
                .range(first..=last)
                .all(|(sequence, other)| {
                    other.piece.fits(&piece) && first_of(*sequence, other) == first
                });
        if !whole {
            return None;
        }
        let mut set = self.by_sequence.split_off(&first);
        // `last` may be the last number of all.
        if let Some(after) = last.checked_add(1) {
            self.by_sequence.append(&mut set.split_off(&after));
        }
        Some((last, set.into_values().collect()))
    }

    /// Chunks with at least this sequence.
    pub fn records_from(&self, first: u64) -> u64 {
        self.by_sequence.range(first..).count() as u64
    }

    pub fn last(&self) -> Option<u64> {
        self.by_sequence.last_key_value().map(|(last, _)| *last)
    }

    pub fn unfinished_from(&self, first: u64) -> Unfinished {
        // First sequence of the set → how many it has and should have.
        let mut sets: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (sequence, record) in self.by_sequence.range(first..) {
            let set = sets.entry(first_of(*sequence, record)).or_default();
            set.0 += 1;
            set.1 = set.1.max(u64::from(record.piece.count));
        }
        Unfinished {
            values: sets.len() as u64,
            // A set whose chunks contradict one another lacks at least the true one.
            chunks_lacking: sets
                .values()
                .map(|(held, count)| count.saturating_sub(*held).max(1))
                .sum(),
        }
    }

    pub fn into_records(self) -> impl Iterator<Item = ChunkRecord> {
        self.by_sequence.into_values()
    }
}

fn first_of(sequence: u64, record: &ChunkRecord) -> u64 {
    record.piece.first_position(sequence).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use event_schema::{Kind, chunk::Piece};
    use proptest::prelude::*;

    fn record(index: u32, count: u32, checksum: u32) -> ChunkRecord {
        let piece = Piece {
            kind: Kind::Account,
            index,
            count,
            total: 100,
            checksum,
            data: Bytes::from(vec![index as u8]),
        };
        ChunkRecord {
            piece,
            bytes: Bytes::new(),
        }
    }

    #[test]
    fn sets_that_contradict_one_another_stay_unfinished() {
        let mut sets = ChunkSets::default();
        assert!(sets.add(5, record(0, 3, 1)).is_none());
        assert!(sets.add(6, record(1, 3, 2)).is_none());
        assert!(sets.add(7, record(2, 3, 1)).is_none());
        // Begins where the other should end.
        assert!(sets.add(8, record(0, 2, 3)).is_none());
        assert_eq!(
            sets.unfinished_from(0),
            Unfinished {
                values: 2,
                chunks_lacking: 2
            }
        );
        assert_eq!(sets.records_from(6), 3);
        assert_eq!(sets.last(), Some(8));
    }

    proptest! {
        /// Sets next to one another, chunks in any order: each value comes out once, in order, with its last chunk.
        #[test]
        fn any_order_will_do(counts in prop::collection::vec(1u32..6, 1..6), first in 0u64..9, order: Vec<prop::sample::Index>) {
            let mut due = Vec::new();
            let mut expected = BTreeMap::new();
            let mut at = first;
            for (number, count) in counts.iter().enumerate() {
                due.extend((0..*count).map(|index| (at + u64::from(index), record(index, *count, number as u32))));
                at += u64::from(*count);
                expected.insert(at - 1, *count);
            }
            for (from, to) in order.iter().enumerate() {
                let length = due.len();
                due.swap(from % length, to.index(length));
            }
            let mut sets = ChunkSets::default();
            let mut whole = BTreeMap::new();
            for (given, (sequence, record)) in due.into_iter().enumerate() {
                if let Some((last, set)) = sets.add(sequence, record) {
                    prop_assert!(set.iter().enumerate().all(|(at, record)| record.piece.index == at as u32));
                    prop_assert_eq!(whole.insert(last, set.len() as u32), None);
                }
                let taken: u32 = whole.values().sum();
                prop_assert_eq!(sets.records_from(0), given as u64 + 1 - u64::from(taken));
            }
            prop_assert_eq!(whole, expected);
            prop_assert_eq!(sets.unfinished_from(0), Unfinished::default());
        }
    }
}
