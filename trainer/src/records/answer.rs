//! Collected answers: what a policy said to a prompt, with its reasoning split off.

use super::{Record, kind_word};
use serde::{Deserialize, Serialize};
use sinternal_proto::{PolicyVersion, PromptKind, SampleIndex, Sha256};

/// One sampled answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectedRecord {
    /// The prompt's id in its file.
    pub prompt: String,
    /// What the prompt asks for.
    pub kind: PromptKind,
    /// Specification S; empty where there is none.
    pub spec: String,
    /// The request x, its wrapper included.
    pub request: String,
    /// The wrapper's family (`plain`, `role-play` …); empty where it is not known.
    pub family: String,
    /// Its place among the prompt's samples.
    pub sample: SampleIndex,
    /// The reasoning z, without its markers.
    pub reasoning: String,
    /// The answer y, after the reasoning.
    pub answer: String,
    /// The reasoning came to its end marker.
    pub reasoning_closed: bool,
    /// It ended at its length limit.
    pub truncated: bool,
    /// Who sampled it.
    pub policy: PolicySource,
    /// What was sampled, for replay; left out where no stage replays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<ReplayTokens>,
}

/// The weights that sampled an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// Hash of the model folder.
    pub hash: Sha256,
    /// Its version in the job that sampled.
    pub version: PolicyVersion,
}

/// Token ids as they went through the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayTokens {
    /// The rendered prompt.
    pub prompt: Vec<u32>,
    /// The completion, end-of-text included.
    pub completion: Vec<u32>,
}

impl CollectedRecord {
    /// The id of a prompt's sample from a policy: a stage that goes on asks with it what is there already.
    ///
    /// The first 12 digits of the hash tell policies apart: 48 bits, where a study has a handful of them.
    #[must_use]
    pub fn id_of(prompt: &str, sample: SampleIndex, policy: &Sha256) -> String {
        format!("{prompt}#{sample}@{}", policy.0.get(..12).unwrap_or(&policy.0))
    }
}

impl Record for CollectedRecord {
    const STAGE: &'static str = "collected answers";

    fn id(&self) -> String {
        Self::id_of(&self.prompt, self.sample, &self.policy.hash)
    }

    fn class(&self) -> String {
        kind_word(self.kind).into()
    }

    fn check(&self) -> Result<(), String> {
        if self.prompt.is_empty() {
            return Err("prompt: is empty".into());
        }
        Sha256::parse(&self.policy.hash.0, "policy.hash").map(drop).map_err(|e| e.to_string())
    }
}
