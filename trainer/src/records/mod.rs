//! The data pipeline's files: one JSON object a line, and beside each a manifest of what it is and what it was made of.
//!
//! ```text
//! NAME.jsonl            whole, synced and renamed into place; never changed afterwards
//! NAME.manifest.json    rows, hashes, seed, settings, counts by class
//! NAME.jsonl.part       whole lines of a stage that has not finished; a torn last line is cut off
//! NAME.jsonl.part.json  what those lines are made of, so that a stage goes on only with the same inputs and settings
//! ```
//!
//! **Invariants.** A file is read only if it matches its manifest. A row's id is unique in its file. A stage that goes on
//! writes no row twice and mixes no two settings. Lines, and so the memory that one takes, are bounded.

mod answer;
mod critique;
mod guard;
mod lines;
mod manifest;
mod read;
mod verification;
mod write;

pub use answer::{CollectedRecord, PolicySource, ReplayTokens};
pub use critique::{CritiquedRecord, Label};
pub use guard::GuardRecord;
pub use lines::MOST_LINE_BYTES;
pub use manifest::{InputFile, Manifest, Provenance};
pub use read::{Records, finished, open, read_all};
pub use verification::VerificationRow;
pub use write::{Pushed, RecordWriter, Resumed};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sinternal_proto::{PromptKind, Verdict};
use sinternal_service::atomic::AtomicError;
use std::io;
use std::path::{Path, PathBuf};

/// A row of one of the pipeline's files.
pub trait Record: Serialize + DeserializeOwned {
    /// What its file holds, as the manifest says it.
    const STAGE: &'static str;

    /// Unique in its file, and known before the row is made.
    fn id(&self) -> String;

    /// For the manifest's counts.
    fn class(&self) -> String;

    /// What the types alone do not promise.
    ///
    /// # Errors
    /// Names the field.
    fn check(&self) -> Result<(), String>;
}

/// A file that cannot be written, read or trusted. One line that names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be replaced.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// A line that is not a row of this stage.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A file as a whole.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the way out.
        problem: String,
    },
    /// Settings that JSON cannot hold.
    #[error("settings: {0}")]
    Settings(serde_json::Error),
}

/// `harmful`, `benign` or `math`.
#[must_use]
pub fn kind_word(kind: PromptKind) -> &'static str {
    match kind {
        PromptKind::Harmful => "harmful",
        PromptKind::Benign => "benign",
        PromptKind::Math => "math",
    }
}

/// `safe`, `unsafe` or `invalid`.
#[must_use]
pub fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Safe => "safe",
        Verdict::Unsafe => "unsafe",
        Verdict::Invalid => "invalid",
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { path, source }
}

fn bad_file(path: &Path, problem: impl Into<String>) -> RecordError {
    RecordError::File { path: path.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests;
