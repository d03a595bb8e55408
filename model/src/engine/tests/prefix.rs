//! Prompts that begin alike, across requests: what is computed, what is kept, and that results stay what they are.

use super::random::Draws;
use super::*;
use crate::config::SlidingWindow;
use std::path::Path;

const ROOMY: EngineOptions = EngineOptions {
    max_sequences: 64,
    kv_budget_bytes: 1 << 26,
    max_waiting: 100,
    prefill_chunk_tokens: 8192,
};

fn shape() -> ModelConfig {
    ModelConfig { max_positions: 256, ..config(Family::Qwen3) }
}

fn model(config: &ModelConfig, seed: i64) -> CausalLm {
    CausalLm::random(config.clone(), seed, 0.2, Device::Cpu)
}

fn plain(options: EngineOptions) -> Engine {
    Engine::new(model(&shape(), 31), vec![EOS], 1, options)
}

fn sharing(options: EngineOptions) -> Engine {
    plain(options).with_prefix_cache()
}

fn tokens(seed: u64, len: usize) -> Vec<u32> {
    let mut draws = Draws(seed);
    (0..len).map(|_| draws.below(50) as u32).collect()
}

fn assert_same(a: &[Finished], b: &[Finished]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((a.id, a.sample, &a.tokens, a.finish), (b.id, b.sample, &b.tokens, b.finish));
        let gap = a.logprobs.iter().zip(&b.logprobs).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(gap < 1e-5, "request {} sample {}: log-probabilities differ by {gap}", a.id, a.sample);
    }
}

/// S of 100 tokens, ten requests of 20 after it, and five answers of 20 to each: 140 tokens, of which 139 are prefilled.
fn questions() -> Vec<Request> {
    let one = |i: u32| {
        let about = [vec![i / 5], tokens(u64::from(i / 5), 19)].concat();
        let answer = [vec![i], tokens(100 + u64::from(i), 19)].concat();
        request(i.into(), &[tokens(1, 100), about, answer].concat(), &[0], SamplingParams::greedy(3))
    };
    (0..50).map(one).collect()
}

fn in_rounds(engine: &mut Engine, size: usize) -> Vec<Finished> {
    let mut finished = Vec::new();
    for round in questions().chunks(size) {
        round.iter().for_each(|r| engine.submit(r.clone()).unwrap());
        finished.extend(run(engine));
    }
    finished
}

#[test]
fn fifty_questions_under_one_specification_compute_it_once() {
    let mut apart = plain(ROOMY);
    let expected = in_rounds(&mut apart, 50);
    assert_eq!((apart.stats().prefilled_tokens, apart.stats().shared_tokens), (50 * 139, 0));

    // In rounds with nothing running between them S is kept. Of each five the first brings its request, which the others
    // wait for; the step that copies it to them also decodes one more of their tokens, so that 18 are left.
    let mut rounds = sharing(ROOMY);
    assert_same(&in_rounds(&mut rounds, 5), &expected);
    let (computed, copied) = (139 + 9 * 39 + 40 * 18, 9 * 100 + 40 * 120);
    assert_eq!((rounds.stats().prefilled_tokens, rounds.stats().shared_tokens), (computed, copied));
    assert!(computed * 100 < 50 * 139 * 18, "18 % of what it is without");

    // Together: nine requests wait for S, and then their other answers for them.
    let mut together = sharing(ROOMY);
    assert_same(&in_rounds(&mut together, 50), &expected);
    let (computed, copied) = (139 + 9 * 38 + 40 * 18, 9 * 100 + 40 * 120);
    assert_eq!((together.stats().prefilled_tokens, together.stats().shared_tokens), (computed, copied));
}

