//! Random batches, random bounds: a sample is what it is alone.

use super::*;
use crate::config::SlidingWindow;

/// Numbers below a bound, from a seed (SplitMix64).
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

fn requests(draws: &mut Draws) -> Vec<Request> {
    let one = |id: u64, draws: &mut Draws| {
        let prompt: Vec<u32> = (0..=draws.below(60)).map(|_| draws.below(50) as u32).collect();
        let samples: Vec<u32> = (0..=draws.below(4) as u32).collect();
        let (temperature, top_k) = [(1.0, 0), (0.7, 0), (1.0, 20)][draws.below(3) as usize];
        let sampling = SamplingParams { temperature, top_k, ..sampling(1 + draws.below(160) as usize) };
        request(id, &prompt, &samples, sampling)
    };
    (0..10).map(|id| one(id, draws)).collect()
}

/// Narrower weights than elsewhere: at 0.3 rounding alone reaches 1.2e-5 in sequences of this length.
fn engine_for(config: &ModelConfig, options: EngineOptions) -> Engine {
    Engine::new(CausalLm::random(config.clone(), 31, 0.2, Device::Cpu), vec![EOS], 1, options)
}

#[test]
fn results_depend_on_neither_company_nor_place_nor_bounds() {
    let window = || Some(SlidingWindow { size: 11, layers: vec![true, false] });
    let families =
        [(Family::Qwen2, None), (Family::Qwen3, None), (Family::Llama, None), (Family::Qwen2, window())];
    let mut preemptions = 0;
    for (seed, (family, sliding)) in (77..).zip(families) {
        let config = ModelConfig { max_positions: 256, sliding, ..config(family) };
        let mut draws = Draws(seed);
        let requests = requests(&mut draws);
        let roomy = EngineOptions {
            max_sequences: 1,
            kv_budget_bytes: 1 << 26,
            max_waiting: 100,
            prefill_chunk_tokens: 512,
        };
        let mut alone = engine_for(&config, roomy);
        let expected: Vec<Finished> = requests
            .iter()
            .flat_map(|r| {
                alone.submit(r.clone()).unwrap();
                run(&mut alone)
            })
            .collect();
        for _ in 0..4 {
            let options = EngineOptions {
                max_sequences: 2 + draws.below(9) as usize,
                kv_budget_bytes: config.kv_bytes_per_token(4) * 64 * (4 + draws.below(8) as usize),
                prefill_chunk_tokens: draws.below(40) as usize,
                ..roomy
            };
            let mut engine = engine_for(&config, options);
            let mut finished = Vec::new();
            for request in &requests {
                engine.submit(request.clone()).unwrap();
                (0..draws.below(9)).for_each(|_| finished.extend(engine.step()));
            }
            finished.extend(run(&mut engine));
            finished.sort_by_key(|f| (f.id, f.sample));
            preemptions += engine.stats().preemptions;
            assert_eq!(finished.len(), expected.len());
            for (a, b) in finished.iter().zip(&expected) {
                assert_eq!(
                    (a.id, a.sample, &a.tokens),
                    (b.id, b.sample, &b.tokens),
                    "seed {seed}, {options:?}"
                );
                let gap = a.logprobs.iter().zip(&b.logprobs).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
                assert!(gap < 1e-5, "seed {seed}, request {} sample {}: {gap}", a.id, a.sample);
            }
        }
    }
    assert!(preemptions >= 4, "{preemptions} preemptions");
}
