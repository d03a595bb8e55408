//! Drawing tokens: one uniform number per sequence, keyed by (key, sample, position), and the inverse CDF.

use super::request::{Choice, Pick, SamplingParams};
use super::sequence::Sequence;
use crate::logprob::log_probs;
use tch::{Device, Kind, Tensor};

/// Places that the inverse CDF sums up first, so that it adds up few numbers one after the other.
const BLOCK: i64 = 64;

/// A drawn token.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) token: u32,
    /// Under the distribution it was drawn from.
    pub(super) logprob: f32,
    /// At temperature 1 without truncation, where that was asked for.
    pub(super) plain: Option<f32>,
    /// Of the allowed tokens at temperature 1, where the draw was constrained.
    pub(super) choice_logprobs: Option<Vec<f32>>,
}

/// Draws the next token of each row; `hidden` `[rows, width]`, `head` `[vocab, width]`.
pub(super) fn draw(
    hidden: &Tensor,
    head: &Tensor,
    rows: &[&Sequence],
    sampling: &SamplingParams,
) -> Vec<Drawn> {
    let tempered = log_probs(hidden, head, sampling.temperature);
    let kept = restrict(&tempered, sampling);
    let uniforms: Vec<f32> = rows.iter().map(|r| uniform(r.request.key, r.sample, r.position())).collect();
    let greedy = sampling.temperature == 0.0;
    let tokens = if greedy { kept.argmax(-1, false) } else { inverse_cdf(&kept, &uniforms) };
    let constrained = rows.iter().any(|r| r.due_choice().is_some());
    let plain = (sampling.plain_logprobs || constrained).then(|| match sampling.temperature {
        0.0 | 1.0 => tempered.shallow_clone(),
        _ => log_probs(hidden, head, 1.0),
    });
    let of_tokens = |table: &Tensor| floats(&table.gather(1, &tokens.unsqueeze(1), false).squeeze_dim(1));
    let logprobs = of_tokens(&kept);
    let plain_logprobs = plain.as_ref().filter(|_| sampling.plain_logprobs).map(of_tokens);
    let tokens = Vec::<i64>::try_from(tokens.to_device(Device::Cpu)).expect("int64 of one dimension");
    let free = |i: usize| Drawn {
        token: tokens[i] as u32,
        logprob: logprobs[i].min(0.0),
        plain: plain_logprobs.as_ref().map(|p| p[i]),
        choice_logprobs: None,
    };
    let one = |(i, row): (usize, &&Sequence)| match (row.due_choice(), &plain) {
        (Some(choice), Some(plain)) => {
            let at = |table: &Tensor| allowed(&table.get(i as i64), choice);
            let drawn = choose(choice, &at(&tempered), at(plain), uniforms[i], greedy);
            Drawn { plain: drawn.plain.filter(|_| sampling.plain_logprobs), ..drawn }
        }
        _ => free(i),
    };
    rows.iter().enumerate().map(one).collect()
}

fn floats(x: &Tensor) -> Vec<f32> {
    Vec::try_from(x.to_device(Device::Cpu)).expect("float32 of one dimension")
}

fn allowed(row: &Tensor, choice: &Choice) -> Vec<f32> {
    let at: Vec<i64> = choice.choices.iter().map(|&c| i64::from(c)).collect();
    floats(&row.index_select(0, &Tensor::from_slice(&at).to_device(row.device())))
}

/// One of the allowed tokens; its log-probability is that among them.
fn choose(choice: &Choice, tempered: &[f32], plain: Vec<f32>, uniform: f32, greedy: bool) -> Drawn {
    let best = (0..tempered.len()).fold(0, |best, i| if tempered[i] > tempered[best] { i } else { best });
    let masses: Vec<f32> = tempered.iter().map(|l| (l - tempered[best]).exp()).collect();
    let total: f32 = masses.iter().sum();
    let mut left = uniform * total;
    let drawn = masses.iter().position(|mass| {
        left -= mass;
        left < 0.0
    });
    let at = if greedy || choice.pick == Pick::Likeliest { best } else { drawn.unwrap_or(best) };
    Drawn {
        token: choice.choices[at],
        logprob: tempered[at] - tempered[best] - total.ln(),
        plain: Some(plain[at]),
        choice_logprobs: Some(plain),
    }
}

/// Keeps the top-k, then the top-p tokens, then those above min-p, and renormalises.
fn restrict(log_probs: &Tensor, sampling: &SamplingParams) -> Tensor {
    let vocab = log_probs.size()[1];
    let mut kept = log_probs.shallow_clone();
    if sampling.temperature == 0.0 {
        return kept;
    }
    let without = |kept: &Tensor, dropped: &Tensor| {
        kept.masked_fill(dropped, f64::NEG_INFINITY).log_softmax(-1, Kind::Float)
    };
    if sampling.top_k > 0 && (sampling.top_k as i64) < vocab {
        // By place, not by value: of equal tokens at the border, which are common in bfloat16, none goes in addition.
        let (_, places) = kept.topk(sampling.top_k as i64, -1, true, true);
        let dropped = kept.ones_like().to_kind(Kind::Bool).scatter_value(1, &places, 0);
        kept = without(&kept, &dropped);
    }
    if sampling.top_p < 1.0 {
        let (sorted, order) = kept.sort(-1, true);
        let before = sorted.exp().cumsum(-1, Kind::Float) - sorted.exp(); // mass of the likelier tokens
        let outside = before.ge(f64::from(sampling.top_p));
        kept = without(&kept, &outside.zeros_like().scatter(1, &order, &outside));
    }
    if sampling.min_p > 0.0 {
        let least = kept.amax([-1i64].as_slice(), true) + f64::from(sampling.min_p).ln();
        kept = without(&kept, &kept.lt_tensor(&least));
    }
    kept
}

