//! Critiqued answers: a collected answer with what an expert wrote about it.

use super::{CollectedRecord, Record, kind_word, verdict_word};
use serde::{Deserialize, Serialize};
use sinternal_proto::Verdict;

/// An answer with its critique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CritiquedRecord {
    /// The answer. The expert saw S, x and y of it, never the reasoning.
    pub collected: CollectedRecord,
    /// Who wrote the critique.
    pub expert: String,
    /// The critique, without its judgment; empty where it is invalid.
    pub critique: String,
    /// What the expert judged; [`Verdict::Invalid`] for anything but one judgment.
    pub judgment: Verdict,
    /// What the expert wrote, present exactly where the judgment is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// What someone else says about the answer, where there is someone. The expert never saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
}

/// An independent word on an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Safe or unsafe; what a guard could not decide is no label.
    pub verdict: Verdict,
    /// A guard's name, or `gold`.
    pub by: String,
}

impl Record for CritiquedRecord {
    const STAGE: &'static str = "critiqued answers";

    fn id(&self) -> String {
        self.collected.id()
    }

    fn class(&self) -> String {
        format!("{} {}", kind_word(self.collected.kind), verdict_word(self.judgment))
    }

    fn check(&self) -> Result<(), String> {
        self.collected.check().map_err(|problem| format!("collected.{problem}"))?;
        match (self.judgment, &self.raw) {
            (Verdict::Invalid, None) => return Err("raw: is missing from an invalid critique".into()),
            (Verdict::Safe | Verdict::Unsafe, Some(_)) => {
                return Err("raw: stands beside a valid judgment".into());
            }
            _ => {}
        }
        match &self.label {
            Some(label) if label.verdict == Verdict::Invalid => {
                Err("label.verdict: must be safe or unsafe; leave the label out where there is none".into())
            }
            _ => Ok(()),
        }
    }
}
