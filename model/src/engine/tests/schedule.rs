//! Chunked prompts, preemption, cancellation, sharing.

use super::*;

fn long_context() -> ModelConfig {
    ModelConfig { max_positions: 512, ..config(Family::Qwen3) }
}

fn with(config: ModelConfig, options: EngineOptions) -> Engine {
    Engine::new(CausalLm::random(config, 11, 0.3, Device::Cpu), vec![EOS], 1, options)
}

const ROOMY: EngineOptions =
    EngineOptions { max_sequences: 8, kv_budget_bytes: 1 << 26, max_waiting: 100, prefill_chunk_tokens: 512 };

fn assert_same(a: &[Finished], b: &[Finished]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((a.id, a.sample, &a.tokens, a.finish), (b.id, b.sample, &b.tokens, b.finish));
        let gap = a.logprobs.iter().zip(&b.logprobs).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(gap < 1e-5, "request {} sample {}: log-probabilities differ by {gap}", a.id, a.sample);
    }
}

#[test]
fn a_long_prompt_in_chunks_gives_the_same_and_decoding_goes_on() {
    let window = crate::config::SlidingWindow { size: 9, layers: vec![false, true] };
    for sliding in [None, Some(window)] {
        let config = ModelConfig { sliding, ..long_context() };
        let prompt: Vec<u32> = (0..200).map(|i| (i * 7 + 3) % 50).collect();
        let whole = {
            let mut engine = with(config.clone(), ROOMY);
            engine.submit(request(2, &prompt, &[0, 1], sampling(20))).unwrap();
            run(&mut engine)
        };
        let mut engine = with(config, EngineOptions { prefill_chunk_tokens: 16, ..ROOMY });
        engine.submit(request(1, &[4], &[0], sampling(40))).unwrap();
        engine.step();
        engine.submit(request(2, &prompt, &[0, 1], sampling(20))).unwrap();
        let mut steps = 0;
        while engine.stats().shared_tokens == 0 {
            let before = engine.stats();
            assert!(engine.step().is_empty());
            let (after, chunk) = (engine.stats(), engine.stats().prefilled_tokens - before.prefilled_tokens);
            assert!(chunk <= 16, "{chunk} tokens of a prompt in one step");
            assert!(after.generated_tokens > before.generated_tokens, "decoding stalled");
            steps += 1;
        }
        // 199 tokens before the last; each step computes 16 in a chunk and decodes one: 12 steps make 17 × 11 + 12.
        assert_eq!(steps, 12);
        let chunked: Vec<Finished> = run(&mut engine).into_iter().filter(|f| f.id == 2).collect();
        assert_same(&chunked, &whole);
    }
}

#[test]
fn preempted_sequences_go_on_as_if_undisturbed() {
    let budget = long_context().kv_bytes_per_token(4) * 128 * 4;
    let requests = |engine: &mut Engine| {
        engine.submit(request(1, &[5; 10], &[0, 1, 2], sampling(200))).unwrap();
        engine.submit(request(2, &[7; 20], &[0, 1, 2], sampling(150))).unwrap();
    };
    let undisturbed = {
        let mut engine = with(long_context(), ROOMY);
        requests(&mut engine);
        let finished = run(&mut engine);
        assert_eq!(engine.stats().preemptions, 0);
        finished
    };
    let mut engine = with(long_context(), EngineOptions { kv_budget_bytes: budget, ..ROOMY });
    requests(&mut engine);
    let (mut finished, mut most) = (Vec::new(), 0);
    while !engine.is_idle() {
        finished.extend(engine.step());
        most = most.max(engine.stats().running);
        assert!(engine.stats().kv_bytes <= budget && engine.stats().kv_used_bytes <= engine.stats().kv_bytes);
    }
    finished.sort_by_key(|f| (f.id, f.sample));
    assert!(engine.stats().preemptions >= 2, "{} preemptions", engine.stats().preemptions);
    assert_eq!((most, engine.stats().generated_tokens), (4, 3 * 200 + 3 * 150));
    assert_same(&finished, &undisturbed);
}

#[test]
fn a_budget_of_one_sequence_serves_all_in_order() {
    let budget = long_context().kv_bytes_per_token(4) * 192;
    let mut engine = with(long_context(), EngineOptions { kv_budget_bytes: budget, ..ROOMY });
    for id in 0..4 {
        engine.submit(request(id, &[id as u32 + 1, 2], &[0, 1], sampling(180))).unwrap();
    }
    let mut finished = Vec::new();
    for _ in 0..20_000 {
        finished.extend(engine.step().iter().map(|f| (f.id, f.sample)));
        assert!(engine.stats().kv_bytes <= budget);
    }
    assert_eq!(finished, (0..4).flat_map(|id| [(id, 0), (id, 1)]).collect::<Vec<_>>());
    assert!(engine.is_idle());
}

#[test]
fn a_prompt_is_not_shared_across_weights() {
    let dir = tempfile::tempdir().unwrap();
    CausalLm::random(config(Family::Qwen3), 12, 0.3, Device::Cpu)
        .save_weights(dir.path(), tch::Kind::Float)
        .unwrap();
    let mut engine = with(config(Family::Qwen3), EngineOptions { max_sequences: 2, ..ROOMY });
    engine.submit(request(1, &[1, 2, 3], &[0, 1, 2], sampling(6))).unwrap();
    engine.step();
    engine.swap_weights(dir.path(), 2).unwrap();
    assert!(engine.cancel_sample(1, 0));
    let finished = run(&mut engine);
    assert_eq!(finished.iter().map(|f| f.sample).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((engine.stats().prefilled_tokens, engine.stats().shared_tokens), (4, 2));
    let late = &finished[1];
    assert_eq!(late.segments, [(2, 6)]);
    let expected = uncached(engine.lm(), &[1, 2, 3], &late.tokens);
    assert!(late.logprobs.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn one_sample_is_cancelled_wherever_it_is() {
    let mut engine = engine(2);
    engine.submit(request(1, &[1, 2], &[0, 1, 2, 3], sampling(9))).unwrap();
    engine.step();
    assert!(engine.cancel_sample(1, 0), "it runs");
    assert!(engine.cancel_sample(1, 3), "it waits");
    assert!(!engine.cancel_sample(1, 3) && !engine.cancel_sample(2, 1));
    assert_eq!(run(&mut engine).iter().map(|f| f.sample).collect::<Vec<_>>(), [1, 2]);
    let stats = engine.stats();
    assert_eq!((stats.waiting, stats.running, stats.kv_used_bytes), (0, 0, 0));
    assert!(stats.tokens_per_second() > 0.0);
}
