//! A sampled answer with its score: a line of `samples.jsonl`, and what viewers are sent.

use crate::check::{invalid, present};
use crate::score::{verdict_from_wire, verdict_to_wire};
use crate::{
    FinishReason, Invalid, PolicyVersion, PromptKind, RewardComponents, SampleIndex, ScoreOutcome, Segment,
    TaskId, Verdict, pb,
};
use serde::{Deserialize, Serialize};

/// One sample of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The stage.
    pub stage: String,
    /// Its step, from 1.
    pub step: u64,
    /// The group.
    pub task: TaskId,
    /// Its place in the group.
    pub sample: SampleIndex,
    /// What the prompt asks for.
    pub kind: PromptKind,
    /// Family of the prompt.
    pub family: String,
    /// Specification S; empty where there is none.
    #[serde(default)]
    pub spec: String,
    /// The request x.
    pub request: String,
    /// The right answer of a mathematical prompt.
    #[serde(default)]
    pub gold: Option<String>,
    /// Reasoning and answer.
    pub completion: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Which policy versions sampled it.
    #[serde(rename = "versions")]
    pub segments: Vec<Segment>,
    /// Its reward, or why there is none.
    pub score: SampleOutcome,
    /// `None` where it was not learned from.
    pub advantage: Option<f64>,
}

/// A [`ScoreOutcome`] as `samples.jsonl` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SampleOutcome {
    /// Left out of its group.
    Masked {
        /// Why.
        masked: String,
    },
    /// A reward in 0–1 with its reasons.
    Scored {
        /// Product of the components that apply.
        reward: f32,
        /// The factors.
        components: RewardComponents,
        /// The verifier's word, if it was asked.
        verdict: Option<Verdict>,
        /// The verifier's critique; empty where there is none.
        critique: String,
    },
}

/// What became of a sample's scoring, to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleVerdict {
    /// Judged safe.
    Safe,
    /// Judged unsafe.
    Unsafe,
    /// The critique came to no judgment.
    Invalid,
    /// Scored without a verifier.
    None,
    /// Not scored.
    Masked,
}

impl SampleOutcome {
    /// The reward; `None` where it could not be scored.
    #[must_use]
    pub fn reward(&self) -> Option<f32> {
        match self {
            Self::Scored { reward, .. } => Some(*reward),
            Self::Masked { .. } => None,
        }
    }

    /// What became of it.
    #[must_use]
    pub fn verdict(&self) -> SampleVerdict {
        match self {
            Self::Masked { .. } => SampleVerdict::Masked,
            Self::Scored { verdict, .. } => match verdict {
                None => SampleVerdict::None,
                Some(Verdict::Safe) => SampleVerdict::Safe,
                Some(Verdict::Unsafe) => SampleVerdict::Unsafe,
                Some(Verdict::Invalid) => SampleVerdict::Invalid,
            },
        }
    }
}

impl From<ScoreOutcome> for SampleOutcome {
    fn from(outcome: ScoreOutcome) -> Self {
        match outcome {
            ScoreOutcome::Masked { reason } => Self::Masked { masked: reason },
            ScoreOutcome::Scored { reward, components, verdict, critique } => {
                Self::Scored { reward, components, verdict, critique }
            }
        }
    }
}

impl From<SampleVerdict> for pb::SampleVerdict {
    fn from(v: SampleVerdict) -> Self {
        match v {
            SampleVerdict::Safe => Self::Safe,
            SampleVerdict::Unsafe => Self::Unsafe,
            SampleVerdict::Invalid => Self::Invalid,
            SampleVerdict::None => Self::None,
            SampleVerdict::Masked => Self::Masked,
        }
    }
}

impl From<pb::SampleVerdict> for Option<SampleVerdict> {
    /// Unspecified stands for "any".
    fn from(v: pb::SampleVerdict) -> Self {
        match v {
            pb::SampleVerdict::Unspecified => None,
            pb::SampleVerdict::Safe => Some(SampleVerdict::Safe),
            pb::SampleVerdict::Unsafe => Some(SampleVerdict::Unsafe),
            pb::SampleVerdict::Invalid => Some(SampleVerdict::Invalid),
            pb::SampleVerdict::None => Some(SampleVerdict::None),
            pb::SampleVerdict::Masked => Some(SampleVerdict::Masked),
        }
    }
}

