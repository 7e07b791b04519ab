//! Pure: how long the worker rests between two looks at the ring.
//!
//! A look hands all there is to Kafka's client, which sends it at once, a request per partition. So it is the rest that makes
//! batches, and a request costs about the same with one record as with fifty. While fewer records come in a millisecond than
//! there are partitions, most requests have one record however long the rest is: it is a millisecond, and records wait half of
//! that on average. When more come, resting longer makes requests fewer in proportion, and the rest is `linger`: at most
//! partitions × 1,000 / `linger` in ms requests a second, whatever comes. A look that finds a whole batch is followed by the
//! next one at once.

use std::time::Duration;

/// While little comes.
const SHORT: Duration = Duration::from_millis(1);
/// Whatever `linger` says: below, looking would cost more than it finds.
const SHORTEST: Duration = Duration::from_micros(200);

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Pacing {
    linger: Duration,
    /// Of all topics together.
    partitions: usize,
}

impl Pacing {
    pub fn new(linger: Duration, partitions: usize) -> Self {
        Self { linger, partitions }
    }

    /// After a look that found `taken` records, `since` the one before.
    pub fn rest(self, taken: usize, since: Duration) -> Duration {
        let is_dense = taken as u128 * SHORT.as_nanos()
            >= self.partitions as u128 * since.max(SHORTEST).as_nanos();
        let rest = if is_dense {
            self.linger
        } else {
            SHORT.min(self.linger)
        };
        rest.max(SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_rests_longer_from_a_record_per_partition_and_millisecond_on() {
        let pacing = Pacing::new(Duration::from_millis(5), 9);
        let ms = Duration::from_millis;
        assert_eq!(pacing.rest(0, ms(1)), ms(1));
        assert_eq!(pacing.rest(8, ms(1)), ms(1));
        assert_eq!(pacing.rest(9, ms(1)), ms(5));
        // The same density seen over a longer rest.
        assert_eq!(pacing.rest(44, ms(5)), ms(1));
        assert_eq!(pacing.rest(45, ms(5)), ms(5));
    }

    proptest! {
        #[test]
        fn it_always_rests_and_never_beyond_linger(
            linger in 0_u64..1_000, partitions in 1_usize..1024, taken in 0_usize..5_000, since in 0_u64..1_000_000,
        ) {
            let rest = Pacing::new(Duration::from_millis(linger), partitions).rest(taken, Duration::from_micros(since));
            prop_assert!(rest >= SHORTEST && rest <= Duration::from_millis(linger).max(SHORTEST));
        }
    }
}
