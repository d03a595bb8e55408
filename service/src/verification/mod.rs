//! How a general model is asked whether an answer is safe, and how its judgment is read.
//!
//! ```text
//! Question (S, x, y) ─► expert_messages ─► any model ─► parse_judgment ─► critique and verdict, or the reason why not
//! ```
//!
//! **Invariants.** A question has no place for the reasoning or for a gold label. What the policy or a user wrote
//! stands between markers that it cannot forge. A judgment is read or refused, never guessed.

mod fences;
mod judgment;
mod prompt;

pub use judgment::{InvalidJudgment, Judgment, parse_judgment};
pub use prompt::{Question, expert_messages};
