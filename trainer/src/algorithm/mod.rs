//! The mathematics of a step, one concept a file.
//!
//! ```text
//! rewards ─► overlong ─► advantage ─► clip | gspo | cispo ─► × importance ─► + kl − entropy ─► aggregate ─► loss
//! ```

mod advantage;
mod aggregate;
mod cispo;
mod clip;
#[cfg(test)]
mod golden;
mod grpo;
mod gspo;
mod importance;
mod kl;
mod nll;
mod overlong;
mod terms;

pub use advantage::{Estimator, GroupAdvantages, group_advantages, normalise_batch};
pub use aggregate::{Aggregation, token_weights};
pub use cispo::Cispo;
pub use clip::Clip;
pub use grpo::{Grpo, GrpoBatch, GrpoStats, Loss, Surrogate};
pub use gspo::{Gspo, sequence_log_ratios};
pub use importance::{Importance, Mismatch, mismatch};
pub use kl::KlEstimator;
pub use nll::NegativeLogLikelihood;
pub use overlong::Overlong;
