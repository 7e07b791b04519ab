//! Who leads when, and where they listen. Pure.

use std::{collections::HashMap, net::SocketAddr};

use event_schema::{Pubkey, Slot};

/// Consecutive slots of one leader: `NUM_CONSECUTIVE_LEADER_SLOTS`, solana-clock 3.1.1. Windows begin at multiples of
/// it, as every epoch does.
pub const SLOTS_PER_WINDOW: u64 = 4;
/// Windows searched for a leader that can be reached, when the ones asked for cannot.
pub const WINDOWS_SEARCHED: u64 = 8;

/// A leader that can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    pub leader: Pubkey,
    /// Its QUIC socket for transactions.
    pub tpu_quic: SocketAddr,
}

/// A stretch of the leader schedule with the addresses of its leaders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Window of the first leader.
    first_window: u64,
    /// One leader per window.
    leaders: Vec<Pubkey>,
    addresses: HashMap<Pubkey, SocketAddr>,
}

/// Window of a slot.
pub fn window_of(slot: Slot) -> u64 {
    slot.0 / SLOTS_PER_WINDOW
}

/// First slot of a window.
pub fn window_start(window: u64) -> Slot {
    Slot(window.saturating_mul(SLOTS_PER_WINDOW))
}

impl Schedule {
    /// `slot_leaders[0]` leads the first slot of window `first_window`.
    pub fn new(
        first_window: u64,
        slot_leaders: &[Pubkey],
        addresses: HashMap<Pubkey, SocketAddr>,
    ) -> Self {
        Self {
            first_window,
            leaders: slot_leaders
                .iter()
                .step_by(SLOTS_PER_WINDOW as usize)
                .copied()
                .collect(),
            addresses,
        }
    }

    pub fn leader(&self, window: u64) -> Option<Pubkey> {
        let index = window.checked_sub(self.first_window)?;
        self.leaders.get(usize::try_from(index).ok()?).copied()
    }

    /// Windows known from `window` on.
    pub fn windows_ahead(&self, window: u64) -> u64 {
        let end = self.first_window + self.leaders.len() as u64;
        if window < self.first_window {
            return 0;
        }
        end.saturating_sub(window)
    }

    /// The next `count` different leaders from `window` on that have an address. A leader without one is passed over:
    /// the transaction goes to whoever comes after.
    pub fn targets(&self, window: u64, count: usize) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::with_capacity(count);
        let mut windows = 0;
        // Different windows of one leader count as asked for: on a cluster of one there is nobody else.
        while targets.len() < count && windows < WINDOWS_SEARCHED.max(count as u64) {
            let Some(leader) = self.leader(window + windows) else {
                break;
            };
            windows += 1;
            if targets.iter().any(|target| target.leader == leader) {
                continue;
            }
            if let Some(&tpu_quic) = self.addresses.get(&leader) {
                targets.push(Target { leader, tpu_quic });
            }
        }
        targets
    }

    /// Every leader with an address.
    pub fn reachable(&self) -> usize {
        self.addresses.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> Pubkey {
        Pubkey([n; 32])
    }

    fn address(n: u8) -> SocketAddr {
        ([127, 0, 0, 1], 9000 + u16::from(n)).into()
    }

    fn schedule(first_window: u64, leaders: &[u8], silent: &[u8]) -> Schedule {
        let slots: Vec<Pubkey> = leaders
            .iter()
            .flat_map(|leader| std::iter::repeat_n(key(*leader), SLOTS_PER_WINDOW as usize))
            .collect();
        let addresses = leaders
            .iter()
            .filter(|leader| !silent.contains(leader))
            .map(|leader| (key(*leader), address(*leader)))
            .collect();
        Schedule::new(first_window, &slots, addresses)
    }

    fn leaders(targets: &[Target]) -> Vec<Pubkey> {
        targets.iter().map(|target| target.leader).collect()
    }

    #[test]
    fn current_and_next() {
        let schedule = schedule(10, &[1, 2, 3], &[]);
        assert_eq!(leaders(&schedule.targets(10, 2)), [key(1), key(2)]);
        assert_eq!(leaders(&schedule.targets(11, 2)), [key(2), key(3)]);
        assert_eq!(leaders(&schedule.targets(12, 2)), [key(3)]);
        assert_eq!(schedule.targets(13, 2), []);
        assert_eq!(schedule.targets(9, 2), []);
    }

    #[test]
    fn a_leader_without_an_address_is_passed_over() {
        let schedule = schedule(0, &[1, 2, 3], &[2]);
        assert_eq!(leaders(&schedule.targets(0, 2)), [key(1), key(3)]);
    }

    #[test]
    fn one_leader_alone_is_sent_to_once() {
        let schedule = schedule(0, &[7; 20], &[]);
        assert_eq!(leaders(&schedule.targets(3, 2)), [key(7)]);
    }

    #[test]
    fn a_leader_follows_itself_and_the_next_one_is_still_found() {
        let schedule = schedule(0, &[1, 1, 2], &[]);
        assert_eq!(leaders(&schedule.targets(0, 2)), [key(1), key(2)]);
    }

    proptest! {
        #[test]
        fn targets_are_different_reachable_and_in_order(
            leaders_in in proptest::collection::vec(0u8..6, 0..40),
            silent in proptest::collection::vec(0u8..6, 0..4),
            window in 0u64..60,
            count in 0usize..5,
        ) {
            let schedule = schedule(5, &leaders_in, &silent);
            let targets = schedule.targets(window, count);
            prop_assert!(targets.len() <= count);
            let mut from = window;
            for target in &targets {
                prop_assert_eq!(targets.iter().filter(|other| other.leader == target.leader).count(), 1);
                prop_assert!(!silent.iter().any(|leader| key(*leader) == target.leader));
                // Each target leads at or after the window where the one before it was found.
                let at = (from..from + 60).find(|w| schedule.leader(*w) == Some(target.leader));
                prop_assert!(at.is_some());
                from = at.unwrap();
            }
        }
    }
}
