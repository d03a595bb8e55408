//! Negative log-likelihood of completions: −log π(c | S, x, y) (SInternal, arXiv 2605.08930).

use crate::learner::{Chunk, Objective};
use tch::{Kind, Tensor};

/// Mean over all completion tokens of the step.
#[derive(Debug, Clone, Copy)]
pub struct NegativeLogLikelihood {
    /// Completion tokens in the whole step.
    pub tokens: usize,
}

impl Objective for NegativeLogLikelihood {
    fn loss(&mut self, chunk: &Chunk<'_>) -> Tensor {
        -chunk.log_probs.sum(Kind::Float) / self.tokens as f64
    }
}
