//! One policy update: scored groups to advantages to a batch to optimizer steps.

use crate::algorithm::{
    Estimator, GroupAdvantages, Grpo, GrpoBatch, Surrogate, group_advantages, normalise_batch, token_weights,
};
use crate::learner::{Learner, Sequence};
use crate::spec::GrpoSpec;
use sinternal_proto::{ScoreOutcome, Trace};
use tch::{Kind, Tensor};

/// A finished sample with what scoring came to.
#[derive(Debug, Clone)]
pub struct ScoredTrace {
    /// The sample.
    pub trace: Trace,
    /// Its reward, or why there is none.
    pub outcome: ScoreOutcome,
}

impl ScoredTrace {
    /// `None` where it could not be scored.
    #[must_use]
    pub fn reward(&self) -> Option<f64> {
        match &self.outcome {
            ScoreOutcome::Scored { reward, .. } => Some(f64::from(*reward)),
            ScoreOutcome::Masked { .. } => None,
        }
    }
}

/// What a step learns from.
#[derive(Debug, Default)]
pub struct Batch {
    /// Prompt and completion of every sample with an advantage.
    pub sequences: Vec<Sequence>,
    /// One for each sequence.
    pub advantages: Vec<f64>,
    /// Behaviour log-probabilities, sequence after sequence.
    pub behaviour: Vec<f32>,
    /// Groups without variance, dropped.
    pub zero_variance: usize,
    /// Groups with fewer than two scored samples, dropped.
    pub too_few_scored: usize,
    /// Samples that could not be scored.
    pub masked: usize,
    /// Advantages of every group's samples in order, for `samples.jsonl`.
    pub by_group: Vec<Vec<Option<f64>>>,
}

impl Batch {
    /// Turns each group's rewards into advantages and keeps what carries signal.
    #[must_use]
    pub fn assemble(groups: &[Vec<ScoredTrace>], min_std: f64, estimator: Estimator) -> Self {
        let mut batch = Self::default();
        for group in groups {
            let rewards: Vec<Option<f64>> = group.iter().map(ScoredTrace::reward).collect();
            batch.masked += rewards.iter().filter(|r| r.is_none()).count();
            let advantages = match group_advantages(&rewards, min_std, estimator) {
                GroupAdvantages::Advantages(advantages) => advantages,
                GroupAdvantages::ZeroVariance => {
                    batch.zero_variance += 1;
                    vec![None; group.len()]
                }
                GroupAdvantages::TooFewScored => {
                    batch.too_few_scored += 1;
                    vec![None; group.len()]
                }
            };
            batch.by_group.push(advantages);
        }
        if estimator == Estimator::Batch {
            normalise_batch(batch.by_group.iter_mut().flatten().flatten());
        }
        for (sample, advantage) in groups.iter().flatten().zip(batch.by_group.concat()) {
            if let Some(advantage) = advantage {
                batch.push(&sample.trace, advantage);
            }
        }
        batch
    }

    fn push(&mut self, trace: &Trace, advantage: f64) {
        self.sequences.push(Sequence::new(&trace.prompt_tokens, &trace.tokens));
        self.advantages.push(advantage);
        self.behaviour.extend(&trace.logprobs);
    }

    fn token_advantages(&self) -> Tensor {
        let per_token: Vec<f32> = self
            .sequences
            .iter()
            .zip(&self.advantages)
            .flat_map(|(s, &a)| std::iter::repeat_n(a as f32, s.completion_len()))
            .collect();
        Tensor::from_slice(&per_token)
    }
}

/// Figures of one update. Those of the first pass describe the batch as it was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UpdateStats {
    /// Loss of the first pass.
    pub loss: f64,
    /// Mean entropy in the first pass, nats a token.
    pub entropy: f64,
    /// Gradient norm of the first pass before clipping.
    pub grad_norm: f64,
    /// Mean k3 to the reference in the last pass.
    pub kl: f64,
    /// Largest |ratio − 1| in the first pass: 0 on-policy.
    pub first_ratio_gap: f64,
    /// Share of clipped tokens in the first pass: 0 on-policy.
    pub first_clip_fraction: f64,
    /// Share of clipped tokens in the last pass.
    pub clip_fraction: f64,
    /// Mean |behaviour − learner| log-probability of the sampled tokens, before the update.
    pub mismatch_mean: f64,
    /// The largest.
    pub mismatch_max: f64,
    /// Passes whose gradient was not finite; they changed nothing.
    pub skipped: u32,
}

