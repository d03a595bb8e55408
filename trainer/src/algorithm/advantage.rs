//! Advantages relative to the other samples of a group.

use ndarray::Array1;
use serde::{Deserialize, Serialize};

/// How rewards become advantages; the mean is that of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// (reward − mean) / (deviation of the group + ε) (GRPO, arXiv 2402.03300, section 4.1.2).
    #[default]
    Grpo,
    /// reward − mean (Dr. GRPO, arXiv 2503.20783).
    DrGrpo,
    /// reward − mean of the other samples (RLOO, arXiv 2402.14740, section 2).
    Rloo,
    /// (reward − mean) / (deviation of all such differences of the step + ε) (REINFORCE++, arXiv 2501.03262).
    Batch,
}

/// Advantages of one group, or why it carries no signal.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupAdvantages {
    /// One for each sample; `None` where the sample could not be scored.
    Advantages(Vec<Option<f64>>),
    /// The rewards deviate no more than the bound: dropped and counted.
    ZeroVariance,
    /// Fewer than two samples could be scored: dropped and counted.
    TooFewScored,
}

const EPSILON: f64 = 1e-6;

/// Advantages over the samples that could be scored. Those of [`Estimator::Batch`] still lack their common divisor:
/// see [`normalise_batch`].
///
/// `rewards[i]` is `None` where sample i was masked: it neither moves the mean nor gets an advantage. The deviation
/// is that of the population. Groups whose deviation is `min_std` or less are dropped.
#[must_use]
pub fn group_advantages(rewards: &[Option<f64>], min_std: f64, estimator: Estimator) -> GroupAdvantages {
    let scored: Array1<f64> = rewards.iter().flatten().copied().collect();
    if scored.len() < 2 {
        return GroupAdvantages::TooFewScored;
    }
    let (mean, std) = (scored.mean().unwrap_or(0.0), scored.std(0.0));
    if std <= min_std {
        return GroupAdvantages::ZeroVariance;
    }
    let n = scored.len() as f64;
    let scale = match estimator {
        Estimator::Grpo => 1.0 / (std + EPSILON),
        Estimator::DrGrpo | Estimator::Batch => 1.0,
        // The mean of the others lies n / (n − 1) times as far away as the mean of all.
        Estimator::Rloo => n / (n - 1.0),
    };
    GroupAdvantages::Advantages(rewards.iter().map(|r| r.map(|r| (r - mean) * scale)).collect())
}

/// Divides the advantages of a step by their deviation from 0, which is their mean by construction.
pub fn normalise_batch<'a>(advantages: impl Iterator<Item = &'a mut f64>) {
    let all: Vec<&mut f64> = advantages.collect();
    let std = (all.iter().map(|a| **a * **a).sum::<f64>() / all.len().max(1) as f64).sqrt();
    all.into_iter().for_each(|a| *a /= std + EPSILON);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Rewards 1, 0, 0, 0: mean 0.25, deviation √(3/16) = 0.4330127.
        let GroupAdvantages::Advantages(a) =
            group_advantages(&[Some(1.0), Some(0.0), Some(0.0), Some(0.0)], 0.0, Estimator::Grpo)
        else {
            panic!("has variance")
        };
        assert!((a[0].unwrap() - 0.75 / 0.433_013_7).abs() < 1e-6);
        assert!((a[1].unwrap() + 0.25 / 0.433_013_7).abs() < 1e-6);
    }

    #[test]
    fn masked_samples_do_not_count_as_zero() {
        let masked = group_advantages(&[Some(1.0), None, Some(0.0)], 0.0, Estimator::Grpo);
        let GroupAdvantages::Advantages(a) = masked else { panic!("has variance") };
        assert!((a[0].unwrap() - 0.5 / 0.500_001).abs() < 1e-9);
        assert_eq!(a[1], None);
    }

    #[test]
    fn groups_without_signal() {
        let of = |rewards: &[Option<f64>], min_std| group_advantages(rewards, min_std, Estimator::Grpo);
        assert_eq!(of(&[Some(0.5); 8], 0.0), GroupAdvantages::ZeroVariance);
        assert_eq!(of(&[Some(0.5), Some(0.54)], 0.05), GroupAdvantages::ZeroVariance);
        assert_eq!(of(&[Some(0.5), None], 0.0), GroupAdvantages::TooFewScored);
    }

    #[test]
    fn other_estimators_by_hand() {
        // Rewards 1, 0, 0 and one masked: mean 1/3; the others' means are 0, 1/2, 1/2.
        let rewards = [Some(1.0), Some(0.0), None, Some(0.0)];
        let close = |estimator, expected: [f64; 3]| {
            let GroupAdvantages::Advantages(a) = group_advantages(&rewards, 0.0, estimator) else {
                panic!("has variance")
            };
            assert_eq!(a[2], None);
            let a: Vec<f64> = a.into_iter().flatten().collect();
            assert!(a.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-12), "{estimator:?}: {a:?}");
        };
        close(Estimator::DrGrpo, [2.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0]);
        close(Estimator::Rloo, [1.0, -0.5, -0.5]);
        close(Estimator::Batch, [2.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0]);
        // Two groups' differences 1, −1, 2, −2: deviation √2.5.
        let mut all = [1.0, -1.0, 2.0, -2.0];
        normalise_batch(all.iter_mut());
        let expected = [1.0, -1.0, 2.0, -2.0].map(|a| a / 2.5f64.sqrt());
        assert!(all.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-5), "{all:?}");
    }
}
