//! Turns sequences and an objective into updates of the policy.
//!
//! ```text
//! sequences ─► micro-batches ─► packed trunk, shared prompts once ─► hidden ─► head in chunks: log-probs ─► objective
//!                                                                     ▲───────── gradient of hidden ◄────────┘
//! trunk backward, layer by layer ─► float32 sums over all micro-batches ─► clip ─► AdamW on float32 masters
//! ```
//!
//! **Invariants.** Full-vocabulary logits exist for one chunk of rows at a time (`head.rs`). The loss is normalised over the
//! whole step, and gradients are summed in float32, so micro-batches do not change the result.

mod head;
mod layout;
mod optimizer;
mod schedule;

pub use layout::{Sequence, computed_tokens};
pub use optimizer::{AdamW, CheckpointError, FILE as OPTIMIZER_FILE, Optimizer};
pub use schedule::Schedule;

use layout::{Layout, micro_batches};
use sinternal_model::logprob::target_log_probs;
use sinternal_model::lora::LoraConfig;
use sinternal_model::{CausalLm, Device, Pass};
use tch::{Kind, Tensor, no_grad};

/// Adapters start the same in every run: only their first matrix is random, and it does not matter which.
pub const ADAPTER_SEED: i64 = 0;

/// What an objective sees of one chunk of completion tokens.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// `[m]` float32, a leaf: log-probabilities of the tokens.
    pub log_probs: &'a Tensor,
    /// `[m]` float32, a leaf: entropies of the distributions they are drawn from, in nats.
    pub entropy: &'a Tensor,
    /// `[m]` int64: place of each token among all completion tokens of the step, sequence after sequence.
    pub places: &'a Tensor,
}

/// A loss as a sum over tokens, normalised over the whole step by its maker.
pub trait Objective {
    /// The chunk's share of the loss, a scalar.
    fn loss(&mut self, chunk: &Chunk<'_>) -> Tensor;
}

/// How a pass is computed; none of it changes the result beyond rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compute {
    /// Tokens of a micro-batch, at most, unless one sequence alone is longer. A shared prompt counts once.
    pub micro_batch_tokens: usize,
    /// Keep only the layers' inputs, and run each layer again in the backward.
    pub recompute: bool,
}

impl Compute {
    /// What suits a device: on a CPU larger micro-batches cost memory and gain nothing.
    #[must_use]
    pub fn of(device: Device) -> Self {
        let micro_batch_tokens = if device == Device::Cpu { 1280 } else { 16_384 };
        Self { micro_batch_tokens, recompute: false }
    }
}

/// What one pass over a step's sequences came to.
#[derive(Debug)]
pub struct StepStats {
    /// Sum of the chunks' losses.
    pub loss: f64,
    /// Mean entropy of the policy over the completion tokens, in nats.
    pub entropy: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Log-probabilities of all completion tokens before the update, sequence after sequence, `[tokens]` float32.
    pub log_probs: Tensor,
}

/// The policy under training. One thread owns it.
#[derive(Debug)]
pub struct Learner {
    lm: CausalLm,
    reference: Option<CausalLm>,
    optimizer: Optimizer,
    temperature: f32,
    compute: Compute,
}

