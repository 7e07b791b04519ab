//! Which windows of slots are to be rolled up again. Pure.
//!
//! A rollup of a window is made once all of it is final, and holds until somebody writes slots of it. Who does so says it in
//! `slots_in_work` before; from then on the window is counted anew with every question, until it is rolled up again and the
//! work's row goes.

use std::collections::{BTreeSet, VecDeque};

/// Slots per window: four minutes at 400 ms, and an epoch is 720 of them. The views know it as 600.
pub const WINDOW: u64 = 600;
/// Tables of rollups, the views that count the same, and the table that these stand on.
pub const ROLLUPS: &[Rollup] = &[
    Rollup {
        table: "token_volume_rollup",
        view: "token_volume_by_window",
        source: "token_transfers",
    },
    Rollup {
        table: "candles_rollup",
        view: "candles_by_window",
        source: "swaps",
    },
];

/// See [`ROLLUPS`].
#[derive(Debug, Clone, Copy)]
pub struct Rollup {
    pub table: &'static str,
    pub view: &'static str,
    pub source: &'static str,
}

pub fn is_rollup(table: &str) -> bool {
    ROLLUPS.iter().any(|rollup| rollup.table == table)
}

/// First slot of the window that `slot` is in.
pub fn window_begin(slot: u64) -> u64 {
    slot - slot % WINDOW
}

/// A range of a work in `slots_in_work`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub name: String,
    pub first_slot: u64,
    pub last_slot: u64,
    /// It ended, and not just now.
    pub settled: bool,
}

/// What is to be rolled up again, and which works need not be remembered then.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// Their first slots.
    pub windows: VecDeque<u64>,
    pub works: Vec<Work>,
}

impl Work {
    /// First slots of the windows it touches, of those below `rolled_below`: others are not rolled up yet.
    fn windows(&self, rolled_below: u64) -> impl Iterator<Item = u64> {
        let last = self.last_slot.min(rolled_below.saturating_sub(1));
        let begins = (self.first_slot / WINDOW)..=(last / WINDOW);
        let begins = (self.first_slot < rolled_below).then_some(begins);
        begins.into_iter().flatten().map(|window| window * WINDOW)
    }
}

/// The windows of one settled work that no unsettled one touches, with all works that they settle.
pub fn next_job(works: &[Work], rolled_below: u64) -> Option<Job> {
    let unsettled: BTreeSet<u64> = works
        .iter()
        .filter(|work| !work.settled)
        .flat_map(|work| work.windows(rolled_below))
        .collect();
    let settled = || works.iter().filter(|work| work.settled);
    let free = |work: &&Work| !work.windows(rolled_below).any(|at| unsettled.contains(&at));
    let first = settled().find(free)?;
    let windows: BTreeSet<u64> = first.windows(rolled_below).collect();
    let held = |work: &&Work| work.windows(rolled_below).all(|at| windows.contains(&at));
    Some(Job {
        works: settled().filter(held).cloned().collect(),
        windows: windows.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn works() -> impl Strategy<Value = Vec<Work>> {
        let work = (0_u64..6_000, 0_u64..1_500, any::<bool>());
        prop::collection::vec(work, 0..12).prop_map(|works| {
            let named = works.into_iter().zip(0..);
            named
                .map(|((first_slot, more, settled), number)| Work {
                    name: format!("work-{number}"),
                    first_slot,
                    last_slot: first_slot + more,
                    settled,
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_forgotten_is_rolled_up_and_nothing_that_is_being_written(works in works(), rolled in 0_u64..12) {
            let rolled_below = rolled * WINDOW;
            let mut left = works.clone();
            let mut rolled_up = BTreeSet::new();
            while let Some(job) = next_job(&left, rolled_below) {
                prop_assert!(!job.works.is_empty(), "or it would never end");
                rolled_up.extend(job.windows.iter().copied());
                left.retain(|work| !job.works.contains(work));
            }
            let touches = |work: &Work, slot: u64| (work.first_slot..=work.last_slot).contains(&slot);
            for slot in 0..rolled_below {
                let begin = window_begin(slot);
                let forgotten = works.iter().any(|work| touches(work, slot) && !left.contains(work));
                prop_assert!(!forgotten || rolled_up.contains(&begin), "slot {slot}");
                let at_work = works.iter().any(|work| !work.settled && touches(work, slot));
                prop_assert!(!at_work || !rolled_up.contains(&begin), "slot {slot}");
            }
            prop_assert!(rolled_up.iter().all(|begin| *begin < rolled_below));
            // What stays is being written, or has a window in common with what is.
            let windows = |work: &Work| -> BTreeSet<u64> { (work.first_slot..=work.last_slot).map(window_begin).filter(|at| *at < rolled_below).collect() };
            for work in left.iter().filter(|work| work.settled) {
                prop_assert!(works.iter().any(|other| !other.settled && !windows(other).is_disjoint(&windows(work))));
            }
        }
    }

    #[test]
    fn views_and_partitions_are_of_these_windows() {
        let script = include_str!("../../migrations/0013_rollups.sql");
        assert!(script.contains(&format!("intDiv(slot, {WINDOW})")));
        assert_eq!(432_000 % WINDOW, 0, "no window is in two epochs");
    }
}
