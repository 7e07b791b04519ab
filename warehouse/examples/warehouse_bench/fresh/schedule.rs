//! Pure: which transaction is in which slot, when it is due, and under which signature. Everyone who must know what was driven
//! asks here.

use std::time::Duration;

use sha2::{Digest, Sha512};

/// Far from a boundary of the tables' partitions.
const FIRST_SLOT: u64 = 300_000_000;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    pub slot_ms: u64,
    /// Transactions per second.
    pub rate: u64,
    /// Slots at the beginning that are driven and counted, but not timed.
    pub warm_slots: u64,
    /// All of them.
    pub slots: u64,
}

impl Schedule {
    pub fn slot(&self, nth: u64) -> u64 {
        FIRST_SLOT + nth
    }

    /// Number of the first transaction of the nth slot. Numbers are contiguous over the run.
    pub fn first(&self, nth: u64) -> u64 {
        nth * self.slot_ms * self.rate / 1_000
    }

    /// Transactions in the nth slot.
    pub fn count(&self, nth: u64) -> u64 {
        self.first(nth + 1) - self.first(nth)
    }

    /// Transactions in a slot; 0 outside the run.
    pub fn expected(&self, slot: u64) -> u64 {
        match slot.checked_sub(FIRST_SLOT) {
            Some(nth) if nth < self.slots => self.count(nth),
            _ => 0,
        }
    }

    pub fn transactions(&self) -> u64 {
        self.first(self.slots)
    }

    /// Since the beginning of the run, for the `part`th of `parts` of the nth slot.
    pub fn due(&self, nth: u64, part: u64, parts: u64) -> Duration {
        let slot = Duration::from_millis(self.slot_ms);
        slot * nth as u32 + slot.mul_f64(part as f64 / parts.max(1) as f64)
    }

    pub fn signature(number: u64) -> [u8; 64] {
        Sha512::digest(number.to_le_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transaction_is_in_one_slot_and_the_rate_is_kept() {
        for (slot_ms, rate) in [(400, 5_000), (400, 1), (333, 777)] {
            let schedule = Schedule {
                slot_ms,
                rate,
                warm_slots: 0,
                slots: 50,
            };
            let counts = (0..schedule.slots)
                .map(|nth| schedule.expected(schedule.slot(nth)))
                .sum::<u64>();
            assert_eq!(counts, schedule.transactions());
            assert_eq!(counts, 50 * slot_ms * rate / 1_000);
            assert_eq!(schedule.expected(schedule.slot(schedule.slots)), 0);
            assert_eq!(schedule.expected(0), 0);
            let end_of_third = schedule.due(2, 7, 7);
            assert_eq!(end_of_third, schedule.due(3, 0, 7));
        }
    }

    #[test]
    fn signatures_differ() {
        assert_ne!(Schedule::signature(1), Schedule::signature(2));
    }
}