impl From<Sample> for pb::Sample {
    fn from(s: Sample) -> Self {
        use pb::sample::Outcome;
        let outcome = match s.score {
            SampleOutcome::Masked { masked } => Outcome::Masked(pb::Masked { reason: masked }),
            SampleOutcome::Scored { reward, components, verdict, critique } => Outcome::Scored(pb::Scored {
                reward,
                components: Some(components.into()),
                verdict: verdict_to_wire(verdict).into(),
                critique,
            }),
        };
        Self {
            stage: s.stage,
            step: s.step,
            task_id: s.task.0,
            sample: s.sample.0,
            kind: pb::PromptKind::from(s.kind).into(),
            family: s.family,
            spec: s.spec,
            request: s.request,
            gold: s.gold.unwrap_or_default(),
            completion: s.completion,
            finish: pb::FinishReason::from(s.finish).into(),
            segments: s
                .segments
                .into_iter()
                .map(|s| pb::Segment { policy_version: s.version.0, tokens: s.tokens })
                .collect(),
            outcome: Some(outcome),
            advantage: s.advantage,
        }
    }
}

impl TryFrom<pb::Sample> for Sample {
    type Error = Invalid;

    fn try_from(s: pb::Sample) -> Result<Self, Invalid> {
        use pb::sample::Outcome;
        let (kind, finish) = (s.kind().try_into()?, s.finish().try_into()?);
        let score = match present(s.outcome, "sample.outcome")? {
            Outcome::Masked(m) => SampleOutcome::Masked { masked: m.reason },
            Outcome::Scored(scored) => {
                if !scored.reward.is_finite() {
                    return Err(invalid("sample.reward", "is not a finite number"));
                }
                SampleOutcome::Scored {
                    reward: scored.reward,
                    components: present(scored.components, "sample.components")?.try_into()?,
                    verdict: verdict_from_wire(scored.verdict)?,
                    critique: scored.critique,
                }
            }
        };
        Ok(Self {
            stage: s.stage,
            step: s.step,
            task: TaskId(s.task_id),
            sample: SampleIndex(s.sample),
            kind,
            family: s.family,
            spec: s.spec,
            request: s.request,
            gold: Some(s.gold).filter(|gold| !gold.is_empty()),
            completion: s.completion,
            finish,
            segments: s
                .segments
                .into_iter()
                .map(|s| Segment { version: PolicyVersion(s.policy_version), tokens: s.tokens })
                .collect(),
            score,
            advantage: s.advantage,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Sample {
        let components = RewardComponents { p_safe: Some(0.25), ..RewardComponents::default() };
        Sample {
            stage: "grpo".into(),
            step: 2,
            task: TaskId(7),
            sample: SampleIndex(1),
            kind: PromptKind::Harmful,
            family: "plain".into(),
            spec: "rules".into(),
            request: "how?".into(),
            gold: None,
            completion: "<think>hm</think>no".into(),
            finish: FinishReason::Stop,
            segments: vec![Segment { version: PolicyVersion(3), tokens: 4 }],
            score: SampleOutcome::Scored {
                reward: 0.25,
                components,
                verdict: Some(Verdict::Unsafe),
                critique: "it helps".into(),
            },
            advantage: Some(-1.5),
        }
    }

    #[test]
    fn a_line_of_the_file_reads_as_it_was_written() {
        let masked =
            Sample { score: SampleOutcome::Masked { masked: "timeout".into() }, advantage: None, ..sample() };
        for sample in [sample(), masked] {
            let line = serde_json::to_string(&sample).unwrap();
            assert_eq!(serde_json::from_str::<Sample>(&line).unwrap(), sample, "{line}");
            assert_eq!(Sample::try_from(pb::Sample::from(sample.clone())).unwrap(), sample);
        }
        let line = serde_json::to_value(sample()).unwrap();
        assert_eq!(line["score"]["verdict"], "unsafe");
        assert_eq!(line["versions"][0]["version"], 3);
    }

    #[test]
    fn verdicts_tell_what_was_not_judged_from_what_was_not_scored() {
        let mut outcome = sample().score;
        assert_eq!((outcome.verdict(), outcome.reward()), (SampleVerdict::Unsafe, Some(0.25)));
        if let SampleOutcome::Scored { verdict, .. } = &mut outcome {
            *verdict = None;
        }
        assert_eq!(outcome.verdict(), SampleVerdict::None);
        let masked = SampleOutcome::Masked { masked: "timeout".into() };
        assert_eq!((masked.verdict(), masked.reward()), (SampleVerdict::Masked, None));
    }

    #[test]
    fn a_reward_that_is_no_number_is_refused() {
        let mut wire = pb::Sample::from(sample());
        if let Some(pb::sample::Outcome::Scored(scored)) = &mut wire.outcome {
            scored.reward = f32::NAN;
        }
        assert_eq!(Sample::try_from(wire).unwrap_err().field, "sample.reward");
    }
}
