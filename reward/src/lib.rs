//! Verifiers, graders and their composition, served over gRPC.
//!
//! ```text
//! ScoreRequest ─► known already? ─► graders: form, repetition, refusal, mathematics, topic ─┐
//!        └─ S, x, y (never the reasoning) ─► verifier: critiques, verdict token, p_safe ────┴─► compose ─► ScoreResult
//! LoadVerifier ─► store (files by hash) ─► a thread with a self-verifier or a guard, or a remote judge's client
//! ```
//!
//! **Invariants.** A verifier is frozen and pinned by the hash of its files and settings: nothing is scored by another one
//! than was asked for. What cannot be scored is masked, with its reason, and counted; it is never scored 0. Every request
//! is answered exactly once, under a deadline. Grading and composition are pure. One thread owns a verifier's tensors.

mod batch;
mod cache;
mod compose;
mod error;
mod grade;
pub mod graders;
mod guard;
mod handle;
mod panel;
mod remote;
mod run;
mod service;
mod session;
mod state;
mod store;
mod template;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod thread;
mod verifier;

pub use batch::{JudgeKind, Row, unfit_rows, verify_batch};
pub use compose::{Missing, compose};
pub use error::RewardError;
pub use run::{CACHE_BYTES, Options, run, serve};
pub use template::{Question, Template};
pub use verifier::{Verification, VerifierOptions};

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
