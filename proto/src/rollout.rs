//! Work for rollout workers.

use crate::check::{at_most, millis, present, require};
use crate::{Invalid, JobId, Message, ModelManifest, PolicyVersion, SampleIndex, TaskId, pb};
use std::collections::BTreeSet;
use std::time::Duration;

/// A published policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its version.
    pub version: PolicyVersion,
    /// Its files.
    pub manifest: ModelManifest,
}

/// How to sample. Random numbers are keyed by (seed, task, sample, position).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sampling {
    /// 0 is greedy; else logits are divided by it.
    pub temperature: f32,
    /// Nucleus, in (0, 1].
    pub top_p: f32,
    /// 0 keeps all tokens.
    pub top_k: u32,
    /// At least 1.
    pub max_new_tokens: u32,
    /// Root of the random numbers.
    pub seed: u64,
    /// Sample on past end-of-text (benchmarks).
    pub ignore_eos: bool,
    /// Tokens at least this likely, relative to the likeliest one, are kept; in [0, 1], 0 keeps all.
    #[serde(default)]
    pub min_p: f32,
    /// Texts that end a completion; the trace's text ends before them.
    #[serde(default)]
    pub stop: Vec<String>,
}

/// Several samples of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutTask {
    /// The job it belongs to.
    pub job: JobId,
    /// The group.
    pub task: TaskId,
    /// The chat, rendered by the worker with the model's own template.
    pub messages: Vec<Message>,
    /// Indices in the group that are still missing; not empty, no repeats.
    pub samples: Vec<SampleIndex>,
    /// How to sample.
    pub sampling: Sampling,
    /// The oldest policy that may start it.
    pub min_version: PolicyVersion,
    /// Time until the lease runs out unless a heartbeat extends it.
    pub lease: Duration,
}

/// Bounds on what a peer may send at once.
const MOST_TOKENS: usize = 1 << 20;
const MOST_MESSAGES: usize = 1024;
const MOST_SAMPLES: usize = 4096;
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 256;
/// A worker adds the lease to its clock, which must not overflow.
const LONGEST_LEASE: Duration = Duration::from_secs(7 * 24 * 3600);

impl From<Policy> for pb::Policy {
    fn from(p: Policy) -> Self {
        Self { version: p.version.0, manifest: Some(p.manifest.into()) }
    }
}

impl TryFrom<pb::Policy> for Policy {
    type Error = Invalid;

    fn try_from(p: pb::Policy) -> Result<Self, Invalid> {
        let manifest = present(p.manifest, "policy.manifest")?.try_into()?;
        Ok(Self { version: PolicyVersion(p.version), manifest })
    }
}

impl From<Sampling> for pb::Sampling {
    fn from(s: Sampling) -> Self {
        Self {
            temperature: s.temperature,
            top_p: s.top_p,
            top_k: s.top_k,
            max_new_tokens: s.max_new_tokens,
            seed: s.seed,
            ignore_eos: s.ignore_eos,
            min_p: s.min_p,
            stop: s.stop,
        }
    }
}

impl TryFrom<pb::Sampling> for Sampling {
    type Error = Invalid;

    fn try_from(s: pb::Sampling) -> Result<Self, Invalid> {
        let warm = s.temperature.is_finite() && s.temperature >= 0.0;
        require(warm, "sampling.temperature", "must be 0 or more")?;
        require(s.top_p > 0.0 && s.top_p <= 1.0, "sampling.top_p", "must lie in (0, 1]")?;
        require(s.max_new_tokens > 0, "sampling.max_new_tokens", "must be at least 1")?;
        at_most(s.max_new_tokens as usize, MOST_TOKENS, "sampling.max_new_tokens")?;
        require((0.0..=1.0).contains(&s.min_p), "sampling.min_p", "must lie in [0, 1]")?;
        check_stop(&s.stop)?;
        Ok(Self {
            temperature: s.temperature,
            top_p: s.top_p,
            top_k: s.top_k,
            max_new_tokens: s.max_new_tokens,
            seed: s.seed,
            ignore_eos: s.ignore_eos,
            min_p: s.min_p,
            stop: s.stop,
        })
    }
}

fn check_stop(stop: &[String]) -> Result<(), Invalid> {
    at_most(stop.len(), MOST_STOPS, "sampling.stop")?;
    require(stop.iter().all(|s| !s.is_empty()), "sampling.stop", "holds an empty text")?;
    stop.iter().try_for_each(|s| at_most(s.len(), LONGEST_STOP, "sampling.stop"))
}

impl From<RolloutTask> for pb::RolloutTask {
    fn from(t: RolloutTask) -> Self {
        Self {
            job_id: t.job.0,
            task_id: t.task.0,
            messages: t.messages.into_iter().map(Into::into).collect(),
            samples: t.samples.into_iter().map(|s| s.0).collect(),
            sampling: Some(t.sampling.into()),
            min_version: t.min_version.0,
            lease_ms: millis(t.lease),
        }
    }
}

