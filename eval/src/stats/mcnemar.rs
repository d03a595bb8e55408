//! McNemar's test of paired yes-or-no outcomes (Q. McNemar, Psychometrika 12, 1947).

use serde::{Deserialize, Serialize};

/// Fewest pairs that disagree for which the approximation by χ² is used.
const APPROXIMATE_FROM: u64 = 26;

/// How the p-value was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum McNemarMethod {
    /// Two-sided binomial test of the pairs that disagree; used for fewer than 26.
    Exact,
    /// χ² with one degree of freedom and continuity correction (A. L. Edwards, Psychometrika 13, 1948).
    ContinuityCorrected,
}

/// The pairs that disagree, and how likely as uneven a split is by chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McNemar {
    /// Pairs with a hit in the first alone.
    pub only_first: u64,
    /// Pairs with a hit in the second alone.
    pub only_second: u64,
    /// Two-sided.
    pub p: f64,
    /// How `p` was computed.
    pub method: McNemarMethod,
}

impl McNemar {
    /// The test of these counts of pairs that disagree.
    #[must_use]
    pub fn of(only_first: u64, only_second: u64) -> Self {
        let (p, method) = if only_first + only_second < APPROXIMATE_FROM {
            (exact(only_first, only_second), McNemarMethod::Exact)
        } else {
            (corrected(only_first, only_second), McNemarMethod::ContinuityCorrected)
        };
        Self { only_first, only_second, p, method }
    }
}

/// 2·P(X ≤ min) of X ~ Binomial(n, ½), at most 1; 1 where no pair disagrees.
fn exact(b: u64, c: u64) -> f64 {
    let n = b + c;
    let mut term = 0.5_f64.powi(n as i32); // C(n, 0)/2ⁿ
    let mut tail = 0.0;
    for i in 0..=b.min(c) {
        tail += term;
        term *= (n - i) as f64 / (i + 1) as f64;
    }
    (2.0 * tail).min(1.0)
}

/// P(χ²₁ ≥ (|b − c| − 1)²/(b + c)), which is erfc(√(χ²/2)).
fn corrected(b: u64, c: u64) -> f64 {
    let distance = (b.abs_diff(c) as f64 - 1.0).max(0.0);
    erfc((distance * distance / (b + c) as f64 / 2.0).sqrt())
}

/// The complementary error function for x ≥ 0, to about 1e-14 of its value: erf's series of positive terms below 2.5,
/// Laplace's continued fraction above (Abramowitz and Stegun 7.1.6 and 7.1.14).
fn erfc(x: f64) -> f64 {
    let density = (-x * x).exp() / std::f64::consts::PI.sqrt();
    if x < 2.5 {
        let terms = std::iter::successors(Some((0_u32, x)), |&(n, term)| {
            let next = term * 2.0 * x * x / f64::from(2 * n + 3);
            (next > 1e-17 * x).then_some((n + 1, next))
        });
        return 1.0 - 2.0 * density * terms.map(|(_, term)| term).sum::<f64>();
    }
    let fraction = (1..=120).rev().fold(x, |below, k| x + f64::from(k) / 2.0 / below);
    density / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_by_hand() {
        // 2·(C(10,0) + C(10,1))/2¹⁰ = 22/1024.
        let test = McNemar::of(1, 9);
        assert_eq!((test.p, test.method), (22.0 / 1024.0, McNemarMethod::Exact));
        assert_eq!(McNemar::of(9, 1).p, test.p);
        // 2·(1 + 5 + 10)/32 = 1, and never above.
        assert_eq!((McNemar::of(2, 3).p, McNemar::of(3, 3).p, McNemar::of(0, 0).p), (1.0, 1.0, 1.0));
        assert_eq!(McNemar::of(0, 25).p, 2.0 / f64::from(1 << 25));
    }

    #[test]
    fn corrected_by_hand() {
        // (|10 − 30| − 1)²/40 = 9.025; erfc(√4.5125) = 0.002663119 (Python's math.erfc).
        let test = McNemar::of(10, 30);
        assert_eq!(test.method, McNemarMethod::ContinuityCorrected);
        assert!((test.p - 0.002_663_119).abs() < 1e-9, "{}", test.p);
        assert_eq!(McNemar::of(13, 13).p, 1.0);
    }

    #[test]
    fn the_error_function_by_tables() {
        // Python's math.erfc.
        for (x, expected) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (2.0, 0.004_677_734_981_047_266),
            (2.5, 4.069_520_174_449_589e-4),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_034_8e-12),
        ] {
            let got = erfc(x);
            assert!((got / expected - 1.0).abs() < 1e-11, "{x}: {got} {expected}");
        }
    }
}
