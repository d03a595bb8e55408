//! The `[verifier]` section of a job file.

use super::require;
use serde::{Deserialize, Serialize};
use sinternal_proto::{GuardFamily, MOST_CRITIQUES};
use std::path::PathBuf;

/// The verifier that rewards, and its gate: the policy as it is after `sft`, frozen, unless a model, a guard or a remote
/// judge is named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifierSpec {
    /// A model folder, relative to the job file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// `model` is a guard of this family, which knows its own policy and not S.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardFamily>,
    /// What Qwen3Guard's third verdict counts as.
    #[serde(default)]
    pub controversial: Controversial,
    /// A remote judge by its name in the reward service's configuration, `[reward.judges.NAME]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<String>,
    /// Not frozen: the policy judges itself with the weights of every step. An ablation; needs `grpo.staleness = 0`.
    #[serde(default)]
    pub live: bool,
    /// Bound on a critique, in tokens.
    pub max_critique_tokens: u32,
    /// Critiques of an answer: 1 is one greedy critique; more are sampled, two of them first, and the rest unless these
    /// two agree within 0.02. p is their mean.
    #[serde(default = "one")]
    pub critiques: u32,
    /// Rewards use the mean less this many standard deviations of the critiques, and not less than 0.
    #[serde(default)]
    pub lower_bound: f32,
    /// Labelled held-out answers on which it is measured; of a file, the first so many.
    pub gate_answers: usize,
    /// GRPO does not start below this.
    pub gate_balanced_accuracy: f64,
    /// GRPO does not start below this.
    pub gate_unsafe_recall: f64,
}

/// Which side Qwen3Guard's `Controversial` is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controversial {
    /// The strict side.
    #[default]
    Unsafe,
    /// The loose side.
    Safe,
}

fn one() -> u32 {
    1
}

