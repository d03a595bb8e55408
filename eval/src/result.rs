//! The document of one evaluation: what was asked of whom, how, and everything that came of it.

mod files;
mod items;
mod tables;

pub use files::{WriteError, write_report};
pub use items::{ItemsError, items_jsonl, read_items_jsonl};
pub use tables::{bar_chart, markdown, terminal};

use crate::measure::{Measure, MeasureError, Outcome, measures};
use crate::stats::Resampling;
use crate::suite::{DataSet, Suite, Take};
use serde::{Deserialize, Serialize};

/// The data that was evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataUsed {
    /// The file, as the user named it.
    pub path: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Its rows.
    pub rows: usize,
    /// Which of its items, with the seed of a draw.
    pub take: Take,
}

impl DataUsed {
    /// What `data`, loaded from `path` with `take`, was.
    #[must_use]
    pub fn of(data: &DataSet, path: impl Into<String>, take: Take) -> Self {
        Self { path: path.into(), sha256: data.sha256.clone(), rows: data.rows, take }
    }
}

/// A model, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelUsed {
    /// What reports call it.
    pub name: String,
    /// SHA-256 of its files, hexadecimal; of one behind an endpoint, where there is one, that of the settings with which
    /// it was asked.
    pub sha256: Option<String>,
}

/// Something that judged or graded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeUsed {
    /// Which of the verdicts it gave: `safety`, `compliance`, `strong_reject`, `rubric`, `grade`.
    pub verdict: String,
    /// How: `self`, `guard`, `remote`, `string-match`, `grader`.
    pub backend: String,
    /// The model, where there is one.
    pub model: Option<ModelUsed>,
}

/// How answers were drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoding {
    /// Answers an item.
    pub samples: u32,
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// Nucleus of the distribution, 0–1; 1 is all of it.
    pub top_p: f64,
    /// Likeliest tokens that are considered; `None` for all.
    pub top_k: Option<u32>,
    /// Least likelihood of a token that is considered, relative to the likeliest one, 0–1; 0 is none.
    pub min_p: f64,
    /// The most tokens of reasoning and answer.
    pub max_new_tokens: u32,
    /// The system prompt; `None` where there is none.
    pub system: Option<String>,
    /// Of the draws.
    pub seed: u64,
}

/// Everything about an evaluation but its outcomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Version of the program, with its commit where known.
    pub version: String,
    /// What was evaluated.
    pub suite: Suite,
    /// On which data.
    pub data: DataUsed,
    /// Whose answers.
    pub model: ModelUsed,
    /// Who judged them.
    pub judges: Vec<JudgeUsed>,
    /// How the answers were drawn.
    pub decoding: Decoding,
    /// How bootstrap intervals were drawn.
    pub resampling: Resampling,
}

/// The result of one suite for one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// What was asked of whom.
    pub about: About,
    /// In the suite's order.
    pub measures: Vec<Measure>,
    /// Every item with its answers and what was said of them.
    pub items: Vec<Outcome>,
}

impl Evaluation {
    /// Measures the outcomes.
    ///
    /// # Errors
    /// See [`MeasureError`].
    pub fn new(about: About, items: Vec<Outcome>) -> Result<Self, MeasureError> {
        let measures = measures(about.suite, &items, about.resampling)?;
        Ok(Self { about, measures, items })
    }

    /// The document, indented.
    ///
    /// # Panics
    /// Never: all its values are plain data.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data is JSON");
        text.push('\n');
        text
    }

    /// Reads [`Evaluation::to_json`] back.
    ///
    /// # Errors
    /// With the line and column where the text is none, and unknown fields are errors too.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
pub(crate) mod tests;
