//! Durations in nanoseconds, counted in buckets that grow with the value: recording allocates nothing and costs a
//! few additions, and any quantile is known to within 1.6 %. The greatest value is kept exactly.

use serde::{Deserialize, Serialize};

/// Buckets per doubling, as a power of two.
const PRECISION_BITS: u32 = 6;
const PER_OCTAVE: u64 = 1 << PRECISION_BITS;
/// 18 minutes; anything longer is counted there and still seen in the maximum.
const GREATEST: u64 = (1 << 40) - 1;
const BUCKETS: usize = bucket_of(GREATEST) + 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Sparse", into = "Sparse")]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS].into(),
            count: 0,
            sum: 0,
            max: 0,
        }
    }
}

impl Histogram {
    pub fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket_of(nanoseconds.min(GREATEST))] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(nanoseconds);
        self.max = self.max.max(nanoseconds);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    pub fn mean(&self) -> u64 {
        self.sum / self.count.max(1)
    }

    /// How many values lie in buckets wholly above `nanoseconds`.
    pub fn above(&self, nanoseconds: u64) -> u64 {
        let first = bucket_of(nanoseconds.min(GREATEST)) + 1;
        self.counts.iter().skip(first).sum()
    }

    /// The greatest value of the bucket in which the fraction `quantile` of all values is reached; 0 when there is none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = ((self.count as f64 * quantile).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return last_of(bucket).min(self.max);
            }
        }
        0
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

/// Values below [`PER_OCTAVE`] have a bucket each; above, every doubling is divided into [`PER_OCTAVE`] buckets.
const fn bucket_of(value: u64) -> usize {
    if value < PER_OCTAVE {
        return value as usize;
    }
    let shift = value.ilog2() - PRECISION_BITS;
    (shift as u64 * PER_OCTAVE + (value >> shift)) as usize
}

fn last_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * PER_OCTAVE {
        return bucket;
    }
    let shift = bucket / PER_OCTAVE - 1;
    let first = (bucket % PER_OCTAVE + PER_OCTAVE) << shift;
    first + (1 << shift) - 1
}

/// How a histogram travels between processes.
#[derive(Serialize, Deserialize)]
struct Sparse {
    sum: u64,
    max: u64,
    /// Bucket and count, of those that counted anything.
    buckets: Vec<(usize, u64)>,
}

impl From<Histogram> for Sparse {
    fn from(histogram: Histogram) -> Self {
        let counted = histogram.counts.iter().copied().enumerate();
        Self {
            sum: histogram.sum,
            max: histogram.max,
            buckets: counted.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

impl From<Sparse> for Histogram {
    fn from(sparse: Sparse) -> Self {
        let mut histogram = Self {
            sum: sparse.sum,
            max: sparse.max,
            ..Self::default()
        };
        for (bucket, count) in sparse.buckets {
            // A bucket of another layout would be a bug of this very program; it is counted, at the end.
            histogram.counts[bucket.min(BUCKETS - 1)] += count;
            histogram.count += count;
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    fn durations() -> impl Strategy<Value = Vec<u64>> {
        // Every magnitude is as likely as another.
        vec((0..40_u32, any::<u64>()), 1..300).prop_map(|drawn| {
            drawn
                .iter()
                .map(|(bits, v)| v & ((2 << bits) - 1))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_values(values in durations(), quantile in 0.0..=1.0_f64) {
            let histogram = of(&values);
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let rank = ((values.len() as f64 * quantile).ceil() as usize).clamp(1, values.len());
            let exact = sorted[rank - 1].min(GREATEST);
            let stated = histogram.quantile(quantile);
            prop_assert!(stated >= exact, "{stated} < {exact}");
            prop_assert!(stated as f64 <= exact as f64 * (1.0 + 1.0 / PER_OCTAVE as f64), "{stated} for {exact}");
            prop_assert_eq!(histogram.max(), sorted[values.len() - 1]);
            prop_assert_eq!(histogram.count(), values.len() as u64);
            let sum: u128 = values.iter().map(|value| u128::from(*value)).sum();
            prop_assert_eq!(u128::from(histogram.mean()), sum / values.len() as u128);
            let above = values.iter().filter(|value| **value > stated).count() as u64;
            prop_assert_eq!(histogram.above(stated), above);
        }

        #[test]
        fn parts_merge_to_the_whole_and_travel_unchanged(left in durations(), right in durations()) {
            let mut merged = of(&left);
            merged.merge(&of(&right));
            let whole = of(&[left, right].concat());
            prop_assert_eq!(&merged, &whole);
            let sent = serde_json::to_string(&merged).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&sent).unwrap(), whole);
        }
    }

    #[test]
    fn every_value_is_in_the_bucket_that_ends_at_or_after_it() {
        for value in (0..5000).chain([GREATEST - 1, GREATEST, 1 << 20, (1 << 20) - 1]) {
            let bucket = bucket_of(value);
            assert!(last_of(bucket) >= value, "{value}");
            assert!(bucket == 0 || last_of(bucket - 1) < value, "{value}");
        }
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
