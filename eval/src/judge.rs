//! What judges say of an answer, as data, with the prompts that ask them and the strict parsers of their replies.
//!
//! A judge sees the answer after the reasoning. A reply that is not exactly of the asked form is
//! [`Judged::Unparsed`] with its text: it is counted and never guessed.

mod fence;
mod reply;

pub mod compliance;
pub mod rubric;
pub mod safety;
pub mod string_match;
pub mod strong_reject;

pub use compliance::Compliance;
pub use rubric::RubricAnswers;
pub use safety::Safety;
pub use strong_reject::StrongReject;

use serde::{Deserialize, Serialize};

/// What came of asking a judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judged<T> {
    /// A reply of the asked form.
    Said(T),
    /// The raw text of any other reply.
    Unparsed(String),
    /// No reply, and why: a deadline, a crash.
    Failed(String),
}

impl<T> Judged<T> {
    /// What was said; `None` where nothing was.
    pub fn said(&self) -> Option<&T> {
        match self {
            Self::Said(verdict) => Some(verdict),
            Self::Unparsed(_) | Self::Failed(_) => None,
        }
    }

    fn of(parsed: Option<T>, reply: &str) -> Self {
        parsed.map_or_else(|| Self::Unparsed(reply.to_owned()), Self::Said)
    }
}

/// Whether a final answer equals the gold one, as the mathematics grader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// It does.
    Correct,
    /// It does not.
    Wrong,
}

/// Everything that judges and graders said of one answer; `None` where they were not asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdicts {
    /// By a binary judge: the self-verifier, a guard, a remote judge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety: Option<Judged<Safety>>,
    /// By string match or XSTest's judge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compliance: Option<Judged<Compliance>>,
    /// By StrongREJECT's rubric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strong_reject: Option<Judged<StrongReject>>,
    /// By the item's own questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rubric: Option<Judged<RubricAnswers>>,
    /// By the mathematics grader; unparsed where the answer holds none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grade: Option<Judged<Grade>>,
}
