use super::*;
use crate::algorithm::{Grpo, GrpoBatch, NegativeLogLikelihood, Surrogate};
use sinternal_model::config::RopeScaling;
use sinternal_model::engine::{Engine, EngineOptions, Request, SamplingParams};
use sinternal_model::{Device, Family, ModelConfig};

fn config(vocab: i64) -> ModelConfig {
    ModelConfig {
        family: Family::Qwen3,
        hidden: 32,
        intermediate: 48,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab,
        max_positions: 96,
        norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope: RopeScaling::Default,
        tied: true,
        qkv_bias: false,
        sliding: None,
    }
}

fn learner(vocab: i64) -> Learner {
    Learner::new(CausalLm::random(config(vocab), 3, 0.2, Device::Cpu), AdamW::default(), 1.0)
}

fn sequences() -> Vec<Sequence> {
    let lengths = [(3, 9), (5, 2), (4, 30), (2, 2), (7, 11)];
    let token = |i: usize, t: usize| ((i * 17 + t * 7 + 3) % 50) as u32;
    let draw = |i: usize, n: usize| (0..n).map(|t| token(i, t)).collect::<Vec<_>>();
    lengths.iter().enumerate().map(|(i, &(p, c))| Sequence::new(&draw(i, p), &draw(i + 9, c))).collect()
}

fn gradients(learner: &Learner) -> Vec<Tensor> {
    learner.lm.parameters().iter().map(|p| p.tensor.grad().copy()).collect()
}

#[test]
fn chunked_backward_equals_the_plain_one() {
    // A vocabulary so large that the head runs in chunks: 8 Mi / 524,288 = 16 rows at a time.
    let learner = learner(524_288);
    let all = sequences();
    let tokens = all.iter().map(Sequence::completion_len).sum();
    let layout = Layout::new(&all, 0..all.len(), &learner.lm);
    assert!(layout.len() > 3 * chunk_rows(524_288) as usize);

    let (loss, _) = learner.accumulate(&layout, &mut NegativeLogLikelihood { tokens });
    let chunked = gradients(&learner);
    learner.lm.parameters().iter().for_each(|p| p.tensor.shallow_clone().zero_grad());

    let hidden = learner.lm.forward(&layout.packed).index_select(0, &layout.rows);
    let plain = log_probs(&hidden, learner.lm.head(), 1.0);
    let plain = -plain.gather(1, &layout.targets.unsqueeze(1), false).mean(Kind::Float);
    plain.backward();
    assert!((loss - plain.double_value(&[])).abs() < 1e-5);
    for (a, b) in chunked.iter().zip(gradients(&learner)) {
        let relative = (a - &b).norm().double_value(&[]) / b.norm().double_value(&[]);
        assert!(relative < 1e-5, "relative difference {relative}");
    }
}

#[test]
fn micro_batches_respect_their_bound_and_keep_everything() {
    let long: Vec<Sequence> =
        [9000, 7000, 1000, 20_000, 5].map(|n| Sequence { tokens: vec![1; n], prompt_len: 1 }).into();
    assert_eq!(micro_batches(&long), [0..2, 2..3, 3..4, 4..5]);
}

#[test]
fn scores_do_not_depend_on_company() {
    let learner = learner(50);
    let all = sequences();
    let together = Vec::<f32>::try_from(learner.score(&all)).unwrap();
    let alone: Vec<f32> = all
        .iter()
        .flat_map(|s| Vec::<f32>::try_from(learner.score(std::slice::from_ref(s))).unwrap())
        .collect();
    assert_eq!(together.len(), alone.len());
    assert!(together.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn on_policy_the_first_ratio_is_exactly_one() {
    let mut learner = learner(50);
    let all = sequences();
    let old = learner.score(&all);
    let advantages = Tensor::linspace(-1.0, 1.0, old.size()[0], (Kind::Float, Device::Cpu));
    let weights = advantages.full_like(1.0 / advantages.size()[0] as f64);
    let batch = GrpoBatch { advantages, old, reference: None, weights };
    let settings = Surrogate { clip_low: 0.2, clip_high: 0.2, kl: 0.0 };
    let mut first = Grpo::new(&batch, settings);
    learner.step(&all, &mut first, 1e-2, 1.0);
    assert_eq!(
        (first.stats().ratio, first.stats().max_ratio_gap, first.stats().clip_fraction),
        (1.0, 0.0, 0.0)
    );
    let mut second = Grpo::new(&batch, settings);
    learner.step(&all, &mut second, 1e-2, 1.0);
    assert!(second.stats().max_ratio_gap > 1e-3, "the first step changed the policy");
}

#[test]
fn sampler_and_learner_agree() {
    let learner = learner(50);
    let options = EngineOptions { max_sequences: 16, kv_budget_bytes: 1 << 24, max_waiting: 64 };
    let mut engine = Engine::new(CausalLm::random(config(50), 3, 0.2, Device::Cpu), vec![0], 0, options);
    let sampling =
        SamplingParams { temperature: 1.0, top_p: 1.0, top_k: 0, max_new_tokens: 40, ignore_eos: false };
    let (prompt, samples) = (vec![4, 5, 6], (0..16).collect());
    engine
        .submit(Request { id: 1, key: 5, prompt: prompt.clone(), samples, sampling, choice: None })
        .unwrap();
    while !engine.is_idle() {
        for finished in engine.step() {
            let sequence = Sequence::new(&prompt, &finished.tokens);
            let scored = Vec::<f32>::try_from(learner.score(&[sequence])).unwrap();
            assert!(finished.logprobs.iter().zip(&scored).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}

#[test]
fn likelihood_rises() {
    let mut learner = learner(50);
    let all = sequences();
    let tokens = all.iter().map(Sequence::completion_len).sum();
    let loss = |l: &mut Learner| l.step(&all, &mut NegativeLogLikelihood { tokens }, 1e-2, 1.0).loss;
    let first = loss(&mut learner);
    let last = (0..30).map(|_| loss(&mut learner)).last().unwrap();
    assert!(last < 0.5 * first, "{first} to {last}");
}
