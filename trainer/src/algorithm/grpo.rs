//! The clipped surrogate with a KL penalty, as a weighted sum over the tokens of the whole step.
//!
//! PPO's clipped objective (Schulman et al., 2017, eq. 7) with group-relative advantages (Shao et al., 2024,
//! arXiv 2402.03300, eq. 3), bounds of their own above and below as in DAPO (arXiv 2503.14476, section 3.1), and the k3
//! estimator of the KL divergence (Schulman, 2020): `exp(d) − d − 1` with `d = log π_ref − log π`.

use crate::learner::{Chunk, Objective};
use tch::{Kind, Tensor, no_grad};

/// Per completion token of the step, `[tokens]` float32 each, sequence after sequence.
#[derive(Debug)]
pub struct GrpoBatch {
    /// Advantage of the token's sample.
    pub advantages: Tensor,
    /// Log-probabilities under the policy at the start of the step; `None` in the first pass, whose own they are.
    pub old: Option<Tensor>,
    /// Log-probabilities under the reference policy, where there is a KL penalty.
    pub reference: Option<Tensor>,
    /// How much each token counts; see [`super::token_weights`].
    pub weights: Tensor,
}

/// Settings of the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surrogate {
    /// Ratios are clipped to no less than 1 − this.
    pub clip_low: f64,
    /// And to no more than 1 + this.
    pub clip_high: f64,
    /// Weight of the KL penalty.
    pub kl: f64,
}

/// The objective of one pass over a batch.
#[derive(Debug)]
pub struct Grpo<'a> {
    batch: &'a GrpoBatch,
    settings: Surrogate,
    sums: Sums,
}

#[derive(Debug, Default)]
struct Sums {
    kl: f64,
    clipped: f64,
    ratio: f64,
    max_ratio_gap: f64,
}

/// Means over the tokens of one pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GrpoStats {
    /// Of k3 to the reference; 0 without one.
    pub kl: f64,
    /// Share of tokens at which clipping binds.
    pub clip_fraction: f64,
    /// Of the ratio π / π_old.
    pub ratio: f64,
    /// Largest |ratio − 1|.
    pub max_ratio_gap: f64,
}

impl<'a> Grpo<'a> {
    /// An objective over `batch`.
    #[must_use]
    pub fn new(batch: &'a GrpoBatch, settings: Surrogate) -> Self {
        Self { batch, settings, sums: Sums::default() }
    }

    /// Figures of the pass so far.
    #[must_use]
    pub fn stats(&self) -> GrpoStats {
        let n = self.batch.advantages.size()[0] as f64;
        GrpoStats {
            kl: self.sums.kl / n,
            clip_fraction: self.sums.clipped / n,
            ratio: self.sums.ratio / n,
            max_ratio_gap: self.sums.max_ratio_gap,
        }
    }
}

