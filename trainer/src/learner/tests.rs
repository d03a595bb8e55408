use super::*;
use crate::algorithm::NegativeLogLikelihood;
use sinternal_model::config::RopeScaling;
use sinternal_model::engine::{Engine, EngineOptions, Request, SamplingParams};
use sinternal_model::logprob::{chunk_rows, log_probs, strip_rows};
use sinternal_model::lora::{LoraConfig, Target};
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

/// A vocabulary so large that the head runs in several strips, of several chunks each.
const LARGE_VOCAB: i64 = 131_072;

fn gradients(learner: &mut Learner) -> Vec<Tensor> {
    let count = learner.lm.parameters().list().len();
    (0..count).map(|i| learner.optimizer.sums().get(i).copy()).collect()
}

/// Gradients of one pass, which stay in the sums of a learner that is thrown away.
fn pass(vocab: i64, compute: Compute, sequences: &[Sequence]) -> (StepStats, Vec<Tensor>) {
    let mut learner = learner(vocab);
    learner.set_compute(compute);
    let tokens = sequences.iter().map(Sequence::completion_len).sum();
    let stats = learner.accumulate(sequences, &mut NegativeLogLikelihood { tokens });
    let gradients = gradients(&mut learner);
    (stats, gradients)
}

fn assert_close(a: &[Tensor], b: &[Tensor], tolerance: f64) {
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let relative = (a - b).norm().double_value(&[]) / b.norm().double_value(&[]);
        assert!(relative < tolerance, "parameter {i}: relative difference {relative}");
    }
}

const WHOLE: Compute = Compute { micro_batch_tokens: 1 << 20, recompute: false };

/// A group of four whose prompt has seven tokens, and a sequence of its own.
fn group() -> Vec<Sequence> {
    let completions: [&[u32]; 4] = [&[1, 2, 3, 4, 5], &[9, 8], &[7], &[5, 5, 5, 5, 5, 5, 5, 5, 5]];
    let mut all: Vec<Sequence> =
        completions.iter().map(|c| Sequence::new(&[3, 1, 4, 1, 5, 9, 2], c)).collect();
    all.push(Sequence::new(&[6, 6], &[1, 2, 3]));
    all
}

#[test]
fn chunked_backward_equals_the_plain_one() {
    let all: Vec<Sequence> = (0..5).flat_map(|_| sequences()).collect();
    let (stats, chunked) = pass(LARGE_VOCAB, WHOLE, &all);

    // The plain way: whole sequences, all logits at once, libtorch's own backward.
    let plain = learner(LARGE_VOCAB);
    let tokens: Vec<&[u32]> = all.iter().map(|s| &s.tokens[..]).collect();
    let packed = sinternal_model::Packed::new(&tokens, Device::Cpu);
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for (s, range) in all.iter().zip(&packed.ranges) {
        rows.extend((range.start + s.prompt_len - 1..range.end - 1).map(|r| r as i64));
        targets.extend(s.tokens[s.prompt_len..].iter().map(|&t| i64::from(t)));
    }
    let (chunk, strip) = (chunk_rows(LARGE_VOCAB) as usize, strip_rows(LARGE_VOCAB) as usize);
    assert!(
        rows.len() > 2 * strip && strip > chunk,
        "{} rows, strips of {strip}, chunks of {chunk}",
        rows.len()
    );
    let hidden = plain.lm.forward(&packed).index_select(0, &Tensor::from_slice(&rows));
    let logits = hidden.linear(plain.lm.head(), None::<&Tensor>);
    let loss = logits.cross_entropy_loss::<Tensor>(
        &Tensor::from_slice(&targets),
        None,
        tch::Reduction::Mean,
        -100,
        0.0,
    );
    loss.backward();
    assert!((stats.loss - loss.double_value(&[])).abs() < 1e-5);
    let plain: Vec<Tensor> = plain.lm.parameters().list().iter().map(|p| p.tensor.grad()).collect();
    assert_close(&chunked, &plain, 1e-5);
}

#[test]
fn a_shared_prompt_gives_the_gradients_of_prompts_apart() {
    let all = group();
    let (shared, gradients) = pass(50, WHOLE, &all);
    // The same sequences in an order that keeps neighbours' prompts different.
    let apart: Vec<Sequence> = [0, 4, 1, 2, 3].map(|i| all[i].clone()).into();
    let one = Compute { micro_batch_tokens: 1, ..WHOLE };
    let (alone, plain) = pass(50, one, &apart);
    assert!((shared.loss - alone.loss).abs() < 1e-6);
    assert_close(&gradients, &plain, 1e-5);
}

#[test]
fn micro_batches_and_recomputation_do_not_change_gradients() {
    let mut all = sequences();
    all.extend(group());
    let (_, whole) = pass(50, WHOLE, &all);
    for compute in [
        Compute { micro_batch_tokens: 1, recompute: false },
        Compute { micro_batch_tokens: 30, recompute: false },
        Compute { micro_batch_tokens: 30, recompute: true },
        Compute { recompute: true, ..WHOLE },
    ] {
        let (_, gradients) = pass(50, compute, &all);
        assert_close(&gradients, &whole, 1e-5);
    }
}

