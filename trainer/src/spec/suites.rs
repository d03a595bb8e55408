//! The `[suites]` section of a job file.

use super::{EvaluationSet, require};
use serde::{Deserialize, Serialize};
use sinternal_eval::{Limits, Take};

/// Public suites that the policy answers: before training, after each stage, and every few steps of GRPO. Attack success
/// is judged by the job's verifier, refusals by their wording, mathematics by the grader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuitesSpec {
    /// The suites, by their files as their authors publish them.
    pub sets: Vec<EvaluationSet>,
    /// Also after every so many steps of GRPO; 0 for not.
    #[serde(default)]
    pub every: u64,
    /// Answers an item.
    #[serde(default = "one")]
    pub samples: u32,
    /// Length limit of reasoning and answer, in tokens; that of `[sampling]` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
    /// Only the first items of each suite, this many of each kind (harmful, benign, mathematics).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Takes files with more or fewer rows than published.
    #[serde(default)]
    pub allow_partial: bool,
}

fn one() -> u32 {
    1
}

impl SuitesSpec {
    /// What is wanted of every suite.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { allow_partial: self.allow_partial, take: self.limit.map_or(Take::All, Take::First) }
    }

    pub(super) fn check(&self, staleness: u64) -> Result<(), String> {
        require(!self.sets.is_empty(), "suites.sets", "names no suite")?;
        let named = |set: &EvaluationSet| self.sets.iter().filter(|other| other.suite == set.suite).count();
        require(self.sets.iter().all(|set| named(set) == 1), "suites.sets", "names a suite twice")?;
        require((1..=4096).contains(&self.samples), "suites.samples", "must lie in 1–4096")?;
        require(self.max_new_tokens != Some(0), "suites.max_new_tokens", "must be at least 1")?;
        require(self.limit != Some(0), "suites.limit", "must be at least 1")?;
        let alone = self.every == 0 || staleness == 0;
        require(alone, "suites.every", "needs grpo.staleness = 0: workers sample for later steps meanwhile")
    }
}
