//! Temperature scaling (Guo et al., arXiv 1706.04599) and Platt scaling (J. Platt, 1999, with the targets and the
//! damped Newton method of Lin, Lin and Weng, Machine Learning 68, 2007), fitted on held-out (logit, label) pairs.

use serde::{Deserialize, Serialize};

/// Most steps of Newton's method; it takes about ten on all but degenerate data.
const MOST_STEPS: usize = 100;
/// Newton's decrement squared, twice the loss that is still to be won, at which a fit has converged.
const CONVERGED: f64 = 1e-22;
/// Most halvings of a step that would raise the loss.
const MOST_HALVINGS: i32 = 40;

/// Fitted parameters, as they are stored beside a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Scaling {
    /// σ(logit/temperature).
    Temperature {
        /// Above 0.
        temperature: f64,
    },
    /// σ(slope·logit + intercept).
    Platt {
        /// Above 0 for a verifier better than chance.
        slope: f64,
        /// The logit's shift.
        intercept: f64,
    },
}

impl Scaling {
    /// The probability of the positive class, 0–1.
    #[must_use]
    pub fn apply(self, logit: f64) -> f64 {
        match self {
            Self::Temperature { temperature } => sigmoid(logit / temperature),
            Self::Platt { slope, intercept } => sigmoid(slope * logit + intercept),
        }
    }
}

/// Why there is no scaling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// A class has no pair.
    #[error("calibration needs both labels; there are {positives} positive and {negatives} negative pairs")]
    OneClass {
        /// Positive pairs.
        positives: usize,
        /// Negative pairs.
        negatives: usize,
    },
    /// A logit is infinite or not a number.
    #[error("logit {index} of the calibration pairs is not finite")]
    NotFinite {
        /// Its place, from 0.
        index: usize,
    },
    /// Scores that are all the same, or point the wrong way, say nothing of the labels.
    #[error("no scaling fits: the logits do not rise with the labels")]
    WrongWay,
    /// Every temperature is beaten by a lower one.
    #[error(
        "no temperature fits: the logits separate the labels without error; use Platt scaling or more pairs"
    )]
    Separable,
    /// Newton's method did not come to rest.
    #[error("the calibration did not converge in {MOST_STEPS} steps")]
    NotConverged,
}

/// The temperature of least negative log-likelihood.
///
/// # Errors
/// See [`FitError`].
pub fn fit_temperature(pairs: &[(f64, bool)]) -> Result<Scaling, FitError> {
    check(pairs)?;
    let agrees = |(z, label): &(f64, bool)| if *label { *z } else { -z };
    // Where no logit disagrees with its label, or none agrees, the loss falls without end in the slope.
    if pairs.iter().all(|pair| agrees(pair) <= 0.0) {
        return Err(FitError::WrongWay);
    }
    if pairs.iter().all(|pair| agrees(pair) >= 0.0) {
        return Err(FitError::Separable);
    }
    let targets: Vec<(f64, f64)> = pairs.iter().map(|(z, label)| (*z, f64::from(u8::from(*label)))).collect();
    let (slope, _) = newton(&targets, Free::Slope, (0.0, 0.0))?;
    if slope > 0.0 { Ok(Scaling::Temperature { temperature: 1.0 / slope }) } else { Err(FitError::WrongWay) }
}

/// Slope and intercept of least negative log-likelihood against smoothed targets, (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2),
/// with which there is a best pair unless all logits are the same.
///
/// # Errors
/// See [`FitError`].
pub fn fit_platt(pairs: &[(f64, bool)]) -> Result<Scaling, FitError> {
    let (positives, negatives) = check(pairs)?;
    if pairs.iter().all(|pair| pair.0 == pairs[0].0) {
        return Err(FitError::WrongWay);
    }
    let high = (positives as f64 + 1.0) / (positives as f64 + 2.0);
    let low = 1.0 / (negatives as f64 + 2.0);
    let targets: Vec<(f64, f64)> =
        pairs.iter().map(|(z, label)| (*z, if *label { high } else { low })).collect();
    let prior = ((positives as f64 + 1.0) / (negatives as f64 + 1.0)).ln();
    let (slope, intercept) = newton(&targets, Free::Both, (0.0, prior))?;
    Ok(Scaling::Platt { slope, intercept })
}

