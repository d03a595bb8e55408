//! What every objective gives for a chunk of tokens.

use tch::Tensor;

/// `[m]` each.
#[derive(Debug)]
pub(super) struct Terms {
    /// Losses, through which the gradient flows.
    pub(super) losses: Tensor,
    /// Ratios π / π_old, detached: of the token, or of its sequence.
    pub(super) ratios: Tensor,
    /// Where clipping binds.
    pub(super) clipped: Tensor,
}
