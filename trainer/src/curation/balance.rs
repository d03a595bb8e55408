//! Balance of verdict and kind of prompt, by leaving rows of the larger classes out.

use super::curate::Unit;
use super::rank;
use super::report::{DropReason, Tally};

/// Leaves out pairs or benign answers until neither are more than `ratio` times the other. A pair has one row of each
/// class of harmful prompts, so these two are equal, and stay so.
pub(super) fn balance<'a>(
    pairs: Vec<Unit<'a>>,
    benign: Vec<Unit<'a>>,
    ratio: Option<f64>,
    seed: u64,
    tally: &mut Tally,
) -> Vec<Unit<'a>> {
    let Some(ratio) = ratio else { return pairs.into_iter().chain(benign).collect() };
    let most = (ratio * pairs.len().min(benign.len()) as f64).floor() as usize;
    // The share of benign refusals stays as it is.
    let (refused, helpful): (Vec<_>, Vec<_>) = benign.into_iter().partition(|unit| unit.rows[0].refused);
    let (keep_refused, keep_helpful) = split(most, refused.len(), helpful.len());
    let mut sample = |units, keep| sample(units, keep, seed, tally);
    let kept = [sample(pairs, most), sample(refused, keep_refused), sample(helpful, keep_helpful)];
    kept.into_iter().flatten().collect()
}

/// `most` or all of a + b, in the proportion of a and b.
fn split(most: usize, a: usize, b: usize) -> (usize, usize) {
    let all = a + b;
    let kept = most.min(all);
    let of_a = (2 * kept * a + all) / (2 * all.max(1));
    (of_a, kept - of_a)
}

fn sample<'a>(mut units: Vec<Unit<'a>>, keep: usize, seed: u64, tally: &mut Tally) -> Vec<Unit<'a>> {
    units.sort_by_cached_key(|unit| rank(seed, "balance", unit.prompt));
    for unit in units.drain(keep.min(units.len())..) {
        unit.reject(&DropReason::Balance, tally);
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_keep_proportions() {
        assert_eq!(split(5, 2, 8), (1, 4));
        assert_eq!(split(3, 2, 2), (2, 1));
        assert_eq!(split(20, 2, 8), (2, 8));
        assert_eq!(split(0, 2, 8), (0, 0));
        assert_eq!(split(9, 0, 0), (0, 0));
        for (a, b, most) in (0..12).flat_map(|a| (0..12).flat_map(move |b| (0..24).map(move |m| (a, b, m)))) {
            let (of_a, of_b) = split(most, a, b);
            assert!(of_a <= a && of_b <= b && of_a + of_b == most.min(a + b), "{a} {b} {most}");
        }
    }
}
