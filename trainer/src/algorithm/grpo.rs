//! The loss of a step: a surrogate, weighted for its sampler, with a KL penalty and an entropy bonus.
//!
//! Group-relative policy optimisation (Shao et al., 2024, arXiv 2402.03300, eq. 3), as a weighted sum over the tokens of
//! the whole step, computed a chunk of tokens at a time. Chunks may cut sequences.

use super::terms::Terms;
use super::{Cispo, Clip, Gspo, Importance, KlEstimator};
use crate::learner::{Chunk, Objective};
use tch::{Kind, Tensor, no_grad};

/// Per completion token of the step, `[tokens]` float32 each, sequence after sequence.
#[derive(Debug)]
pub struct GrpoBatch {
    /// Advantage of the token's sample.
    pub advantages: Tensor,
    /// Log-probabilities under the policy at the start of the step; `None` in the first pass, whose own they are.
    pub old: Option<Tensor>,
    /// Log-probabilities under what the tokens were sampled from.
    pub behaviour: Tensor,
    /// For [`Surrogate::Gspo`]: [`super::sequence_log_ratios`]; `None` in the first pass, where they are 0.
    pub sequence: Option<Tensor>,
    /// Log-probabilities under the reference policy, where there is a KL penalty.
    pub reference: Option<Tensor>,
    /// How much each token counts; see [`super::token_weights`].
    pub weights: Tensor,
}

/// What advantages are multiplied with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Surrogate {
    /// The ratio of each token, clipped.
    Clip(Clip),
    /// The ratio of each sequence, clipped.
    Gspo(Gspo),
    /// The log-probability, times a clipped ratio.
    Cispo(Cispo),
}

/// Settings of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// What advantages are multiplied with.
    pub surrogate: Surrogate,
    /// Correction for the sampler.
    pub importance: Option<Importance>,
    /// Weight of the KL penalty.
    pub kl: f64,
    /// What it is made of.
    pub estimator: KlEstimator,
    /// Weight of the entropy, in nats, that is taken from the loss.
    pub entropy: f64,
}

/// The objective of one pass over a batch.
#[derive(Debug)]
pub struct Grpo<'a> {
    batch: &'a GrpoBatch,
    settings: Loss,
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
    /// Of the KL estimator; 0 without a reference.
    pub kl: f64,
    /// Share of tokens at which clipping binds.
    pub clip_fraction: f64,
    /// Of the ratio π / π_old: of the token, or of its sequence.
    pub ratio: f64,
    /// Largest |ratio − 1|.
    pub max_ratio_gap: f64,
}

impl<'a> Grpo<'a> {
    /// An objective over `batch`.
    #[must_use]
    pub fn new(batch: &'a GrpoBatch, settings: Loss) -> Self {
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

    fn terms(&mut self, chunk: &Chunk<'_>, old: &Tensor) -> Terms {
        let pick = |all: &Tensor| all.index_select(0, chunk.places);
        let advantages = pick(&self.batch.advantages);
        let terms = match self.settings.surrogate {
            Surrogate::Clip(clip) => clip.terms(&(chunk.log_probs - old).exp(), &advantages),
            Surrogate::Gspo(gspo) => {
                gspo.terms(chunk.log_probs, self.batch.sequence.as_ref().map(pick).as_ref(), &advantages)
            }
            Surrogate::Cispo(cispo) => cispo.terms(chunk.log_probs, old, &advantages),
        };
        let gap = (&terms.ratios - 1.0).abs().max().double_value(&[]);
        self.sums.clipped += terms.clipped.sum(Kind::Double).double_value(&[]);
        self.sums.ratio += terms.ratios.sum(Kind::Double).double_value(&[]);
        self.sums.max_ratio_gap = self.sums.max_ratio_gap.max(gap);
        terms
    }
}

impl Objective for Grpo<'_> {
    fn loss(&mut self, chunk: &Chunk<'_>) -> Tensor {
        let pick = |all: &Tensor| all.index_select(0, chunk.places);
        let old = self.batch.old.as_ref().map_or_else(|| chunk.log_probs.detach(), pick);
        let mut losses = self.terms(chunk, &old).losses;
        if let Some(importance) = self.settings.importance {
            losses *= no_grad(|| importance.weights(&(old - pick(&self.batch.behaviour)).exp()));
        }
        if let Some(reference) = &self.batch.reference {
            let kl = self.settings.estimator.of(&(pick(reference) - chunk.log_probs));
            self.sums.kl += kl.sum(Kind::Double).double_value(&[]);
            losses += kl * self.settings.kl;
        }
        if self.settings.entropy != 0.0 {
            losses -= chunk.entropy * self.settings.entropy;
        }
        (losses * pick(&self.batch.weights)).sum(Kind::Float)
    }
}
