//! Where a callback writes down that it lost something: which slot, which lane, which kind, how many.
//!
//! A callback may not wait, allocate or do I/O, least of all when everything is full. So a loss is a counter in a fixed
//! table, found by hashing and raised by compare-and-swap; the worker sweeps the counters into the slot ledger. One 64-bit
//! cell holds slot, lane, kind and count together, so that a sweep and a callback can never mix up two slots.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use event_schema::Kind;

use crate::{lane::Lane, observation::STARTUP_SLOT};

const CELLS: usize = 4096;
const PROBES: usize = 16;
const COUNT_BITS: u32 = 14;
const KIND_BITS: u32 = 3;
const LANE_BITS: u32 = 10;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// 37 bits: enough for 850 years of 200 ms slots.
const SLOT_MASK: u64 = STARTUP_SLOT;

/// Losses of one slot in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    pub slot: u64,
    pub lane: Lane,
    pub kind: Kind,
    pub count: u64,
}

/// See the module.
#[derive(Debug)]
pub struct LossTable {
    cells: Box<[AtomicU64]>,
    /// Losses that found no cell: counted, and attributed by the worker to the newest slot.
    unplaced: AtomicU64,
    touched: AtomicBool,
}

impl Default for LossTable {
    fn default() -> Self {
        Self {
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
            unplaced: AtomicU64::new(0),
            touched: AtomicBool::new(false),
        }
    }
}

impl LossTable {
    pub fn add(&self, slot: u64, lane: Lane, kind: Kind) {
        // `kind` is 1..=5 here, so an occupied cell is never zero.
        let name = ((slot & SLOT_MASK) << LANE_BITS | u64::from(lane.0)) << KIND_BITS | kind as u64;
        let home = (name.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize;
        for probe in 0..PROBES {
            let cell = &self.cells[(home + probe) % CELLS];
            let raised = cell.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |value| {
                let free = value == 0;
                let ours = value >> COUNT_BITS == name && value & COUNT_MASK < COUNT_MASK;
                (free || ours).then(|| (name << COUNT_BITS) + (value & COUNT_MASK) + 1)
            });
            if raised.is_ok() {
                self.touched.store(true, Ordering::Release);
                return;
            }
        }
        self.unplaced.fetch_add(1, Ordering::AcqRel);
        self.touched.store(true, Ordering::Release);
    }

    /// Takes every count out; returns how many losses had found no cell.
    pub fn sweep(&self, mut take: impl FnMut(Loss)) -> u64 {
        if !self.touched.swap(false, Ordering::AcqRel) {
            return 0;
        }
        for cell in &self.cells {
            if cell.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let value = cell.swap(0, Ordering::AcqRel);
            let name = value >> COUNT_BITS;
            let Ok(kind) = Kind::try_from((name & ((1 << KIND_BITS) - 1)) as u8) else {
                continue;
            };
            take(Loss {
                slot: name >> (KIND_BITS + LANE_BITS),
                lane: Lane((name >> KIND_BITS & ((1 << LANE_BITS) - 1)) as u16),
                kind,
                count: value & COUNT_MASK,
            });
        }
        self.unplaced.swap(0, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_loss_is_counted_once_while_it_is_swept() {
        let table = LossTable::default();
        let per_thread = 50_000_u64;
        let done = AtomicBool::new(false);
        let mut swept = BTreeMap::new();
        let mut unplaced = 0;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3_u64)
                .map(|thread| {
                    let table = &table;
                    scope.spawn(move || {
                        for i in 0..per_thread {
                            let kind = if thread == 0 {
                                Kind::Entry
                            } else {
                                Kind::Account
                            };
                            table.add(400_000_000 + i % 7, Lane((i % 9) as u16), kind);
                        }
                    })
                })
                .collect();
            let watcher = scope.spawn(|| {
                let (mut swept, mut unplaced) = (BTreeMap::new(), 0);
                while !done.load(Ordering::Acquire) {
                    unplaced += table.sweep(|loss| {
                        *swept.entry((loss.slot, loss.lane, loss.kind)).or_insert(0) += loss.count
                    });
                }
                (swept, unplaced)
            });
            for thread in threads {
                thread.join().unwrap();
            }
            done.store(true, Ordering::Release);
            (swept, unplaced) = watcher.join().unwrap();
        });
        unplaced += table.sweep(|loss| {
            *swept.entry((loss.slot, loss.lane, loss.kind)).or_insert(0) += loss.count
        });
        let total: u64 = swept.values().sum();
        assert_eq!(total + unplaced, 3 * per_thread);
        let entries: u64 = swept
            .iter()
            .filter(|((.., kind), _)| *kind == Kind::Entry)
            .map(|(_, count)| count)
            .sum();
        assert!(entries <= per_thread && entries + unplaced >= per_thread);
        assert!(
            swept
                .keys()
                .all(|(slot, ..)| (400_000_000..400_000_007).contains(slot))
        );
    }

    #[test]
    fn a_full_table_still_counts() {
        let table = LossTable::default();
        for slot in 0..20_000 {
            table.add(slot, Lane(1), Kind::Account);
        }
        let mut swept = 0;
        let unplaced = table.sweep(|loss| swept += loss.count);
        assert!(unplaced > 0);
        assert_eq!(swept + unplaced, 20_000);
        assert_eq!(table.sweep(|_| panic!("nothing is left")), 0);
    }
}
