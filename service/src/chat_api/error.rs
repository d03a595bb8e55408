//! Why there is no answer; every message is one line that names the endpoint and, where there is one, the way out.

use crate::config::Invalid;
use crate::connect::Peer;
use std::path::PathBuf;
use std::time::Duration;

/// A server's words are cut here, in characters.
const MOST_SERVER_WORDS: usize = 300;

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ChatSetupError {
    /// A setting breaks a rule.
    #[error(transparent)]
    Settings(#[from] Invalid),
    /// The key's file cannot be read.
    #[error("{}: the API key cannot be read: {source}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key's variable is not there.
    #[error("environment variable `{name}` is not set: it should hold the API key")]
    KeyVariable {
        /// The variable.
        name: String,
    },
    /// What is there cannot be a key.
    #[error("{origin}: no API key: {problem}")]
    KeyForm {
        /// File or variable.
        origin: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The cache's folder cannot be made.
    #[error("{}: the folder of cached answers cannot be made: {source}", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No client for HTTPS; most often the machine has no certificates.
    #[error("failed to set up HTTPS: {0}; is the package ca-certificates installed?")]
    Client(String),
}

/// A request without an answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{peer}: {problem}{}", gave_up(*attempts))]
pub struct ChatError {
    /// The endpoint.
    pub peer: Peer,
    /// What went wrong, in the last call.
    pub problem: ChatProblem,
    /// Calls that were made.
    pub attempts: u32,
}

/// What can go wrong with a call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChatProblem {
    /// The endpoint refuses this request, and would again.
    #[error("refused with status {status}: {message}; {way_out}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's words, cut.
        message: String,
        /// What to do about it.
        way_out: String,
    },
    /// The endpoint cannot answer now.
    #[error("status {status}: {message}{}", asked_wait(*retry_after))]
    Busy {
        /// HTTP status.
        status: u16,
        /// The server's words, cut.
        message: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// No connection, or it broke.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// One call took too long.
    #[error("no answer within {} s", after.as_secs_f64())]
    Timeout {
        /// The call's deadline.
        after: Duration,
    },
    /// All calls and waits together took too long.
    #[error("no answer within {} s for the whole request{last}", after.as_secs_f64())]
    Deadline {
        /// The request's deadline.
        after: Duration,
        /// `; before: ` and the last call's problem, or empty where the first call never ended.
        last: String,
    },
    /// The rate limit opens only after the request's deadline.
    #[error(
        "rate limit reached: the next request may start in {} s, after this one's deadline; raise `request_s` or go on later",
        wait.as_secs_f64()
    )]
    Limited {
        /// Until the next request may start.
        wait: Duration,
    },
    /// The answer is no chat completion.
    #[error("the answer is no chat completion: {0}")]
    Malformed(String),
    /// The answer is longer than any answer may be.
    #[error("the answer is longer than {most} bytes; is base_url a chat endpoint?")]
    TooLarge {
        /// The bound.
        most: usize,
    },
    /// A completion without a text.
    #[error("the answer is empty (finish reason {finish})")]
    Empty {
        /// The server's finish reason.
        finish: String,
    },
}

impl ChatProblem {
    /// Another call may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unreachable(_) | Self::Timeout { .. })
    }

    /// Every other request would fail alike: the key, the model or the address is wrong, or the quota used up.
    #[must_use]
    pub fn concerns_all_requests(&self) -> bool {
        matches!(self, Self::Refused { status: 300..=399 | 401..=404 | 429, .. })
    }

    /// How long the server asks to wait before the next call.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A server's words on one line and cut.
pub(super) fn cut(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(MOST_SERVER_WORDS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.is_empty() => "no message".into(),
        None => line,
    }
}

fn gave_up(attempts: u32) -> String {
    if attempts > 1 { format!(" (gave up after {attempts} calls)") } else { String::new() }
}

fn asked_wait(wait: Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| format!("; it asks to wait {} s", wait.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_are_one_line_of_bounded_length() {
        assert_eq!(cut(" no\n\tsuch   model\u{7}"), "no such model");
        assert_eq!(cut(" \n"), "no message");
        assert_eq!(cut(&"é".repeat(300)), "é".repeat(300));
        assert_eq!(cut(&"é".repeat(301)), format!("{}…", "é".repeat(300)));
    }

    #[test]
    fn an_error_names_endpoint_problem_and_number_of_calls() {
        let problem = ChatProblem::Busy {
            status: 503,
            message: "loading".into(),
            retry_after: Some(Duration::from_millis(2500)),
        };
        let mut error = ChatError { peer: Peer::new("judge", "https://x/v1"), problem, attempts: 1 };
        assert_eq!(error.to_string(), "judge https://x/v1: status 503: loading; it asks to wait 2.5 s");
        error.attempts = 3;
        assert!(error.to_string().ends_with("2.5 s (gave up after 3 calls)"));
    }
}
