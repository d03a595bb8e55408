//! Scored groups become the batch that a step learns from.

use crate::algorithm::{Estimator, GroupAdvantages, group_advantages, normalise_batch};
use crate::learner::Sequence;
use crate::spec::GrpoSpec;
use serde::{Deserialize, Serialize};
use sinternal_proto::{FinishReason, ScoreOutcome, Trace};
use std::iter::repeat_n;

/// A finished sample with what scoring came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

    /// Whether a length limit cut it off.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.trace.finish == FinishReason::Length
    }

    /// What the job's shaping adds to the reward; `limit` is the length limit of a completion.
    #[must_use]
    pub fn penalty(&self, spec: &GrpoSpec, limit: u32) -> f64 {
        spec.overlong.penalty(self.trace.tokens.len(), limit)
    }

    fn is_left_out(&self, spec: &GrpoSpec) -> bool {
        spec.overlong.mask && self.truncated()
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
    /// Groups with variance whose samples were all left out as overlong.
    pub overlong: usize,
    /// Samples that could not be scored.
    pub masked: usize,
    /// Samples with an advantage that were left out as overlong.
    pub overlong_masked: usize,
    /// Advantages of every group's samples in order, for `samples.jsonl`; `None` for what is not learned from.
    pub by_group: Vec<Vec<Option<f64>>>,
}

impl Batch {
    /// Turns each group's rewards into advantages and keeps what carries signal. `limit` is the length limit of a
    /// completion.
    #[must_use]
    pub fn assemble(groups: &[Vec<ScoredTrace>], spec: &GrpoSpec, limit: u32) -> Self {
        let mut batch = Self::default();
        for group in groups {
            batch.masked += group.iter().filter(|s| s.reward().is_none()).count();
            let advantages = batch.count(advantages(group, spec, limit), group.len());
            batch.by_group.push(advantages);
        }
        if spec.advantage == Estimator::Batch {
            normalise_batch(batch.by_group.iter_mut().flatten().flatten());
        }
        for (g, group) in groups.iter().enumerate() {
            batch.leave_out(g, group, spec);
            for (i, sample) in group.iter().enumerate() {
                if let Some(advantage) = batch.by_group[g][i] {
                    batch.push(&sample.trace, advantage);
                }
            }
        }
        batch
    }

    fn count(&mut self, advantages: GroupAdvantages, samples: usize) -> Vec<Option<f64>> {
        match advantages {
            GroupAdvantages::Advantages(advantages) => return advantages,
            GroupAdvantages::ZeroVariance => self.zero_variance += 1,
            GroupAdvantages::TooFewScored => self.too_few_scored += 1,
        }
        vec![None; samples]
    }

    /// Takes overlong samples out of the loss, after their rewards moved the advantages of the others.
    fn leave_out(&mut self, g: usize, group: &[ScoredTrace], spec: &GrpoSpec) {
        let own = &mut self.by_group[g];
        let before = own.iter().flatten().count();
        for (advantage, _) in own.iter_mut().zip(group).filter(|(_, s)| s.is_left_out(spec)) {
            *advantage = None;
        }
        let left = own.iter().flatten().count();
        self.overlong_masked += before - left;
        self.overlong += usize::from(before > 0 && left == 0);
    }

    fn push(&mut self, trace: &Trace, advantage: f64) {
        self.sequences.push(Sequence::new(&trace.prompt_tokens, &trace.tokens));
        self.advantages.push(advantage);
        self.behaviour.extend(&trace.logprobs);
    }

    /// Tokens of each sequence's completion.
    #[must_use]
    pub fn lengths(&self) -> Vec<usize> {
        self.sequences.iter().map(Sequence::completion_len).collect()
    }

    /// The advantage of each completion token, sequence after sequence.
    #[must_use]
    pub fn token_advantages(&self) -> Vec<f32> {
        let each = self.sequences.iter().zip(&self.advantages);
        each.flat_map(|(s, &a)| repeat_n(a as f32, s.completion_len())).collect()
    }
}

/// Advantages of one group over its shaped rewards.
fn advantages(group: &[ScoredTrace], spec: &GrpoSpec, limit: u32) -> GroupAdvantages {
    let shaped = |s: &ScoredTrace| s.reward().map(|reward| reward + s.penalty(spec, limit));
    let rewards: Vec<Option<f64>> = group.iter().map(shaped).collect();
    group_advantages(&rewards, spec.min_group_std, spec.advantage)
}

