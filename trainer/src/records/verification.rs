//! Verification rows: what the policy is fine-tuned on after curation.

use super::{PolicySource, Record, kind_word, verdict_word};
use serde::{Deserialize, Serialize};
use sinternal_proto::{PromptKind, Verdict};

/// S, x and y, and the critique and judgment that the policy learns to write about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerificationRow {
    /// The answer's id in the file of critiqued answers.
    pub source: String,
    /// The prompt's id.
    pub prompt: String,
    /// Who answered.
    pub policy: PolicySource,
    /// What the prompt asks for.
    pub kind: PromptKind,
    /// Specification S; empty where there is none.
    pub spec: String,
    /// The request x.
    pub request: String,
    /// The answer y.
    pub answer: String,
    /// The critique to learn; absent where an ablation took it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critique: Option<String>,
    /// The judgment to learn; absent where an ablation took it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judgment: Option<Verdict>,
    /// What holds of the answer, whatever the row teaches: no ablation changes it.
    pub verdict: Verdict,
    /// The answer refuses.
    pub refused: bool,
    /// Who wrote the critique.
    pub expert: String,
}

impl VerificationRow {
    /// The text to learn: the critique, then after `separator` the `marker` and the judgment, whichever of the two are there.
    #[must_use]
    pub fn completion(&self, separator: &str, marker: &str) -> String {
        let judgment = self.judgment.map(|judgment| format!("{marker} {}", verdict_word(judgment)));
        [self.critique.clone(), judgment].into_iter().flatten().collect::<Vec<_>>().join(separator)
    }
}

impl Record for VerificationRow {
    const STAGE: &'static str = "verification rows";

    fn id(&self) -> String {
        self.source.clone()
    }

    fn class(&self) -> String {
        format!("{} {}", kind_word(self.kind), verdict_word(self.verdict))
    }

    fn check(&self) -> Result<(), String> {
        if self.verdict == Verdict::Invalid || self.judgment == Some(Verdict::Invalid) {
            return Err("verdict, judgment: must be safe or unsafe".into());
        }
        if self.critique.is_none() && self.judgment.is_none() {
            return Err("critique, judgment: one of them must be there to be learned".into());
        }
        Ok(())
    }
}
