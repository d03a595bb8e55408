use super::*;
use crate::Packed;
use crate::config::{Family, ModelConfig, RopeScaling};
use crate::logprob::{log_probs, target_log_probs};
use tch::{Device, Tensor};

const EOS: u32 = 0;

fn config(family: Family) -> ModelConfig {
    ModelConfig {
        family,
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
        qkv_bias: family == Family::Qwen2,
        sliding: None,
    }
}

/// Weights drawn wide, so that a wrong angle or mask shows.
fn lm() -> CausalLm {
    CausalLm::random(config(Family::Qwen3), 11, 0.3, Device::Cpu)
}

fn engine(max_sequences: usize) -> Engine {
    let options = EngineOptions {
        max_sequences,
        kv_budget_bytes: 1 << 24,
        max_waiting: 1000,
        prefill_chunk_tokens: 512,
    };
    Engine::new(lm(), vec![EOS], 1, options)
}

fn sampling(max_new_tokens: usize) -> SamplingParams {
    SamplingParams { ignore_eos: true, ..SamplingParams::new(max_new_tokens) }
}

fn request(id: u64, prompt: &[u32], samples: &[u32], sampling: SamplingParams) -> Request {
    Request { id, key: 1000 + id, prompt: prompt.to_vec(), samples: samples.to_vec(), sampling, choice: None }
}

fn run(engine: &mut Engine) -> Vec<Finished> {
    let mut out = Vec::new();
    for _ in 0..10_000 {
        out.extend(engine.step());
        if engine.is_idle() {
            out.sort_by_key(|f| (f.id, f.sample));
            return out;
        }
    }
    panic!("the engine never became idle");
}

/// Log-probabilities of a completion by the packed pass, which knows no cache.
fn uncached(lm: &CausalLm, prompt: &[u32], completion: &[u32]) -> Vec<f32> {
    let all = [prompt, completion].concat();
    let packed = Packed::new(&[&all], Device::Cpu);
    let hidden = no_grad(|| lm.forward(&packed));
    let targets: Vec<i64> = completion.iter().map(|&t| i64::from(t)).collect();
    let hidden = hidden.narrow(0, prompt.len() as i64 - 1, completion.len() as i64);
    Vec::try_from(target_log_probs(&hidden, lm.head(), &Tensor::from_slice(&targets), 1.0)).unwrap()
}

#[test]
fn cached_log_probabilities_equal_uncached_ones() {
    for family in [Family::Qwen2, Family::Qwen3, Family::Llama] {
        let options = EngineOptions {
            max_sequences: 8,
            kv_budget_bytes: 1 << 24,
            max_waiting: 100,
            prefill_chunk_tokens: 512,
        };
        let lm = CausalLm::random(config(family), 5, 0.3, Device::Cpu);
        let mut engine = Engine::new(lm, vec![EOS], 1, options);
        engine.submit(request(1, &[3, 4, 5], &[0, 1, 2], sampling(40))).unwrap();
        engine.submit(request(2, &[9; 20], &[0], sampling(30))).unwrap();
        let finished = run(&mut engine);
        assert_eq!(finished.len(), 4);
        for f in finished {
            let prompt: &[u32] = if f.id == 1 { &[3, 4, 5] } else { &[9; 20] };
            for (a, b) in f.logprobs.iter().zip(uncached(engine.lm(), prompt, &f.tokens)) {
                assert!((a - b).abs() < 1e-5, "{family:?}: {a} against {b}");
            }
        }
    }
}

#[test]
fn tokens_do_not_depend_on_the_rest_of_the_batch() {
    let alone = {
        let mut engine = engine(8);
        engine.submit(request(7, &[5, 6], &[3], sampling(25))).unwrap();
        run(&mut engine).remove(0)
    };
    let mut engine = engine(3); // joins late, in another row, beside others
    for id in 0..7 {
        engine.submit(request(id, &[1, 2, 3, id as u32 + 4], &[0, 1], sampling(5 + id as usize))).unwrap();
    }
    engine.submit(request(7, &[5, 6], &[3], sampling(25))).unwrap();
    let together = run(&mut engine).into_iter().find(|f| f.id == 7).unwrap();
    assert_eq!(alone.tokens, together.tokens);
    for (a, b) in alone.logprobs.iter().zip(&together.logprobs) {
        assert!((a - b).abs() < 1e-5);
    }
}