impl Learner {
    /// A learner with fresh moments. Log-probabilities are taken at `temperature`, that of sampling.
    #[must_use]
    pub fn new(lm: CausalLm, settings: AdamW, temperature: f32) -> Self {
        lm.trained().set_requires_grad(true);
        let optimizer = optimizer(&lm, settings);
        let compute = Compute::of(lm.device());
        Self { lm, reference: None, optimizer, temperature, compute }
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

    /// Starts a stage: fresh moments, its own settings and temperature, and fresh adapters if `lora` asks for them.
    pub fn begin(&mut self, settings: AdamW, temperature: f32, lora: Option<LoraConfig>) {
        if let Some(config) = lora {
            self.lm.add_adapters(config, ADAPTER_SEED);
        }
        self.lm.trained().set_requires_grad(true);
        self.optimizer = optimizer(&self.lm, settings);
        self.temperature = temperature;
    }

    /// Ends a stage: adapters become part of the weights.
    pub fn finish(&mut self) {
        self.lm.merge_adapters();
    }

    /// How passes are computed from now on.
    pub fn set_compute(&mut self, compute: Compute) {
        self.compute = compute;
    }

    /// Log-probabilities of every sequence's completion tokens, sequence after sequence, `[tokens]` float32. Bit for bit
    /// those that [`Learner::step`] starts from.
    pub fn score(&self, sequences: &[Sequence]) -> Tensor {
        score_with(&self.lm, sequences, self.temperature, self.compute)
    }

    /// Freezes the policy that a KL penalty is measured against.
    pub fn set_reference(&mut self, lm: CausalLm) {
        lm.parameters().set_requires_grad(false);
        self.reference = Some(lm);
    }

    /// As [`Learner::score`], under the reference; `None` without one.
    #[must_use]
    pub fn score_reference(&self, sequences: &[Sequence]) -> Option<Tensor> {
        self.reference.as_ref().map(|lm| score_with(lm, sequences, self.temperature, self.compute))
    }

    /// One pass over the sequences and one update.
    pub fn step(
        &mut self,
        sequences: &[Sequence],
        objective: &mut dyn Objective,
        rate: f64,
        max_norm: f64,
    ) -> StepStats {
        let mut stats = self.accumulate(sequences, objective);
        stats.grad_norm = self.optimizer.update(self.lm.trained(), rate, max_norm);
        stats
    }

    /// The pass of [`Learner::step`] without its update: gradients are added to the optimizer's sums.
    fn accumulate(&mut self, sequences: &[Sequence], objective: &mut dyn Objective) -> StepStats {
        let (mut loss, mut entropy) = (0.0, 0.0);
        let mut log_probs = Vec::new();
        let micros = micro_batches(sequences, self.compute.micro_batch_tokens);
        for (index, micro) in micros.into_iter().enumerate() {
            let layout = Layout::new(sequences, micro, self.lm.device());
            self.lm.set_dropout_key(Some(self.optimizer.updates() * 65_537 + index as i64));
            let pass = Pass::forward(&self.lm, &layout.packed, self.compute.recompute);
            let all = pass.hidden();
            let hidden = no_grad(|| all.index_select(0, &layout.rows)); // [m, hidden]
            let sums = self.optimizer.sums();
            let of_head = head::backward(&self.lm, &hidden, &layout, self.temperature, objective, sums);
            let gradient = no_grad(|| all.zeros_like().index_add(0, &layout.rows, &of_head.hidden));
            pass.backward(&gradient, |parameter, gradient| sums.add(parameter, gradient));
            self.lm.set_dropout_key(None);
            loss += of_head.loss;
            entropy += of_head.entropy;
            log_probs.push(of_head.log_probs);
        }
        let log_probs = Tensor::cat(&log_probs, 0);
        StepStats { loss, entropy: entropy / log_probs.size()[0] as f64, grad_norm: f64::NAN, log_probs }
    }
}

/// Adapters are not in the model's own file, so the optimizer's has them.
fn optimizer(lm: &CausalLm, settings: AdamW) -> Optimizer {
    if lm.trains_weights() {
        Optimizer::new(lm.trained(), settings)
    } else {
        Optimizer::with_masters(lm.trained(), settings)
    }
}

/// Log-probabilities of every sequence's completion tokens under `lm` at `temperature`, sequence after sequence,
/// `[tokens]` float32. Full-vocabulary logits of one chunk exist at a time.
pub fn score(lm: &CausalLm, sequences: &[Sequence], temperature: f32) -> Tensor {
    score_with(lm, sequences, temperature, Compute::of(lm.device()))
}

fn score_with(lm: &CausalLm, sequences: &[Sequence], temperature: f32, compute: Compute) -> Tensor {
    let parts: Vec<Tensor> = micro_batches(sequences, compute.micro_batch_tokens)
        .into_iter()
        .map(|micro| {
            let layout = Layout::new(sequences, micro, lm.device());
            let hidden = no_grad(|| lm.forward(&layout.packed).index_select(0, &layout.rows));
            target_log_probs(&hidden, lm.head(), &layout.targets, temperature)
        })
        .collect();
    if parts.is_empty() { Tensor::zeros([0], (Kind::Float, lm.device())) } else { Tensor::cat(&parts, 0) }
}

#[cfg(test)]
mod tests;
