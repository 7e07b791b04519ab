//! When may a leader be connected to again? Pure, the clock is passed in.
//!
//! Leaders refuse addresses that come too often: 8 new connections per minute (`solana-streamer` 4.2.2,
//! `DEFAULT_MAX_CONNECTIONS_PER_IPADDR_PER_MINUTE`). A sender that insists locks itself out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// New connections to one leader in any [`MINUTE`].
pub const CONNECTS_PER_MINUTE_MAX: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);
/// Wait after the first failure; doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(8);

/// See the module.
#[derive(Debug, Default)]
pub struct Pace {
    /// Connects within the last minute.
    connects: VecDeque<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Pace {
    /// A connection is being tried. Until [`Self::connected`] it counts as failed.
    pub fn connecting(&mut self, now: Instant) {
        if self.connects.len() == CONNECTS_PER_MINUTE_MAX {
            self.connects.pop_front();
        }
        self.connects.push_back(now);
        let wait = WAIT_MIN
            .saturating_mul(1 << self.failures.min(5))
            .min(WAIT_MAX);
        self.failures += 1;
        self.not_before = Some(now + wait);
    }

    pub fn connected(&mut self) {
        self.failures = 0;
    }

    pub fn may_connect(&self, now: Instant) -> bool {
        self.next().is_none_or(|at| now >= at)
    }

    /// When the next connect is due; now or earlier when it is due already.
    pub fn next_connect(&self) -> Instant {
        self.next().unwrap_or_else(Instant::now)
    }

    fn next(&self) -> Option<Instant> {
        let budget = (self.connects.len() == CONNECTS_PER_MINUTE_MAX)
            .then(|| self.connects.front().map(|oldest| *oldest + MINUTE))
            .flatten();
        self.not_before.max(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However connections fare and however eager the caller, no minute sees more than the limit.
        #[test]
        fn never_more_than_the_limit(fates in proptest::collection::vec((any::<bool>(), 0u64..2000), 1..200)) {
            let start = Instant::now();
            let mut now = start;
            let mut pace = Pace::default();
            let mut made: Vec<Instant> = Vec::new();
            for (succeeds, later_ms) in fates {
                now += Duration::from_millis(later_ms);
                if !pace.may_connect(now) {
                    continue;
                }
                pace.connecting(now);
                if succeeds {
                    pace.connected();
                }
                made.push(now);
                let recent = made.iter().filter(|at| now.duration_since(**at) < MINUTE).count();
                prop_assert!(recent <= CONNECTS_PER_MINUTE_MAX);
            }
            prop_assert_eq!(made.first().copied(), Some(made[0]));
        }

        /// It never gives up: a minute after the last try the next one is allowed.
        #[test]
        fn a_minute_is_always_enough(failures in 1usize..50) {
            let mut now = Instant::now();
            let mut pace = Pace::default();
            for _ in 0..failures {
                pace.connecting(now);
                now += MINUTE;
                prop_assert!(pace.may_connect(now));
            }
        }
    }

    #[test]
    fn the_first_retry_is_quick_and_later_ones_are_not() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.may_connect(start));
        pace.connecting(start);
        assert!(!pace.may_connect(start + Duration::from_millis(249)));
        assert!(pace.may_connect(start + WAIT_MIN));
        for _ in 0..6 {
            pace.connecting(start);
        }
        assert!(!pace.may_connect(start + Duration::from_secs(7)));
        assert!(pace.may_connect(start + WAIT_MAX));
    }
}