/// Makes `spec.epochs` optimizer steps on a batch that is not empty; `limit` is the length limit of a completion.
#[must_use]
pub fn update(learner: &mut Learner, batch: &Batch, spec: &GrpoSpec, limit: u32, rate: f64) -> UpdateStats {
    let device = learner.lm().device();
    let lengths: Vec<usize> = batch.sequences.iter().map(Sequence::completion_len).collect();
    let weights = token_weights(&lengths, spec.aggregation, limit);
    let settings =
        Surrogate { clip_low: spec.clip, clip_high: spec.clip_high.unwrap_or(spec.clip), kl: spec.kl };
    let mut tensors = GrpoBatch {
        weights: Tensor::from_slice(&weights).to_device(device),
        advantages: batch.token_advantages().to_device(device),
        reference: learner.score_reference(&batch.sequences),
        old: None,
    };
    let mut stats = UpdateStats::default();
    for epoch in 0..spec.epochs {
        let mut objective = Grpo::new(&tensors, settings);
        let step = learner.step(&batch.sequences, &mut objective, rate, spec.max_grad_norm);
        let pass = objective.stats();
        if epoch == 0 {
            (stats.loss, stats.entropy, stats.grad_norm) = (step.loss, step.entropy, step.grad_norm);
            (stats.first_ratio_gap, stats.first_clip_fraction) = (pass.max_ratio_gap, pass.clip_fraction);
            let gap = (&step.log_probs - Tensor::from_slice(&batch.behaviour).to_device(device)).abs();
            stats.mismatch_mean = gap.mean(Kind::Double).double_value(&[]);
            stats.mismatch_max = gap.max().double_value(&[]);
            tensors.old = Some(step.log_probs);
        }
        (stats.kl, stats.clip_fraction) = (pass.kl, pass.clip_fraction);
        stats.skipped += u32::from(!step.grad_norm.is_finite());
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinternal_proto::{
        FinishReason, JobId, PolicyVersion, RewardComponents, SampleIndex, Segment, TaskId,
    };
    use std::time::Duration;

    fn sample(reward: Option<f32>) -> ScoredTrace {
        let trace = Trace {
            job: JobId("j".into()),
            task: TaskId(0),
            sample: SampleIndex(0),
            prompt_tokens: vec![1, 2],
            tokens: vec![3, 4, 5],
            logprobs: vec![-0.1, -0.2, -0.3],
            segments: vec![Segment { version: PolicyVersion(1), tokens: 3 }],
            text: String::new(),
            finish: FinishReason::Stop,
            generate: Duration::ZERO,
        };
        let outcome = match reward {
            None => ScoreOutcome::Masked { reason: "timeout".into() },
            Some(reward) => ScoreOutcome::Scored {
                reward,
                components: RewardComponents::default(),
                verdict: None,
                critique: String::new(),
            },
        };
        ScoredTrace { trace, outcome }
    }

    #[test]
    fn keeps_signal_and_counts_the_rest() {
        let groups = [
            vec![sample(Some(1.0)), sample(None), sample(Some(0.0))],
            vec![sample(Some(1.0)), sample(Some(1.0))],
            vec![sample(None), sample(Some(1.0))],
        ];
        let batch = Batch::assemble(&groups, 0.0, Estimator::Grpo);
        assert_eq!((batch.zero_variance, batch.too_few_scored, batch.masked), (1, 1, 2));
        assert_eq!(batch.sequences.len(), 2);
        assert_eq!(batch.behaviour, [-0.1, -0.2, -0.3, -0.1, -0.2, -0.3]);
        let tokens = Vec::<f32>::try_from(batch.token_advantages()).unwrap();
        assert!((tokens[0] - 1.0).abs() < 1e-5 && (tokens[5] + 1.0).abs() < 1e-5);
        assert_eq!(batch.by_group[0][1], None);
        assert_eq!(batch.by_group[1], [None, None]);
    }
}
