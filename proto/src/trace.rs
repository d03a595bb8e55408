//! What a rollout worker hands back, and how that is answered.

use crate::check::{MOST_TEXT_BYTES, at_most, invalid, millis, require};
use crate::{Invalid, JobId, PolicyVersion, SampleIndex, TaskId, pb};
use std::time::Duration;

/// A run of tokens sampled by one policy version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Segment {
    /// Who sampled them.
    pub version: PolicyVersion,
    /// How many; at least 1.
    pub tokens: u32,
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// An end-of-text token, which is the last token.
    Stop,
    /// `max_new_tokens` or the context length.
    Length,
}

/// One finished sample.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Trace {
    /// The job it belongs to.
    pub job: JobId,
    /// Its group.
    pub task: TaskId,
    /// Its place in the group.
    pub sample: SampleIndex,
    /// The rendered prompt; not empty.
    pub prompt_tokens: Vec<u32>,
    /// The completion, end-of-text included; not empty.
    pub tokens: Vec<u32>,
    /// Behaviour log-probability of each of `tokens` under the distribution it was sampled from; finite, ≤ 0.
    pub logprobs: Vec<f32>,
    /// Non-decreasing versions that cover `tokens`.
    pub segments: Vec<Segment>,
    /// The completion as text, without its end-of-text token.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// From its admission to its last token.
    pub generate: Duration,
}

/// What became of a delivered trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceOutcome {
    /// New, and kept.
    Accepted,
    /// Delivered before.
    Duplicate,
    /// Of a task that is finished, cancelled or not known.
    Unknown,
    /// Malformed; says which field.
    Rejected(String),
}

/// Longest prompt or completion that a peer may send.
const MOST_TOKENS: usize = 1 << 20;

impl From<FinishReason> for pb::FinishReason {
    fn from(f: FinishReason) -> Self {
        match f {
            FinishReason::Stop => Self::Stop,
            FinishReason::Length => Self::Length,
        }
    }
}

impl TryFrom<pb::FinishReason> for FinishReason {
    type Error = Invalid;

    fn try_from(f: pb::FinishReason) -> Result<Self, Invalid> {
        match f {
            pb::FinishReason::Stop => Ok(Self::Stop),
            pb::FinishReason::Length => Ok(Self::Length),
            pb::FinishReason::Unspecified => Err(invalid("trace.finish", "is not specified")),
        }
    }
}

impl From<Trace> for pb::Trace {
    fn from(t: Trace) -> Self {
        let segment = |s: Segment| pb::Segment { policy_version: s.version.0, tokens: s.tokens };
        Self {
            job_id: t.job.0,
            task_id: t.task.0,
            sample: t.sample.0,
            prompt_tokens: t.prompt_tokens,
            tokens: t.tokens,
            logprobs: t.logprobs,
            segments: t.segments.into_iter().map(segment).collect(),
            text: t.text,
            finish: pb::FinishReason::from(t.finish).into(),
            generate_ms: millis(t.generate),
        }
    }
}

impl TryFrom<pb::Trace> for Trace {
    type Error = Invalid;

    fn try_from(t: pb::Trace) -> Result<Self, Invalid> {
        let finish = t.finish().try_into()?;
        require(!t.job_id.is_empty(), "trace.job_id", "is empty")?;
        require(!t.prompt_tokens.is_empty(), "trace.prompt_tokens", "is empty")?;
        at_most(t.prompt_tokens.len(), MOST_TOKENS, "trace.prompt_tokens")?;
        require(!t.tokens.is_empty(), "trace.tokens", "is empty")?;
        at_most(t.tokens.len(), MOST_TOKENS, "trace.tokens")?;
        at_most(t.text.len(), MOST_TEXT_BYTES, "trace.text")?;
        if t.logprobs.len() != t.tokens.len() {
            let problem = format!("has {} values for {} tokens", t.logprobs.len(), t.tokens.len());
            return Err(invalid("trace.logprobs", problem));
        }
        let fine = t.logprobs.iter().all(|l| l.is_finite() && *l <= 0.0);
        require(fine, "trace.logprobs", "holds a value that is not finite or above 0")?;
        Ok(Self {
            job: JobId(t.job_id),
            task: TaskId(t.task_id),
            sample: SampleIndex(t.sample),
            segments: segments(&t.segments, t.tokens.len())?,
            prompt_tokens: t.prompt_tokens,
            tokens: t.tokens,
            logprobs: t.logprobs,
            text: t.text,
            finish,
            generate: Duration::from_millis(t.generate_ms),
        })
    }
}

fn segments(wire: &[pb::Segment], tokens: usize) -> Result<Vec<Segment>, Invalid> {
    let covered: u64 = wire.iter().map(|s| u64::from(s.tokens)).sum();
    require(covered == tokens as u64, "trace.segments", "do not cover the tokens")?;
    require(wire.iter().all(|s| s.tokens > 0), "trace.segments", "one is empty")?;
    let ordered = wire.windows(2).all(|w| w[0].policy_version <= w[1].policy_version);
    require(ordered, "trace.segments", "go back to an older policy")?;
    Ok(wire.iter().map(|s| Segment { version: PolicyVersion(s.policy_version), tokens: s.tokens }).collect())
}

