//! Jobs, work buffer, learner, checkpoints, publishing and the stages of a run.
//!
//! ```text
//! job file ─► stages: collect ─► curate ─► sft ─► verifier gate ─► grpo, with eval between
//!                │ prompts                                  │
//!                ▼                                          ▼
//!            RolloutHub ─► work buffer ─► workers ─► traces ─► reward client ─► advantages ─► Learner
//!                ▲                                                                              │
//!                └────────────────────── publish weights v+1 ◄─────────────────────────────────┘
//! ```
//!
//! **Invariants.** Decisions (work buffer, advantages, curation, job states) are pure or take `now` and the seed as
//! arguments. One OS thread owns the policy's tensors. Staleness is a capacity of the work buffer: work that could
//! come back too stale is not handed out. What could not be scored is masked out of its group and counted.

pub mod algorithm;
pub mod checkpoint;
pub mod curation;
pub mod jobs;
pub mod learner;
pub mod preflight;
pub mod pretrain;
pub mod publish;
pub mod records;
pub mod reward_client;
pub mod rollouts;
pub mod run_dir;
pub mod serve;
pub mod spec;
pub mod stages;
pub mod web;
pub mod work_buffer;
