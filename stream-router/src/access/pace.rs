//! A key's bytes per second. Pure: the time comes in, how long to wait goes out.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What was not used lately may be used at once, up to this much time's worth.
const BURST: Duration = Duration::from_secs(1);

/// Shared by all streams of one key. Each pays for what it sends and waits for its own debt, so nobody waits for a stream
/// that sends nothing.
#[derive(Debug)]
pub struct ByteRate {
    per_second: u64,
    /// When all that was taken is paid for.
    paid: Mutex<Option<Instant>>,
}

impl ByteRate {
    /// `per_second` is at least 1 byte.
    pub fn new(per_second: u64) -> Self {
        Self {
            per_second: per_second.max(1),
            paid: Mutex::new(None),
        }
    }

    /// Takes `bytes`; the caller sends nothing more for the time returned.
    pub fn take(&self, bytes: usize, now: Instant) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.per_second as f64);
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = now.checked_sub(BURST).unwrap_or(now);
        let due = paid.map_or(idle, |paid| paid.max(idle)) + cost;
        *paid = Some(due);
        due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_the_rest_is_paced() {
        let rate = ByteRate::new(1_000);
        let start = Instant::now() + Duration::from_secs(10);
        assert_eq!(rate.take(1_000, start), Duration::ZERO);
        assert_eq!(rate.take(500, start), Duration::from_millis(500));
        assert_eq!(rate.take(500, start), Duration::from_secs(1));
        let later = start + Duration::from_secs(1);
        assert_eq!(rate.take(100, later), Duration::from_millis(100));
    }

    #[test]
    fn over_a_long_time_the_rate_is_kept() {
        let rate = ByteRate::new(10_000);
        let start = Instant::now() + Duration::from_secs(10);
        let mut now = start;
        let mut sent = 0;
        while now < start + Duration::from_secs(20) {
            now += rate.take(777, now) + Duration::from_micros(10);
            sent += 777;
        }
        assert!((200_000..=212_000).contains(&sent), "{sent}");
    }

    #[test]
    fn rest_does_not_add_up_beyond_a_second() {
        let rate = ByteRate::new(1_000);
        let start = Instant::now() + Duration::from_secs(10);
        rate.take(1, start);
        let later = start + Duration::from_secs(3_600);
        assert_eq!(rate.take(3_000, later), Duration::from_secs(2));
    }
}
