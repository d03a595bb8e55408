//! What can go wrong between a model folder and a running model.

use std::path::PathBuf;

/// Every variant names the file, and the tensor or key where there is one.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that does not hold what it must.
    #[error("{path}: {problem}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A model that this crate cannot run.
    #[error("{path}: {problem}", path = path.display())]
    Unsupported {
        /// The configuration file.
        path: PathBuf,
        /// What it asks for, and what is supported.
        problem: String,
    },
    /// A chat template that fails on these messages.
    #[error("chat template: {0}")]
    Template(String),
    /// A chat template that loses or doubles a part of what [`crate::untrusted`] marks.
    #[error("{path}: its chat template does not keep request and answer whole", path = path.display())]
    TakenApart {
        /// The tokenizer's file.
        path: PathBuf,
    },
    /// Text that the tokenizer cannot encode, or tokens that it cannot decode.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A device that is not there.
    #[error("device `{device}`: {problem}")]
    Device {
        /// As asked for.
        device: String,
        /// What was looked for, and what was found.
        problem: String,
    },
    /// A failure inside libtorch.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl ModelError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::File { path: path.into(), problem: problem.into() }
    }
}
