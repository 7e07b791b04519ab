//! Pure: whether Kafka still answers, from how many records it has acknowledged.

use std::time::{Duration, Instant};

/// No client is given longer. By then Kafka's own client has taken its connection for dead, and made another
/// (`socket.timeout.ms`, 60 s).
const PATIENCE_MAX: Duration = Duration::from_millis(if cfg!(test) { 3_200 } else { 80_000 });

/// See the module.
#[derive(Debug)]
pub(super) struct Silence {
    acknowledged: u64,
    /// Of those, how many an earlier client had been told.
    before_this_client: u64,
    since: Instant,
    /// When the client was given the first of what it holds.
    holds_since: Instant,
    /// Clients in a row that were closed without an answer.
    fruitless: u32,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            acknowledged: 0,
            before_this_client: 0,
            since: now,
            holds_since: now,
            fruitless: 0,
        }
    }

    /// `acknowledged` in all, and how many records the client holds: it owes no answer when it holds none.
    pub(super) fn look(&mut self, acknowledged: u64, in_flight: usize, now: Instant) {
        if acknowledged != self.acknowledged || in_flight == 0 {
            self.acknowledged = acknowledged;
            self.since = now;
        }
        if in_flight == 0 {
            self.holds_since = now;
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
        self.holds_since = now;
    }

    /// Whether the client has heard of nothing that it holds for too long.
    pub(super) fn is_over(&self, now: Instant, first: Duration) -> bool {
        now.saturating_duration_since(self.since) >= self.patience(first)
    }

    /// Whether the client had time for the first of what it holds, whatever else it heard of meanwhile: a partition may have no
    /// leader while the others answer.
    pub(super) fn had_its_time(&self, now: Instant, first: Duration) -> bool {
        now.saturating_duration_since(self.holds_since) >= self.patience(first)
    }

    /// Each client that was closed without an answer gives the next one twice as long: on a busy machine, or with a busy broker,
    /// the first answer may take longer than any that follows, and a client that is closed before it never gets one.
    fn patience(&self, first: Duration) -> Duration {
        let patience = first.saturating_mul(1 << self.fruitless.min(16));
        patience.min(PATIENCE_MAX)
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
    fn who_holds_nothing_owes_no_answer_and_a_new_client_starts_anew() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let millis = Duration::from_millis;
        let mut silence = Silence::new(start);
        silence.look(0, 0, at(50));
        assert!(!silence.is_over(at(50), millis(1)) && silence.is_untried());
        silence.look(0, 3, at(90));
        assert!(silence.is_over(at(90), millis(40)) && !silence.is_over(at(90), millis(41)));
        silence.look(1, 2, at(100));
        assert!(!silence.is_over(at(100), millis(1)) && !silence.is_untried());
        // It has held two of them all the same.
        assert!(silence.had_its_time(at(100), millis(50)));
        assert!(!silence.had_its_time(at(100), millis(51)));
        silence.client_closed(at(110));
        silence.look(1, 2, at(120));
        assert!(silence.is_untried());
        assert!(silence.is_over(at(120), millis(10)) && silence.had_its_time(at(120), millis(10)));
    }

    #[test]
    fn each_client_without_an_answer_gives_the_next_twice_as_long() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        let first = PATIENCE_MAX / 5;
        let given = |silence: &Silence, time| {
            let (before, then) = (start + time - Duration::from_millis(1), start + time);
            assert!(!silence.is_over(before, first) && !silence.had_its_time(before, first));
            assert!(silence.is_over(then, first) && silence.had_its_time(then, first));
        };
        for time in [first, 2 * first, 4 * first, PATIENCE_MAX, PATIENCE_MAX] {
            given(&silence, time);
            silence.client_closed(start);
        }
        silence.look(1, 1, start);
        silence.client_closed(start);
        given(&silence, first);
    }
}
