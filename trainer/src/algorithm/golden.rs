//! Losses and gradients against values that `golden/make.py` computed by the formulas of the papers and of TRL.

use super::*;
use crate::learner::{Chunk, Objective};
use serde::Deserialize;
use std::iter::repeat_n;
use tch::{Device, Kind, Tensor};

#[derive(Debug, Deserialize)]
struct Golden {
    lengths: Vec<usize>,
    limit: u32,
    low: f64,
    high: f64,
    old: Vec<f32>,
    new: Vec<f32>,
    behaviour: Vec<f32>,
    reference: Vec<f32>,
    entropy: Vec<f32>,
    advantages: Vec<f32>,
    mismatch: GoldenMismatch,
    punishment: Vec<f64>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct GoldenMismatch {
    mean: f64,
    max: f64,
    effective: f64,
    truncated: f64,
}

#[derive(Debug, Deserialize)]
struct Case {
    objective: String,
    aggregation: Aggregation,
    dual_clip: Option<f64>,
    importance: Option<Importance>,
    kl: Option<f64>,
    kl_estimator: Option<KlEstimator>,
    #[serde(default)]
    entropy: f64,
    loss: f64,
    of_log_probs: Vec<f32>,
    of_entropy: Vec<f32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/losses.json")).unwrap()
}

impl Golden {
    fn settings(&self, case: &Case) -> Loss {
        let (low, high) = (self.low, self.high);
        let surrogate = match &*case.objective {
            "clip" => Surrogate::Clip(Clip { low, high, dual: case.dual_clip }),
            "gspo" => Surrogate::Gspo(Gspo { low, high }),
            _ => Surrogate::Cispo(Cispo { high }),
        };
        Loss {
            surrogate,
            importance: case.importance,
            kl: case.kl.unwrap_or_default(),
            estimator: case.kl_estimator.unwrap_or_default(),
            entropy: case.entropy,
        }
    }

    /// `old` as a later pass sees it, or as the first one does.
    fn batch(&self, case: &Case, first: bool) -> GrpoBatch {
        let tensor = |values: &[f32]| Tensor::from_slice(values);
        let (old, new) = (tensor(&self.old), tensor(&self.new));
        let advantages: Vec<f32> =
            self.lengths.iter().zip(&self.advantages).flat_map(|(&n, &a)| repeat_n(a, n)).collect();
        GrpoBatch {
            advantages: tensor(&advantages),
            sequence: (!first).then(|| sequence_log_ratios(&new, &old, &self.lengths)),
            old: (!first).then_some(old),
            behaviour: tensor(&self.behaviour),
            reference: case.kl.map(|_| tensor(&self.reference)),
            weights: tensor(&token_weights(&self.lengths, case.aggregation, self.limit)),
        }
    }

    /// Loss, gradients by log-probabilities and by entropies, and figures of a pass in chunks that cut sequences.
    fn pass(&self, batch: &GrpoBatch, settings: Loss, chunk: usize) -> (f64, Vec<f32>, Vec<f32>, GrpoStats) {
        let mut objective = Grpo::new(batch, settings);
        let (mut loss, mut of_log_probs, mut of_entropy) = (0.0, Vec::new(), Vec::new());
        for start in (0..self.new.len()).step_by(chunk) {
            let range = start..(start + chunk).min(self.new.len());
            let leaf = |all: &[f32]| Tensor::from_slice(&all[range.clone()]).set_requires_grad(true);
            let (log_probs, entropy) = (leaf(&self.new), leaf(&self.entropy));
            let places = (range.start as i64, range.end as i64);
            let places = Tensor::arange_start(places.0, places.1, (Kind::Int64, Device::Cpu));
            let part = objective.loss(&Chunk { log_probs: &log_probs, entropy: &entropy, places: &places });
            part.backward();
            loss += part.double_value(&[]);
            let gradient = |leaf: &Tensor| {
                let gradient = leaf.grad();
                let gradient = if gradient.defined() { gradient } else { leaf.zeros_like() };
                Vec::<f32>::try_from(gradient).unwrap()
            };
            of_log_probs.extend(gradient(&log_probs));
            of_entropy.extend(gradient(&entropy));
        }
        (loss, of_log_probs, of_entropy, objective.stats())
    }
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn losses_and_gradients_are_those_of_the_formulas_whatever_the_chunks() {
    let golden = golden();
    assert!(golden.cases.len() >= 15);
    for (case, chunk) in golden.cases.iter().flat_map(|case| [5, 8, 100].map(|chunk| (case, chunk))) {
        let settings = golden.settings(case);
        let (loss, of_log_probs, of_entropy, stats) =
            golden.pass(&golden.batch(case, false), settings, chunk);
        assert!((loss - case.loss).abs() < 1e-6, "{case:?}: {loss}");
        let gap = farthest(&of_log_probs, &case.of_log_probs);
        assert!(gap < 1e-6, "{settings:?}: gradients differ by {gap}");
        assert!(farthest(&of_entropy, &case.of_entropy) < 1e-6, "{settings:?}");
        assert!(stats.clip_fraction > 0.0 && stats.max_ratio_gap > 0.1, "{settings:?}: {stats:?}");
    }
}

#[test]
fn in_the_first_pass_every_ratio_is_one_and_nothing_clips() {
    let golden = golden();
    for case in &golden.cases {
        let settings = golden.settings(case);
        let (.., stats) = golden.pass(&golden.batch(case, true), settings, 5);
        assert_eq!((stats.ratio, stats.max_ratio_gap, stats.clip_fraction), (1.0, 0.0, 0.0), "{settings:?}");
    }
}

#[test]
fn all_objectives_start_with_the_same_gradient() {
    // On-policy each of them is the policy gradient −A ∇ log π.
    let golden = golden();
    let case = |objective: &str| golden.cases.iter().find(|c| c.objective == objective).unwrap();
    let plain = case("clip");
    let gradient = |objective: &str| {
        let settings = Loss { importance: None, ..golden.settings(case(objective)) };
        golden.pass(&golden.batch(plain, true), settings, 5).1
    };
    let weights = token_weights(&golden.lengths, plain.aggregation, golden.limit);
    let advantages = golden.lengths.iter().zip(&golden.advantages).flat_map(|(&n, &a)| repeat_n(a, n));
    let expected: Vec<f32> = advantages.zip(weights).map(|(a, w)| -a * w).collect();
    for objective in ["clip", "gspo", "cispo"] {
        assert!(farthest(&gradient(objective), &expected) < 1e-7, "{objective}");
    }
}

#[test]
fn figures_and_punishment_are_those_of_the_formulas() {
    let golden = golden();
    let importance = Some(Importance::Truncate { cap: 1.5 });
    let found =
        mismatch(&Tensor::from_slice(&golden.old), &Tensor::from_slice(&golden.behaviour), importance);
    let expected = [
        (found.mean, golden.mismatch.mean),
        (found.max, golden.mismatch.max),
        (found.effective, golden.mismatch.effective),
        (found.corrected, golden.mismatch.truncated),
    ];
    assert!(expected.iter().all(|(a, b)| (a - b).abs() < 1e-6), "{expected:?}");
    assert!(golden.mismatch.truncated > 0.0);
    let overlong = Overlong { buffer: 6, mask: false };
    for (tokens, expected) in golden.punishment.iter().enumerate() {
        assert!((overlong.penalty(tokens, golden.limit) - expected).abs() < 1e-12, "{tokens}");
    }
}
