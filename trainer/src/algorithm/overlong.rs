//! What a completion near or at the length limit costs.

use serde::{Deserialize, Serialize};

/// Shaping and masking of overlong samples; without either a truncated sample has the reward that it earned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overlong {
    /// Tokens before the limit over which a reward falls by up to 1, in a line; 0 for none.
    pub buffer: u32,
    /// Leaves samples that the limit cut off out of the loss. Their rewards stay in their group's mean and deviation: what
    /// the policy does on a prompt is judged as a whole, and only the noise of an unfinished answer is not learned from (as
    /// in DAPO's overlong filtering, arXiv 2503.14476, section 3.4).
    pub mask: bool,
}

impl Overlong {
    /// Soft overlong punishment (DAPO, arXiv 2503.14476, eq. 13): what is added to the reward of a completion of `tokens`,
    /// of at most `limit`. 0 until the buffer begins, −1 at the limit.
    #[must_use]
    pub fn penalty(self, tokens: usize, limit: u32) -> f64 {
        if self.buffer == 0 {
            return 0.0;
        }
        let into = tokens as f64 - (f64::from(limit) - f64::from(self.buffer));
        // Not −0 for the many that are short.
        if into <= 0.0 { 0.0 } else { -(into / f64::from(self.buffer)).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // The last 4 of 16 tokens.
        let of = |tokens| Overlong { buffer: 4, mask: false }.penalty(tokens, 16);
        assert_eq!([1, 12, 13, 15, 16, 17].map(of), [0.0, 0.0, -0.25, -0.75, -1.0, -1.0]);
        assert_eq!(Overlong::default().penalty(16, 16), 0.0);
    }
}
