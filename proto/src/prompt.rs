//! A prompt as it stands in the data files (one JSON object a line) and travels through the trainer.

use crate::check::{MOST_TEXT_BYTES, at_most, invalid, require};
use crate::{Invalid, pb};
use serde::{Deserialize, Serialize};

/// What a prompt asks for, and so how its answer is rewarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptKind {
    /// A request whose literal fulfilment breaks the specification.
    Harmful,
    /// A request that should be fulfilled.
    Benign,
    /// A problem with a checkable answer.
    Math,
}

/// A chat message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// One prompt of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// Unique in its file.
    pub id: String,
    /// How its answers are rewarded.
    pub kind: PromptKind,
    /// Safety specification S, the system message; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub spec: String,
    /// The request x, the user message.
    pub request: String,
    /// The right answer of a [`PromptKind::Math`] prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<String>,
    /// Words that a helpful answer uses, and no others of their kind (see `HelpGrader::Recipe`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub must_use: Vec<String>,
    /// Family of the request (`plain`, `role-play` …), for reports.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub family: String,
    /// Facts for measurement alone (the oracle's ground truth). Never sent to a worker or to the reward service.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub truth: serde_json::Value,
}

impl Prompt {
    /// The chat: S as the system message where there is one, then the request.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let system = (!self.spec.is_empty()).then(|| message("system", &self.spec));
        system.into_iter().chain([message("user", &self.request)]).collect()
    }
}

impl From<Message> for pb::ChatMessage {
    fn from(m: Message) -> Self {
        Self { role: m.role, content: m.content }
    }
}

impl TryFrom<pb::ChatMessage> for Message {
    type Error = Invalid;

    fn try_from(m: pb::ChatMessage) -> Result<Self, Invalid> {
        let known = ["system", "user", "assistant"].contains(&&*m.role);
        require(known, "message.role", "must be system, user or assistant")?;
        at_most(m.content.len(), MOST_TEXT_BYTES, "message.content")?;
        Ok(Self { role: m.role, content: m.content })
    }
}

impl From<PromptKind> for pb::PromptKind {
    fn from(kind: PromptKind) -> Self {
        match kind {
            PromptKind::Harmful => Self::Harmful,
            PromptKind::Benign => Self::Benign,
            PromptKind::Math => Self::Math,
        }
    }
}

impl TryFrom<pb::PromptKind> for PromptKind {
    type Error = Invalid;

    fn try_from(kind: pb::PromptKind) -> Result<Self, Invalid> {
        match kind {
            pb::PromptKind::Harmful => Ok(Self::Harmful),
            pb::PromptKind::Benign => Ok(Self::Benign),
            pb::PromptKind::Math => Ok(Self::Math),
            pb::PromptKind::Unspecified => Err(invalid("kind", "is not specified")),
        }
    }
}