impl Objective for Grpo<'_> {
    fn loss(&mut self, chunk: &Chunk<'_>) -> Tensor {
        let pick = |all: &Tensor| all.index_select(0, chunk.places);
        let advantages = pick(&self.batch.advantages);
        let old = self.batch.old.as_ref().map_or_else(|| chunk.log_probs.detach(), pick);
        let ratio = (chunk.log_probs - old).exp();
        let plain = &ratio * &advantages;
        let Surrogate { clip_low, clip_high, kl } = self.settings;
        let clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * &advantages;
        let mut losses = -plain.minimum(&clipped);
        no_grad(|| {
            self.sums.clipped += clipped.lt_tensor(&plain).sum(Kind::Double).double_value(&[]);
            self.sums.ratio += ratio.sum(Kind::Double).double_value(&[]);
            self.sums.max_ratio_gap =
                self.sums.max_ratio_gap.max((&ratio - 1.0).abs().max().double_value(&[]));
        });
        if let Some(reference) = &self.batch.reference {
            let d = pick(reference) - chunk.log_probs;
            let k3 = d.exp() - &d - 1.0;
            self.sums.kl += k3.sum(Kind::Double).double_value(&[]);
            losses += k3 * kl;
        }
        (losses * pick(&self.batch.weights)).sum(Kind::Float)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(
        new: &[f32],
        old: &[f32],
        advantages: &[f32],
        reference: Option<&[f32]>,
    ) -> (f64, Vec<f32>, GrpoStats) {
        let batch = GrpoBatch {
            advantages: Tensor::from_slice(advantages),
            old: Some(Tensor::from_slice(old)),
            reference: reference.map(Tensor::from_slice),
            weights: Tensor::full(
                [new.len() as i64],
                1.0 / new.len() as f64,
                (Kind::Float, tch::Device::Cpu),
            ),
        };
        let mut objective = Grpo::new(&batch, Surrogate { clip_low: 0.2, clip_high: 0.3, kl: 0.1 });
        let log_probs = Tensor::from_slice(new).set_requires_grad(true);
        let places = Tensor::arange(new.len() as i64, (Kind::Int64, tch::Device::Cpu));
        let entropy = log_probs.zeros_like();
        let loss = objective.loss(&Chunk { log_probs: &log_probs, entropy: &entropy, places: &places });
        loss.backward();
        (loss.double_value(&[]), Vec::try_from(log_probs.grad()).unwrap(), objective.stats())
    }

    #[test]
    fn on_policy_the_ratio_is_one_and_nothing_clips() {
        let (loss, gradient, stats) = evaluate(&[-1.0, -2.0], &[-1.0, -2.0], &[1.0, -3.0], None);
        assert_eq!(loss, 1.0); // −(1 − 3) / 2
        assert_eq!(gradient, [-0.5, 1.5]);
        assert_eq!((stats.ratio, stats.clip_fraction, stats.max_ratio_gap), (1.0, 0.0, 0.0));
    }

    #[test]
    fn clipping_stops_the_gradient_on_the_winning_side_alone() {
        // Ratios e^0.5 = 1.6487 twice: clipped to 1.3 for a positive advantage, not for a negative one.
        let (loss, gradient, stats) = evaluate(&[-0.5, -0.5], &[-1.0, -1.0], &[1.0, -1.0], None);
        let ratio = 0.5f64.exp();
        assert!((loss - (-1.3 + ratio) / 2.0).abs() < 1e-6);
        assert_eq!(gradient[0], 0.0);
        assert!((f64::from(gradient[1]) - ratio / 2.0).abs() < 1e-6);
        assert_eq!(stats.clip_fraction, 0.5);
    }

    #[test]
    fn each_side_has_its_own_bound() {
        // Ratio e^−0.5 = 0.6065: below 0.8, so it clips for a negative advantage.
        let (loss, gradient, stats) = evaluate(&[-1.5], &[-1.0], &[-1.0], None);
        assert!((loss - 0.8).abs() < 1e-6 && gradient[0] == 0.0 && stats.clip_fraction == 1.0);
        // Ratio e^0.25 = 1.2840 lies within the upper bound of 1.3.
        let (loss, _, stats) = evaluate(&[-0.75], &[-1.0], &[1.0], None);
        assert!((loss + 0.25f64.exp()).abs() < 1e-6 && stats.clip_fraction == 0.0);
    }

    #[test]
    fn k3_by_hand() {
        // d = −1 − (−1.5) = 0.5: k3 = e^0.5 − 1.5; its gradient by log π is 1 − e^0.5.
        let (loss, gradient, stats) = evaluate(&[-1.5], &[-1.5], &[0.0], Some(&[-1.0]));
        let k3 = 0.5f64.exp() - 1.5;
        assert!((stats.kl - k3).abs() < 1e-6 && (loss - 0.1 * k3).abs() < 1e-6);
        assert!((f64::from(gradient[0]) - 0.1 * (1.0 - 0.5f64.exp())).abs() < 1e-6);
    }
}
