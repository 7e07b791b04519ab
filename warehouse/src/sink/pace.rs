//! When a batch is due. Pure: the time is passed in.
//!
//! A block waits for nobody, unless another batch was begun less than `flush` ago: so batches are begun at most once per
//! `flush`. What has no rows of a block waits for one, as long. A sink that is behind gathers as long, too: every batch has
//! its own cost, and fewer ones catch up sooner.

use std::time::{Duration, Instant};

use super::planner::Batch;

/// See the module.
pub struct Pace {
    flush: Duration,
    /// Since when the batch is not empty.
    open_since: Option<Instant>,
    /// When the last batch was begun to be stored.
    begun: Option<Instant>,
}

impl Pace {
    pub fn new(flush: Duration) -> Self {
        Self {
            flush,
            open_since: None,
            begun: None,
        }
    }

    /// `None`: nothing is to be stored. `unix_ms` is the time on the clock of those who wrote the records.
    pub fn due(&mut self, batch: &Batch, now: Instant, unix_ms: i64) -> Option<Instant> {
        if batch.is_empty() {
            self.open_since = None;
            return None;
        }
        let latest = *self.open_since.get_or_insert(now) + self.flush;
        let oldest = batch
            .statuses
            .iter()
            .map(|status| status.timestamp_ms)
            .min();
        let is_behind = oldest.is_some_and(|at| unix_ms - at > self.flush.as_millis() as i64);
        if batch.blocks.is_empty() || is_behind {
            return Some(latest);
        }
        Some(self.begun.map_or(now, |begun| begun + self.flush))
    }

    /// The batch is about to be stored.
    pub fn begin(&mut self, now: Instant) {
        self.open_since = None;
        self.begun = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event_schema::{Blockhash, Commitment, Slot, SlotBlock};

    use super::*;
    use crate::sink::planner::StatusChange;

    const FLUSH: Duration = Duration::from_millis(250);
    const WRITTEN: i64 = 1_700_000_000_000;

    fn status() -> Batch {
        let status = StatusChange {
            slot: Slot(1),
            blockhash: Blockhash([1; 32]),
            commitment: Commitment::Finalized,
            partition: 0,
            offset: 1,
            timestamp_ms: WRITTEN,
        };
        Batch {
            statuses: vec![status],
            ..Batch::default()
        }
    }

    fn block() -> Batch {
        let block = SlotBlock {
            slot: Slot(1),
            blockhash: Blockhash([1; 32]),
            first_offset: 0,
            next_offset: 1,
            accounts: Vec::new(),
            transactions: Vec::new(),
            entries: Vec::new(),
            meta: Default::default(),
            seal: Default::default(),
        };
        Batch {
            blocks: vec![Arc::new(block)],
            ..status()
        }
    }

    #[test]
    fn a_block_is_stored_at_once_but_not_more_often_than_allowed() {
        let start = Instant::now();
        let mut pace = Pace::new(FLUSH);
        assert_eq!(pace.due(&Batch::default(), start, WRITTEN), None);
        assert_eq!(pace.due(&block(), start, WRITTEN), Some(start));
        pace.begin(start);
        let soon = start + Duration::from_millis(100);
        assert_eq!(pace.due(&block(), soon, WRITTEN), Some(start + FLUSH));
        let later = start + Duration::from_millis(400);
        pace.begin(start);
        assert!(pace.due(&block(), later, WRITTEN).unwrap() <= later);
    }

    #[test]
    fn what_has_no_block_waits_for_one_and_goes_with_it() {
        let start = Instant::now();
        let mut pace = Pace::new(FLUSH);
        let due = pace.due(&status(), start, WRITTEN);
        assert_eq!(due, Some(start + FLUSH));
        let soon = start + Duration::from_millis(100);
        assert_eq!(pace.due(&status(), soon, WRITTEN), due);
        assert_eq!(pace.due(&block(), soon, WRITTEN), Some(soon));
    }

    #[test]
    fn who_is_behind_gathers() {
        let start = Instant::now();
        let mut pace = Pace::new(FLUSH);
        let late = WRITTEN + 251;
        let due = pace.due(&block(), start, late);
        assert_eq!(due, Some(start + FLUSH));
        let soon = start + Duration::from_millis(100);
        assert_eq!(pace.due(&block(), soon, late + 100), due);
    }
}
