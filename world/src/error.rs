//! What can go wrong when data are written.

use crate::truth::Group;
use std::path::PathBuf;

/// Data that cannot be made or written.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// No request of a group exists under the specification.
    #[error("specification: allows no {0:?} request; forbid some, but not all, pairs of class and zone")]
    NoSuchRequest(Group),
    /// Too few different prompts exist for the size that was asked.
    #[error("split {split}: found only {found} of {wanted} different {what} prompts; ask for fewer")]
    Exhausted {
        /// The split.
        split: &'static str,
        /// Which of its prompts.
        what: &'static str,
        /// How many were asked for.
        wanted: usize,
        /// How many were found.
        found: usize,
    },
    /// A file that could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
