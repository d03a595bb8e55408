use super::super::batch::tests::{sample, spec};
use super::*;
use crate::algorithm::{Aggregation, Importance, Loss};
use crate::learner::AdamW;
use crate::spec::ObjectiveKind;
use sinternal_model::config::RopeScaling;
use sinternal_model::{CausalLm, Device, Family, ModelConfig};

const LIMIT: u32 = 64;

fn learner() -> Learner {
    let config = ModelConfig {
        family: Family::Qwen3,
        hidden: 32,
        intermediate: 48,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 50,
        max_positions: 96,
        norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope: RopeScaling::Default,
        tied: true,
        qkv_bias: false,
        sliding: None,
    };
    Learner::new(CausalLm::random(config, 3, 0.2, Device::Cpu), AdamW::default(), 1.0)
}

/// Two groups of completions of different lengths.
fn batch(spec: &GrpoSpec) -> Batch {
    let tokens = |i: u32, n: u32| (0..n).map(|t| (i * 17 + t * 7 + 3) % 50).collect::<Vec<u32>>();
    let group = |first: u32, rewards: [f32; 3]| {
        let each = (first..).zip(rewards);
        each.map(|(i, reward)| sample(Some(reward), &tokens(i, 2 + i * 5 % 23))).collect::<Vec<_>>()
    };
    Batch::assemble(&[group(1, [1.0, 0.0, 0.3]), group(4, [0.0, 1.0, 1.0])], spec, LIMIT)
}

fn objectives() -> [GrpoSpec; 4] {
    let of = |objective| GrpoSpec { objective, clip: 0.01, epochs: 3, ..spec() };
    [
        of(ObjectiveKind::Clip),
        GrpoSpec { dual_clip: Some(1.01), ..of(ObjectiveKind::Clip) },
        GrpoSpec { aggregation: Aggregation::SequenceMeanTokenMean, ..of(ObjectiveKind::Gspo) },
        GrpoSpec { clip_high: Some(0.01), ..of(ObjectiveKind::Cispo) },
    ]
}

#[test]
fn on_policy_the_first_ratio_is_exactly_one_and_nothing_clips() {
    for spec in objectives() {
        let (mut learner, batch) = (learner(), batch(&spec));
        let stats = update(&mut learner, &batch, &spec, LIMIT, 1e-2);
        assert_eq!((stats.first_ratio_gap, stats.first_clip_fraction), (0.0, 0.0), "{:?}", spec.objective);
        assert!(stats.clip_fraction > 0.0, "{:?}: the last pass clips", spec.objective);
        assert!(stats.grad_norm > 0.0 && stats.skipped == 0);
    }
}

#[test]
fn scores_are_bit_for_bit_what_the_step_starts_from() {
    for spec in objectives() {
        let (mut learner, batch) = (learner(), batch(&spec));
        let lengths = batch.lengths();
        let weights = Tensor::from_slice(&token_weights(&lengths, spec.aggregation, LIMIT));
        let scored = learner.score(&batch.sequences);
        let tensors = GrpoBatch {
            advantages: Tensor::from_slice(&batch.token_advantages()),
            behaviour: Tensor::from_slice(&batch.behaviour),
            sequence: Some(sequence_log_ratios(&scored, &scored, &lengths)),
            old: Some(scored.copy()),
            reference: None,
            weights,
        };
        let settings = Loss { importance: None, ..spec.loss() };
        let mut first = Grpo::new(&tensors, settings);
        let step = learner.step(&batch.sequences, &mut first, 1e-2, 1.0);
        assert_eq!(Vec::<f32>::try_from(&step.log_probs).unwrap(), Vec::<f32>::try_from(&scored).unwrap());
        let stats = first.stats();
        assert_eq!((stats.ratio, stats.max_ratio_gap, stats.clip_fraction), (1.0, 0.0, 0.0));
        let mut second = Grpo::new(&tensors, settings);
        learner.step(&batch.sequences, &mut second, 1e-2, 1.0);
        let moved = second.stats().max_ratio_gap > 1e-3 || spec.objective == ObjectiveKind::Gspo;
        assert!(moved, "the first step changed the policy");
    }
}

