//! Pure: which of the records that were read from the spill Kafka has acknowledged.
//!
//! Records are numbered in the order they are read. When the spill is read again from an earlier place, because the client
//! gave up what it held, those that were acknowledged already are passed over.

use std::collections::VecDeque;

use event_schema::Kind;

use crate::lane::Lane;

/// A record that was on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// `None` for records of an earlier instance.
    pub lane: Option<Lane>,
    /// Of the whole value, when it is a chunk.
    pub kind: Kind,
    pub slot: u64,
    /// It is whole, or the last chunk of a value.
    pub last: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct DrainBook {
    /// Number of the first entry; everything below is settled.
    first: u64,
    /// `None` once nothing more will be said of it.
    entries: VecDeque<Option<Drained>>,
}

impl DrainBook {
    /// All below it are settled.
    pub fn settled_below(&self) -> u64 {
        self.first
    }

    /// Whether the record of this number has been settled in an earlier reading.
    pub fn is_settled(&self, number: u64) -> bool {
        let Some(at) = number.checked_sub(self.first) else {
            return true;
        };
        self.entries
            .get(at as usize)
            .is_some_and(|entry| entry.is_none())
    }

    /// The record is on its way. Numbers are given without a gap; giving one again changes nothing.
    pub fn give(&mut self, number: u64, record: Drained) {
        if number == self.first + self.entries.len() as u64 {
            self.entries.push_back(Some(record));
        }
    }

    /// Nothing more will be said of the record; `None` when that was so before.
    pub fn settle(&mut self, number: u64) -> Option<Drained> {
        let at = number.checked_sub(self.first)?;
        let settled = self.entries.get_mut(at as usize)?.take();
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
        settled
    }

    /// The spill is read again from the record `start` on, and `before` new ones come before it. Numbers begin at 0 again.
    pub fn restart(&mut self, start: u64, before: &[Drained]) {
        let settled = self.first.saturating_sub(start) as usize;
        let skipped = start.saturating_sub(self.first) as usize;
        let mut entries: VecDeque<Option<Drained>> = before.iter().copied().map(Some).collect();
        entries.extend(std::iter::repeat_n(None, settled));
        entries.extend(self.entries.iter().skip(skipped));
        self.entries = entries;
        self.first = 0;
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(slot: u64) -> Drained {
        Drained {
            lane: None,
            kind: Kind::Account,
            slot,
            last: true,
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Read(usize),
        /// Settles the n-th of those on their way.
        Settle(usize),
        /// With so many new ones in front.
        Restart(usize),
    }

    proptest! {
        /// Whatever happens, each record is settled exactly once, and nothing below the mark is open.
        #[test]
        fn every_record_is_settled_once(steps in proptest::collection::vec(prop_oneof![
            (1_usize..6).prop_map(Step::Read),
            (0_usize..10).prop_map(Step::Settle),
            (0_usize..4).prop_map(Step::Restart),
        ], 1..120)) {
            let mut book = DrainBook::default();
            // What is on disk, in order: its name and whether it was settled.
            let mut disk: Vec<(u64, bool)> = (0..40).map(|name| (name, false)).collect();
            let mut names = 40;
            let mut next = 0_usize;
            let mut on_their_way: Vec<usize> = Vec::new();
            for step in steps {
                match step {
                    Step::Read(count) => for _ in 0..count.min(disk.len() - next) {
                        prop_assert_eq!(book.is_settled(next as u64), disk[next].1);
                        if !disk[next].1 {
                            book.give(next as u64, record(disk[next].0));
                            on_their_way.push(next);
                        }
                        next += 1;
                    }
                    Step::Settle(nth) => if !on_their_way.is_empty() {
                        let at = on_their_way.remove(nth % on_their_way.len());
                        prop_assert_eq!(book.settle(at as u64), Some(record(disk[at].0)));
                        prop_assert_eq!(book.settle(at as u64), None);
                        disk[at].1 = true;
                    }
                    Step::Restart(count) => {
                        let before: Vec<Drained> = (names..names + count as u64).map(record).collect();
                        names += count as u64;
                        book.restart(0, &before);
                        disk.splice(0..0, before.iter().map(|record| (record.slot, false)));
                        on_their_way.clear();
                        next = 0;
                    }
                }
                let below = book.settled_below() as usize;
                prop_assert!(disk[..below].iter().all(|(_, settled)| *settled));
            }
        }
    }
}
