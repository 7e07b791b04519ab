//! Pure: which transactions were told, as far back as several validators may differ.

use std::collections::{HashSet, VecDeque};

use event_schema::Slot;

/// At 5,000 transactions per second, twenty seconds; about 16 MB.
const REMEMBERED: usize = 100_000;

#[derive(Debug, Default)]
pub struct Seen {
    known: HashSet<(Slot, [u8; 64])>,
    arrivals: VecDeque<(Slot, [u8; 64])>,
}

impl Seen {
    /// False the second time, and for what has no signature.
    pub fn is_new(&mut self, slot: Slot, signature: &[u8]) -> bool {
        let Ok(signature) = <[u8; 64]>::try_from(signature) else {
            return false;
        };
        let id = (slot, signature);
        if !self.known.insert(id) {
            return false;
        }
        self.arrivals.push_back(id);
        if self.arrivals.len() > REMEMBERED
            && let Some(oldest) = self.arrivals.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_new_once_per_slot_and_memory_is_bounded() {
        let mut seen = Seen::default();
        assert!(seen.is_new(Slot(1), &[1; 64]));
        assert!(!seen.is_new(Slot(1), &[1; 64]));
        assert!(seen.is_new(Slot(2), &[1; 64]));
        assert!(!seen.is_new(Slot(2), b"short"));
        for slot in 3..REMEMBERED as u64 + 3 {
            seen.is_new(Slot(slot), &[1; 64]);
        }
        assert_eq!(seen.known.len(), REMEMBERED);
        assert_eq!(seen.arrivals.len(), REMEMBERED);
        assert!(seen.is_new(Slot(1), &[1; 64]));
    }
}