#[test]
fn a_later_pass_of_gspo_sees_how_far_its_sequences_moved() {
    let spec = objectives()[2];
    let batch = batch(&spec);
    let mut trained = learner();
    let old = trained.score(&batch.sequences);
    let two = GrpoSpec { epochs: 2, clip: 1e-9, ..spec };
    let stats = update(&mut trained, &batch, &two, LIMIT, 1e-2);
    // The second pass clips whole sequences whose ratio improved, so its share is that of their tokens.
    let mut once = learner();
    let _ = update(&mut once, &batch, &GrpoSpec { epochs: 1, ..spec }, LIMIT, 1e-2);
    let moved = sequence_log_ratios(&once.score(&batch.sequences), &old, &batch.lengths());
    let gains = moved * Tensor::from_slice(&batch.token_advantages());
    let improved = gains.gt(0.0).mean(tch::Kind::Double).double_value(&[]);
    assert!(improved > 0.5, "an update improves what it is meant to: {improved}");
    assert!((stats.clip_fraction - improved).abs() < 1e-9, "{} against {improved}", stats.clip_fraction);
}

#[test]
fn the_sampler_is_compared_and_corrected() {
    let spec = GrpoSpec { importance: Some(Importance::Truncate { cap: 2.0 }), ..spec() };
    let (mut learner, mut batch) = (learner(), batch(&spec));
    let scored = learner.score(&batch.sequences);
    batch.behaviour = Vec::try_from(&scored).unwrap();
    let exact = update(&mut learner, &batch, &spec, LIMIT, 0.0).mismatch;
    assert_eq!((exact.mean, exact.max, exact.corrected, exact.effective), (0.0, 0.0, 0.0, 1.0));
    // One token was sampled with a quarter of the learner's probability.
    batch.behaviour[3] -= 4f32.ln();
    let stats = update(&mut learner, &batch, &spec, LIMIT, 0.0);
    let n = batch.behaviour.len() as f64;
    assert!((stats.mismatch.max - 4f64.ln()).abs() < 1e-5);
    assert!((stats.mismatch.corrected - 1.0 / n).abs() < 1e-9);
    let effective = (n + 3.0).powi(2) / (n + 15.0) / n;
    assert!((stats.mismatch.effective - effective).abs() < 1e-5, "{:?}", stats.mismatch);
    assert_eq!((stats.first_ratio_gap, stats.first_clip_fraction), (0.0, 0.0));
}

#[test]
fn an_entropy_bonus_keeps_the_policy_wider() {
    let trained = |entropy| {
        let spec = GrpoSpec { entropy, epochs: 8, ..spec() };
        let mut learner = learner();
        let batch = batch(&spec);
        let _ = update(&mut learner, &batch, &spec, LIMIT, 1e-2);
        update(&mut learner, &batch, &GrpoSpec { epochs: 1, ..spec }, LIMIT, 0.0).entropy
    };
    let (without, with) = (trained(0.0), trained(1.0));
    assert!(with > without + 0.1, "{with} against {without}");
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing_and_is_counted() {
    let spec = GrpoSpec { epochs: 2, ..spec() };
    let (mut learner, mut batch) = (learner(), batch(&spec));
    let before = learner.score(&batch.sequences);
    batch.advantages[0] = f64::NAN;
    let stats = update(&mut learner, &batch, &spec, LIMIT, 1e-2);
    assert_eq!(stats.skipped, 2);
    let after = learner.score(&batch.sequences);
    assert_eq!(Vec::<f32>::try_from(&before).unwrap(), Vec::<f32>::try_from(&after).unwrap());
}

#[test]
fn an_update_costs_two_operations_a_parameter_and_token_forward_and_six_in_training() {
    // Prompt and first completion are 2 + 3 tokens of which the last predicts nothing, the other completions 1 and 4 more.
    let of = |completion: &[u32]| Sequence::new(&[1, 2], completion);
    let group = [of(&[3, 4, 5]), of(&[6, 7]), of(&[8; 5])];
    let cost = |trains_weights| Cost::of(10.0, trains_weights, &group);
    assert_eq!(cost(true), Cost { forward: 180.0, train: 540.0 });
    assert_eq!(cost(false), Cost { forward: 180.0, train: 360.0 });

    let spec = GrpoSpec { epochs: 3, ..spec() };
    let (mut learner, batch) = (learner(), batch(&spec));
    let forward =
        2.0 * learner.lm().parameters().flat().numel() as f64 * computed_tokens(&batch.sequences) as f64;
    let plain = update(&mut learner, &batch, &spec, LIMIT, 1e-3).flop;
    assert_eq!(plain, 9.0 * forward);
    let gspo = GrpoSpec { objective: ObjectiveKind::Gspo, ..spec };
    assert_eq!(
        update(&mut learner, &batch, &gspo, LIMIT, 1e-3).flop,
        11.0 * forward,
        "two passes that score"
    );
}
