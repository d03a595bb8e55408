//! GSPO: one ratio for a sequence, s = (π(y) / π_old(y))^(1 / |y|), clipped as a whole.

use super::clip::Clip;
use super::terms::Terms;
use std::iter::repeat_n;
use tch::{Kind, Tensor};

/// Group sequence policy optimisation (Zheng et al., 2025, arXiv 2507.18071, eq. 5 and 7), in the form of its GSPO-token
/// (section 4.3): a token's ratio is sg(s) · π / sg(π), sg being stop-gradient.
///
/// Its value is s for every token of a sequence and its gradient by the token's log π is s, so that the mean over the
/// tokens of a sequence has the gradient of s itself. It needs s before the pass, and no other token of the sequence
/// during it: chunks may cut sequences. Importance weights of tokens act as its advantages of tokens. The paper's bounds
/// are 3e-4 below and 4e-4 above, far smaller than a token's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gspo {
    /// s is clipped to no less than 1 − this.
    pub low: f64,
    /// And to no more than 1 + this.
    pub high: f64,
}

impl Gspo {
    /// Of `log_probs` `[m]`, through which the gradient flows; `sequence` `[m]` is log s of each token's sequence, and
    /// absent where the policy is still the old one.
    pub(super) fn terms(&self, log_probs: &Tensor, sequence: Option<&Tensor>, advantages: &Tensor) -> Terms {
        let zero = log_probs - log_probs.detach();
        let ratios = sequence.map_or_else(|| zero.exp(), |log| (log + &zero).exp());
        Clip { low: self.low, high: self.high, dual: None }.terms(&ratios, advantages)
    }
}

/// log s of each token's sequence, `[tokens]` float32: the mean of `now − old` over the sequence. Both are `[tokens]`,
/// sequence after sequence, of these lengths.
pub fn sequence_log_ratios(now: &Tensor, old: &Tensor, lengths: &[usize]) -> Tensor {
    let counts: Vec<i64> = lengths.iter().map(|&n| n as i64).collect();
    let owner: Vec<i64> = counts.iter().zip(0..).flat_map(|(&n, i)| repeat_n(i, n as usize)).collect();
    let owner = Tensor::from_slice(&owner).to_device(now.device());
    let counts = Tensor::from_slice(&counts).to_device(now.device());
    let sums = Tensor::zeros([lengths.len() as i64], (Kind::Double, now.device()));
    let means = sums.index_add(0, &owner, &(now - old).to_kind(Kind::Double)) / counts;
    means.to_kind(Kind::Float).index_select(0, &owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_has_the_mean_of_its_tokens_log_ratios() {
        let now = Tensor::from_slice(&[-1.0f32, -2.0, -0.5, -1.0]);
        let old = Tensor::from_slice(&[-1.5f32, -1.0, -1.0, -2.0]);
        // 0.5; then (−1 + 0.5 + 1) / 3.
        let got = Vec::<f32>::try_from(sequence_log_ratios(&now, &old, &[1, 3])).unwrap();
        assert_eq!(got, [0.5, 0.5 / 3.0, 0.5 / 3.0, 0.5 / 3.0]);
    }

    #[test]
    fn the_tokens_of_a_sequence_clip_together() {
        // log s = 0.5, s = 1.6487 with bounds 0.8 and 1.3: a positive advantage clips and a negative one does not.
        let log_probs = Tensor::from_slice(&[-3.0f32, -0.1]).set_requires_grad(true);
        let (log, gspo) = (Tensor::from_slice(&[0.5f32, 0.5]), Gspo { low: 0.2, high: 0.3 });
        let up = gspo.terms(&log_probs, Some(&log), &Tensor::from_slice(&[1.0f32, 1.0]));
        assert_eq!(up.clipped.sum(Kind::Int64).int64_value(&[]), 2);
        let down = gspo.terms(&log_probs, Some(&log), &Tensor::from_slice(&[-1.0f32, -1.0]));
        assert_eq!(down.clipped.sum(Kind::Int64).int64_value(&[]), 0);
        (up.losses + down.losses).sum(Kind::Float).backward();
        let gradient = Vec::<f32>::try_from(log_probs.grad()).unwrap();
        assert!(gradient.iter().all(|g| (f64::from(*g) - 0.5f64.exp()).abs() < 1e-6), "{gradient:?}");
    }
}