impl From<TraceOutcome> for (pb::TraceOutcome, String) {
    fn from(outcome: TraceOutcome) -> Self {
        match outcome {
            TraceOutcome::Accepted => (pb::TraceOutcome::Accepted, String::new()),
            TraceOutcome::Duplicate => (pb::TraceOutcome::Duplicate, String::new()),
            TraceOutcome::Unknown => (pb::TraceOutcome::Unknown, String::new()),
            TraceOutcome::Rejected(detail) => (pb::TraceOutcome::Rejected, detail),
        }
    }
}

impl TraceOutcome {
    /// The acknowledgement of the delivery with this sequence number.
    #[must_use]
    pub fn ack(self, sequence: u64) -> pb::TraceAck {
        let (outcome, detail) = self.into();
        pb::TraceAck { sequence, outcome: outcome.into(), detail }
    }
}

impl TryFrom<pb::TraceAck> for (u64, TraceOutcome) {
    type Error = Invalid;

    fn try_from(ack: pb::TraceAck) -> Result<Self, Invalid> {
        let outcome = match ack.outcome() {
            pb::TraceOutcome::Accepted => TraceOutcome::Accepted,
            pb::TraceOutcome::Duplicate => TraceOutcome::Duplicate,
            pb::TraceOutcome::Unknown => TraceOutcome::Unknown,
            pb::TraceOutcome::Rejected => TraceOutcome::Rejected(ack.detail),
            pb::TraceOutcome::Unspecified => return Err(invalid("ack.outcome", "is not specified")),
        };
        Ok((ack.sequence, outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn trace() -> impl Strategy<Value = Trace> {
        (
            proptest::collection::vec((any::<u32>(), -50.0f32..=0.0), 1..20),
            any::<u32>(),
            any::<bool>(),
            ".{0,20}",
        )
            .prop_map(|(tokens, sample, stop, text)| Trace {
                job: JobId("job".into()),
                task: TaskId(u64::from(sample) + 7),
                sample: SampleIndex(sample),
                prompt_tokens: vec![1, 2],
                segments: vec![Segment { version: PolicyVersion(3), tokens: tokens.len() as u32 }],
                logprobs: tokens.iter().map(|t| t.1).collect(),
                tokens: tokens.into_iter().map(|t| t.0).collect(),
                text,
                finish: if stop { FinishReason::Stop } else { FinishReason::Length },
                generate: Duration::from_millis(12),
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn traces_round_trip(trace in trace()) {
            prop_assert_eq!(Trace::try_from(pb::Trace::from(trace.clone())).unwrap(), trace);
        }
    }

    #[test]
    fn acknowledgements_round_trip() {
        for outcome in [
            TraceOutcome::Accepted,
            TraceOutcome::Duplicate,
            TraceOutcome::Unknown,
            TraceOutcome::Rejected("x".into()),
        ] {
            assert_eq!(<(u64, TraceOutcome)>::try_from(outcome.clone().ack(8)).unwrap(), (8, outcome));
        }
    }

    #[test]
    fn an_unknown_acknowledgement_is_refused() {
        for outcome in [0, 99] {
            let wire = pb::TraceAck { sequence: 1, outcome, detail: String::new() };
            assert_eq!(<(u64, TraceOutcome)>::try_from(wire).unwrap_err().field, "ack.outcome");
        }
    }

    #[test]
    fn malformed_traces_name_their_field() {
        let good = || {
            let segment = |version, tokens| pb::Segment { policy_version: version, tokens };
            pb::Trace {
                job_id: "j".into(),
                prompt_tokens: vec![1],
                tokens: vec![2, 3],
                logprobs: vec![-1.0, 0.0],
                segments: vec![segment(1, 1), segment(2, 1)],
                finish: pb::FinishReason::Stop.into(),
                ..pb::Trace::default()
            }
        };
        assert!(Trace::try_from(good()).is_ok());
        let field = |change: fn(&mut pb::Trace)| {
            let mut wire = good();
            change(&mut wire);
            Trace::try_from(wire).unwrap_err().field
        };
        assert_eq!(field(|t| t.logprobs[0] = 0.5), "trace.logprobs");
        assert_eq!(field(|t| t.logprobs[0] = f32::NEG_INFINITY), "trace.logprobs");
        assert_eq!(field(|t| t.logprobs.truncate(1)), "trace.logprobs");
        assert_eq!(field(|t| t.tokens.clear()), "trace.tokens");
        assert_eq!(field(|t| t.prompt_tokens.clear()), "trace.prompt_tokens");
        assert_eq!(field(|t| t.segments[0].tokens = 2), "trace.segments");
        assert_eq!(field(|t| t.segments[1].policy_version = 0), "trace.segments");
        assert_eq!(field(|t| t.segments[0].tokens = 0), "trace.segments");
        assert_eq!(
            field(|t| t.segments.push(pb::Segment { policy_version: 2, tokens: 0 })),
            "trace.segments"
        );
        assert_eq!(field(|t| t.job_id.clear()), "trace.job_id");
        assert_eq!(field(|t| t.tokens = vec![1; (1 << 20) + 1]), "trace.tokens");
        assert_eq!(field(|t| t.prompt_tokens = vec![1; (1 << 20) + 1]), "trace.prompt_tokens");
        assert_eq!(field(|t| t.text = "x".repeat((16 << 20) + 1)), "trace.text");
        assert_eq!(field(|t| t.finish = 0), "trace.finish");
        assert_eq!(field(|t| t.finish = 77), "trace.finish");
    }
}
