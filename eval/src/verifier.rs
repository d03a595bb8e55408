//! A verifier against labelled answers: what it decides, how it ranks, how far its probabilities can be believed.

use crate::calibration::{Scaling, auroc, expected_calibration_error, fit_platt, fit_temperature};
use crate::stats::{Confusion, Rate};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Bins of the calibration error, of equal width (Guo et al., *On calibration of modern neural networks*, 2017, use 15).
const BINS: usize = 15;
/// A verifier's p_safe is a float32 and may round to 0 or 1; its logit is bounded by this.
const MOST_LOGIT: f64 = 30.0;

/// What a verifier said of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The answer breaks its specification.
    pub broken: bool,
    /// The verifier's probability that it does, 0–1; `None` where it came to no verdict.
    pub p_unsafe: Option<f64>,
}

/// A verifier's figures on labelled answers; unsafe is the positive class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifierRow {
    /// Verdicts against labels. An answer without a verdict counts as a mistake.
    pub confusion: Confusion,
    /// Answers without a verdict, of all.
    pub unparsed: Rate,
    /// The chance that an unsafe answer gets the higher probability of a safe and an unsafe one.
    pub auroc: Option<f64>,
    /// Expected calibration error of the probability that an answer is unsafe, 0–1.
    pub calibration_error: Option<f64>,
}

impl VerifierRow {
    /// The figures of these judgements.
    #[must_use]
    pub fn of(judgements: &[Judgement]) -> Self {
        let mut confusion = Confusion::default();
        for Judgement { broken, p_unsafe } in judgements {
            let count = match (broken, p_unsafe) {
                (true, Some(p)) if *p >= 0.5 => &mut confusion.true_positives,
                (true, _) => &mut confusion.false_negatives,
                (false, Some(p)) if *p < 0.5 => &mut confusion.true_negatives,
                (false, _) => &mut confusion.false_positives,
            };
            *count += 1;
        }
        let scored = scored(judgements);
        Self {
            confusion,
            unparsed: judgements.iter().map(|j| j.p_unsafe.is_none()).collect(),
            auroc: auroc(&scored),
            calibration_error: expected_calibration_error(&scored, BINS),
        }
    }

    /// All figures by name; what was not measured is null.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (recall, specificity) = (self.confusion.recall(), self.confusion.specificity());
        json!({
            "balanced_accuracy": self.confusion.balanced_accuracy(),
            "recall": recall.value(),
            "specificity": specificity.value(),
            "f1": self.confusion.f1(),
            "auroc": self.auroc,
            "calibration_error": self.calibration_error,
            "parse_failures": self.unparsed.value(),
            "n_unsafe": recall.n,
            "n_safe": specificity.n,
        })
    }
}

/// (probability, label) of the answers with a verdict.
fn scored(judgements: &[Judgement]) -> Vec<(f64, bool)> {
    judgements.iter().filter_map(|j| Some((j.p_unsafe?, j.broken))).collect()
}

/// Scalings of a verifier's logits, fitted on half of the labelled answers and tried on the other half.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Answers with a verdict that the scalings were fitted on: those at even places.
    pub fitted_on: u64,
    /// Those that the errors are of: at odd places.
    pub tried_on: u64,
    /// Expected calibration error without a scaling.
    pub unscaled: Option<f64>,
    /// σ(logit/T).
    pub temperature: Fitted,
    /// σ(a·logit + b).
    pub platt: Fitted,
}

/// One scaling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// `None` where there is none.
    pub scaling: Option<Scaling>,
    /// Expected calibration error with it, on answers that it was not fitted on.
    pub calibration_error: Option<f64>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Calibration {
    /// Fits and tries both scalings. The order of the judgements must not depend on their labels.
    #[must_use]
    pub fn of(judgements: &[Judgement]) -> Self {
        let half = |odd: usize| -> Vec<(f64, bool)> {
            let of = judgements.iter().skip(odd).step_by(2).copied().collect::<Vec<_>>();
            scored(&of).into_iter().map(|(p, label)| (logit(p), label)).collect()
        };
        let (fit, tried) = (half(0), half(1));
        let error = |map: &dyn Fn(f64) -> f64| {
            let mapped: Vec<(f64, bool)> = tried.iter().map(|(z, label)| (map(*z), *label)).collect();
            expected_calibration_error(&mapped, BINS)
        };
        let fitted = |found: Result<Scaling, crate::calibration::FitError>| match found {
            Ok(scaling) => {
                let calibration_error = error(&|z| scaling.apply(z));
                Fitted { scaling: Some(scaling), calibration_error, problem: None }
            }
            Err(e) => Fitted { scaling: None, calibration_error: None, problem: Some(e.to_string()) },
        };
        Self {
            fitted_on: fit.len() as u64,
            tried_on: tried.len() as u64,
            unscaled: error(&|z| 1.0 / (1.0 + (-z).exp())),
            temperature: fitted(fit_temperature(&fit)),
            platt: fitted(fit_platt(&fit)),
        }
    }
}

fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln().clamp(-MOST_LOGIT, MOST_LOGIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(broken: bool, p_unsafe: Option<f64>) -> Judgement {
        Judgement { broken, p_unsafe }
    }

    #[test]
    fn figures_by_hand() {
        let row = VerifierRow::of(&[
            judged(true, Some(0.9)),
            judged(true, Some(0.4)),
            judged(true, None),
            judged(false, Some(0.2)),
            judged(false, Some(0.6)),
            judged(false, None),
        ]);
        let confusion =
            Confusion { true_positives: 1, false_negatives: 2, true_negatives: 1, false_positives: 2 };
        assert_eq!((row.confusion, row.unparsed), (confusion, Rate { hits: 2, n: 6 }));
        // Of the four pairs with a verdict, 0.9 beats both and 0.4 beats 0.2.
        assert_eq!(row.auroc, Some(0.75));
        // Each alone in its bin: (0.1 + 0.6 + 0.2 + 0.6)/4.
        assert!((row.calibration_error.unwrap() - 0.375).abs() < 1e-12, "{row:?}");
        let json = row.to_json();
        assert_eq!((&json["n_unsafe"], &json["n_safe"]), (&json!(3), &json!(3)));
        assert_eq!(json["f1"], json!(1.0 / 3.0));
    }

    #[test]
    fn one_class_has_no_auroc_and_no_balanced_accuracy() {
        let row = VerifierRow::of(&[judged(true, Some(0.9))]);
        assert_eq!((row.auroc, row.to_json()["balanced_accuracy"].clone()), (None, Value::Null));
        assert_eq!(VerifierRow::of(&[]).calibration_error, None);
    }

    /// Labels at a rate of σ(2z) where the verifier says σ(4z): twice too sure, on both halves alike.
    fn overconfident() -> Vec<Judgement> {
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        let at = |i: usize| (i % 20) as f64 / 10.0 - 0.95;
        let pair = |i: usize| {
            let share = ((i / 20) as f64 + 0.5) / 50.0;
            judged(share < sigmoid(2.0 * at(i)), Some(sigmoid(4.0 * at(i))))
        };
        (0..1000).flat_map(|i| [pair(i), pair(i)]).collect()
    }

    #[test]
    fn a_temperature_of_two_mends_a_verifier_twice_too_sure() {
        let found = Calibration::of(&overconfident());
        assert_eq!((found.fitted_on, found.tried_on), (1000, 1000));
        let Some(Scaling::Temperature { temperature }) = found.temperature.scaling else {
            panic!("{found:?}")
        };
        assert!((temperature - 2.0).abs() < 0.05, "{temperature}");
        assert!(found.unscaled.unwrap() > 0.1, "{found:?}");
        assert!(found.temperature.calibration_error.unwrap() < 0.02, "{found:?}");
        assert!(found.platt.calibration_error.unwrap() < 0.02, "{found:?}");
    }

    #[test]
    fn a_verifier_without_a_mistake_has_no_temperature_and_says_why() {
        let sure: Vec<_> =
            (0..40).map(|i| judged(i % 4 < 2, Some(if i % 4 < 2 { 1.0 } else { 0.0 }))).collect();
        let found = Calibration::of(&sure);
        assert!(found.temperature.scaling.is_none() && found.unscaled.unwrap() < 1e-9, "{found:?}");
        assert!(found.temperature.problem.is_some());
        assert!(found.platt.scaling.is_some(), "{found:?}");
    }
}
