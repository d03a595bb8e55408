//! The mathematics of a step, one concept a file.

mod advantage;
mod grpo;
mod nll;

pub use advantage::{GroupAdvantages, group_advantages};
pub use grpo::{Grpo, GrpoBatch, GrpoStats};
pub use nll::NegativeLogLikelihood;