#[test]
fn the_last_eight_prompts_are_kept_and_short_ones_never() {
    let mut engine = sharing(ROOMY);
    let ask = |engine: &mut Engine, seed: u64, len: usize| {
        let before = engine.stats().shared_tokens;
        engine.submit(request(seed, &tokens(seed, len), &[0], sampling(2))).unwrap();
        run(engine);
        engine.stats().shared_tokens - before
    };
    assert_eq!((0..9).map(|seed| ask(&mut engine, seed, 40)).collect::<Vec<_>>(), [0; 9]);
    assert_eq!(ask(&mut engine, 8, 40), 39);
    assert_eq!(ask(&mut engine, 1, 40), 39); // now the one used last
    assert_eq!(ask(&mut engine, 0, 40), 0); // takes the place of 2
    assert_eq!((ask(&mut engine, 1, 40), ask(&mut engine, 2, 40)), (39, 0));
    assert_eq!((ask(&mut engine, 1, 50), ask(&mut engine, 1, 50)), (40, 49));
    assert_eq!((ask(&mut engine, 1, 17), ask(&mut engine, 1, 16)), (16, 0));
}

#[test]
fn kept_prompts_give_way_to_sequences() {
    let per_row = shape().kv_bytes_per_token(4) * 64;
    let options = EngineOptions { kv_budget_bytes: 17 * per_row, ..ROOMY };
    let prompt = tokens(1, 40);
    let asked = |id: u64, prompt: &[u32]| request(id, prompt, &[0], sampling(9));
    let mut engine = sharing(options);
    engine.submit(asked(0, &prompt)).unwrap();
    run(&mut engine);
    // Rows come in sixteens; beside them there is room for one prompt.
    let kept = 40 * shape().kv_bytes_per_token(4);
    assert_eq!(engine.stats().kv_bytes, 16 * per_row + kept);
    // The first is to copy it, but with sixteen more, which begin differently, it is gone.
    let together = |engine: &mut Engine| {
        engine.submit(asked(1, &prompt)).unwrap();
        (2..18).for_each(|id| engine.submit(asked(id, &tokens(id, 30))).unwrap());
        let mut finished = engine.step();
        assert_eq!((engine.stats().running, engine.stats().kv_bytes), (17, 17 * per_row));
        finished.extend(run(engine));
        finished
    };
    let found = together(&mut engine);
    assert_eq!((engine.stats().shared_tokens, engine.stats().preemptions), (0, 0));
    assert_same(&found, &together(&mut plain(options)));
}

#[test]
fn nothing_kept_outlives_its_weights() {
    let dir = tempfile::tempdir().unwrap();
    model(&shape(), 32).save_weights(dir.path(), tch::Kind::Float).unwrap();
    let mut engine = sharing(ROOMY);
    let prompt = tokens(1, 60);
    engine.submit(request(1, &prompt, &[0], sampling(4))).unwrap();
    run(&mut engine);
    engine.submit(request(2, &[&prompt[..50], &[7]].concat(), &[0], sampling(100))).unwrap();
    engine.step(); // goes on below, with keys and values of the old weights
    assert_eq!(engine.stats().shared_tokens, 50);
    engine.swap_weights(dir.path(), 2).unwrap();
    engine.submit(request(3, &prompt, &[0], sampling(4))).unwrap();
    let finished = run(&mut engine);
    assert_eq!((engine.stats().shared_tokens, engine.stats().prefilled_tokens), (50, 59 + 59));
    let expected = uncached(engine.lm(), &prompt, &finished[1].tokens);
    assert!(finished[1].logprobs.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5));
}

/// Prompts that begin as one of three texts do, up to a random place.
fn alike(draws: &mut Draws, ids: std::ops::Range<u64>) -> Vec<Request> {
    let one = |id: u64, draws: &mut Draws| {
        let shared = &tokens(draws.below(3), 60)[..draws.below(61) as usize];
        let own: Vec<u32> = (0..=draws.below(20)).map(|_| draws.below(50) as u32).collect();
        let samples: Vec<u32> = (0..=draws.below(3) as u32).collect();
        let temperature = [0.0, 1.0][draws.below(2) as usize];
        let sampling = SamplingParams { temperature, ..sampling(1 + draws.below(160) as usize) };
        request(id, &[shared, &own].concat(), &samples, sampling)
    };
    ids.map(|id| one(id, draws)).collect()
}

