//! FLOP that a model's matrix products need: a multiplication and an addition are two.

use sinternal_model::ModelConfig;

/// One forward pass over the tokens at these positions, without the head.
pub(super) fn trunk(c: &ModelConfig, positions: impl Iterator<Item = usize>) -> f64 {
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let linear = c.hidden * (q + 2 * kv) + q * c.hidden + 3 * c.hidden * c.intermediate;
    // Scores and weighted values of a token at position p: p + 1 keys each.
    let of_layer = |p: usize| 2.0 * linear as f64 + 4.0 * q as f64 * (p + 1) as f64;
    c.layers as f64 * positions.map(of_layer).sum::<f64>()
}

/// The head over so many tokens, forward.
pub(super) fn head(c: &ModelConfig, tokens: usize) -> f64 {
    2.0 * (c.hidden * c.vocab) as f64 * tokens as f64
}

/// Forward passes that a step is worth: one to sample, one forward and two backward to learn.
pub(super) const PASSES: f64 = 4.0;
/// The same where only adapters are trained: frozen weights need no gradients. The adapters' own products are left out.
pub(super) const ADAPTER_PASSES: f64 = 3.0;

/// A whole step: each prompt once and each sampled token but the last in sampling and in the update. Recomputation is not
/// counted.
pub(super) fn step(c: &ModelConfig, prompts: &[usize], group: usize, new_tokens: usize, passes: f64) -> f64 {
    let of_prompt = |&n: &usize| trunk(c, 0..n) + group as f64 * trunk(c, n..n + new_tokens - 1);
    passes * (prompts.iter().map(of_prompt).sum::<f64>() + head(c, prompts.len() * group * new_tokens))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinternal_model::Kind;
    use sinternal_model::random_model::RandomModel;

    #[test]
    fn by_hand() {
        let dir = tempfile::tempdir().unwrap();
        let shape = RandomModel {
            family: "llama".into(),
            vocab: 320,
            hidden: 8,
            intermediate: 10,
            layers: 3,
            heads: 2,
            kv_heads: 1,
            head_dim: 4,
            max_positions: 64,
            untied: false,
            std: 0.1,
            seed: 0,
        };
        shape.write(dir.path(), Kind::Float).unwrap();
        let c = ModelConfig::load(&dir.path().join("config.json")).unwrap();
        // A layer: 8·16 + 8·8 + 3·8·10 = 432 weights; two tokens see 1 and 2 keys of width 8 twice.
        assert_eq!(trunk(&c, 0..2), 3.0 * (2.0 * 2.0 * 432.0 + 4.0 * 8.0 * 3.0));
        assert_eq!(head(&c, 5), 2.0 * 8.0 * 320.0 * 5.0);
        let expected = 4.0 * (trunk(&c, 0..2) + 2.0 * trunk(&c, 2..4) + head(&c, 6));
        assert_eq!(step(&c, &[2], 2, 3, PASSES), expected);
    }
}
