//! What is asked of the engine, a sequence while it runs, and what comes back.

use super::sampler::Drawn;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How to choose tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy; else logits are divided by it.
    pub temperature: f32,
    /// The smallest set of likeliest tokens with at least this mass is kept; in (0, 1].
    pub top_p: f32,
    /// This many of the likeliest tokens are kept; 0 keeps all.
    pub top_k: usize,
    /// Length limit of a completion.
    pub max_new_tokens: usize,
    /// Sample on past end-of-text.
    pub ignore_eos: bool,
}

impl SamplingParams {
    /// Greedy decoding of at most `max_new_tokens`.
    #[must_use]
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, max_new_tokens, ignore_eos: false }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(format!("temperature {} must be 0 or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(format!("top_p {} must lie in (0, 1]", self.top_p));
        }
        if self.max_new_tokens == 0 {
            return Err("max_new_tokens must be at least 1".into());
        }
        Ok(())
    }

    pub(super) fn same_distribution(&self, other: &Self) -> bool {
        (self.temperature, self.top_p, self.top_k) == (other.temperature, other.top_p, other.top_k)
    }
}

/// After the token sequence `trigger`, the next token is one of `choices`, and the completion ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Last tokens of the completion that ask for the choice.
    pub trigger: Vec<u32>,
    /// Allowed next tokens.
    pub choices: Vec<u32>,
}

/// Several samples of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Chosen by the caller, for [`Finished`] and cancellation.
    pub id: u64,
    /// Root of the random numbers; a draw is keyed by (key, sample, position).
    pub key: u64,
    /// Rendered prompt.
    pub prompt: Vec<u32>,
    /// Which samples of the group to draw.
    pub samples: Vec<u32>,
    /// How to choose tokens.
    pub sampling: SamplingParams,
    /// A constrained last token.
    pub choice: Option<Choice>,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// An end-of-text token, which is its last token.
    Stop,
    /// `max_new_tokens` or the context length.
    Length,
    /// The constrained choice, which is its last token.
    Chosen,
}

/// A finished sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// `Request::id`.
    pub id: u64,
    /// Its index in the group.
    pub sample: u32,
    /// The completion, its last token included.
    pub tokens: Vec<u32>,
    /// Log-probability of each token under the distribution it was drawn from.
    pub logprobs: Vec<f32>,
    /// Policy version and number of tokens, in order.
    pub segments: Vec<(u64, u32)>,
    /// Why it ended.
    pub finish: Finish,
    /// Log-probabilities of the choices under the plain model (not normalised over them), where there was a choice.
    pub choice_logprobs: Option<Vec<f32>>,
    /// From admission to the last token.
    pub elapsed: Duration,
}

/// A request with samples that have no row yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: Arc<Request>,
    next: usize,
}

impl Waiting {
    pub(super) fn new(request: Request) -> Self {
        Self { request: Arc::new(request), next: 0 }
    }

    pub(super) fn remaining(&self) -> usize {
        self.request.samples.len() - self.next
    }

    /// Starts up to `room` of the samples.
    pub(super) fn take(&mut self, room: usize, capacity: usize) -> Vec<Running> {
        let end = (self.next + room).min(self.request.samples.len());
        let samples = self.next..end;
        self.next = end;
        samples.map(|i| Running::new(&self.request, self.request.samples[i], capacity)).collect()
    }
}

/// A sequence with a row of the cache.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) request: Arc<Request>,
    pub(super) sample: u32,
    /// Tokens it may come to hold in the cache.
    pub(super) capacity: usize,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    segments: Vec<(u64, u32)>,
    choice_logprobs: Option<Vec<f32>>,
    started: Instant,
}

impl Running {
    fn new(request: &Arc<Request>, sample: u32, capacity: usize) -> Self {
        Self {
            request: Arc::clone(request),
            sample,
            capacity,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            segments: Vec::new(),
            choice_logprobs: None,
            started: Instant::now(),
        }
    }

    /// Position of the next draw in the completion.
    pub(super) fn position(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens whose keys and values are in the cache: all but the last one drawn.
    pub(super) fn cached(&self) -> usize {
        (self.request.prompt.len() + self.tokens.len()).saturating_sub(1)
    }

    pub(super) fn last_token(&self) -> u32 {
        *self.tokens.last().expect("the first token is drawn at prefill")
    }

    /// The choices, if the next token is constrained to them.
    pub(super) fn due_choices(&self) -> Option<&[u32]> {
        let choice = self.request.choice.as_ref()?;
        self.tokens.ends_with(&choice.trigger).then_some(&choice.choices[..])
    }

    pub(super) fn push(&mut self, drawn: Drawn, version: u64, end_of_text: &[u32]) -> Option<Finish> {
        self.tokens.push(drawn.token);
        self.logprobs.push(drawn.logprob);
        match self.segments.last_mut() {
            Some((last, count)) if *last == version => *count += 1,
            _ => self.segments.push((version, 1)),
        }
        let sampling = &self.request.sampling;
        if drawn.choice_logprobs.is_some() {
            self.choice_logprobs = drawn.choice_logprobs;
            Some(Finish::Chosen)
        } else if !sampling.ignore_eos && end_of_text.contains(&drawn.token) {
            Some(Finish::Stop)
        } else {
            let full = self.request.prompt.len() + self.tokens.len() >= self.capacity;
            (full || self.tokens.len() >= sampling.max_new_tokens).then_some(Finish::Length)
        }
    }

    pub(super) fn finished(self, finish: Finish) -> Finished {
        Finished {
            id: self.request.id,
            sample: self.sample,
            tokens: self.tokens,
            logprobs: self.logprobs,
            segments: self.segments,
            finish,
            choice_logprobs: self.choice_logprobs,
            elapsed: self.started.elapsed(),
        }
    }
}
