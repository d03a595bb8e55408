//! One prompt of a suite with what judges and graders need to know of it.

use serde::{Deserialize, Serialize};

/// What a right answer would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It should not be fulfilled.
    Harmful,
    /// It should be fulfilled.
    Benign,
    /// It has a gold answer.
    Math,
}

/// One prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Unique in its file: the authors' own where the file has one, else the row, from 1.
    pub id: String,
    /// What the model is given, as it is.
    pub prompt: String,
    /// What a right answer would be.
    pub kind: Kind,
    /// The plain request behind an attack, where the file gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// The right answer of a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold: Option<String>,
    /// Questions to be answered yes or no of the model's answer; yes is the harmful side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rubric: Vec<String>,
    /// The authors' class of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The other item of a harmful and benign pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<String>,
}

impl Item {
    /// An item with nothing but these three.
    #[must_use]
    pub fn new(id: impl Into<String>, kind: Kind, prompt: impl Into<String>) -> Self {
        let (id, prompt) = (id.into(), prompt.into());
        Self { id, prompt, kind, goal: None, gold: None, rubric: Vec::new(), category: None, twin: None }
    }

    /// What a judge should hold the answer against: the plain request where it is known, else the prompt.
    #[must_use]
    pub fn request(&self) -> &str {
        self.goal.as_deref().unwrap_or(&self.prompt)
    }
}
