//! The work that is measured: chats of random words, and the engine that answers them.

use anyhow::bail;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sinternal_model::engine::{
    Engine, EngineOptions, Finished, PREFILL_CHUNK_TOKENS, Request, SamplingParams,
};
use sinternal_model::random_model::WORDS;
use sinternal_model::{CausalLm, ChatTurn, ModelFolder};

/// Bytes of keys and values that sampling may take.
const KV_BUDGET_BYTES: usize = 16 << 30;

/// Draws prompts and rewards: the same for the same seed.
pub(super) struct Work {
    rng: ChaCha8Rng,
    words: usize,
}

impl Work {
    pub(super) fn new(seed: u64, words: usize) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), words }
    }

    /// One user turn of random words, rendered.
    pub(super) fn prompt(&mut self, folder: &ModelFolder) -> anyhow::Result<Vec<u32>> {
        let words: Vec<&str> = (0..self.words).filter_map(|_| WORDS.choose(&mut self.rng).copied()).collect();
        let turn = ChatTurn { role: "user", content: &words.join(" ") };
        Ok(folder.tokenizer.encode_chat(&[turn], true)?)
    }

    pub(super) fn reward(&mut self) -> f32 {
        self.rng.r#gen()
    }
}

pub(super) fn engine(lm: CausalLm, folder: &ModelFolder, sequences: usize) -> Engine {
    let options = EngineOptions {
        max_sequences: sequences,
        kv_budget_bytes: KV_BUDGET_BYTES,
        max_waiting: sequences,
        prefill_chunk_tokens: PREFILL_CHUNK_TOKENS,
    };
    Engine::new(lm, folder.end_of_text.clone(), 0, options)
}

/// Samples `group` completions of exactly `new_tokens` for each prompt, in order.
pub(super) fn sample(
    engine: &mut Engine,
    prompts: &[Vec<u32>],
    group: u32,
    new_tokens: usize,
    key: u64,
) -> anyhow::Result<Vec<Finished>> {
    let sampling = SamplingParams { ignore_eos: true, ..SamplingParams::new(new_tokens) };
    for (id, prompt) in prompts.iter().enumerate() {
        let samples = (0..group).collect();
        let (id, key) = (id as u64, key.wrapping_mul(1 << 20) + id as u64);
        engine.submit(Request {
            id,
            key,
            prompt: prompt.clone(),
            samples,
            sampling: sampling.clone(),
            choice: None,
        })?;
    }
    let mut finished = Vec::new();
    while !engine.is_idle() {
        finished.extend(engine.step());
    }
    finished.sort_by_key(|f| (f.id, f.sample));
    if let Some(short) = finished.iter().find(|f| f.tokens.len() < new_tokens) {
        bail!(
            "a completion ended after {} of {new_tokens} tokens: the context is too short",
            short.tokens.len()
        );
    }
    Ok(finished)
}
