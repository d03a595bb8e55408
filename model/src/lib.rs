//! Hugging Face causal language models on libtorch, and batched generation.
//!
//! ```text
//! folder ─► ModelConfig + Tokenizer + weights ─► CausalLm ─┬─ forward(Packed)  ─► hidden ─► logprob::Head   (learner, scoring)
//!                                                          └─ Engine: prefill ─► KV cache ─► decode ─► logprob::Head ─► sampler
//! ```
//!
//! Learner and sampler get their log-probabilities from the same function, [`logprob::log_probs`].
//!
//! **Invariants.** This crate knows no tokio, tonic or wire type. Weights load strictly: a missing, extra or
//! misshapen tensor is an error that names it. Rows of a batch do not influence each other beyond rounding.
//! User errors are `Result`s; a panic out of libtorch during a forward pass (memory ran out) is caught by the
//! thread that owns the model.

mod adapted;
pub mod config;
pub mod device;
pub mod engine;
mod error;
pub mod folder;
mod layers;
mod linear;
mod lm;
pub mod logprob;
pub mod lora;
mod native;
pub mod packed;
mod parameters;
pub mod random_model;
mod rope;
pub mod think;
pub mod tokenizer;
mod trunk;
mod untrusted;
mod weights;

pub use config::{Family, ModelConfig};
pub use device::set_threads;
pub use error::ModelError;
pub use folder::ModelFolder;
pub use lm::{CausalLm, parameter_count};
pub use packed::{Group, Packed};
pub use parameters::{Parameter, Parameters, Parts};
pub use tch::{Device, Kind};
pub use tokenizer::{ChatTurn, Tokenizer};
pub use trunk::Pass;
pub use untrusted::untrusted;
