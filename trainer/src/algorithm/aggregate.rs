//! How the losses of a step's tokens become one number. Always over the whole step, whatever its micro-batches.

use serde::{Deserialize, Serialize};

/// Weights of tokens; S is the number of sequences, N of tokens, n of tokens of one sequence, L a fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// 1 / N: every token counts the same (DAPO, arXiv 2503.14476, eq. 8).
    #[default]
    TokenMean,
    /// 1 / (S n): every sequence counts the same (GRPO, arXiv 2402.03300, eq. 3).
    SequenceMeanTokenMean,
    /// 1 / S: long sequences count more.
    SequenceMeanTokenSum,
    /// 1 / (S L), L the length limit of a completion (Dr. GRPO, arXiv 2503.20783).
    FixedLength,
}

/// The weight of each completion token, sequence after sequence; `limit` is the length limit of a completion.
#[must_use]
pub fn token_weights(lengths: &[usize], aggregation: Aggregation, limit: u32) -> Vec<f32> {
    let (sequences, tokens) = (lengths.len() as f64, lengths.iter().sum::<usize>() as f64);
    let weight = |length: usize| match aggregation {
        Aggregation::TokenMean => 1.0 / tokens,
        Aggregation::SequenceMeanTokenMean => 1.0 / (sequences * length as f64),
        Aggregation::SequenceMeanTokenSum => 1.0 / sequences,
        Aggregation::FixedLength => 1.0 / (sequences * f64::from(limit)),
    };
    lengths.iter().flat_map(|&n| std::iter::repeat_n(weight(n) as f32, n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // A sequence of one token and one of three, at most eight allowed.
        let of = |aggregation| token_weights(&[1, 3], aggregation, 8);
        assert_eq!(of(Aggregation::TokenMean), [0.25; 4]);
        let sixth = 1.0 / 6.0;
        assert_eq!(of(Aggregation::SequenceMeanTokenMean), [0.5, sixth, sixth, sixth]);
        assert_eq!(of(Aggregation::SequenceMeanTokenSum), [0.5; 4]);
        assert_eq!(of(Aggregation::FixedLength), [0.0625; 4]);
    }
}
