//! The mean of a few independent runs with Student's interval.

use super::Z;
use serde::{Deserialize, Serialize};

/// The 97.5 % quantiles of Student's t distribution with 1 to 30 degrees of freedom (any table of it; R's `qt(0.975, 1:30)`).
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A mean over runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Of the runs.
    pub mean: f64,
    /// Half of the 95 % interval of the mean, t·s/√n; `None` for a single run.
    pub half: Option<f64>,
    /// Runs.
    pub n: u64,
}

impl Spread {
    /// The mean of `values` and its interval, as if they were drawn from one normal distribution (Student, *The probable
    /// error of a mean*, Biometrika 6, 1908). `None` without values, or with one that is not finite.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let half = (n > 1).then(|| {
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
            T.get(n - 2).copied().unwrap_or(Z) * (variance / n as f64).sqrt()
        });
        Some(Self { mean, half, n: n as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_interval_by_hand() {
        // Mean 3, s² = 2.5, so 2.776 · √(2.5/5) = 1.96293.
        let of = Spread::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!((of.mean, of.n), (3.0, 5));
        assert!((of.half.unwrap() - 1.962_93).abs() < 1e-4, "{of:?}");
        // Two runs: 12.706 · √(2/2).
        assert!((Spread::of(&[1.0, 3.0]).unwrap().half.unwrap() - 12.706).abs() < 1e-9);
        // Beyond the table: z.
        let many = Spread::of(&[0.0, 1.0].repeat(20)).unwrap();
        let s = (40.0 * 0.25 / 39.0_f64).sqrt();
        assert!((many.half.unwrap() - Z * s / 40f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn one_run_has_no_interval_and_none_no_mean() {
        assert_eq!(Spread::of(&[0.25]), Some(Spread { mean: 0.25, half: None, n: 1 }));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
    }
}
