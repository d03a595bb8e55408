//! Rates with their uncertainty, and the few other statistics that evaluations quote.

mod bootstrap;
mod mcnemar;
mod pass;
mod spread;

pub use bootstrap::{Resampling, bootstrap_interval};
pub use mcnemar::{McNemar, McNemarMethod};
pub use pass::pass_at_k;
pub use spread::Spread;

use serde::{Deserialize, Serialize};
use std::fmt;

/// The 97.5 % quantile of the standard normal distribution, so that intervals hold 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// How often something held. `hits` is at most `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Times that it held.
    pub hits: u64,
    /// Times that it was looked at.
    pub n: u64,
}

impl Rate {
    /// The rate in 0–1; `None` where nothing was looked at.
    #[must_use]
    pub fn value(self) -> Option<f64> {
        (self.n > 0).then(|| self.hits as f64 / self.n as f64)
    }

    /// Wilson's 95 % score interval, in 0–1; all of it where nothing was looked at
    /// (E. B. Wilson, *Probable inference*, JASA 22, 1927).
    #[must_use]
    pub fn interval(self) -> (f64, f64) {
        let Some(p) = self.value() else { return (0.0, 1.0) };
        let n = self.n as f64;
        let shrink = 1.0 + Z * Z / n;
        let centre = (p + Z * Z / (2.0 * n)) / shrink;
        let half = Z / shrink * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        // At 0 and n hits the ends are 0 and 1 exactly; rounding would miss them by an ulp.
        let low = if self.hits == 0 { 0.0 } else { centre - half };
        let high = if self.hits == self.n { 1.0 } else { centre + half };
        (low, high)
    }
}

impl FromIterator<bool> for Rate {
    fn from_iter<I: IntoIterator<Item = bool>>(outcomes: I) -> Self {
        outcomes
            .into_iter()
            .fold(Self::default(), |rate, hit| Self { hits: rate.hits + u64::from(hit), n: rate.n + 1 })
    }
}

/// In percent: `3.1 % [2.0, 4.7]`; `–` where nothing was looked at.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(p) = self.value() else { return f.pad("–") };
        let (low, high) = self.interval();
        f.pad(&format!("{:.1} % [{:.1}, {:.1}]", 100.0 * p, 100.0 * low, 100.0 * high))
    }
}

/// Decisions of a binary classifier against labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    /// Positives called positive.
    pub true_positives: u64,
    /// Negatives called negative.
    pub true_negatives: u64,
    /// Negatives called positive.
    pub false_positives: u64,
    /// Positives called negative.
    pub false_negatives: u64,
}

impl Confusion {
    /// Share of the positives that were found.
    #[must_use]
    pub fn recall(self) -> Rate {
        Rate { hits: self.true_positives, n: self.true_positives + self.false_negatives }
    }

    /// Share of the negatives that were left alone.
    #[must_use]
    pub fn specificity(self) -> Rate {
        Rate { hits: self.true_negatives, n: self.true_negatives + self.false_positives }
    }

    /// Mean of recall and specificity; `None` where a class is empty.
    #[must_use]
    pub fn balanced_accuracy(self) -> Option<f64> {
        Some(f64::midpoint(self.recall().value()?, self.specificity().value()?))
    }

    /// Harmonic mean of precision and recall, 2·TP/(2·TP + FP + FN); `None` where there is nothing positive.
    #[must_use]
    pub fn f1(self) -> Option<f64> {
        let wrong = self.false_positives + self.false_negatives;
        let all = 2 * self.true_positives + wrong;
        (all > 0).then(|| 2.0 * self.true_positives as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_interval(hits: u64, n: u64, low: f64, high: f64) {
        let got = Rate { hits, n }.interval();
        assert!((got.0 - low).abs() < 5e-5 && (got.1 - high).abs() < 5e-5, "{hits}/{n}: {got:?}");
    }

    #[test]
    fn wilson_by_hand() {
        // z² = 3.841459. 8/10: (0.8 + 0.192073) / 1.384146 ± 1.959964 / 1.384146 · √(0.016 + 0.00960365).
        assert_interval(8, 10, 0.4902, 0.9433);
        // 1/2 is symmetric: 0.5 ± 1.959964 / 2.920730 · √(0.125 + 0.240091).
        assert_interval(1, 2, 0.0945, 0.9055);
        // At the ends: z² / (n + z²) = 3.841459 / 503.841459.
        assert_interval(0, 500, 0.0, 0.007624);
        assert_interval(500, 500, 1.0 - 0.007624, 1.0);
        assert_eq!(Rate { hits: 0, n: 500 }.interval().0, 0.0);
        assert_eq!(Rate { hits: 500, n: 500 }.interval().1, 1.0);
    }

    #[test]
    fn nothing_looked_at_is_no_rate() {
        let none = Rate::default();
        assert_eq!((none.value(), none.interval()), (None, (0.0, 1.0)));
        assert_eq!(none.to_string(), "–");
    }

    #[test]
    fn rates_read_in_percent_and_pad() {
        // 16/512: (0.03125 + 0.00375143) / 1.00750285 ± 1.945368 · √(0.0000591278 + 0.00000366351).
        assert_eq!(Rate { hits: 16, n: 512 }.to_string(), "3.1 % [1.9, 5.0]");
        assert_eq!(format!("{:>19}|", Rate { hits: 16, n: 512 }), "   3.1 % [1.9, 5.0]|");
        assert_eq!(Rate { hits: 2, n: 2 }.to_string(), "100.0 % [34.2, 100.0]");
    }

    #[test]
    fn outcomes_are_counted() {
        let rate: Rate = [true, false, true, true].into_iter().collect();
        assert_eq!((rate, rate.value()), (Rate { hits: 3, n: 4 }, Some(0.75)));
    }

    #[test]
    fn balanced_accuracy_is_the_mean_of_both_recalls() {
        let confusion =
            Confusion { true_positives: 9, true_negatives: 60, false_positives: 40, false_negatives: 1 };
        assert_eq!(confusion.recall(), Rate { hits: 9, n: 10 });
        assert_eq!(confusion.specificity(), Rate { hits: 60, n: 100 });
        assert!((confusion.balanced_accuracy().unwrap() - 0.75).abs() < 1e-12);
        assert_eq!(Confusion { true_positives: 3, ..Confusion::default() }.balanced_accuracy(), None);
        // Precision 9/49, recall 9/10: 2 · 9/(18 + 41).
        assert!((confusion.f1().unwrap() - 18.0 / 59.0).abs() < 1e-12);
        assert_eq!(Confusion { true_negatives: 3, ..Confusion::default() }.f1(), None);
    }
}
