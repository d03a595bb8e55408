//! The clipped surrogate: −min(r A, clip(r, 1 − low, 1 + high) A), with a second bound for negative advantages.

use super::terms::Terms;
use tch::{Tensor, no_grad};

/// PPO's clipped objective (Schulman et al., 2017, arXiv 1707.06347, eq. 7) with bounds of their own above and below
/// (DAPO, arXiv 2503.14476, section 3.1) and the dual clip (Ye et al., 2020, arXiv 1912.09729).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// Ratios are clipped to no less than 1 − this.
    pub low: f64,
    /// And to no more than 1 + this.
    pub high: f64,
    /// Where the advantage is negative, the loss is at most this times |A|, however large the ratio; more than 1.
    pub dual: Option<f64>,
}

impl Clip {
    /// Of `ratios` `[m]`, through which the gradient flows, and `advantages` `[m]`.
    pub(super) fn terms(&self, ratios: &Tensor, advantages: &Tensor) -> Terms {
        let plain = ratios * advantages;
        let bounded = ratios.clamp(1.0 - self.low, 1.0 + self.high) * advantages;
        let mut gains = plain.minimum(&bounded);
        let mut clipped = no_grad(|| bounded.lt_tensor(&plain));
        if let Some(most) = self.dual {
            let least = advantages * most;
            let binds = no_grad(|| advantages.lt(0.0).logical_and(&gains.lt_tensor(&least)));
            gains = least.where_self(&binds, &gains);
            clipped = clipped.logical_or(&binds);
        }
        Terms { losses: -gains, ratios: ratios.detach(), clipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    const PLAIN: Clip = Clip { low: 0.2, high: 0.3, dual: None };

    /// Losses, gradients by the log-ratio, and how many tokens are clipped.
    fn evaluate(clip: Clip, log_ratios: &[f32], advantages: &[f32]) -> (Vec<f32>, Vec<f32>, i64) {
        let log_ratios = Tensor::from_slice(log_ratios).set_requires_grad(true);
        let terms = clip.terms(&log_ratios.exp(), &Tensor::from_slice(advantages));
        terms.losses.sum(Kind::Float).backward();
        let vector = |t: &Tensor| Vec::<f32>::try_from(t).unwrap();
        let clipped = terms.clipped.sum(Kind::Int64).int64_value(&[]);
        (vector(&terms.losses.detach()), vector(&log_ratios.grad()), clipped)
    }

    fn close(a: &[f32], b: &[f64]) {
        assert!(
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6),
            "{a:?}"
        );
    }

    #[test]
    fn on_policy_the_loss_is_minus_the_advantage() {
        assert_eq!(evaluate(PLAIN, &[0.0, 0.0], &[1.0, -3.0]), (vec![-1.0, 3.0], vec![-1.0, 3.0], 0));
    }

    #[test]
    fn clipping_stops_the_gradient_on_the_winning_side_alone() {
        // Ratios e^0.5 = 1.6487 twice: clipped to 1.3 for a positive advantage, not for a negative one.
        let ratio = 0.5f64.exp();
        let (losses, gradients, clipped) = evaluate(PLAIN, &[0.5, 0.5], &[1.0, -1.0]);
        close(&losses, &[-1.3, ratio]);
        close(&gradients, &[0.0, ratio]);
        assert_eq!(clipped, 1);
    }

    #[test]
    fn each_side_has_its_own_bound() {
        // Ratio e^−0.5 = 0.6065 lies below 0.8, so it clips for a negative advantage; e^0.25 = 1.2840 within 1.3.
        let (losses, gradients, clipped) = evaluate(PLAIN, &[-0.5, 0.25], &[-1.0, 1.0]);
        close(&losses, &[0.8, -(0.25f64.exp())]);
        close(&gradients, &[0.0, -(0.25f64.exp())]);
        assert_eq!(clipped, 1);
    }

    #[test]
    fn the_dual_clip_bounds_the_loss_of_negative_advantages() {
        // Ratio e² = 7.389 and advantage −2: the loss would be 14.78, and is 3 · 2. A ratio of e = 2.718 stays below 3.
        let dual = Clip { dual: Some(3.0), ..PLAIN };
        let (losses, gradients, clipped) = evaluate(dual, &[2.0, 1.0, 2.0], &[-2.0, -2.0, 2.0]);
        close(&losses, &[6.0, 2.0 * 1f64.exp(), -2.6]);
        close(&gradients, &[0.0, 2.0 * 1f64.exp(), 0.0]);
        assert_eq!(clipped, 2);
    }
}