impl VerifierSpec {
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_kind()?;
        self.check_critiques()?;
        require(self.gate_answers > 0, "verifier.gate_answers", "must be at least 1")?;
        let above_chance = self.gate_balanced_accuracy > 0.5 && self.gate_balanced_accuracy <= 1.0;
        require(above_chance, "verifier.gate_balanced_accuracy", "must lie in (0.5, 1]; 0.5 is chance")?;
        let share = self.gate_unsafe_recall > 0.0 && self.gate_unsafe_recall <= 1.0;
        require(share, "verifier.gate_unsafe_recall", "must lie in (0, 1]")
    }

    fn check_kind(&self) -> Result<(), String> {
        let judge = self.judge.is_some();
        let named = self.judge.as_ref().is_none_or(|name| !name.is_empty() && name.len() <= 128);
        require(named, "verifier.judge", "must be a name of 1 to 128 bytes")?;
        require(
            !judge || self.model.is_none(),
            "verifier.judge",
            "is remote, so verifier.model must be absent",
        )?;
        require(!judge || self.guard.is_none(), "verifier.judge", "and verifier.guard exclude each other")?;
        let folder = self.guard.is_none() || self.model.is_some();
        require(folder, "verifier.guard", "needs verifier.model, the guard's folder")?;
        let third =
            self.controversial == Controversial::Unsafe || self.guard == Some(GuardFamily::Qwen3guard);
        require(third, "verifier.controversial", "has a meaning only with verifier.guard = \"qwen3guard\"")?;
        let alone = !self.live || (self.model.is_none() && !judge);
        let why = "the policy judges itself, so verifier.model and verifier.judge must be absent";
        require(alone, "verifier.live", why)
    }

    fn check_critiques(&self) -> Result<(), String> {
        require(self.max_critique_tokens > 0, "verifier.max_critique_tokens", "must be at least 1")?;
        let few = (1..=MOST_CRITIQUES).contains(&self.critiques);
        require(few, "verifier.critiques", "must lie in 1–64")?;
        let writes = self.critiques == 1 || (self.guard.is_none() && self.judge.is_none());
        require(writes, "verifier.critiques", "must be 1 with a guard or a remote judge, which judge once")?;
        let bound = self.lower_bound.is_finite() && self.lower_bound >= 0.0;
        require(bound, "verifier.lower_bound", "must be a finite number, 0 or more")?;
        let several = self.lower_bound == 0.0 || self.critiques > 1;
        require(several, "verifier.lower_bound", "has a meaning only with verifier.critiques of 2 or more")
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::JobSpec;
    use std::path::Path;

    fn job(verifier: &str, grpo: &str) -> Result<JobSpec, String> {
        let text = format!(
            "name = \"j\"\nmodel = \"m\"\n[data]\nkind = \"prompts\"\npath = \"p\"\nlabelled = \"l\"\n[verifier]\n\
             max_critique_tokens = 8\ngate_answers = 40\ngate_balanced_accuracy = 0.9\ngate_unsafe_recall = 0.9\n\
             {verifier}\n[grpo]\nsteps = 1\nprompts = 1\ngroup_size = 2\nlearning_rate = 1e-4\n{grpo}\n"
        );
        JobSpec::parse(&text, "job.toml", Path::new("/"))
    }

    #[test]
    fn every_kind_is_read_and_survives_being_written_out() {
        for verifier in [
            "",
            "model = \"v\"",
            "critiques = 4\nlower_bound = 0.5",
            "model = \"v\"\nguard = \"qwen3guard\"\ncontroversial = \"safe\"",
            "model = \"v\"\nguard = \"llama-guard\"",
            "model = \"v\"\nguard = \"wildguard\"",
            "judge = \"strict\"",
        ] {
            for composition in ["", "composition = \"paper\"", "composition = \"paper+\"\nhelp = \"recipe\""]
            {
                let spec = job(verifier, composition).unwrap();
                let written = toml::to_string(&spec).unwrap();
                assert_eq!(JobSpec::parse(&written, "written", Path::new("/")).unwrap(), spec, "{written}");
            }
        }
    }

    #[test]
    fn what_does_not_go_together_is_one_line_that_names_its_key() {
        for (verifier, expected) in [
            ("guard = \"qwen3guard\"", "verifier.guard: needs verifier.model"),
            ("model = \"v\"\nguard = \"qwenguard\"", "`verifier.guard`: unknown variant `qwenguard`"),
            ("judge = \"a\"\nmodel = \"v\"", "verifier.judge: is remote, so verifier.model must be absent"),
            ("judge = \"a\"\nguard = \"wildguard\"", "verifier.judge: and verifier.guard exclude each other"),
            ("judge = \"\"", "verifier.judge: must be a name"),
            ("judge = \"a\"\nlive = true", "verifier.live: the policy judges itself"),
            ("model = \"v\"\nlive = true", "verifier.live: the policy judges itself"),
            ("controversial = \"safe\"", "verifier.controversial: has a meaning only with verifier.guard"),
            ("critiques = 0", "verifier.critiques: must lie in 1–64"),
            ("critiques = 65", "verifier.critiques: must lie in 1–64"),
            ("judge = \"a\"\ncritiques = 2", "verifier.critiques: must be 1 with a guard or a remote judge"),
            ("lower_bound = 1.0", "verifier.lower_bound: has a meaning only with verifier.critiques"),
            ("critiques = 2\nlower_bound = -1.0", "verifier.lower_bound: must be a finite number"),
            ("critics = 2", "did you mean `verifier.critiques`?"),
        ] {
            let error = job(verifier, "").unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{verifier}: {error}");
        }
        for (grpo, expected) in [
            ("composition = \"paper++\"", "`grpo.composition`: unknown variant `paper++`"),
            (
                "composition = \"paper\"\nhelp = \"recipe\"",
                "grpo.help: is no factor of composition = \"paper\"",
            ),
        ] {
            let error = job("", grpo).unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{grpo}: {error}");
        }
    }
}
