//! Expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015) of a binary classifier's probabilities.

/// The mean over bins, weighted by their sizes, of |mean probability − share of positives|, with `bins` bins of equal
/// width over 0–1. A probability on a border belongs to the upper bin, 1 to the last. `None` without predictions
/// or bins, or with a probability outside 0–1.
#[must_use]
pub fn expected_calibration_error(predictions: &[(f64, bool)], bins: usize) -> Option<f64> {
    check(predictions, bins)?;
    let mut binned = vec![Vec::new(); bins];
    for &prediction in predictions {
        let bin = (prediction.0 * bins as f64) as usize;
        binned[bin.min(bins - 1)].push(prediction);
    }
    Some(weighted(binned.iter().map(Vec::as_slice), predictions.len()))
}

/// The same with bins of equal numbers of predictions, as far as they divide, in the order of the probabilities.
#[must_use]
pub fn expected_calibration_error_equal_mass(predictions: &[(f64, bool)], bins: usize) -> Option<f64> {
    check(predictions, bins)?;
    let mut sorted = predictions.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = sorted.len();
    let binned = (0..bins).map(|bin| &sorted[bin * n / bins..(bin + 1) * n / bins]);
    Some(weighted(binned, n))
}

fn check(predictions: &[(f64, bool)], bins: usize) -> Option<()> {
    let right = predictions.iter().all(|(p, _)| (0.0..=1.0).contains(p));
    (right && bins > 0 && !predictions.is_empty()).then_some(())
}

/// |Σp − Σlabel|/n summed over bins, which weights each bin's gap by its size.
fn weighted<'a>(bins: impl Iterator<Item = &'a [(f64, bool)]>, n: usize) -> f64 {
    let gap = |bin: &[(f64, bool)]| bin.iter().map(|(p, label)| p - f64::from(u8::from(*label))).sum::<f64>();
    bins.map(|bin| gap(bin).abs()).sum::<f64>() / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREDICTIONS: [(f64, bool); 6] =
        [(0.1, false), (0.2, true), (0.4, false), (0.5, true), (0.9, true), (1.0, true)];

    #[test]
    fn equal_width_by_hand() {
        // Two bins: {0.1, 0.2, 0.4} with 1 positive: |0.7 − 1| = 0.3; {0.5, 0.9, 1.0} with 3: |2.4 − 3| = 0.6.
        let got = expected_calibration_error(&PREDICTIONS, 2).unwrap();
        assert!((got - 0.9 / 6.0).abs() < 1e-12, "{got}");
        // Ten bins: gaps 0.1, 0.8, 0.4, 0.5, and {0.9, 1.0}: 0.1.
        let got = expected_calibration_error(&PREDICTIONS, 10).unwrap();
        assert!((got - 1.9 / 6.0).abs() < 1e-12, "{got}");
    }

    #[test]
    fn equal_mass_by_hand() {
        // Three bins of two: |0.3 − 1| = 0.7, |0.9 − 1| = 0.1, |1.9 − 2| = 0.1; the order given does not matter.
        let mut shuffled = PREDICTIONS;
        shuffled.reverse();
        let got = expected_calibration_error_equal_mass(&shuffled, 3).unwrap();
        assert!((got - 0.9 / 6.0).abs() < 1e-12, "{got}");
        // Four bins of 1, 2, 1, 2: |0.1|, |0.6 − 1|, |0.5 − 1|, |1.9 − 2|.
        let got = expected_calibration_error_equal_mass(&PREDICTIONS, 4).unwrap();
        assert!((got - 1.1 / 6.0).abs() < 1e-12, "{got}");
    }

    #[test]
    fn what_is_no_probability_has_no_error() {
        for predictions in [&[][..], &[(1.5, true)], &[(f64::NAN, true)]] {
            assert_eq!(expected_calibration_error(predictions, 5), None);
            assert_eq!(expected_calibration_error_equal_mass(predictions, 5), None);
        }
        assert_eq!(expected_calibration_error(&PREDICTIONS, 0), None);
    }
}
