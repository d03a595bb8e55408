//! Drawing tokens: one uniform number per sequence, keyed by (key, sample, position), and the inverse CDF.

use super::request::{Running, SamplingParams};
use tch::{Kind, Tensor};

/// A drawn token.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) token: u32,
    /// Under the distribution it was drawn from.
    pub(super) logprob: f32,
    /// Of the allowed tokens, where the draw was constrained.
    pub(super) choice_logprobs: Option<Vec<f32>>,
}

/// Draws one token per row; `log_probs` `[rows, vocab]` after temperature.
pub(super) fn draw(log_probs: &Tensor, rows: &[Running], sampling: &SamplingParams) -> Vec<Drawn> {
    let kept = restrict(log_probs, sampling);
    let tokens = if sampling.temperature == 0.0 { kept.argmax(-1, false) } else { inverse_cdf(&kept, rows) };
    let logprobs = kept.gather(1, &tokens.unsqueeze(1), false).squeeze_dim(1);
    let tokens = Vec::<i64>::try_from(tokens.to_device(tch::Device::Cpu)).expect("int64 of one dimension");
    let logprobs =
        Vec::<f32>::try_from(logprobs.to_device(tch::Device::Cpu)).expect("float32 of one dimension");
    rows.iter()
        .enumerate()
        .map(|(i, row)| match row.due_choices() {
            Some(choices) => choose(&log_probs.get(i as i64), choices),
            None => Drawn { token: tokens[i] as u32, logprob: logprobs[i].min(0.0), choice_logprobs: None },
        })
        .collect()
}

/// The likeliest of the allowed tokens; its log-probability is that among them.
fn choose(log_probs: &Tensor, choices: &[u32]) -> Drawn {
    let of: Vec<f32> = choices.iter().map(|&c| log_probs.double_value(&[i64::from(c)]) as f32).collect();
    let best = (0..of.len()).fold(0, |best, i| if of[i] > of[best] { i } else { best });
    let total: f32 = of.iter().map(|l| (l - of[best]).exp()).sum();
    Drawn { token: choices[best], logprob: -total.ln(), choice_logprobs: Some(of) }
}

/// Keeps the top-k, then the top-p tokens, and renormalises.
fn restrict(log_probs: &Tensor, sampling: &SamplingParams) -> Tensor {
    let vocab = log_probs.size()[1];
    let mut kept = log_probs.shallow_clone();
    if sampling.temperature == 0.0 {
        return kept;
    }
    if sampling.top_k > 0 && (sampling.top_k as i64) < vocab {
        let (values, _) = kept.topk(sampling.top_k as i64, -1, true, true);
        let least = values.narrow(1, sampling.top_k as i64 - 1, 1);
        kept = kept.masked_fill(&kept.lt_tensor(&least), f64::NEG_INFINITY).log_softmax(-1, Kind::Float);
    }
    if sampling.top_p < 1.0 {
        let (sorted, order) = kept.sort(-1, true);
        let before = sorted.exp().cumsum(-1, Kind::Float) - sorted.exp(); // mass of the likelier tokens
        let outside = before.ge(f64::from(sampling.top_p));
        let dropped = outside.zeros_like().scatter(1, &order, &outside);
        kept = kept.masked_fill(&dropped, f64::NEG_INFINITY).log_softmax(-1, Kind::Float);
    }
    kept
}

fn inverse_cdf(log_probs: &Tensor, rows: &[Running]) -> Tensor {
    let uniforms: Vec<f32> = rows.iter().map(|r| uniform(r.request.key, r.sample, r.position())).collect();
    let u = Tensor::from_slice(&uniforms).to_device(log_probs.device()).unsqueeze(1);
    let cdf = log_probs.exp().cumsum(-1, Kind::Float);
    let vocab = log_probs.size()[1];
    let threshold = u * cdf.narrow(1, vocab - 1, 1);
    // The first place where the CDF exceeds the threshold has positive probability.
    threshold.searchsorted(&cdf, false, true, "right", None::<&Tensor>).clamp_max(vocab - 1).squeeze_dim(1)
}

/// A number in [0, 1) with 24 bits, a pure function of its arguments (SplitMix64, Steele et al., 2014).
fn uniform(key: u64, sample: u32, position: usize) -> f32 {
    let mixed = mix(mix(mix(key) ^ u64::from(sample)) ^ position as u64);
    (mixed >> 40) as f32 / (1u64 << 24) as f32
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniforms_are_keyed_and_spread() {
        assert_eq!(uniform(1, 2, 3), uniform(1, 2, 3));
        assert_ne!(uniform(1, 2, 3), uniform(1, 3, 3));
        let mean = (0..10_000).map(|i| f64::from(uniform(7, 0, i))).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
    }

    #[test]
    fn restriction_keeps_and_renormalises() {
        let probabilities = [0.5f32, 0.3, 0.15, 0.05];
        let row = Tensor::from_slice(&probabilities).log().unsqueeze(0);
        let params = |top_k, top_p| SamplingParams {
            temperature: 1.0,
            top_p,
            top_k,
            max_new_tokens: 1,
            ignore_eos: false,
        };
        let kept = |k, p| Vec::<f32>::try_from(restrict(&row, &params(k, p)).exp().view(-1)).unwrap();
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-6);
        assert!(close(&kept(2, 1.0), &[0.625, 0.375, 0.0, 0.0]));
        assert!(close(&kept(0, 0.7), &[0.625, 0.375, 0.0, 0.0]));
        assert!(close(&kept(0, 0.81), &[0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]));
        assert!(close(&kept(0, 1.0), &probabilities));
    }

    #[test]
    fn choice_takes_the_likelier_and_reports_both() {
        let row = Tensor::from_slice(&[0.1f32, 0.2, 0.7]).log();
        let drawn = choose(&row, &[0, 1]);
        assert_eq!(drawn.token, 1);
        assert!((drawn.logprob.exp() - 2.0 / 3.0).abs() < 1e-6);
        let of = drawn.choice_logprobs.unwrap();
        assert!((of[0].exp() - 0.1).abs() < 1e-6 && (of[1].exp() - 0.2).abs() < 1e-6);
    }
}