/// (positives, negatives).
fn check(pairs: &[(f64, bool)]) -> Result<(usize, usize), FitError> {
    if let Some(index) = pairs.iter().position(|(z, _)| !z.is_finite()) {
        return Err(FitError::NotFinite { index });
    }
    let positives = pairs.iter().filter(|p| p.1).count();
    let negatives = pairs.len() - positives;
    if positives == 0 || negatives == 0 {
        return Err(FitError::OneClass { positives, negatives });
    }
    Ok((positives, negatives))
}

/// What may move.
#[derive(Clone, Copy, PartialEq)]
enum Free {
    Slope,
    Both,
}

/// Least mean cross-entropy of σ(slope·z + intercept) against targets in 0–1, which is convex in both.
fn newton(targets: &[(f64, f64)], free: Free, start: (f64, f64)) -> Result<(f64, f64), FitError> {
    let (mut slope, mut intercept) = start;
    for _ in 0..MOST_STEPS {
        let (step, decrement) = newton_step(targets, free, slope, intercept);
        if decrement < CONVERGED {
            return Ok((slope, intercept));
        }
        let now = loss(targets, slope, intercept);
        let scaled = |halvings: i32| {
            let factor = 0.5_f64.powi(halvings);
            (slope - factor * step.0, intercept - factor * step.1)
        };
        // Near the minimum the gain is below what the loss resolves, hence the slack.
        let falls = |(a, b): &(f64, f64)| loss(targets, *a, *b) <= now + 1e-14 * now.abs();
        let next = (0..MOST_HALVINGS).map(scaled).find(falls).ok_or(FitError::NotConverged)?;
        (slope, intercept) = next;
    }
    Err(FitError::NotConverged)
}

/// H⁻¹g and gᵀH⁻¹g at this slope and intercept.
fn newton_step(targets: &[(f64, f64)], free: Free, slope: f64, intercept: f64) -> ((f64, f64), f64) {
    let mut gradient = (0.0, 0.0);
    let (mut aa, mut ab, mut bb) = (0.0, 0.0, 0.0);
    let weight = 1.0 / targets.len() as f64;
    for &(z, target) in targets {
        let p = sigmoid(slope * z + intercept);
        let (error, curvature) = (weight * (p - target), weight * p * (1.0 - p));
        gradient = (gradient.0 + error * z, gradient.1 + error);
        (aa, ab, bb) = (aa + curvature * z * z, ab + curvature * z, bb + curvature);
    }
    let step = match free {
        Free::Slope => (gradient.0 / aa, 0.0),
        Free::Both => {
            let determinant = aa * bb - ab * ab;
            let solve = |x: f64, y: f64| (x - y) / determinant;
            (solve(bb * gradient.0, ab * gradient.1), solve(aa * gradient.1, ab * gradient.0))
        }
    };
    (step, step.0 * gradient.0 + step.1 * gradient.1)
}

