//! Durations in buckets that double, raised without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// From 64 ns to about 34 s; the last bucket holds everything longer.
const BUCKETS: usize = 30;
const FIRST_NANOS: u64 = 64;

#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS + 1],
    nanos: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    buckets: [u64; BUCKETS + 1],
    nanos: u64,
}

impl Histogram {
    pub fn add(&self, duration: Duration) {
        // 584 years fit.
        let nanos = duration.as_nanos() as u64;
        // Bucket i ends at FIRST_NANOS << i, that end included.
        let doublings = (nanos.saturating_sub(1) / FIRST_NANOS)
            .checked_ilog2()
            .map_or(0, |log| log + 1);
        self.buckets[(doublings as usize).min(BUCKETS)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub fn take_stock(&self) -> Taken {
        Taken {
            buckets: std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed)),
            nanos: self.nanos.load(Ordering::Relaxed),
        }
    }
}

impl Taken {
    /// Upper bound in seconds (`None`: there is none) and how many fell into the bucket.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<f64>, u64)> + '_ {
        self.buckets.iter().enumerate().map(|(i, count)| {
            let bound = (i < BUCKETS).then(|| (FIRST_NANOS << i) as f64 / 1e9);
            (bound, *count)
        })
    }

    pub fn seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_duration_is_in_the_first_bucket_that_holds_it(nanos in prop_oneof![0_u64..5_000, any::<u32>().prop_map(u64::from), 0_u64..1 << 40]) {
            let histogram = Histogram::default();
            histogram.add(Duration::from_nanos(nanos));
            let taken = histogram.take_stock();
            let bounds: Vec<(Option<f64>, u64)> = taken.buckets().collect();
            let at = bounds.iter().position(|(_, count)| *count == 1).unwrap();
            let seconds = nanos as f64 / 1e9;
            prop_assert!(bounds[at].0.is_none_or(|bound| seconds <= bound));
            prop_assert!(at == 0 || bounds[at - 1].0.is_none_or(|bound| seconds > bound));
        }
    }
}