/// The first place where the CDF exceeds a row's uniform number, `[rows]`: found among sums of blocks, then in one.
fn inverse_cdf(log_probs: &Tensor, uniforms: &[f32]) -> Tensor {
    let [rows, vocab] = log_probs.size()[..] else { unreachable!("two dimensions") };
    let block = if vocab % BLOCK == 0 { BLOCK } else { vocab };
    let masses = log_probs.exp().view([rows, vocab / block, block]);
    let cdf = masses.sum_dim_intlist(-1, false, Kind::Float).cumsum(-1, Kind::Float); // [rows, blocks]
    let u = Tensor::from_slice(uniforms).to_device(log_probs.device()).unsqueeze(1);
    let threshold = u * last(&cdf);
    let at = first_above(&cdf, &threshold); // [rows, 1]
    let before = cdf.constant_pad_nd([1, 0]).gather(1, &at, false);
    let inner = masses.gather(1, &at.unsqueeze(2).expand([rows, 1, block], false), false).squeeze_dim(1);
    (&at * block + first_above(&inner.cumsum(-1, Kind::Float), &(threshold - before))).squeeze_dim(1)
}

fn last(cdf: &Tensor) -> Tensor {
    cdf.narrow(1, cdf.size()[1] - 1, 1)
}

/// Where each row of a CDF first exceeds its threshold, `[rows, 1]`: a place of positive mass, as rounding is kept
/// from lifting the threshold to the total.
fn first_above(cdf: &Tensor, threshold: &Tensor) -> Tensor {
    let below = threshold.minimum(&(last(cdf) * (1.0 - f64::from(f32::EPSILON))));
    below.searchsorted(cdf, false, true, "right", None::<&Tensor>).clamp_max(cdf.size()[1] - 1)
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
        let kept = |top_k, top_p, min_p| {
            let params = SamplingParams { top_p, top_k, min_p, ..SamplingParams::new(1) };
            Vec::<f32>::try_from(restrict(&row, &params).exp().view(-1)).unwrap()
        };
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-6);
        assert!(close(&kept(2, 1.0, 0.0), &[0.625, 0.375, 0.0, 0.0]));
        assert!(close(&kept(0, 0.7, 0.0), &[0.625, 0.375, 0.0, 0.0]));
        assert!(close(&kept(0, 0.81, 0.0), &[0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]));
        assert!(close(&kept(0, 1.0, 0.0), &probabilities));
        // 0.3 of the likeliest one's 0.5 is 0.15; 0.31 of it is more than the third has.
        assert!(close(&kept(0, 1.0, 0.29), &[0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]));
        assert!(close(&kept(0, 1.0, 0.31), &[0.625, 0.375, 0.0, 0.0]));
        assert!(close(&kept(0, 1.0, 1.0), &[1.0, 0.0, 0.0, 0.0]));
        let tied = Tensor::from_slice(&[0.3f32, 0.3, 0.3, 0.1]).log().unsqueeze(0);
        let two = restrict(&tied, &SamplingParams { top_k: 2, ..SamplingParams::new(1) }).exp();
        assert_eq!(two.gt(0.0).sum(Kind::Int64).int64_value(&[]), 2);
    }

    #[test]
    fn the_inverse_cdf_skips_tokens_without_mass() {
        // 128 tokens in two blocks; masses 1/4, 1/4 and 1/2 at 3, 70 and 71.
        let mut masses = [0f32; 128];
        (masses[3], masses[70], masses[71]) = (0.25, 0.25, 0.5);
        let row = Tensor::from_slice(&masses).log().unsqueeze(0);
        let at = |u: f32| inverse_cdf(&row, &[u]).int64_value(&[0]);
        assert_eq!([0.0, 0.2499, 0.25, 0.4999, 0.5, 0.9999].map(at), [3, 3, 70, 70, 71, 71]);
        assert_eq!(at(1.0 - f32::EPSILON / 2.0), 71);
        let odd = row.narrow(1, 0, 73); // one block
        assert_eq!(inverse_cdf(&odd, &[0.3]).int64_value(&[0]), 70);
    }

    #[test]
    fn a_choice_reports_all_and_is_likeliest_or_drawn() {
        let of: Vec<f32> = [0.1f32, 0.2].iter().map(|p| p.ln()).collect();
        let verdict = Choice::verdict(Vec::new(), vec![7, 9]);
        let drawn = choose(&verdict, &of, of.clone(), 0.0, false);
        assert_eq!(drawn.token, 9);
        assert!((drawn.logprob.exp() - 2.0 / 3.0).abs() < 1e-6);
        assert_eq!(drawn.choice_logprobs.as_ref(), Some(&of));
        let free = Choice { pick: Pick::Drawn, ..verdict };
        let at = |u| choose(&free, &of, of.clone(), u, false);
        assert_eq!((at(0.3).token, at(0.34).token), (7, 9));
        assert!((at(0.3).logprob.exp() - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(choose(&free, &of, of.clone(), 0.3, true).token, 9);
    }
}
