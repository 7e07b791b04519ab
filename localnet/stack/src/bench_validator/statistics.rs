//! Means, quantiles, and how sure a mean is.

/// A mean and its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

/// NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The smallest value that at least this share of the values does not exceed.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// By Student's t over independent samples; of one sample nothing is known.
pub fn interval(samples: &[f64]) -> Interval {
    let mean = mean(samples);
    let count = samples.len() as f64;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    let standard_error = (squares / (count - 1.0) / count).sqrt();
    let reach = student(samples.len().saturating_sub(1)) * standard_error;
    Interval {
        mean,
        low: mean - reach,
        high: mean + reach,
    }
}

/// 97.5 % quantile of Student's distribution; between the listed degrees of freedom, the wider one.
fn student(degrees: usize) -> f64 {
    const TABLE: [(usize, f64); 16] = [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (6, 2.447),
        (7, 2.365),
        (8, 2.306),
        (9, 2.262),
        (10, 2.228),
        (12, 2.179),
        (15, 2.131),
        (20, 2.086),
        (30, 2.042),
        (60, 2.000),
        (120, 1.980),
    ];
    TABLE
        .iter()
        .rev()
        .find(|(listed, _)| *listed <= degrees)
        .map_or(f64::INFINITY, |(_, quantile)| *quantile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_textbook_sample() {
        // Mean 5, standard deviation 1.581, n = 5: 5 ± 2.776 · 0.7071.
        let found = interval(&[3.0, 4.0, 5.0, 6.0, 7.0]);
        assert!((found.mean - 5.0).abs() < 1e-9);
        assert!((found.high - 6.963).abs() < 1e-3, "{found:?}");
        assert!((found.low - 3.037).abs() < 1e-3, "{found:?}");
        assert_eq!(
            interval(&[2.0, 2.0]),
            Interval {
                mean: 2.0,
                low: 2.0,
                high: 2.0
            }
        );
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 50.0);
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&values, 1.0), 100.0);
        assert_eq!(quantile(&[7.0], 0.01), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn fewer_samples_are_less_sure() {
        let reaches: Vec<f64> = [1, 2, 5, 11, 14, 1000].map(student).to_vec();
        assert!(
            reaches
                .windows(2)
                .all(|pair| pair[0] > pair[1] || pair[0] == 2.179),
            "{reaches:?}"
        );
        assert!(student(0).is_infinite());
    }
}