#[test]
fn an_entropy_bonus_has_the_gradient_of_the_entropy() {
    struct Bonus;
    impl Objective for Bonus {
        fn loss(&mut self, chunk: &Chunk<'_>) -> Tensor {
            -(chunk.entropy.sum(Kind::Float)) + chunk.log_probs.sum(Kind::Float) * 0.0
        }
    }
    let all = sequences();
    let mut ours = Learner::new(CausalLm::random(config(50), 3, 0.2, Device::Cpu), AdamW::default(), 0.7);
    ours.accumulate(&all, &mut Bonus);
    let chunked = gradients(&mut ours);
    let plain = learner(50);
    let layout = Layout::new(&all, 0..all.len(), Device::Cpu);
    let hidden = plain.lm.forward(&layout.packed).index_select(0, &layout.rows);
    let logs = log_probs(&hidden, plain.lm.head(), 0.7);
    (logs.exp() * &logs).sum(Kind::Float).backward();
    let plain: Vec<Tensor> = plain.lm.parameters().list().iter().map(|p| p.tensor.grad()).collect();
    assert_close(&chunked, &plain, 1e-5);
}

#[test]
fn bfloat16_has_about_the_gradients_of_float32() {
    let all = group();
    let (_, truth) = pass(50, WHOLE, &all);
    let lm = CausalLm::random_in(config(50), 3, 0.2, Device::Cpu, Kind::BFloat16);
    let mut half = Learner::new(lm, AdamW::default(), 1.0);
    let tokens = all.iter().map(Sequence::completion_len).sum();
    half.accumulate(&all, &mut NegativeLogLikelihood { tokens });
    assert_close(&gradients(&mut half), &truth, 0.05);
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
fn sampler_and_learner_agree() {
    let learner = learner(50);
    let options = EngineOptions {
        max_sequences: 16,
        kv_budget_bytes: 1 << 24,
        max_waiting: 64,
        prefill_chunk_tokens: 512,
    };
    let mut engine = Engine::new(CausalLm::random(config(50), 3, 0.2, Device::Cpu), vec![0], 0, options);
    let sampling = SamplingParams::new(40);
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

#[test]
fn adapters_learn_and_nothing_else_changes() {
    let lora = LoraConfig { rank: 4, alpha: 8.0, dropout: 0.1, targets: Target::ALL.to_vec() };
    for recompute in [false, true] {
        let mut lm = CausalLm::random(config(50), 3, 0.2, Device::Cpu);
        lm.add_adapters(lora.clone(), 5);
        let before = lm.parameters().flat().copy();
        let mut learner = Learner::new(lm, AdamW::default(), 1.0);
        learner.set_compute(Compute { micro_batch_tokens: 30, recompute });
        let all = sequences();
        let tokens = all.iter().map(Sequence::completion_len).sum();
        let loss = |l: &mut Learner| l.step(&all, &mut NegativeLogLikelihood { tokens }, 1e-2, 1.0).loss;
        let first = loss(&mut learner);
        let last = (0..30).map(|_| loss(&mut learner)).last().unwrap();
        assert!(last < 0.7 * first, "{first} to {last}");
        assert_eq!((learner.lm.parameters().flat() - before).abs().max().double_value(&[]), 0.0);
    }
}

#[test]
fn adapters_have_the_gradients_of_libtorch() {
    let lora = LoraConfig {
        rank: 2,
        alpha: 6.0,
        dropout: 0.25,
        targets: vec![Target::QProj, Target::VProj, Target::UpProj],
    };
    let with = || {
        let mut lm = CausalLm::random(config(50), 3, 0.2, Device::Cpu);
        lm.add_adapters(lora.clone(), 5);
        let ramp =
            Tensor::linspace(-0.3, 0.3, lm.trained().flat().numel() as i64, (Kind::Float, Device::Cpu));
        no_grad(|| lm.trained().flat().shallow_clone().copy_(&ramp));
        lm
    };
    let all = group();
    let tokens = all.iter().map(Sequence::completion_len).sum();
    let gradients: Vec<Vec<Tensor>> = [false, true]
        .map(|recompute| {
            let mut learner = Learner::new(with(), AdamW::default(), 1.0);
            learner.set_compute(Compute { recompute, ..WHOLE });
            learner.accumulate(&all, &mut NegativeLogLikelihood { tokens });
            (0..learner.lm.trained().list().len()).map(|i| learner.optimizer.sums().get(i).copy()).collect()
        })
        .into();
    let plain = with();
    plain.trained().set_requires_grad(true);
    plain.set_dropout_key(Some(0));
    let layout = Layout::new(&all, 0..all.len(), Device::Cpu);
    let hidden = plain.forward(&layout.packed).index_select(0, &layout.rows);
    let logs = log_probs(&hidden, plain.head(), 1.0);
    (-logs.gather(1, &layout.targets.unsqueeze(1), false).mean(Kind::Float)).backward();
    let plain: Vec<Tensor> = plain.trained().list().iter().map(|p| p.tensor.grad()).collect();
    assert_close(&gradients[0], &plain, 1e-5);
    assert_close(&gradients[1], &plain, 1e-5);
}
