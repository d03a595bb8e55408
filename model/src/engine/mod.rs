//! Batched generation with a KV cache: sequences join and leave between decode steps.
//!
//! ```text
//! submit ─► waiting ─► step(): admit ─► prefill ─► admit ─► make room ─► decode ─► sample ─► finished traces leave
//!              ▲               a row for  prompts    samples that   │        one token of
//!              │               what fits  in chunks  share them     │        every sequence
//!              └───────────────────── preempted, youngest first ◄───┘
//! ```
//!
//! A sequence knows its tokens and how many of them are cached. Prefill computes all but the last one; the pass of the last
//! one is a decode step, and gives the next draw. So a fresh sample, one that copied its group's prompt and one that
//! goes on after a preemption are the same thing.
//!
//! **Invariants.** A request's tokens depend on its own prompt, sampling and key, not on what else is in the
//! batch, on preemptions or on the prefix cache. Rows `0..running` of the cache are the running sequences, in the
//! order of `running`. The engine never grows the cache, with the prompts it keeps, beyond its budget. A sequence copies
//! nothing that other weights computed. A step computes at most `prefill_chunk_tokens` tokens of prompts, and one of
//! each running sequence. The oldest sequence is never preempted, so that all of them finish.

mod cache;
mod forward;
mod prefix;
mod refuse;
mod request;
mod sampler;
mod schedule;
mod sequence;
mod stop;

pub use refuse::Refused;
pub use request::{Choice, Finish, Finished, Pick, Request, SamplingParams, Then};

use crate::{CausalLm, ModelError};
use cache::KvCache;
use prefix::Prefixes;
use sequence::Sequence;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stop::Decoder;
use tch::no_grad;

/// A chunk of prompts that keeps two processor cores busy for less than a second with a model of half a billion
/// parameters.
pub const PREFILL_CHUNK_TOKENS: usize = 2048;

/// Bounds of an engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Sequences decoded at once.
    pub max_sequences: usize,
    /// Bytes of keys and values.
    pub kv_budget_bytes: usize,
    /// Samples that may wait; more are refused.
    pub max_waiting: usize,
    /// Prompt tokens computed in one step, besides those that are decoded: what decoding waits for at most. See [`PREFILL_CHUNK_TOKENS`].
    pub prefill_chunk_tokens: usize,
}

/// What the engine is doing, and what it has done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Samples that wait for room.
    pub waiting: usize,
    /// Sequences being decoded.
    pub running: usize,
    /// Tokens sampled.
    pub generated_tokens: u64,
    /// Tokens computed ahead of decoding: prompts but for their last token, and what a preemption made necessary again.
    pub prefilled_tokens: u64,
    /// Tokens copied and so not computed (prefix hits): another sample of the group had them, or, with
    /// [`Engine::with_prefix_cache`], another request.
    pub shared_tokens: u64,
    /// Sequences taken out for lack of room, to go on later.
    pub preemptions: u64,
    /// Bytes of the cache as allocated, and of kept prompts.
    pub kv_bytes: usize,
    /// Bytes of them that hold keys and values of running sequences.
    pub kv_used_bytes: usize,
    /// Time spent in steps.
    pub busy: Duration,
}

impl EngineStats {
    /// Tokens sampled per second of work; 0 before the first step.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        if self.busy.is_zero() { 0.0 } else { self.generated_tokens as f64 / self.busy.as_secs_f64() }
    }
}

/// A model with its cache and its sequences. One thread owns it.
#[derive(Debug)]
pub struct Engine {
    lm: CausalLm,
    end_of_text: Vec<u32>,
    decoder: Option<Decoder>,
    options: EngineOptions,
    version: u64,
    /// In order of arrival.
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    cache: KvCache,
    /// Where prompts of different requests are compared.
    prefixes: Option<Prefixes>,
    arrived: u64,
    generated_tokens: u64,
    prefilled_tokens: u64,
    shared_tokens: u64,
    preemptions: u64,
    busy: Duration,
}

impl Engine {
    /// An idle engine; `version` is the policy version of the model's weights.
    #[must_use]
    pub fn new(lm: CausalLm, end_of_text: Vec<u32>, version: u64, options: EngineOptions) -> Self {
        lm.parameters().set_requires_grad(false);
        let cache = KvCache::new(&lm);
        Self {
            lm,
            end_of_text,
            decoder: None,
            options,
            version,
            waiting: VecDeque::new(),
            running: Vec::new(),
            cache,
            prefixes: None,
            arrived: 0,
            generated_tokens: 0,
            prefilled_tokens: 0,
            shared_tokens: 0,
            preemptions: 0,
            busy: Duration::ZERO,
        }
    }

