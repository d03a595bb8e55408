//! Turns sequences and an objective into updates of the policy.
//!
//! ```text
//! sequences ─► micro-batches ─► packed forward ─► hidden ─► head in chunks: log-probs ─► objective ─► backward
//!                                                  ▲────────── gradient of hidden ◄──────────┘
//! all micro-batches ─► clip ─► AdamW
//! ```
//!
//! Full-vocabulary logits exist for one chunk of rows at a time: the hidden states are detached, each chunk's loss
//! is pushed back into them, and the gradient gathered there is pushed into the trunk at the end.

mod optimizer;
mod schedule;

pub use optimizer::{AdamW, CheckpointError, FILE as OPTIMIZER_FILE, Optimizer};
pub use schedule::Schedule;

use sinternal_model::logprob::{chunk_rows, log_probs, target_log_probs};
use sinternal_model::{CausalLm, Packed};
use std::ops::Range;
use tch::{Kind, Tensor, no_grad};

/// Tokens of a micro-batch, at most, unless one sequence alone is longer.
const MICRO_BATCH_TOKENS: usize = 16_384;

/// A prompt with a completion; the tokens from `prompt_len` on are learned or scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Prompt and completion.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt; at least 1, less than all.
    pub prompt_len: usize,
}

impl Sequence {
    /// Joins a prompt and its completion.
    #[must_use]
    pub fn new(prompt: &[u32], completion: &[u32]) -> Self {
        Self { tokens: [prompt, completion].concat(), prompt_len: prompt.len() }
    }

    /// Tokens that count.
    #[must_use]
    pub fn completion_len(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }
}

/// What an objective sees of one chunk of completion tokens.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// `[m]` float32 with a graph: log-probabilities of the tokens.
    pub log_probs: &'a Tensor,
    /// `[m]` int64: place of each token among all completion tokens of the step, sequence after sequence.
    pub places: &'a Tensor,
}

/// A loss as a sum over tokens, normalised over the whole step by its maker.
pub trait Objective {
    /// The chunk's share of the loss, a scalar.
    fn loss(&mut self, chunk: &Chunk<'_>) -> Tensor;
}

/// Figures of one pass over a step's sequences.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepStats {
    /// Sum of the chunks' losses.
    pub loss: f64,
    /// Mean entropy of the policy over the completion tokens, in nats.
    pub entropy: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
}

/// The policy under training. One thread owns it.
#[derive(Debug)]
pub struct Learner {
    lm: CausalLm,
    reference: Option<CausalLm>,
    optimizer: Optimizer,
    temperature: f32,
}

impl Learner {
    /// A learner with fresh moments. Log-probabilities are taken at `temperature`, that of sampling.
    #[must_use]
    pub fn new(lm: CausalLm, settings: AdamW, temperature: f32) -> Self {
        lm.set_requires_grad(true);
        let optimizer = Optimizer::new(lm.parameters(), settings);
        Self { lm, reference: None, optimizer, temperature }
    }

    /// The policy.
    #[must_use]
    pub fn lm(&self) -> &CausalLm {
        &self.lm
    }

    /// Moments and number of updates.
    pub fn optimizer(&mut self) -> (&mut Optimizer, &CausalLm) {
        (&mut self.optimizer, &self.lm)
    }

    /// Starts a stage: fresh moments, its own settings and temperature.
    pub fn reset(&mut self, settings: AdamW, temperature: f32) {
        self.optimizer = Optimizer::new(self.lm.parameters(), settings);
        self.temperature = temperature;
    }

    /// Log-probabilities of every sequence's completion tokens, sequence after sequence, `[tokens]` float32.
    pub fn score(&self, sequences: &[Sequence]) -> Tensor {
        score(&self.lm, sequences, self.temperature)
    }

    /// Freezes the policy that a KL penalty is measured against.
    pub fn set_reference(&mut self, lm: CausalLm) {
        lm.set_requires_grad(false);
        self.reference = Some(lm);
    }

    /// As [`Learner::score`], under the reference; `None` without one.
    #[must_use]
    pub fn score_reference(&self, sequences: &[Sequence]) -> Option<Tensor> {
        self.reference.as_ref().map(|lm| score(lm, sequences, self.temperature))
    }