#[test]
fn a_group_is_prefilled_once() {
    let mut engine = engine(16);
    engine.submit(request(1, &[7; 30], &[0, 1, 2, 3, 4, 5, 6, 7], sampling(4))).unwrap();
    let finished = run(&mut engine);
    let stats = engine.stats();
    // The last token of a prompt is each sample's first decode step.
    assert_eq!((stats.prefilled_tokens, stats.shared_tokens, stats.generated_tokens), (29, 7 * 29, 32));
    assert_eq!(finished.iter().map(|f| f.sample).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert!(finished.windows(2).any(|w| w[0].tokens != w[1].tokens), "samples differ");
}

#[test]
fn the_cache_stays_within_its_budget() {
    let per_row = config(Family::Qwen3).kv_bytes_per_token(4) * 64;
    let options = EngineOptions {
        max_sequences: 100,
        kv_budget_bytes: 3 * per_row,
        max_waiting: 100,
        prefill_chunk_tokens: 512,
    };
    let mut engine = Engine::new(lm(), vec![EOS], 1, options);
    engine.submit(request(1, &[1, 2], &(0..10).collect::<Vec<_>>(), sampling(10))).unwrap();
    let mut seen = 0;
    let mut finished = 0;
    while !engine.is_idle() {
        finished += engine.step().len();
        seen = seen.max(engine.stats().running);
        assert!(engine.stats().kv_bytes <= 3 * per_row);
    }
    assert_eq!((finished, seen), (10, 3));
    let long = request(2, &[1; 90], &[0], sampling(90));
    let tight = EngineOptions { kv_budget_bytes: per_row, ..options };
    let refused = Engine::new(lm(), vec![EOS], 1, tight).submit(long).unwrap_err().to_string();
    assert!(refused.contains("the budget is"), "{refused}");
}

#[test]
fn many_short_sequences_after_a_long_one_stay_within_the_budget() {
    let config = config(Family::Qwen3);
    let budget = config.kv_bytes_per_token(4) * 64 * 4;
    let options = EngineOptions {
        max_sequences: 100,
        kv_budget_bytes: budget,
        max_waiting: 100,
        prefill_chunk_tokens: 512,
    };
    let mut engine = Engine::new(lm(), vec![EOS], 1, options);
    engine.submit(request(1, &[1; 90], &[0], sampling(4))).unwrap();
    engine.submit(request(2, &[1, 2], &[0], sampling(60))).unwrap();
    let mut finished = engine.step();
    for id in 3..20 {
        engine.submit(request(id, &[3, 4], &[0, 1], sampling(30))).unwrap();
    }
    let mut seen = 0;
    while !engine.is_idle() {
        finished.extend(engine.step());
        seen = seen.max(engine.stats().running);
        assert!(engine.stats().kv_bytes <= budget, "{} bytes of {budget}", engine.stats().kv_bytes);
    }
    assert_eq!((finished.len(), seen), (2 + 17 * 2, 4));
    // The sequence that was there when the cache changed its shape is the one that it would have been alone.
    let kept = finished.iter().find(|f| f.id == 2).unwrap();
    let alone = uncached(engine.lm(), &[1, 2], &kept.tokens);
    assert!(kept.logprobs.iter().zip(alone).all(|(a, b)| (a - b).abs() < 1e-5));
}

/// Pearson's statistic of 100,000 first tokens after one prompt, against the model's own probabilities.
#[test]
fn draws_follow_the_distribution() {
    const DRAWS: u32 = 100_000;
    for temperature in [1.0, 0.7] {
        let options = EngineOptions {
            max_sequences: 5000,
            kv_budget_bytes: 1 << 30,
            max_waiting: DRAWS as usize,
            prefill_chunk_tokens: 512,
        };
        // Narrow weights: every token is drawn often enough for the statistic.
        let lm = CausalLm::random(config(Family::Qwen3), 21, 0.15, Device::Cpu);
        let packed = Packed::new(&[[7u32, 8, 9]], Device::Cpu);
        let hidden = no_grad(|| lm.forward(&packed)).narrow(0, 2, 1);
        let expected =
            Vec::<f32>::try_from(log_probs(&hidden, lm.head(), temperature).exp().view(-1)).unwrap();
        let mut engine = Engine::new(lm, vec![EOS], 1, options);
        let sampling = SamplingParams { temperature, ..sampling(1) };
        engine.submit(request(1, &[7, 8, 9], &(0..DRAWS).collect::<Vec<_>>(), sampling)).unwrap();
        let mut counts = vec![0u32; expected.len()];
        while !engine.is_idle() {
            for finished in engine.step() {
                counts[finished.tokens[0] as usize] += 1;
            }
        }
        assert_eq!(counts.iter().sum::<u32>(), DRAWS);
        let mean = |p: f32| f64::from(p) * f64::from(DRAWS);
        assert!(
            expected.iter().all(|&p| mean(p) > 5.0),
            "the least likely is drawn {}",
            expected.iter().fold(1.0f32, |a, &b| a.min(b))
        );
        let chi: f64 =
            counts.iter().zip(&expected).map(|(&n, &p)| (f64::from(n) - mean(p)).powi(2) / mean(p)).sum();
        // 49 degrees of freedom: 85.4 is passed once in a thousand.
        assert!(chi < 85.4, "temperature {temperature}: {chi}");
    }
}

#[test]
fn new_weights_arrive_between_tokens() {
    let dir = tempfile::tempdir().unwrap();
    CausalLm::random(config(Family::Qwen3), 12, 0.3, Device::Cpu)
        .save_weights(dir.path(), tch::Kind::Float)
        .unwrap();
    let mut engine = engine(4);
    engine.submit(request(1, &[1, 2], &[0], sampling(6))).unwrap();
    assert!(engine.step().is_empty());
    assert!(engine.step().is_empty());
    engine.swap_weights(dir.path(), 2).unwrap();
    let finished = run(&mut engine).remove(0);
    assert_eq!(finished.segments, [(1, 2), (2, 4)]);
    let replaced = uncached(engine.lm(), &[1, 2], &finished.tokens);
    assert!((replaced[0] - finished.logprobs[0]).abs() > 1e-3, "the first token is of the old weights");
}

#[test]
fn a_choice_ends_the_completion() {
    let mut engine = engine(4);
    let mut asked = request(1, &[1, 2], &[0], SamplingParams::greedy(20));
    let free = {
        engine.submit(asked.clone()).unwrap();
        run(&mut engine).remove(0)
    };
    asked.choice = Some(Choice::verdict(free.tokens[..3].to_vec(), vec![40, 41]));
    engine.submit(asked).unwrap();
    let chosen = run(&mut engine).remove(0);
    assert_eq!(chosen.tokens[..3], free.tokens[..3]);
    assert_eq!((chosen.tokens.len(), chosen.finish), (4, Finish::Chosen));
    let full = uncached(engine.lm(), &[1, 2], &[&free.tokens[..3], &[40]].concat());
    assert!((chosen.choice_logprobs.unwrap()[0] - full[3]).abs() < 1e-5);
}

#[test]
fn cancelled_samples_never_finish() {
    let mut engine = engine(4);
    engine.submit(request(1, &[1, 2], &[0, 1, 2, 3, 4, 5], sampling(50))).unwrap();
    engine.submit(request(2, &[3], &[0], sampling(50))).unwrap();
    engine.step();
    assert!(engine.cancel(1));
    assert!(!engine.cancel(1));
    let finished = run(&mut engine);
    assert_eq!(finished.iter().map(|f| f.id).collect::<Vec<_>>(), [2]);
}

#[test]
fn frequencies_match_probabilities() {
    // Chi-square over 1e5 draws (seed: key 1001); 49 degrees of freedom, 99.9 % quantile 85.4.
    let mut engine = engine(2000);
    engine.options.max_waiting = 200_000;
    engine.options.kv_budget_bytes = 1 << 30;
    engine.submit(request(1, &[8, 9], &(0..100_000).collect::<Vec<_>>(), sampling(1))).unwrap();
    let finished = run(&mut engine);
    let mut counts = [0f64; 50];
    finished.iter().for_each(|f| counts[f.tokens[0] as usize] += 1.0);
    let mut chi = 0.0;
    for (token, count) in counts.iter().enumerate() {
        let expected = f64::from(uncached(engine.lm(), &[8, 9], &[token as u32])[0]).exp() * 1e5;
        chi += (count - expected).powi(2) / expected;
    }
    assert!(chi < 85.4, "chi-square {chi}");
}

#[test]
fn refuses_what_could_never_run() {
    let mut engine = engine(4);
    let refuse = |engine: &mut Engine, r: Request| engine.submit(r).unwrap_err().to_string();
    assert!(refuse(&mut engine, request(1, &[], &[0], sampling(1))).contains("no tokens"));
    assert!(refuse(&mut engine, request(1, &[50], &[0], sampling(1))).contains("token 50 is outside"));
    assert!(refuse(&mut engine, request(1, &[1; 96], &[0], sampling(1))).contains("context holds 96"));
    let hot = SamplingParams { temperature: f32::NAN, ..sampling(1) };
    assert!(refuse(&mut engine, request(1, &[1], &[0], hot)).contains("temperature"));
    let many: Vec<u32> = (0..2000).collect();
    assert!(refuse(&mut engine, request(1, &[1], &many, sampling(1))).contains("the bound is 1000"));
}

mod prefix;
mod random;
mod sampling;
mod schedule;
