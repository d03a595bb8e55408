//! Group-relative advantages (GRPO: Shao et al., 2024, arXiv 2402.03300, section 4.1.2).

use ndarray::Array1;

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

/// `(reward − mean) / (deviation + ε)` over the samples that could be scored.
///
/// `rewards[i]` is `None` where sample i was masked: it neither moves the mean nor gets an advantage. The deviation
/// is that of the population. Groups whose deviation is `min_std` or less are dropped.
#[must_use]
pub fn group_advantages(rewards: &[Option<f64>], min_std: f64) -> GroupAdvantages {
    let scored: Array1<f64> = rewards.iter().flatten().copied().collect();
    if scored.len() < 2 {
        return GroupAdvantages::TooFewScored;
    }
    let (mean, std) = (scored.mean().unwrap_or(0.0), scored.std(0.0));
    if std <= min_std {
        return GroupAdvantages::ZeroVariance;
    }
    GroupAdvantages::Advantages(rewards.iter().map(|r| r.map(|r| (r - mean) / (std + EPSILON))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Rewards 1, 0, 0, 0: mean 0.25, deviation √(3/16) = 0.4330127.
        let GroupAdvantages::Advantages(a) =
            group_advantages(&[Some(1.0), Some(0.0), Some(0.0), Some(0.0)], 0.0)
        else {
            panic!("has variance")
        };
        assert!((a[0].unwrap() - 0.75 / 0.433_013_7).abs() < 1e-6);
        assert!((a[1].unwrap() + 0.25 / 0.433_013_7).abs() < 1e-6);
    }

    #[test]
    fn masked_samples_do_not_count_as_zero() {
        let masked = group_advantages(&[Some(1.0), None, Some(0.0)], 0.0);
        let GroupAdvantages::Advantages(a) = masked else { panic!("has variance") };
        assert!((a[0].unwrap() - 0.5 / 0.500_001).abs() < 1e-9);
        assert_eq!(a[1], None);
    }

    #[test]
    fn groups_without_signal() {
        assert_eq!(group_advantages(&[Some(0.5); 8], 0.0), GroupAdvantages::ZeroVariance);
        assert_eq!(group_advantages(&[Some(0.5), Some(0.54)], 0.05), GroupAdvantages::ZeroVariance);
        assert_eq!(group_advantages(&[Some(0.5), None], 0.0), GroupAdvantages::TooFewScored);
    }
}
