//! Pure: which of a source's records in one partition have been read, by their contiguous sequence numbers.

use std::{collections::BTreeMap, ops::RangeInclusive};

/// What a sequence number says about the record that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    New,
    /// It was missing until now: later records were read before it.
    Late,
    /// It was read before.
    Again,
}

/// Holes are kept as ranges, the newest [`SequenceTrack::HOLES_MAX`] of them; a record from a forgotten hole counts as
/// read before. Numbers below the first one read are not holes: reading started there.
#[derive(Debug, Default)]
pub struct SequenceTrack {
    next: Option<u64>,
    /// First missing → last missing.
    holes: BTreeMap<u64, u64>,
}

impl SequenceTrack {
    pub const HOLES_MAX: usize = 10_000;

    /// `whole`: nothing of the source came before what is read now, so its first number must be 0.
    pub fn starting(whole: bool) -> Self {
        Self {
            next: whole.then_some(0),
            ..Self::default()
        }
    }

    pub fn observe(&mut self, sequence: u64) -> Seen {
        let next = self.next.unwrap_or(sequence);
        if sequence >= next {
            if sequence > next {
                self.holes.insert(next, sequence - 1);
                if self.holes.len() > Self::HOLES_MAX {
                    self.holes.pop_first();
                }
            }
            self.next = Some(sequence.saturating_add(1));
            return Seen::New;
        }
        let hole = self
            .holes
            .range(..=sequence)
            .next_back()
            .map(|(first, last)| (*first, *last))
            .filter(|(_, last)| *last >= sequence);
        let Some((first, last)) = hole else {
            return Seen::Again;
        };
        self.holes.remove(&first);
        if first < sequence {
            self.holes.insert(first, sequence - 1);
        }
        if sequence < last {
            self.holes.insert(sequence + 1, last);
        }
        Seen::Late
    }

    /// The missing numbers within the range.
    pub fn missing_in(&self, range: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        // A partition without records of the slot, or a seal that lies.
        if range.is_empty() {
            return Vec::new();
        }
        let before = self
            .holes
            .range(..*range.start())
            .next_back()
            .filter(|(_, last)| **last >= *range.start());
        before
            .into_iter()
            .chain(self.holes.range(range.clone()))
            .map(|(first, last)| (*first).max(*range.start())..=(*last).min(*range.end()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_knows_exactly_what_was_read(start in 0u64..5, steps in prop::collection::vec(0u64..60, 1..80)) {
            let mut track = SequenceTrack::default();
            let mut read = BTreeSet::new();
            track.observe(start);
            read.insert(start);
            for sequence in steps.into_iter().filter(|sequence| *sequence >= start) {
                let top = *read.last().unwrap();
                let expected = match read.insert(sequence) {
                    false => Seen::Again,
                    true if sequence > top => Seen::New,
                    true => Seen::Late,
                };
                prop_assert_eq!(track.observe(sequence), expected);
            }
            let top = *read.last().unwrap();
            let missing: BTreeSet<u64> = track.missing_in(start..=top).into_iter().flatten().collect();
            let expected: BTreeSet<u64> = (start..=top).filter(|n| !read.contains(n)).collect();
            prop_assert_eq!(missing, expected);
        }
    }
}
