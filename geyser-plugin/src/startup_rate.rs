//! How many of the snapshot's accounts a second are taken, on average, when the operator has set a rate.
//!
//! The validator reports them from all its threads as fast as it reads its disks, long before it follows the chain. A
//! callback cannot wait for its turn: what is above the rate is not taken, and counted like any other loss, under a reason of
//! its own and in the snapshot's seals. So a rate is for who would rather have a part of the snapshot than a broker that its
//! live records share with all of it. It does not go to the disk instead: there it would lie before everything live.
//!
//! One word, moved on by compare-and-swap: the moment at which all that was taken so far would have come, had it come evenly.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// So much may come at once, ahead of the rate.
const BURST_NANOS: u64 = 1_000_000_000;

/// See the module.
#[derive(Debug)]
pub struct StartupRate {
    nanos_each: u64,
    begin: Instant,
    /// Nanoseconds since `begin`.
    due: AtomicU64,
}

impl StartupRate {
    /// The greatest rate there is: beyond it, a nanosecond is too coarse.
    pub const MAX: u64 = 100_000_000;

    /// At least 1 and at most [`StartupRate::MAX`] records a second.
    pub fn new(records_per_second: u64) -> Self {
        Self {
            nanos_each: 1_000_000_000 / records_per_second.clamp(1, Self::MAX),
            begin: Instant::now(),
            due: AtomicU64::new(0),
        }
    }

    /// Whether one more may be taken now. Never waits.
    pub fn admits(&self) -> bool {
        // 584 years fit.
        self.admits_at(self.begin.elapsed().as_nanos() as u64)
    }

    fn admits_at(&self, now: u64) -> bool {
        self.due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
                // What was not used in time is not saved up.
                let next = due.max(now) + self.nanos_each;
                (next <= now + BURST_NANOS).then_some(next)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In any stretch of time: a second's worth at once, and the rate from then on.
        #[test]
        fn no_more_than_the_rate_and_all_of_it(
            rate in 1_u64..2_000_000,
            pauses in proptest::collection::vec(prop_oneof![0_u64..2_000, 0_u64..50_000_000, 0_u64..3_000_000_000], 1..300),
        ) {
            let limit = StartupRate::new(rate);
            let each = 1_000_000_000 / rate;
            let (mut now, mut admitted) = (0_u64, Vec::new());
            for pause in pauses {
                now += pause;
                for _ in 0..4 {
                    if limit.admits_at(now) {
                        admitted.push(now);
                    }
                }
            }
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u64;
                    prop_assert!(count * each <= to - from + BURST_NANOS + each, "{count} in {} ns", to - from);
                }
            }
            // Whoever comes slower than the rate is never refused.
            prop_assert!(limit.admits_at(now + BURST_NANOS + each));
        }
    }

    #[test]
    fn threads_share_one_rate() {
        let limit = StartupRate::new(1_000);
        let go = AtomicBool::new(false);
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        while !go.load(Ordering::Acquire) {
                            std::hint::spin_loop();
                        }
                        (0..5_000).filter(|_| limit.admits_at(5)).count()
                    })
                })
                .collect();
            go.store(true, Ordering::Release);
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(admitted, 1_000);
    }
}
