//! What can be wrong with a configuration; every message is one line that names its source.

use std::path::PathBuf;

/// A value that has its type but breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct Invalid {
    /// Dotted key.
    pub key: String,
    /// Completes the phrase "`key` …", such as "must be at least 2; it is 1".
    pub problem: String,
}

impl Invalid {
    /// A rule that `key` breaks.
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }

    /// The same, with the source of the value.
    pub(super) fn at(self, origin: impl Fn(&str) -> String) -> ConfigError {
        ConfigError::Invalid { origin: origin(&self.key), source: self }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("{origin}:{line}:{column}: not TOML: {message}")]
    Syntax {
        /// The file.
        origin: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// No such key.
    #[error("{origin}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// File, environment variable or `command line`.
        origin: String,
        /// Dotted key.
        key: String,
        /// The known key that is spelt most like it.
        nearest: String,
    },
    /// A key without which it makes no sense.
    #[error("{origin}: missing key `{key}`")]
    MissingKey {
        /// File.
        origin: String,
        /// Dotted key.
        key: String,
    },
    /// The value has the wrong type or form.
    #[error("{origin}: `{key}`: {message}")]
    Value {
        /// File, environment variable or `command line`.
        origin: String,
        /// Dotted key.
        key: String,
        /// What was found and what was expected.
        message: String,
    },
    /// The value breaks a rule.
    #[error("{origin}: {source}")]
    Invalid {
        /// File, environment variable or `command line`.
        origin: String,
        /// The key and the rule.
        source: Invalid,
    },
    /// The default or the result cannot be written as TOML.
    #[error("configuration cannot be written as TOML: {message}")]
    Unrepresentable {
        /// Why.
        message: String,
    },
}
