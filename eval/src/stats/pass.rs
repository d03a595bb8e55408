//! The chance that one of k answers is right, from n answers (Chen et al., arXiv 2107.03374).

/// 1 − C(n−c, k)/C(n, k) for `correct` = c of `samples` = n, without bias and without factorials: the product of
/// 1 − k/i over i = n−c+1 … n. `None` unless 1 ≤ k ≤ n and c ≤ n.
#[must_use]
pub fn pass_at_k(samples: u32, correct: u32, k: u32) -> Option<f64> {
    if k == 0 || k > samples || correct > samples {
        return None;
    }
    if samples - correct < k {
        return Some(1.0);
    }
    let none_right: f64 =
        (samples - correct + 1..=samples).map(|i| 1.0 - f64::from(k) / f64::from(i)).product();
    Some(1.0 - none_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: Option<f64>, expected: f64) {
        assert!((got.unwrap() - expected).abs() < 1e-12, "{got:?} {expected}");
    }

    #[test]
    fn by_hand() {
        // 1 − C(3,2)/C(5,2) = 1 − 3/10, 1 − C(6,3)/C(10,3) = 1 − 20/120, 1 − C(4,4)/C(5,4) = 1 − 1/5.
        near(pass_at_k(5, 2, 2), 0.7);
        near(pass_at_k(10, 4, 3), 5.0 / 6.0);
        near(pass_at_k(5, 1, 4), 0.8);
        // k = 1 is the share of right answers; fewer wrong ones than k is certain; none right is hopeless.
        near(pass_at_k(64, 16, 1), 0.25);
        assert_eq!((pass_at_k(5, 2, 4), pass_at_k(5, 0, 5)), (Some(1.0), Some(0.0)));
        assert_eq!((pass_at_k(5, 2, 0), pass_at_k(5, 2, 6), pass_at_k(5, 6, 1)), (None, None, None));
    }

    #[test]
    fn large_counts_neither_overflow_nor_lose_the_answer() {
        // 1 − C(9999, 5000)/C(10000, 5000) = ½.
        near(pass_at_k(10_000, 1, 5_000), 0.5);
    }

    #[test]
    fn it_is_the_share_of_subsets_with_a_right_answer() {
        // All 3-subsets of 6 answers, of which 0 and 1 are right.
        let subsets: Vec<u32> = (0_u32..64).filter(|s| s.count_ones() == 3).collect();
        let with = subsets.iter().filter(|s| **s & 0b11 != 0).count();
        near(pass_at_k(6, 2, 3), with as f64 / subsets.len() as f64);
    }
}
