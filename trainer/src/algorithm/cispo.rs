//! CISPO: −sg(min(r, 1 + high)) A log π. No token loses its gradient; large ratios only stop growing.

use super::terms::Terms;
use tch::{Tensor, no_grad};

/// Clipped importance-sampling weight policy optimisation (MiniMax-M1, arXiv 2506.13585, eq. 4 and 5), without a lower bound,
/// as in the paper. sg is stop-gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cispo {
    /// Weights are clipped to no more than 1 + this.
    pub high: f64,
}

impl Cispo {
    /// Of `log_probs` `[m]`, through which the gradient flows, those under the old policy, and `advantages`.
    pub(super) fn terms(&self, log_probs: &Tensor, old: &Tensor, advantages: &Tensor) -> Terms {
        let (ratios, weights, clipped) = no_grad(|| {
            let ratios = (log_probs - old).exp();
            let most = 1.0 + self.high;
            let (weights, clipped) = (ratios.clamp_max(most), ratios.gt(most));
            (ratios, weights, clipped)
        });
        Terms { losses: -(weights * advantages * log_probs), ratios, clipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_clipped_weight_keeps_its_gradient() {
        // Ratios e^0.5 = 1.6487, clipped to 1.5, and e^−0.5 = 0.6065, kept.
        let log_probs = Tensor::from_slice(&[-0.5f32, -1.5]).set_requires_grad(true);
        let (old, advantages) = (Tensor::from_slice(&[-1.0f32, -1.0]), Tensor::from_slice(&[2.0f32, -1.0]));
        let terms = Cispo { high: 0.5 }.terms(&log_probs, &old, &advantages);
        let loss = terms.losses.sum(Kind::Float);
        loss.backward();
        let small = (-0.5f64).exp();
        // −1.5 · 2 · (−0.5) − 0.6065 · (−1) · (−1.5)
        assert!((loss.double_value(&[]) - (1.5 - 1.5 * small)).abs() < 1e-6);
        let gradient = Vec::<f32>::try_from(log_probs.grad()).unwrap();
        assert!((gradient[0] + 3.0).abs() < 1e-6 && (f64::from(gradient[1]) - small).abs() < 1e-6);
        assert_eq!(terms.clipped.sum(Kind::Int64).int64_value(&[]), 1);
    }
}