fn loss(targets: &[(f64, f64)], slope: f64, intercept: f64) -> f64 {
    let pair = |&(z, target): &(f64, f64)| {
        let x = slope * z + intercept;
        // ln(1 + eˣ) − target·x, without overflow.
        x.max(0.0) + (-x.abs()).exp().ln_1p() - target * x
    };
    targets.iter().map(pair).sum::<f64>() / targets.len() as f64
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(counts: &[(f64, bool, usize)]) -> Vec<(f64, bool)> {
        counts.iter().flat_map(|&(z, label, n)| std::iter::repeat_n((z, label), n)).collect()
    }

    #[test]
    fn temperature_in_closed_form() {
        // Logits ±4, right in 9 of 10: σ(4/T) = 0.9, so T = 4/ln 9.
        let data = pairs(&[(4.0, true, 9), (4.0, false, 1), (-4.0, false, 18), (-4.0, true, 2)]);
        let Scaling::Temperature { temperature } = fit_temperature(&data).unwrap() else { panic!() };
        assert!((temperature - 4.0 / 9.0_f64.ln()).abs() < 1e-9, "{temperature}");
        assert!((Scaling::Temperature { temperature }.apply(4.0) - 0.9).abs() < 1e-9);
    }

    #[test]
    fn overconfident_logits_far_out_still_converge() {
        // ±40 right in 3 of 4: T = 40/ln 3.
        let data = pairs(&[(40.0, true, 3), (40.0, false, 1), (-40.0, false, 3), (-40.0, true, 1)]);
        let Scaling::Temperature { temperature } = fit_temperature(&data).unwrap() else { panic!() };
        assert!((temperature - 40.0 / 3.0_f64.ln()).abs() < 1e-7, "{temperature}");
    }

    #[test]
    fn platt_in_closed_form() {
        // At two logits the fit meets each one's mean target. n₊ = 8, n₋ = 4: targets 0.9 and 1/6.
        // At 0: 2 positive, 3 negative: (1.8 + 0.5)/5 = 0.46. At 2: 6 and 1: (5.4 + 1/6)/7 = 0.795238.
        let data = pairs(&[(0.0, true, 2), (0.0, false, 3), (2.0, true, 6), (2.0, false, 1)]);
        let Scaling::Platt { slope, intercept } = fit_platt(&data).unwrap() else { panic!() };
        let logit = |p: f64| (p / (1.0 - p)).ln();
        let (low, high) = (logit(0.46), logit((5.4 + 1.0 / 6.0) / 7.0));
        assert!((intercept - low).abs() < 1e-9, "{intercept} {low}");
        assert!((slope - (high - low) / 2.0).abs() < 1e-9, "{slope}");
    }

    #[test]
    fn separable_pairs_have_no_temperature_but_a_platt_fit() {
        let data = pairs(&[(-1.0, false, 2), (3.0, true, 2)]);
        assert_eq!(fit_temperature(&data), Err(FitError::Separable));
        // Targets 3/4 and 1/4: σ(b − a) = 1/4 and σ(3a + b) = 3/4, so 4a = 2 ln 3 and b = −ln 3 + a.
        let Scaling::Platt { slope, intercept } = fit_platt(&data).unwrap() else { panic!() };
        let ln3 = 3.0_f64.ln();
        assert!(
            (slope - ln3 / 2.0).abs() < 1e-9 && (intercept + ln3 / 2.0).abs() < 1e-9,
            "{slope} {intercept}"
        );
    }

    #[test]
    fn what_cannot_be_fitted_says_why() {
        let wrong_way = pairs(&[(2.0, true, 1), (2.0, false, 3), (-1.0, false, 1), (-1.0, true, 2)]);
        assert_eq!(fit_temperature(&wrong_way), Err(FitError::WrongWay));
        assert_eq!(fit_temperature(&pairs(&[(-1.0, true, 1), (1.0, false, 1)])), Err(FitError::WrongWay));
        assert_eq!(fit_platt(&pairs(&[(1.0, true, 1), (1.0, false, 1)])), Err(FitError::WrongWay));
        assert_eq!(fit_platt(&[(1.0, true)]), Err(FitError::OneClass { positives: 1, negatives: 0 }));
        let infinite = [(1.0, true), (f64::INFINITY, false)];
        assert_eq!(fit_temperature(&infinite), Err(FitError::NotFinite { index: 1 }));
    }

    #[test]
    fn parameters_are_stored_and_read() {
        let scaling = Scaling::Platt { slope: 0.5, intercept: -1.25 };
        let json = serde_json::to_string(&scaling).unwrap();
        assert_eq!(json, r#"{"platt":{"slope":0.5,"intercept":-1.25}}"#);
        assert_eq!(serde_json::from_str::<Scaling>(&json).unwrap(), scaling);
        assert!((scaling.apply(2.5) - 0.5).abs() < 1e-12);
    }
}
