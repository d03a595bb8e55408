//! An item with the answers that a model gave and what was said of them.

use crate::judge::Verdicts;
use crate::suite::Item;
use serde::{Deserialize, Serialize};

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// The model ended it.
    Stop,
    /// It was cut off at the most tokens.
    Length,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What came before the answer; `None` for a model that does not reason. Reasoning that never closed has no
    /// answer: `text` is then empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// What judges see: all that follows the reasoning.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// What was said of it.
    pub verdicts: Verdicts,
}

/// One item and its answers, one for each sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The prompt with its gold or rubric.
    pub item: Item,
    /// In the order of the samples.
    pub answers: Vec<Answer>,
}
