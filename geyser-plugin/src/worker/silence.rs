//! Pure: whether Kafka still answers, from how many records it has acknowledged.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(super) struct Silence {
    acknowledged: u64,
    /// Of those, how many an earlier client had been told.
    before_this_client: u64,
    since: Instant,
    /// Clients in a row that were closed without an answer.
    fruitless: u32,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            acknowledged: 0,
            before_this_client: 0,
            since: now,
            fruitless: 0,
        }
    }

    /// `acknowledged` in all, and how many records the client holds: it owes no answer when it holds none.
    pub(super) fn look(&mut self, acknowledged: u64, in_flight: usize, now: Instant) {
        if acknowledged != self.acknowledged || in_flight == 0 {
            self.acknowledged = acknowledged;
            self.since = now;
        }
    }

    /// The next records go to another client.
    pub(super) fn client_closed(&mut self, now: Instant) {
        self.fruitless = if self.is_untried() {
            self.fruitless.saturating_add(1)
        } else {
            0
        };
        self.before_this_client = self.acknowledged;
        self.since = now;
    }

    /// How long the client has held records without hearing of any.
    pub(super) fn lasts(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Whether the client had its time. Each that was closed without an answer gives the next one twice as long, up to `most`:
    /// on a busy machine, or with a busy broker, the first answer may take longer than any that follows.
    pub(super) fn is_over(&self, now: Instant, first: Duration, most: Duration) -> bool {
        let patience = first.saturating_mul(1 << self.fruitless.min(16));
        self.lasts(now) >= patience.min(most)
    }

    /// Nothing says yet that the broker takes records from this client.
    pub(super) fn is_untried(&self) -> bool {
        self.acknowledged == self.before_this_client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_begins_with_what_is_held_and_ends_with_an_answer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::new(start);
        silence.look(0, 0, at(5));
        assert_eq!(silence.lasts(at(5)), Duration::ZERO);
        silence.look(0, 3, at(9));
        assert_eq!(silence.lasts(at(9)), Duration::from_secs(4));
        assert!(silence.is_untried());
        silence.look(1, 2, at(10));
        assert_eq!(silence.lasts(at(10)), Duration::ZERO);
        assert!(!silence.is_untried());
        assert!(!silence.is_over(at(10), Duration::from_secs(1), Duration::from_secs(10)));
        silence.client_closed(at(11));
        silence.look(1, 2, at(12));
        assert!(silence.is_untried());
        assert_eq!(silence.lasts(at(12)), Duration::from_secs(1));
        let is_over = |silence: &Silence, seconds| {
            silence.is_over(at(seconds), Duration::from_secs(1), Duration::from_secs(3))
        };
        assert!(is_over(&silence, 12));
        silence.client_closed(at(20));
        assert!(!is_over(&silence, 21) && is_over(&silence, 22));
        silence.client_closed(at(30));
        assert!(!is_over(&silence, 32) && is_over(&silence, 33));
    }
}