    /// With what turns tokens into text: stop strings need it.
    #[must_use]
    pub fn with_decoder(self, decode: impl Fn(&[u32]) -> String + Send + 'static) -> Self {
        Self { decoder: Some(Decoder(Box::new(decode))), ..self }
    }

    /// Prompts that begin alike are computed once, across requests: the beginning is copied from a running sequence or
    /// from one of the last prompts, which are kept within `kv_budget_bytes` while nothing else needs the room. Results are
    /// the same but for rounding, which then depends on who came before.
    #[must_use]
    pub fn with_prefix_cache(self) -> Self {
        Self { prefixes: Some(Prefixes::default()), ..self }
    }

    /// Queues all samples of a request.
    ///
    /// # Errors
    /// A request that could never run, or a full queue.
    pub fn submit(&mut self, request: Request) -> Result<(), Refused> {
        self.check(&request)?;
        let waiting = self.waiting.len();
        if waiting + request.samples.len() > self.options.max_waiting {
            return Err(Refused::Full { id: request.id, waiting, bound: self.options.max_waiting });
        }
        let (capacity, request) = (self.capacity(&request), Arc::new(request));
        for &sample in &request.samples {
            self.waiting.push_back(Sequence::new(&request, sample, self.arrived, capacity));
            self.arrived += 1;
        }
        Ok(())
    }

    /// Drops every sample of a request; true if there were any.
    pub fn cancel(&mut self, id: u64) -> bool {
        self.drop_where(|s| s.request.id == id)
    }

    /// Drops one sample of a request; true if there was one.
    pub fn cancel_sample(&mut self, id: u64, sample: u32) -> bool {
        self.drop_where(|s| (s.request.id, s.sample) == (id, sample))
    }

    fn drop_where(&mut self, unwanted: impl Fn(&Sequence) -> bool) -> bool {
        let waited = self.waiting.len();
        self.waiting.retain(|s| !unwanted(s));
        let rows: Vec<usize> = (0..self.running.len()).filter(|&i| unwanted(&self.running[i])).collect();
        no_grad(|| rows.iter().rev().for_each(|&row| drop(self.remove(row))));
        waited != self.waiting.len() || !rows.is_empty()
    }

    /// Replaces the weights between two steps; running sequences go on, and their next tokens carry `version`.
    ///
    /// # Errors
    /// Weights that do not fit; the old ones stay where names or shapes differ.
    pub fn swap_weights(&mut self, dir: &Path, version: u64) -> Result<(), ModelError> {
        // First, as an error in the middle of a file leaves some new weights behind.
        self.running.iter_mut().for_each(|s| s.shareable = false);
        self.prefixes.iter_mut().for_each(Prefixes::clear);
        self.lm.replace_weights(dir)?;
        self.version = version;
        Ok(())
    }

    /// Admits what fits, computes a chunk of prompts, decodes one token of every running sequence, and returns those
    /// that finished.
    pub fn step(&mut self) -> Vec<Finished> {
        let start = Instant::now();
        let finished = no_grad(|| {
            self.admit();
            self.prefill();
            self.admit(); // those that waited for a prompt just computed
            self.make_room();
            self.decode()
        });
        self.busy += start.elapsed();
        finished
    }

    /// Nothing runs and nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Current figures.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let cached = self.running.iter().map(|r| r.cached).sum();
        EngineStats {
            waiting: self.waiting.len(),
            running: self.running.len(),
            generated_tokens: self.generated_tokens,
            prefilled_tokens: self.prefilled_tokens,
            shared_tokens: self.shared_tokens,
            preemptions: self.preemptions,
            kv_bytes: self.cache.bytes() + self.prefixes.as_ref().map_or(0, Prefixes::bytes),
            kv_used_bytes: self.cache.bytes_for_exactly(1, cached),
            busy: self.busy,
        }
    }

    /// Policy version of the weights.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The model.
    #[must_use]
    pub fn lm(&self) -> &CausalLm {
        &self.lm
    }

    /// Tokens that a sequence of this request may hold in the cache.
    fn capacity(&self, request: &Request) -> usize {
        (request.prompt.len() + request.sampling.max_new_tokens).min(self.lm.config().max_positions)
    }
}

#[cfg(test)]
mod tests;
