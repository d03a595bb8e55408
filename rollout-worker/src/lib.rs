//! A rollout worker: lease → generate → submit, and weight sync.
//!
//! ```text
//! trainer ── Lease ──► session ── command ──► generator (one OS thread: model, engine)
//!    ▲                    │ policy                 │ trace, as it finishes
//!    │ FetchFile ◄── sync ┘                        ▼
//!    └──────────── SubmitTraces ◄── outbox: kept until acknowledged
//! ```
//!
//! **Invariants.** One thread owns the tensors. A trace is kept and sent again until it is acknowledged. Weights are used only
//! after every file matched its hash. After each registration nothing is sampled before the trainer's present policy
//! is held.

mod error;
mod generator;
mod link;
mod outbox;
mod session;
mod sync;

pub use error::WorkerError;
pub use generator::key;
pub use session::run;
