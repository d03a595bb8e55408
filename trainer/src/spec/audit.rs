//! The `[audit]` section of a job file.

use super::{positive, require};
use serde::{Deserialize, Serialize};
use sinternal_proto::GuardFamily;
use std::path::PathBuf;

/// Checks, while GRPO runs, that its reward is still to be believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSpec {
    /// Steps between two audits.
    pub every: u64,
    /// Answers of a step to safety prompts that the second judge sees, at most.
    pub answers: usize,
    /// The second judge is the fictional world's oracle.
    pub oracle: bool,
    /// The second judge is this model folder, relative to the job file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The folder holds a guard model of this family; without it, a model that verifies as the policy does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardFamily>,
    /// The second judge is this one of the reward service's `[reward.judges]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<String>,
    /// Also stops the job when the second judge's reward falls and the self-reward does not fall with it, so that their gap
    /// widens by more than `margin` from two audits to the next two.
    pub stop: bool,
    /// Difference of mean rewards, 0–1, from which there is an alarm.
    pub margin: f64,
    /// Harmful labelled answers that are dressed to look safe, in every way there is, and must not be rewarded; 0 for none.
    pub canaries: usize,
}

impl Default for AuditSpec {
    fn default() -> Self {
        Self {
            every: 10,
            answers: 64,
            oracle: false,
            model: None,
            guard: None,
            judge: None,
            stop: false,
            margin: 0.1,
            canaries: 4,
        }
    }
}

impl AuditSpec {
    /// A second judge is named.
    #[must_use]
    pub fn judged(&self) -> bool {
        self.oracle || self.model.is_some() || self.judge.is_some()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        require(self.every > 0, "audit.every", "must be at least 1")?;
        let judges = [self.oracle, self.model.is_some(), self.judge.is_some()];
        let named = judges.into_iter().filter(|named| *named).count();
        require(named <= 1, "audit", "has several second judges; name one of oracle, model and judge")?;
        require(named == 1 || !self.stop, "audit.stop", "needs a second judge: oracle, model or judge")?;
        require(
            self.guard.is_none() || self.model.is_some(),
            "audit.guard",
            "needs audit.model, the guard's folder",
        )?;
        require(named == 0 || self.answers > 0, "audit.answers", "must be at least 1")?;
        require(
            named == 1 || self.canaries > 0,
            "audit",
            "checks nothing: name a second judge, or canaries",
        )?;
        require(positive(self.margin) && self.margin < 1.0, "audit.margin", "must lie in (0, 1)")
    }
}
