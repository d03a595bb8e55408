//! The area under the receiver operating characteristic, as a rank statistic.

/// The chance that a positive scores above a negative, ties counting half: (R₊ − n₊(n₊ + 1)/2)/(n₊n₋) with midranks
/// (Mann and Whitney, 1947). `None` where a class is empty or a score is not a number.
#[must_use]
pub fn auroc(scored: &[(f64, bool)]) -> Option<f64> {
    if scored.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut rank_sum = 0.0;
    let mut below = 0;
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let positives = tied.iter().filter(|t| t.1).count();
        rank_sum += positives as f64 * (below as f64 + (tied.len() + 1) as f64 / 2.0);
        below += tied.len();
    }
    let positives = scored.iter().filter(|s| s.1).count() as f64;
    let negatives = scored.len() as f64 - positives;
    (positives > 0.0 && negatives > 0.0)
        .then(|| (rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_counting_pairs() {
        // Positives 0.9, 0.5, 0.2 against negatives 0.5, 0.1: pairs won 2 + (½ + 1) + (0 + 1) of 6.
        let scored = [(0.9, true), (0.5, true), (0.5, false), (0.2, true), (0.1, false)];
        assert!((auroc(&scored).unwrap() - 4.5 / 6.0).abs() < 1e-12);
        assert_eq!(auroc(&[(1.0, true), (0.0, false)]), Some(1.0));
        assert_eq!(auroc(&[(0.0, true), (-0.0, false), (0.0, false)]), Some(0.5));
        assert_eq!((auroc(&[(1.0, true)]), auroc(&[(f64::NAN, true), (0.0, false)])), (None, None));
    }
}