/// Each request by itself, computed whole, with the weights of this seed.
fn alone(config: &ModelConfig, seed: i64, requests: &[Request]) -> Vec<Finished> {
    let each = |r: &Request| {
        let mut engine = Engine::new(model(config, seed), vec![EOS], 1, ROOMY);
        engine.submit(r.clone()).unwrap();
        run(&mut engine)
    };
    requests.iter().flat_map(each).collect()
}

/// Submits some at a time, cancels now and then, and gives what finished on the way and which requests were cancelled.
fn drive(engine: &mut Engine, draws: &mut Draws, requests: &[Request]) -> (Vec<Finished>, Vec<u64>) {
    let (mut finished, mut cancelled) = (Vec::new(), Vec::new());
    for request in requests {
        engine.submit(request.clone()).unwrap();
        for _ in 0..draws.below(9) {
            finished.extend(engine.step());
            assert!(engine.stats().kv_bytes <= engine.options.kv_budget_bytes);
        }
        if draws.below(6) == 0 && engine.cancel(request.id) {
            cancelled.push(request.id);
        }
    }
    (finished, cancelled)
}

/// Two rounds of requests, new weights between them while the first still runs.
fn two_rounds(
    engine: &mut Engine,
    draws: &mut Draws,
    rounds: &[Vec<Request>; 2],
    weights: &Path,
) -> Vec<Finished> {
    let (mut finished, mut cancelled) = drive(engine, draws, &rounds[0]);
    engine.swap_weights(weights, 2).unwrap();
    let (later, more) = drive(engine, draws, &rounds[1]);
    finished.extend(later);
    cancelled.extend(more);
    while !engine.is_idle() {
        finished.extend(engine.step());
        assert!(engine.stats().kv_bytes <= engine.options.kv_budget_bytes);
    }
    finished.retain(|f| !cancelled.contains(&f.id));
    let all = rounds.iter().flatten().filter(|r| !cancelled.contains(&r.id));
    assert_eq!(finished.len(), all.map(|r| r.samples.len()).sum::<usize>());
    finished
}

#[test]
fn results_depend_neither_on_what_is_shared_nor_on_what_is_kept() {
    let window = || Some(SlidingWindow { size: 11, layers: vec![true, false] });
    let families =
        [(Family::Qwen2, None), (Family::Qwen3, None), (Family::Llama, None), (Family::Qwen2, window())];
    let (mut compared, mut preemptions, mut saved) = (0, 0, [0; 2]);
    for (seed, (family, sliding)) in (5..).zip(families) {
        let config = ModelConfig { max_positions: 256, sliding, ..config(family) };
        let dir = tempfile::tempdir().unwrap();
        model(&config, 32).save_weights(dir.path(), tch::Kind::Float).unwrap();
        let mut draws = Draws(seed);
        let rounds = [alike(&mut draws, 0..12), alike(&mut draws, 12..24)];
        let expected = [alone(&config, 31, &rounds[0]), alone(&config, 32, &rounds[1])];
        for (at, tokens) in [500, 4000].into_iter().enumerate() {
            let options = EngineOptions {
                max_sequences: 4 + draws.below(9) as usize,
                kv_budget_bytes: config.kv_bytes_per_token(4) * tokens,
                prefill_chunk_tokens: 8 + draws.below(90) as usize,
                ..ROOMY
            };
            let mut engine = Engine::new(model(&config, 31), vec![EOS], 1, options).with_prefix_cache();
            let finished = two_rounds(&mut engine, &mut draws, &rounds, dir.path());
            preemptions += engine.stats().preemptions;
            saved[at] += engine.stats().shared_tokens;
            // Those that lived through the change of weights have keys of both, and are as they were by chance.
            for f in finished.iter().filter(|f| f.id >= 12 || f.segments.iter().all(|s| s.0 == 1)) {
                let of = &expected[usize::from(f.id >= 12)];
                let one = of.iter().find(|e| (e.id, e.sample) == (f.id, f.sample)).unwrap();
                assert_same(std::slice::from_ref(f), std::slice::from_ref(one));
                compared += 1;
            }
        }
    }
    assert!(compared >= 150 && preemptions >= 4, "{compared} compared, {preemptions} preemptions");
    assert!(saved[0] > 1000 && saved[1] > 2000, "{saved:?} tokens copied");
}
