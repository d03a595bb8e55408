//! From critiqued answers to the rows of verification-only fine-tuning (SInternal, arXiv 2605.08930, data construction).
//!
//! ```text
//! rows ─► filter ─► by prompt ─► pairs (harmful), safe answers (benign) ─► near-duplicates ─► one answer a prompt
//!                                                                                    └─► balance ─► verification rows
//! ```
//!
//! **Invariants.** Pure: no clock, no file but that of labels. Every choice is by a rank that depends on the seed and the id of what is
//! chosen alone, so the order of the rows does not matter, and rows that are added do not change the choices among
//! others. Every row that goes in comes out or is dropped for one reason, the first that applies.

mod ablation;
mod balance;
mod benign;
mod curate;
mod filter;
mod labels;
mod minhash;
mod near_duplicates;
mod ngram;
mod pair;
mod render;
mod report;
mod settings;
mod words;

pub use ablation::{shuffle_verdicts, without_critique, without_judgment};
pub use curate::{Curated, curate};
pub use labels::Labels;
pub use near_duplicates::{NearDuplicates, near_duplicates};
pub use ngram::{NgramIndex, NgramSettings};
pub use report::{ClassReport, DropReason, DropReport};
pub use settings::{CurateSettings, NearDuplicateSettings};

use sinternal_proto::Sha256;

/// Why rows cannot be curated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CurationError {
    /// A setting; named by its key.
    #[error("{0}")]
    Settings(String),
    /// Rows of one prompt that contradict each other.
    #[error("prompt {0}: its rows differ in kind, S or request; give different prompts different ids")]
    Prompt(String),
}

/// Order of what is chosen for a purpose: the lowest rank first. As good as random, and a function of its arguments.
fn rank(seed: u64, purpose: &str, id: &str) -> String {
    Sha256::of(format!("{seed}\n{purpose}\n{id}").as_bytes()).0
}

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
