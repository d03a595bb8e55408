//! Batched generation with a KV cache: sequences join and leave between decode steps.
//!
//! ```text
//! submit ─► queue ─► step(): schedule (admit what fits) ─► prefill each prompt once ─► decode one token each
//!                                                          └─► sample ─► finished traces leave
//! ```
//!
//! **Invariants.** A request's tokens depend on its own prompt, sampling and key, not on what else is in the
//! batch. Rows `0..running` of the cache are the running sequences, in the order of `running`. The engine never
//! grows the cache beyond its budget.

mod cache;
mod request;
mod sampler;

pub use request::{Choice, Finish, Finished, Request, SamplingParams};

use crate::layers::{cached_attention, packed_attention};
use crate::logprob::log_probs;
use crate::{CausalLm, ModelError, Packed};
use cache::KvCache;
use request::{Running, Waiting};
use sampler::Drawn;
use std::collections::VecDeque;
use std::path::Path;
use tch::{Tensor, no_grad};

/// Bounds of an engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Sequences decoded at once.
    pub max_sequences: usize,
    /// Bytes of keys and values.
    pub kv_budget_bytes: usize,
    /// Samples that may wait; more are refused.
    pub max_waiting: usize,
}

/// What the engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Samples that wait for room.
    pub waiting: usize,
    /// Sequences being decoded.
    pub running: usize,
    /// Tokens sampled since the start.
    pub generated_tokens: u64,
    /// Prompt tokens computed since the start.
    pub prefilled_tokens: u64,
    /// Bytes of the cache as allocated.
    pub kv_bytes: usize,
}

/// Why a request cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It could never run.
    #[error("request {id}: {problem}")]
    Invalid {
        /// The request.
        id: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// Too many wait already.
    #[error("request {id}: {waiting} samples wait already; the bound is {bound}")]
    Full {
        /// The request.
        id: u64,
        /// Samples that wait.
        waiting: usize,
        /// `EngineOptions::max_waiting`.
        bound: usize,
    },
}

