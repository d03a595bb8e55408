//! What can go wrong in loading and running a verifier, or the service.

use sinternal_model::ModelError;
use sinternal_service::chat_api::ChatSetupError;
use sinternal_service::serve::{BindError, ServeError};
use sinternal_service::telemetry::MetricsError;
use std::path::PathBuf;

/// Every variant names the file, the row or the address.
#[derive(Debug, thiserror::Error)]
pub enum RewardError {
    /// A model folder that cannot be loaded.
    #[error("verifier: {0}")]
    Model(#[from] ModelError),
    /// A tokenizer in which a verdict cannot be read.
    #[error("verifier: its tokenizer does not tell {lines}")]
    Verdicts {
        /// The lines that it should tell apart.
        lines: String,
    },
    /// A remote judge that cannot be set up.
    #[error("[reward.judges.{name}]: {source}")]
    Judge {
        /// Its name.
        name: String,
        /// Why not.
        source: ChatSetupError,
    },
    /// The thread that owns the model is gone.
    #[error("verifier crashed; its panic is in the log")]
    Crashed,
    /// A row that the verifier cannot take.
    #[error("row {row}: {problem}")]
    Row {
        /// Counted from 1.
        row: usize,
        /// Why not.
        problem: String,
    },
    /// A file or folder that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The service cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The service cannot serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl RewardError {
    /// The words do not differ after `lead`.
    pub(crate) fn verdicts(lead: &str, words: &[&str]) -> Self {
        let lines: Vec<String> = words.iter().map(|word| format!("`{lead}{word}`")).collect();
        Self::Verdicts { lines: lines.join(" from ") }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