/// Whether a step learns anything from a group.
pub(super) fn has_signal(group: &[ScoredTrace], spec: &GrpoSpec, limit: u32) -> bool {
    match advantages(group, spec, limit) {
        GroupAdvantages::Advantages(advantages) => {
            advantages.iter().zip(group).any(|(a, s)| a.is_some() && !s.is_left_out(spec))
        }
        GroupAdvantages::ZeroVariance | GroupAdvantages::TooFewScored => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::algorithm::Overlong;
    use crate::spec::JobSpec;
    use sinternal_proto::{JobId, PolicyVersion, RewardComponents, SampleIndex, Segment, TaskId};
    use std::time::Duration;

    const LIMIT: u32 = 8;

    pub(in super::super) fn spec() -> GrpoSpec {
        GrpoSpec { min_group_std: 0.0, kl: 0.0, epochs: 1, ..JobSpec::default().grpo.unwrap() }
    }

    /// A sample of these tokens; it is cut off where it has as many as the limit.
    pub(in super::super) fn sample(reward: Option<f32>, tokens: &[u32]) -> ScoredTrace {
        let (n, cut) = (tokens.len(), tokens.len() >= LIMIT as usize);
        let trace = Trace {
            job: JobId("j".into()),
            task: TaskId(0),
            sample: SampleIndex(0),
            prompt_tokens: vec![1, 2],
            tokens: tokens.into(),
            logprobs: (1..=n).map(|i| i as f32 * -0.1).collect(),
            segments: vec![Segment { version: PolicyVersion(1), tokens: n as u32 }],
            text: String::new(),
            finish: if cut { FinishReason::Length } else { FinishReason::Stop },
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

    fn short(reward: Option<f32>) -> ScoredTrace {
        sample(reward, &[3, 4, 5])
    }

    #[test]
    fn keeps_signal_and_counts_the_rest() {
        let groups = [
            vec![short(Some(1.0)), short(None), short(Some(0.0))],
            vec![short(Some(1.0)), short(Some(1.0))],
            vec![short(None), short(Some(1.0))],
        ];
        let batch = Batch::assemble(&groups, &spec(), LIMIT);
        assert_eq!((batch.zero_variance, batch.too_few_scored, batch.masked), (1, 1, 2));
        assert_eq!((batch.overlong, batch.overlong_masked), (0, 0));
        assert_eq!(batch.sequences.len(), 2);
        assert_eq!(batch.behaviour, [-0.1, -0.2, -0.3, -0.1, -0.2, -0.3]);
        let tokens = batch.token_advantages();
        assert!((tokens[0] - 1.0).abs() < 1e-5 && (tokens[5] + 1.0).abs() < 1e-5);
        assert_eq!(batch.by_group[0][1], None);
        assert_eq!(batch.by_group[1], [None, None]);
        assert_eq!(groups.each_ref().map(|g| has_signal(g, &spec(), LIMIT)), [true, false, false]);
    }

    #[test]
    fn length_costs_reward_near_the_limit() {
        // The last four of eight tokens: six tokens cost a half, eight cost one.
        let spec = GrpoSpec {
            overlong: Overlong { buffer: 4, mask: false },
            advantage: Estimator::DrGrpo,
            ..spec()
        };
        let group = vec![short(Some(1.0)), sample(Some(1.0), &[3; 6]), sample(Some(0.0), &[3; 8])];
        let batch = Batch::assemble(&[group], &spec, LIMIT);
        // 1, 0.5 and −1: mean 1/6.
        let expected = [5.0 / 6.0, 1.0 / 3.0, -7.0 / 6.0];
        assert!(batch.advantages.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-12), "{batch:?}");
    }

    #[test]
    fn a_cut_off_sample_moves_the_mean_and_is_not_learned_from() {
        let mask = Overlong { buffer: 0, mask: true };
        let spec = GrpoSpec { overlong: mask, advantage: Estimator::DrGrpo, ..spec() };
        let cut = |reward| sample(Some(reward), &[3; 8]);
        let groups = [vec![short(Some(1.0)), short(Some(1.0)), cut(0.0)], vec![cut(1.0), cut(0.0)]];
        let batch = Batch::assemble(&groups, &spec, LIMIT);
        assert_eq!(batch.sequences.len(), 2);
        assert!(batch.advantages.iter().all(|a| (a - 1.0 / 3.0).abs() < 1e-12), "{:?}", batch.advantages);
        assert_eq!((batch.overlong_masked, batch.overlong, batch.zero_variance), (3, 1, 0));
        assert_eq!(batch.by_group[0][2], None);
        assert_eq!(groups.each_ref().map(|g| has_signal(g, &spec, LIMIT)), [true, false]);
    }
}
