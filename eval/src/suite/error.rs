//! Why a suite's file could not be loaded.

use super::Suite;
use std::io;
use std::path::PathBuf;

/// A file that is no whole suite. Every message is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such file.
    #[error("{}: no such file; {suite} is published at {}", path.display(), suite.source())]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// What it should hold.
        suite: Suite,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than any suite's file.
    #[error("{}: has {bytes} bytes, more than the {most} that are read of a suite", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The most that is read.
        most: u64,
    },
    /// Its name does not say how to read it.
    #[error("{}: the name must end in .csv, .tsv, .json, .jsonl, .parquet or, for lines of prompts, .txt", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read as what its name says.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A row is not as the suite's authors publish it.
    #[error("{}: row {row}: {reason}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 1, headers not counted.
        row: usize,
        /// What is wrong, with the column.
        reason: String,
    },
    /// It has more or fewer rows than the suite.
    #[error(
        "{}: has {found} {what} where {suite} has {expected}; --allow-partial evaluates what is there",
        path.display()
    )]
    Count {
        /// The file.
        path: PathBuf,
        /// The suite.
        suite: Suite,
        /// `rows`, or a class of them.
        what: &'static str,
        /// As many as there are.
        found: usize,
        /// As many as there should be.
        expected: usize,
    },
    /// Nothing to evaluate.
    #[error("{}: holds no item of {suite}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The suite.
        suite: Suite,
    },
}
