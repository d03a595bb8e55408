//! Correction for tokens that another policy sampled: stale weights, or a sampler that rounds in its own way.
//!
//! The ratio is ρ = π_old / π_behaviour: π_old is the learner's policy at the start of the step, π_behaviour what the
//! token was drawn from. A token's loss is multiplied by its weight, which no gradient flows through. The penalty to the
//! reference and the entropy bonus are not weighted.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How the ratio becomes a weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Importance {
    /// min(ρ, cap): truncated importance sampling (Yao et al., 2025, "Your Efficient RL Framework Secretly Brings You
    /// Off-Policy RL Training"; Ionides, 2008).
    Truncate {
        /// At least 1.
        #[serde(default = "default_cap")]
        cap: f64,
    },
    /// ρ within [low, high], and 0 outside: the token teaches nothing (IcePop: Ling team, 2025; INTELLECT-3, arXiv
    /// 2512.16144, eq. 1).
    Mask {
        /// From 0 to 1.
        #[serde(default = "default_low")]
        low: f64,
        /// At least 1.
        #[serde(default = "default_high")]
        high: f64,
    },
}

fn default_cap() -> f64 {
    2.0
}

fn default_low() -> f64 {
    0.5
}

fn default_high() -> f64 {
    5.0
}

impl Importance {
    /// Weights of tokens with these ratios, `[m]`.
    pub(super) fn weights(self, ratios: &Tensor) -> Tensor {
        match self {
            Self::Truncate { cap } => ratios.clamp_max(cap),
            Self::Mask { .. } => ratios.where_scalarother(&self.binds(ratios).logical_not(), 0.0),
        }
    }

    /// Where the weight is not the ratio, `[m]`.
    fn binds(self, ratios: &Tensor) -> Tensor {
        match self {
            Self::Truncate { cap } => ratios.gt(cap),
            Self::Mask { low, high } => ratios.lt(low).logical_or(&ratios.gt(high)),
        }
    }
}

/// How far sampler and learner are apart over the tokens of a step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mismatch {
    /// Mean |log ρ|, nats.
    pub mean: f64,
    /// The largest.
    pub max: f64,
    /// Mean of ρ; 1 where both agree.
    pub ratio: f64,
    /// Share of tokens whose weight was truncated or masked.
    pub corrected: f64,
    /// Effective sample size of the ratios, (Σ ρ)² / Σ ρ², as a share of the tokens: 1 where all are equal.
    pub effective: f64,
}

/// Compares log-probabilities `[tokens]` under the old policy with those under which the tokens were sampled.
#[must_use]
pub fn mismatch(old: &Tensor, behaviour: &Tensor, importance: Option<Importance>) -> Mismatch {
    let log_ratios = old - behaviour;
    let (gaps, ratios) = (log_ratios.abs(), log_ratios.to_kind(Kind::Double).exp());
    let mean = |t: &Tensor| t.mean(Kind::Double).double_value(&[]);
    let ratio = mean(&ratios);
    Mismatch {
        mean: mean(&gaps),
        max: gaps.max().double_value(&[]),
        ratio,
        corrected: importance.map_or(0.0, |i| mean(&i.binds(&ratios))),
        effective: ratio.powi(2) / mean(&(&ratios * &ratios)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: Importance = Importance::Mask { low: 0.5, high: 5.0 };
    const TRUNCATE: Importance = Importance::Truncate { cap: 2.0 };

    #[test]
    fn weights_by_hand() {
        let of = |importance: Importance| {
            let ratios = Tensor::from_slice(&[0.25f32, 0.5, 1.0, 3.0, 6.0]);
            Vec::<f32>::try_from(importance.weights(&ratios)).unwrap()
        };
        assert_eq!(of(TRUNCATE), [0.25, 0.5, 1.0, 2.0, 2.0]);
        assert_eq!(of(MASK), [0.0, 0.5, 1.0, 3.0, 0.0]);
    }

    #[test]
    fn figures_by_hand() {
        // Ratios 1, 1, 4, 1/4: Σ = 6.25, Σ² = 18.0625, so 39.0625 / 18.0625 of 4 tokens.
        let old = Tensor::from_slice(&[0.0f32, 0.0, 0.0, -(4f32.ln())]);
        let behaviour = Tensor::from_slice(&[0.0f32, 0.0, -(4f32.ln()), 0.0]);
        let of = |importance| mismatch(&old, &behaviour, importance);
        let plain = of(None);
        assert!((plain.max - 4f64.ln()).abs() < 1e-6 && (plain.mean - 4f64.ln() / 2.0).abs() < 1e-6);
        assert!((plain.ratio - 6.25 / 4.0).abs() < 1e-6);
        assert!((plain.effective - 39.0625 / 18.0625 / 4.0).abs() < 1e-6);
        assert_eq!(
            (plain.corrected, of(Some(TRUNCATE)).corrected, of(Some(MASK)).corrected),
            (0.0, 0.25, 0.25)
        );
        assert_eq!(mismatch(&old, &old, Some(TRUNCATE)).effective, 1.0);
    }
}
