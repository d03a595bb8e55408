//! The mathematics of a step, one concept a file.

mod advantage;
mod aggregate;
mod grpo;
mod nll;

pub use advantage::{Estimator, GroupAdvantages, group_advantages, normalise_batch};
pub use aggregate::{Aggregation, token_weights};
pub use grpo::{Grpo, GrpoBatch, GrpoStats, Surrogate};
pub use nll::NegativeLogLikelihood;
