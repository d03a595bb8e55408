//! How far the policy is from a reference, token by token: three estimators of KL(π ‖ π_ref) from samples of π.
//!
//! Schulman, "Approximating KL Divergence" (2020), with d = log π_ref − log π. All three are used as a loss, through which
//! the gradient flows, and there they differ in more than their variance, for the samples' distribution depends on π too
//! (Tang and Munos, 2025, arXiv 2506.09477):
//!
//! | | value | gradient by log π | expected gradient, samples of π |
//! |---|---|---|---|
//! | k1 | −d: no bias, may be negative | 1 | 0: it holds nothing back |
//! | k2 | d² / 2: biased | −d | that of KL(π ‖ π_ref) |
//! | k3 | e^d − d − 1: no bias, never negative | 1 − e^d | that of KL(π_ref ‖ π) |

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Which estimator the penalty is made of; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KlEstimator {
    /// −d. As a loss it only adds noise: for comparison.
    K1,
    /// d² / 2.
    K2,
    /// e^d − d − 1 (GRPO, arXiv 2402.03300, eq. 4).
    #[default]
    K3,
}

impl KlEstimator {
    /// Of d = log π_ref − log π, `[m]`.
    pub(super) fn of(self, d: &Tensor) -> Tensor {
        match self {
            Self::K1 => -d,
            Self::K2 => d * d * 0.5,
            Self::K3 => d.exp() - d - 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// Value and gradient by log π.
    fn evaluate(estimator: KlEstimator, reference: f32, policy: f32) -> (f64, f64) {
        let log_probs = Tensor::from_slice(&[policy]).set_requires_grad(true);
        let k = estimator.of(&(Tensor::from_slice(&[reference]) - &log_probs)).sum(Kind::Float);
        k.backward();
        (k.double_value(&[]), log_probs.grad().double_value(&[0]))
    }

    #[test]
    fn by_hand() {
        // d = −1 − (−1.5) = 0.5.
        assert_eq!(evaluate(KlEstimator::K1, -1.0, -1.5), (-0.5, 1.0));
        assert_eq!(evaluate(KlEstimator::K2, -1.0, -1.5), (0.125, -0.5));
        let (value, gradient) = evaluate(KlEstimator::K3, -1.0, -1.5);
        assert!(
            (value - (0.5f64.exp() - 1.5)).abs() < 1e-6 && (gradient - (1.0 - 0.5f64.exp())).abs() < 1e-6
        );
        assert_eq!(evaluate(KlEstimator::K3, -2.0, -2.0), (0.0, 0.0));
    }

    /// The table of the module, exactly: expectations over a distribution of three tokens with logits θ.
    #[test]
    fn expected_gradients() {
        let logits = [0.3f32, -0.7, 1.1];
        let reference = Tensor::from_slice(&[0.9f32, 0.1, -0.4]).log_softmax(0, Kind::Float);
        let by_logits = |loss: &dyn Fn(&Tensor) -> Tensor| {
            let theta = Tensor::from_slice(&logits).set_requires_grad(true);
            loss(&theta.log_softmax(0, Kind::Float)).backward();
            Vec::<f32>::try_from(theta.grad()).unwrap()
        };
        let sampled = |k: KlEstimator| {
            by_logits(&|log: &Tensor| (log.detach().exp() * k.of(&(&reference - log))).sum(Kind::Float))
        };
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        let reverse = by_logits(&|log: &Tensor| (log.exp() * (log - &reference)).sum(Kind::Float));
        let forward = by_logits(&|log: &Tensor| (reference.exp() * (&reference - log)).sum(Kind::Float));
        assert!(close(&sampled(KlEstimator::K1), &[0.0; 3]));
        assert!(close(&sampled(KlEstimator::K2), &reverse));
        assert!(close(&sampled(KlEstimator::K3), &forward));
        assert!(!close(&reverse, &forward));
    }
}
