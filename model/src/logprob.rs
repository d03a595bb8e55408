//! Log-probabilities: the one code path of sampler and learner.

use tch::{Kind, Tensor, no_grad};

/// Logits of a chunk, at most, unless [`LEAST_ROWS`] have more: 4 MiB of float32, which a processor's cache holds.
const CHUNK_ELEMENTS: i64 = 1 << 20;
/// Logits of a strip of chunks, at most, unless one chunk has more.
const STRIP_ELEMENTS: i64 = 1 << 24;
/// Fewer rows would make the matrix products slow.
const LEAST_ROWS: i64 = 64;

/// Log-probabilities of the whole vocabulary, `[n, vocab]` float32: `log_softmax(hidden · headᵀ / temperature)`.
///
/// `hidden` `[n, width]`, `head` `[vocab, width]`. A temperature of 0 (greedy decoding) gives those of the plain
/// model, as temperature 1 does.
pub fn log_probs(hidden: &Tensor, head: &Tensor, temperature: f32) -> Tensor {
    let logits = hidden.linear(head, None::<&Tensor>).to_kind(Kind::Float);
    let scaled =
        if temperature == 0.0 || temperature == 1.0 { logits } else { logits / f64::from(temperature) };
    scaled.log_softmax(-1, Kind::Float)
}

/// Rows of a chunk such that its logits stay small whatever the vocabulary.
#[must_use]
pub fn chunk_rows(vocab: i64) -> i64 {
    (CHUNK_ELEMENTS / vocab.max(1)).max(LEAST_ROWS)
}

/// Rows of a strip: the gradients of so many rows' logits exist at once, in the model's element type.
#[must_use]
pub fn strip_rows(vocab: i64) -> i64 {
    (STRIP_ELEMENTS / vocab.max(1)).max(LEAST_ROWS)
}

/// Log-probability of each target, `[n]` float32, without a graph and without the logits of more than one chunk.
///
/// `hidden` `[n, width]`, `targets` `[n]` int64.
pub fn target_log_probs(hidden: &Tensor, head: &Tensor, targets: &Tensor, temperature: f32) -> Tensor {
    let rows = chunk_rows(head.size()[0]);
    no_grad(|| {
        let parts: Vec<Tensor> = hidden
            .split(rows, 0)
            .iter()
            .zip(targets.split(rows, 0))
            .map(|(h, t)| log_probs(h, head, temperature).gather(1, &t.unsqueeze(1), false).squeeze_dim(1))
            .collect();
        Tensor::cat(&parts, 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn known_logits_at_two_temperatures() {
        let hidden = Tensor::from_slice(&[1.0f32, 2.0]).view([1, 2]);
        let head = Tensor::eye(2, (Kind::Float, Device::Cpu));
        let at = |t| Vec::<f32>::try_from(log_probs(&hidden, &head, t).view(-1)).unwrap();
        let expected = |gap: f32| -(1.0 + gap.exp()).ln();
        assert!((at(1.0)[0] - expected(1.0)).abs() < 1e-6);
        assert!((at(2.0)[0] - expected(0.5)).abs() < 1e-6);
        assert_eq!(at(0.0), at(1.0));
    }

    #[test]
    fn chunks_do_not_change_the_result() {
        let _alone = crate::lm::SEEDED.lock().unwrap();
        tch::manual_seed(1);
        let hidden = Tensor::randn([300, 8], (Kind::Float, Device::Cpu));
        let head = Tensor::randn([65_536, 8], (Kind::Float, Device::Cpu));
        let targets = Tensor::randint(65_536, [300], (Kind::Int64, Device::Cpu));
        assert_eq!(chunk_rows(65_536), 64);
        let whole = log_probs(&hidden, &head, 1.0).gather(1, &targets.unsqueeze(1), false).squeeze_dim(1);
        let difference = (target_log_probs(&hidden, &head, &targets, 1.0) - whole).abs().max();
        assert!(difference.double_value(&[]) < 1e-6);
    }
}