    /// One pass over the sequences and one update.
    pub fn step(
        &mut self,
        sequences: &[Sequence],
        objective: &mut dyn Objective,
        rate: f64,
        max_norm: f64,
    ) -> StepStats {
        let total: usize = sequences.iter().map(Sequence::completion_len).sum();
        let mut stats = StepStats::default();
        for micro in micro_batches(sequences) {
            let (loss, entropy) = self.accumulate(&Layout::new(sequences, micro, &self.lm), objective);
            stats.loss += loss;
            stats.entropy += entropy / total as f64;
        }
        stats.grad_norm = self.optimizer.update(self.lm.parameters(), rate, max_norm);
        stats
    }

    /// Adds a micro-batch's gradient; returns its loss and the sum of its entropies.
    fn accumulate(&self, layout: &Layout, objective: &mut dyn Objective) -> (f64, f64) {
        let hidden = self.lm.forward(&layout.packed).index_select(0, &layout.rows); // [m, hidden]
        let leaf = hidden.detach().set_requires_grad(true);
        let (mut loss_sum, mut entropy_sum) = (0.0, 0.0);
        let rows = chunk_rows(self.lm.config().vocab);
        for start in (0..layout.len()).step_by(rows as usize) {
            let len = rows.min(layout.len() as i64 - start as i64);
            let part = |t: &Tensor| t.narrow(0, start as i64, len);
            let all = log_probs(&part(&leaf), self.lm.head(), self.temperature); // [len, vocab]
            let of_targets = all.gather(1, &part(&layout.targets).unsqueeze(1), false).squeeze_dim(1);
            entropy_sum += no_grad(|| -(all.exp() * &all).sum(Kind::Double).double_value(&[]));
            let loss = objective.loss(&Chunk { log_probs: &of_targets, places: &part(&layout.places) });
            loss_sum += loss.double_value(&[]);
            loss.backward();
        }
        (hidden * leaf.grad()).sum(Kind::Float).backward();
        (loss_sum, entropy_sum)
    }
}

/// Log-probabilities of every sequence's completion tokens under `lm` at `temperature`, sequence after sequence,
/// `[tokens]` float32. Full-vocabulary logits of one chunk exist at a time.
pub fn score(lm: &CausalLm, sequences: &[Sequence], temperature: f32) -> Tensor {
    let parts: Vec<Tensor> = micro_batches(sequences)
        .into_iter()
        .map(|micro| {
            let layout = Layout::new(sequences, micro, lm);
            let hidden = no_grad(|| lm.forward(&layout.packed).index_select(0, &layout.rows));
            target_log_probs(&hidden, lm.head(), &layout.targets, temperature)
        })
        .collect();
    Tensor::cat(&parts, 0)
}

/// Consecutive sequences whose tokens stay within the bound.
fn micro_batches(sequences: &[Sequence]) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (i, sequence) in sequences.iter().enumerate() {
        tokens += sequence.tokens.len();
        match out.last_mut() {
            Some(last) if tokens <= MICRO_BATCH_TOKENS => last.end = i + 1,
            _ => {
                tokens = sequence.tokens.len();
                out.push(i..i + 1);
            }
        }
    }
    out
}

/// Where a micro-batch's completion tokens are predicted, in the caller's order.
struct Layout {
    packed: Packed,
    /// `[m]`: row of the pack that predicts each token.
    rows: Tensor,
    /// `[m]`: the tokens.
    targets: Tensor,
    /// `[m]`: their places among all completion tokens of the step.
    places: Tensor,
}

impl Layout {
    fn new(sequences: &[Sequence], micro: Range<usize>, lm: &CausalLm) -> Self {
        let before: usize = sequences[..micro.start].iter().map(Sequence::completion_len).sum();
        let micro = &sequences[micro];
        let tokens: Vec<&[u32]> = micro.iter().map(|s| &s.tokens[..]).collect();
        let packed = Packed::new(&tokens, lm.device());
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for (sequence, range) in micro.iter().zip(&packed.ranges) {
            let first = range.start + sequence.prompt_len - 1;
            rows.extend((first..range.end - 1).map(|r| r as i64));
            targets.extend(sequence.tokens[sequence.prompt_len..].iter().map(|&t| i64::from(t)));
        }
        let tensor = |values: &[i64]| Tensor::from_slice(values).to_device(lm.device());
        let places =
            Tensor::arange_start(before as i64, (before + rows.len()) as i64, (Kind::Int64, lm.device()));
        Self { packed, rows: tensor(&rows), targets: tensor(&targets), places }
    }

    fn len(&self) -> usize {
        self.rows.size()[0] as usize
    }
}

#[cfg(test)]
mod tests;
