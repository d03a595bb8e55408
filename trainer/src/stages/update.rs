//! One policy update: a batch to optimizer steps.

use super::batch::Batch;
use crate::algorithm::{Grpo, GrpoBatch, Mismatch, Surrogate, mismatch, sequence_log_ratios, token_weights};
use crate::learner::{Learner, Sequence, computed_tokens};
use crate::spec::GrpoSpec;
use tch::Tensor;

/// Figures of one update. Those of the first pass describe the batch as it was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UpdateStats {
    /// Loss of the first pass.
    pub loss: f64,
    /// Mean entropy in the first pass, nats a token.
    pub entropy: f64,
    /// Gradient norm of the first pass before clipping.
    pub grad_norm: f64,
    /// Mean of the KL estimator in the last pass.
    pub kl: f64,
    /// Largest |ratio − 1| in the first pass: 0 on-policy.
    pub first_ratio_gap: f64,
    /// Share of clipped tokens in the first pass: 0 on-policy.
    pub first_clip_fraction: f64,
    /// Share of clipped tokens in the last pass.
    pub clip_fraction: f64,
    /// Between the sampler and the learner before the update.
    pub mismatch: Mismatch,
    /// Passes whose gradient was not finite; they changed nothing.
    pub skipped: u32,
    /// Floating-point operations, estimated: see [`Cost`].
    pub flop: f64,
}

/// An estimate of what passes cost: 2 operations for each parameter and token forward and 4 backward, of which a frozen weight
/// saves half. A prompt that neighbours share counts once; attention, and what is computed again to save memory, do not.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    /// Of a forward pass over the batch.
    forward: f64,
    /// Of a forward and a backward pass.
    train: f64,
}

impl Cost {
    fn of(parameters: f64, trains_weights: bool, sequences: &[Sequence]) -> Self {
        let forward = 2.0 * parameters * computed_tokens(sequences) as f64;
        Self { forward, train: forward * if trains_weights { 3.0 } else { 2.0 } }
    }
}

/// Makes `spec.epochs` optimizer steps on a batch that is not empty; `limit` is the length limit of a completion.
#[must_use]
pub fn update(learner: &mut Learner, batch: &Batch, spec: &GrpoSpec, limit: u32, rate: f64) -> UpdateStats {
    let (device, lengths, settings) = (learner.lm().device(), batch.lengths(), spec.loss());
    let tensor = |values: &[f32]| Tensor::from_slice(values).to_device(device);
    let mut tensors = GrpoBatch {
        weights: tensor(&token_weights(&lengths, spec.aggregation, limit)),
        advantages: tensor(&batch.token_advantages()),
        behaviour: tensor(&batch.behaviour),
        reference: learner.score_reference(&batch.sequences),
        sequence: None,
        old: None,
    };
    let parameters = learner.lm().parameters().flat().numel() as f64;
    let cost = Cost::of(parameters, learner.lm().trains_weights(), &batch.sequences);
    let reference = if tensors.reference.is_some() { cost.forward } else { 0.0 };
    let mut stats = UpdateStats { flop: reference, ..UpdateStats::default() };
    for epoch in 0..spec.epochs {
        // The ratio of a sequence takes all of its tokens, and a pass sees them in chunks.
        if let (Surrogate::Gspo(_), Some(old)) = (settings.surrogate, &tensors.old) {
            let now = learner.score(&batch.sequences);
            tensors.sequence = Some(sequence_log_ratios(&now, old, &lengths));
            stats.flop += cost.forward;
        }
        stats.flop += cost.train;
        let mut objective = Grpo::new(&tensors, settings);
        let step = learner.step(&batch.sequences, &mut objective, rate, spec.max_grad_norm);
        let pass = objective.stats();
        if epoch == 0 {
            (stats.loss, stats.entropy, stats.grad_norm) = (step.loss, step.entropy, step.grad_norm);
            (stats.first_ratio_gap, stats.first_clip_fraction) = (pass.max_ratio_gap, pass.clip_fraction);
            stats.mismatch = mismatch(&step.log_probs, &tensors.behaviour, settings.importance);
            tensors.old = Some(step.log_probs);
        }
        (stats.kl, stats.clip_fraction) = (pass.kl, pass.clip_fraction);
        stats.skipped += u32::from(!step.grad_norm.is_finite());
    }
    stats
}

#[cfg(test)]
mod tests;