/// A model with its cache and its sequences. One thread owns it.
#[derive(Debug)]
pub struct Engine {
    lm: CausalLm,
    end_of_text: Vec<u32>,
    options: EngineOptions,
    version: u64,
    waiting: VecDeque<Waiting>,
    running: Vec<Running>,
    cache: KvCache,
    generated_tokens: u64,
    prefilled_tokens: u64,
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
            options,
            version,
            waiting: VecDeque::new(),
            running: Vec::new(),
            cache,
            generated_tokens: 0,
            prefilled_tokens: 0,
        }
    }

    /// Queues all samples of a request.
    ///
    /// # Errors
    /// A request that could never run, or a full queue.
    pub fn submit(&mut self, request: Request) -> Result<(), Refused> {
        self.check(&request)?;
        let waiting = self.stats().waiting;
        if waiting + request.samples.len() > self.options.max_waiting {
            return Err(Refused::Full { id: request.id, waiting, bound: self.options.max_waiting });
        }
        self.waiting.push_back(Waiting::new(request));
        Ok(())
    }

    /// Drops every sample of a request; true if there were any.
    pub fn cancel(&mut self, id: u64) -> bool {
        let waited = self.waiting.len();
        self.waiting.retain(|w| w.request.id != id);
        let rows: Vec<usize> =
            (0..self.running.len()).filter(|&i| self.running[i].request.id == id).collect();
        for &row in rows.iter().rev() {
            self.remove(row);
        }
        waited != self.waiting.len() || !rows.is_empty()
    }

    /// Replaces the weights between two steps; running sequences go on, and their next tokens carry `version`.
    ///
    /// # Errors
    /// Weights that do not fit; the old ones stay where names or shapes differ.
    pub fn swap_weights(&mut self, dir: &Path, version: u64) -> Result<(), ModelError> {
        self.lm.replace_weights(dir)?;
        self.version = version;
        Ok(())
    }

    /// Admits what fits, decodes one token of every running sequence, and returns those that finished.
    pub fn step(&mut self) -> Vec<Finished> {
        no_grad(|| {
            let mut finished = self.admit();
            finished.extend(self.decode());
            finished
        })
    }

    /// Nothing runs and nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Current figures.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        EngineStats {
            waiting: self.waiting.iter().map(Waiting::remaining).sum(),
            running: self.running.len(),
            generated_tokens: self.generated_tokens,
            prefilled_tokens: self.prefilled_tokens,
            kv_bytes: self.cache.bytes(),
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

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let fail = |problem: String| Err(Refused::Invalid { id: request.id, problem });
        let vocab = self.lm.config().vocab;
        let longest = self.capacity(request);
        if request.prompt.is_empty() {
            return fail("the prompt has no tokens".into());
        }
        if let Some(token) = request.prompt.iter().find(|&&t| i64::from(t) >= vocab) {
            return fail(format!("prompt token {token} is outside the vocabulary of {vocab}"));
        }
        if request.prompt.len() >= self.lm.config().max_positions {
            let limit = self.lm.config().max_positions;
            return fail(format!(
                "the prompt has {} tokens; the context holds {limit}",
                request.prompt.len()
            ));
        }
        if self.cache.bytes_for(1, longest) > self.options.kv_budget_bytes {
            let need = self.cache.bytes_for(1, longest);
            return fail(format!(
                "its {longest} tokens need {need} bytes of cache; the budget is {}",
                self.options.kv_budget_bytes
            ));
        }
        request.sampling.check().or_else(fail)
    }

    /// Tokens that a sequence of this request may hold in the cache.
    fn capacity(&self, request: &Request) -> usize {
        (request.prompt.len() + request.sampling.max_new_tokens).min(self.lm.config().max_positions)
    }

    /// Moves waiting samples into free rows, in order; the prompt of a request is computed once for all that join.
    fn admit(&mut self) -> Vec<Finished> {
        let first = self.running.len();
        let mut prompts: Vec<Vec<u32>> = Vec::new();
        let mut prompt_of = Vec::new();
        while let Some(waiting) = self.waiting.front_mut() {
            let longest = (waiting.request.prompt.len() + waiting.request.sampling.max_new_tokens)
                .min(self.lm.config().max_positions);
            let room = self.cache.rows_within(
                self.options.kv_budget_bytes,
                longest.max(self.running.iter().map(|r| r.capacity).max().unwrap_or(0)),
            );
            let room = room.min(self.options.max_sequences).saturating_sub(self.running.len());
            let joining = waiting.take(room, longest);
            if joining.is_empty() {
                break;
            }
            prompt_of.extend(std::iter::repeat_n(prompts.len(), joining.len()));
            prompts.push(waiting.request.prompt.clone());
            self.running.extend(joining);
            if waiting.remaining() > 0 {
                break;
            }
            self.waiting.pop_front();
        }
        if prompts.is_empty() { Vec::new() } else { self.prefill(first, &prompts, &prompt_of) }
    }

    /// Computes `prompts`, copies each one's keys and values to the rows that share it, and samples their first token.
    fn prefill(&mut self, first: usize, prompts: &[Vec<u32>], prompt_of: &[usize]) -> Vec<Finished> {
        let longest = self.running.iter().map(|r| r.capacity).max().unwrap_or(0);
        self.cache.reserve(self.running.len(), longest, first, self.options.kv_budget_bytes);
        let packed = Packed::new(prompts, self.lm.device());
        self.prefilled_tokens += packed.len() as u64;
        let cache = &mut self.cache;
        let hidden = self.lm.run(&packed.tokens, &packed.positions, |layer, qkv| {
            for (i, &p) in prompt_of.iter().enumerate() {
                cache.write_prompt(layer, first + i, &packed.ranges[p], &qkv);
            }
            packed_attention(&qkv, &packed, self.lm.config(), self.lm.config().window(layer))
        });
        let last: Vec<i64> = prompt_of.iter().map(|&p| packed.ranges[p].end as i64 - 1).collect();
        let hidden = hidden.index_select(0, &Tensor::from_slice(&last).to_device(self.lm.device()));
        let drawn = self.sample(first, &hidden);
        self.accept(first, drawn)
    }

    fn decode(&mut self) -> Vec<Finished> {
        if self.running.is_empty() {
            return Vec::new();
        }
        let tokens: Vec<i64> = self.running.iter().map(|r| i64::from(r.last_token())).collect();
        let lengths: Vec<i64> = self.running.iter().map(|r| r.cached() as i64).collect();
        let device = self.lm.device();
        let (tokens, positions) =
            (Tensor::from_slice(&tokens).to_device(device), Tensor::from_slice(&lengths).to_device(device));
        let view = self.cache.view(&lengths);
        let cache = &self.cache;
        let hidden = self.lm.run(&tokens, &positions, |layer, qkv| {
            let (keys, values) = cache.append(layer, &view, &qkv);
            let mask = if self.lm.config().window(layer).is_some() { &view.near } else { &view.mask };
            cached_attention(&qkv.q, &keys, &values, mask)
        });
        let drawn = self.sample(0, &hidden);
        self.accept(0, drawn)
    }

    /// Draws the next token of rows `first..`, one hidden state each.
    fn sample(&self, first: usize, hidden: &Tensor) -> Vec<Drawn> {
        let rows = &self.running[first..];
        let mut out = Vec::with_capacity(rows.len());
        let mut start = 0;
        while start < rows.len() {
            // Neighbours nearly always share their sampling, being of one group or job.
            let sampling = rows[start].request.sampling;
            let run =
                rows[start..].iter().take_while(|r| r.request.sampling.same_distribution(&sampling)).count();
            let part = hidden.narrow(0, start as i64, run as i64);
            let log_probs = log_probs(&part, self.lm.head(), sampling.temperature);
            out.extend(sampler::draw(&log_probs, &rows[start..start + run], &sampling));
            start += run;
        }
        out
    }

    /// Appends drawn tokens to rows `first..`, and takes out the sequences that end with them.
    fn accept(&mut self, first: usize, drawn: Vec<Drawn>) -> Vec<Finished> {
        self.generated_tokens += drawn.len() as u64;
        let mut ended = Vec::new();
        for (i, d) in drawn.into_iter().enumerate() {
            let row = first + i;
            if let Some(finish) = self.running[row].push(d, self.version, &self.end_of_text) {
                ended.push((row, finish));
            }
        }
        // From the back: removal moves the last row into the hole.
        ended.into_iter().rev().map(|(row, finish)| self.remove(row).finished(finish)).collect()
    }

    fn remove(&mut self, row: usize) -> Running {
        let last = self.running.len() - 1;
        if row != last {
            self.cache.move_row(last, row, self.running[last].cached());
        }
        self.running.swap_remove(row)
    }
}

#[cfg(test)]
mod tests;
