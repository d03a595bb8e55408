//! What is asked and what comes back.

use serde::{Deserialize, Serialize};
use sinternal_proto::Message;

/// One chat to be continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRequest {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// In the place of the settings' seed: the way to draw several answers to the same messages, since equal
    /// requests are asked once.
    pub seed: Option<u64>,
}

impl ChatRequest {
    /// These messages with the settings' seed.
    #[must_use]
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages, seed: None }
    }

    /// The same with a seed of its own.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatAnswer {
    /// Its text; may be empty only after [`Finish::Length`] and [`Finish::ContentFilter`].
    pub text: String,
    /// Why it ends.
    pub finish: Finish,
    /// What it took, if the server said so; also of a cached answer, when it was first given.
    pub usage: Option<Usage>,
    /// Where it is from.
    pub source: Source,
}

/// Why an answer ends. Only [`Finish::Stop`] is a whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Finish {
    /// The model had said all.
    Stop,
    /// It reached `max_tokens`; the text is its beginning.
    Length,
    /// The server's filter cut it.
    ContentFilter,
    /// The model declined, in the field that the interface has for this; the text is its reason.
    Refusal,
    /// Anything else, in the server's words; `absent` where it gave no reason.
    Other(String),
}

impl Finish {
    /// As servers spell it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
            Self::Refusal => "refusal",
            Self::Other(words) => words,
        }
    }

    /// Reads a server's spelling.
    #[must_use]
    pub fn parse(words: &str) -> Self {
        match words {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "content_filter" => Self::ContentFilter,
            "refusal" => Self::Refusal,
            other => Self::Other(other.into()),
        }
    }

    /// An empty text is then no fault of the server.
    pub(super) fn explains_no_text(&self) -> bool {
        matches!(self, Self::Length | Self::ContentFilter)
    }
}

impl From<String> for Finish {
    fn from(words: String) -> Self {
        Self::parse(&words)
    }
}

impl From<Finish> for String {
    fn from(finish: Finish) -> Self {
        finish.as_str().to_owned()
    }
}

/// Tokens that an answer took, as the server counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Of the messages.
    pub input_tokens: u64,
    /// Of the answer, hidden reasoning included.
    pub output_tokens: u64,
}

/// Where an answer is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The endpoint, for this request.
    Server,
    /// The cache on disk.
    Cache,
    /// An equal request that was under way.
    Shared,
}