impl TryFrom<pb::RolloutTask> for RolloutTask {
    type Error = Invalid;

    fn try_from(t: pb::RolloutTask) -> Result<Self, Invalid> {
        require(!t.job_id.is_empty(), "task.job_id", "is empty")?;
        require(!t.messages.is_empty(), "task.messages", "is empty")?;
        at_most(t.messages.len(), MOST_MESSAGES, "task.messages")?;
        require(!t.samples.is_empty(), "task.samples", "is empty")?;
        at_most(t.samples.len(), MOST_SAMPLES, "task.samples")?;
        let distinct: BTreeSet<u32> = t.samples.iter().copied().collect();
        require(distinct.len() == t.samples.len(), "task.samples", "repeats an index")?;
        let lease = Duration::from_millis(t.lease_ms);
        let sane = !lease.is_zero() && lease <= LONGEST_LEASE;
        require(sane, "task.lease_ms", "must be positive and a week at most")?;
        Ok(Self {
            job: JobId(t.job_id),
            task: TaskId(t.task_id),
            messages: t.messages.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            samples: t.samples.into_iter().map(SampleIndex).collect(),
            sampling: present(t.sampling, "task.sampling")?.try_into()?,
            min_version: PolicyVersion(t.min_version),
            lease,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> RolloutTask {
        RolloutTask {
            job: JobId("job".into()),
            task: TaskId(4),
            messages: vec![Message { role: "user".into(), content: "hello".into() }],
            samples: vec![SampleIndex(0), SampleIndex(2)],
            sampling: Sampling {
                temperature: 0.7,
                top_p: 0.9,
                top_k: 3,
                max_new_tokens: 5,
                seed: 6,
                ignore_eos: true,
                min_p: 0.1,
                stop: vec!["###".into()],
            },
            min_version: PolicyVersion(2),
            lease: Duration::from_millis(1500),
        }
    }

    #[test]
    fn tasks_round_trip() {
        assert_eq!(RolloutTask::try_from(pb::RolloutTask::from(task())).unwrap(), task());
        let manifest = ModelManifest::new(vec![crate::ModelFile {
            name: "config.json".into(),
            size_bytes: 1,
            sha256: crate::Sha256::of(b"x"),
        }])
        .unwrap();
        let policy = Policy { version: PolicyVersion(9), manifest };
        assert_eq!(Policy::try_from(pb::Policy::from(policy.clone())).unwrap(), policy);
    }

    #[test]
    fn malformed_tasks_name_their_field() {
        let field = |change: fn(&mut pb::RolloutTask)| {
            let mut wire = pb::RolloutTask::from(task());
            change(&mut wire);
            RolloutTask::try_from(wire).unwrap_err().field
        };
        assert_eq!(field(|t| t.samples.push(2)), "task.samples");
        assert_eq!(field(|t| t.samples.clear()), "task.samples");
        assert_eq!(field(|t| t.messages.clear()), "task.messages");
        assert_eq!(field(|t| t.messages[0].role = "tool".into()), "message.role");
        assert_eq!(field(|t| t.sampling = None), "task.sampling");
        assert_eq!(field(|t| t.lease_ms = 0), "task.lease_ms");
        assert_eq!(field(|t| t.lease_ms = 604_800_001), "task.lease_ms");
        assert_eq!(field(|t| t.samples = (0..4097).collect()), "task.samples");
        assert_eq!(field(|t| t.messages = vec![t.messages[0].clone(); 1025]), "task.messages");
        assert_eq!(field(|t| t.messages[0].content = "x".repeat((16 << 20) + 1)), "message.content");
        assert_eq!(field(|t| t.job_id.clear()), "task.job_id");
        assert_eq!(Policy::try_from(pb::Policy::default()).unwrap_err().field, "policy.manifest");
        let sampling = |change: fn(&mut pb::Sampling)| {
            let mut wire = pb::Sampling::from(task().sampling);
            change(&mut wire);
            Sampling::try_from(wire).unwrap_err().field
        };
        assert_eq!(sampling(|s| s.temperature = f32::NAN), "sampling.temperature");
        assert_eq!(sampling(|s| s.top_p = 0.0), "sampling.top_p");
        assert_eq!(sampling(|s| s.temperature = -0.1), "sampling.temperature");
        assert_eq!(sampling(|s| s.top_p = 1.01), "sampling.top_p");
        assert_eq!(sampling(|s| s.max_new_tokens = (1 << 20) + 1), "sampling.max_new_tokens");
        assert_eq!(sampling(|s| s.max_new_tokens = 0), "sampling.max_new_tokens");
        assert_eq!(sampling(|s| s.min_p = 1.01), "sampling.min_p");
        assert_eq!(sampling(|s| s.stop.push(String::new())), "sampling.stop");
        assert_eq!(sampling(|s| s.stop.push("x".repeat(257))), "sampling.stop");
        assert_eq!(sampling(|s| s.stop = vec!["x".into(); 17]), "sampling.stop");
    }
}
