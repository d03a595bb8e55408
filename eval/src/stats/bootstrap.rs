//! Seeded percentile bootstrap of means (B. Efron, *Bootstrap methods*, Annals of Statistics 7, 1979).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// How a bootstrap is drawn; the same gives the same interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resampling {
    /// Of the draws.
    pub seed: u64,
    /// How many resamples.
    pub draws: u32,
}

impl Resampling {
    /// 10,000 draws.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self { seed, draws: 10_000 }
    }
}

/// The 95 % interval of the mean of `values`: the 2.5 % and 97.5 % quantiles of the means of resamples. `None` without
/// values or draws. For a paired difference, pass the differences.
#[must_use]
pub fn bootstrap_interval(values: &[f64], how: Resampling) -> Option<(f64, f64)> {
    if values.is_empty() || how.draws == 0 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(how.seed);
    let n = values.len();
    let mut resampled = || {
        let total: f64 = (0..n).map(|_| values[below(n, rng.next_u64())]).sum();
        total / n as f64
    };
    let mut means: Vec<f64> = (0..how.draws).map(|_| resampled()).collect();
    means.sort_unstable_by(f64::total_cmp);
    Some((quantile(&means, 0.025), quantile(&means, 0.975)))
}

/// A number below `n` out of 64 random bits; with n far below 2⁶⁴ no place is favoured noticeably.
fn below(n: usize, bits: u64) -> usize {
    ((u128::from(bits) * n as u128) >> 64) as usize
}

/// Between the neighbours of the quantile's place, in proportion (R's type 7). `sorted` is not empty.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + part * (sorted[high] - sorted[low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_hand() {
        // Place 0.975 · 4 = 3.9 of 0, 10, 20, 30, 40.
        let sorted = [0.0, 10.0, 20.0, 30.0, 40.0];
        assert!((quantile(&sorted, 0.975) - 39.0).abs() < 1e-12);
        assert_eq!((quantile(&sorted, 0.5), quantile(&[7.0], 0.025)), (20.0, 7.0));
    }

    #[test]
    fn the_interval_agrees_with_the_normal_one_for_many_values() {
        // 300 of 1,000: 0.3 ± 1.96 · √(0.3 · 0.7 / 1000) = 0.3 ± 0.028403. Seed 1, 10,000 draws: the quantiles' own
        // error is about 0.0004.
        let values: Vec<f64> = (0..1000).map(|i| f64::from(u8::from(i < 300))).collect();
        let (low, high) = bootstrap_interval(&values, Resampling::with_seed(1)).unwrap();
        assert!((low - 0.271_597).abs() < 0.0016 && (high - 0.328_403).abs() < 0.0016, "{low} {high}");
        assert_eq!(bootstrap_interval(&values, Resampling::with_seed(1)), Some((low, high)));
        assert_ne!(bootstrap_interval(&values, Resampling { seed: 2, draws: 100 }), Some((low, high)));
    }

    #[test]
    fn two_values_have_three_means() {
        // Resamples of {0, 1} have means 0, ½, 1 with chances ¼, ½, ¼: the 95 % interval is all of it.
        assert_eq!(bootstrap_interval(&[0.0, 1.0], Resampling::with_seed(3)), Some((0.0, 1.0)));
        assert_eq!(bootstrap_interval(&[0.25; 9], Resampling::with_seed(3)), Some((0.25, 0.25)));
        assert_eq!(bootstrap_interval(&[], Resampling::with_seed(3)), None);
    }

    #[test]
    fn draws_are_uniform_over_the_values() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut counts = [0_i32; 7];
        (0..70_000).for_each(|_| counts[below(7, rng.next_u64())] += 1);
        // Standard deviation √(70000 · 1/7 · 6/7) = 92.6.
        assert!(counts.iter().all(|c| (c - 10_000).abs() < 370), "{counts:?}");
        assert_eq!((below(7, u64::MAX), below(7, 0)), (6, 0));
    }
}
