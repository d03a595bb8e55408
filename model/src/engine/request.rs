//! What is asked of the engine, and what comes back.

use crate::{ModelError, Tokenizer};
use std::time::Duration;

/// How to choose tokens, and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy; else logits are divided by it.
    pub temperature: f32,
    /// The smallest set of likeliest tokens with at least this mass is kept; in (0, 1].
    pub top_p: f32,
    /// This many of the likeliest tokens are kept; 0 keeps all.
    pub top_k: usize,
    /// Tokens at least this likely, relative to the likeliest one, are kept; in [0, 1], 0 keeps all
    /// (Nguyen et al., 2024). Applied after `top_k` and `top_p`.
    pub min_p: f32,
    /// Length limit of a completion.
    pub max_new_tokens: usize,
    /// Sample on past end-of-text.
    pub ignore_eos: bool,
    /// Tokens that end the completion besides end-of-text, also where that is ignored.
    pub stop_tokens: Vec<u32>,
    /// Texts that end the completion, however they are cut into tokens. The tokens that make them up stay in
    /// [`Finished::tokens`]; [`Finished::text`] ends before them.
    pub stop_strings: Vec<String>,
    /// Give [`Finished::plain_logprobs`] as well.
    pub plain_logprobs: bool,
}

impl SamplingParams {
    /// From the model's own distribution, until end-of-text, at most `max_new_tokens`.
    #[must_use]
    pub fn new(max_new_tokens: usize) -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens,
            ignore_eos: false,
            stop_tokens: Vec::new(),
            stop_strings: Vec::new(),
            plain_logprobs: false,
        }
    }

    /// Greedy decoding of at most `max_new_tokens`.
    #[must_use]
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, ..Self::new(max_new_tokens) }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(format!("temperature {} must be 0 or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(format!("top_p {} must lie in (0, 1]", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(format!("min_p {} must lie in [0, 1]", self.min_p));
        }
        if self.max_new_tokens == 0 {
            return Err("max_new_tokens must be at least 1".into());
        }
        if self.stop_strings.iter().any(String::is_empty) {
            return Err("a stop string is empty".into());
        }
        Ok(())
    }

    pub(super) fn same_distribution(&self, other: &Self) -> bool {
        let of = |s: &Self| (s.temperature, s.top_p, s.top_k, s.min_p, s.plain_logprobs);
        of(self) == of(other)
    }
}

/// How a constrained token is chosen among the allowed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The likeliest of them.
    Likeliest,
    /// Drawn from the model's distribution over them, at the request's temperature.
    Drawn,
}

/// What follows a constrained token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The completion ends with it.
    End,
    /// Sampling goes on.
    GoOn,
}

/// After the token sequence `trigger`, the next token is one of `choices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Last tokens of the completion that ask for the choice; none ask for it at every token.
    pub trigger: Vec<u32>,
    /// Allowed next tokens.
    pub choices: Vec<u32>,
    /// How to choose among them.
    pub pick: Pick,
    /// What comes after.
    pub then: Then,
}

impl Choice {
    /// The likeliest of `choices`, which ends the completion: a verdict.
    #[must_use]
    pub fn verdict(trigger: Vec<u32>, choices: Vec<u32>) -> Self {
        Self { trigger, choices, pick: Pick::Likeliest, then: Then::End }
    }
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
    /// A constrained token.
    pub choice: Option<Choice>,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// An end-of-text token, which is its last token.
    Stop,
    /// This one of the request's `stop_tokens`, which is its last token.
    StopToken(u32),
    /// The request's stop string with this index; its last token completes it.
    StopString(usize),
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
    /// Log-probability of each token at temperature 1 without truncation, where that was asked for.
    pub plain_logprobs: Option<Vec<f32>>,
    /// Policy version and number of tokens, in order.
    pub segments: Vec<(u64, u32)>,
    /// Why it ended.
    pub finish: Finish,
    /// Log-probabilities of the choices under the plain model (not normalised over them), where there was a choice;
    /// of the last one, where there were several.
    pub choice_logprobs: Option<Vec<f32>>,
    /// From admission to the last token.
    pub elapsed: Duration,
}

impl Finished {
    /// The completion as text, without the token or the text that ended it. `stop_strings` are the request's.
    ///
    /// # Errors
    /// A token outside the tokenizer's vocabulary.
    pub fn text(&self, stop_strings: &[String], tokenizer: &Tokenizer) -> Result<String, ModelError> {
        let ended = matches!(self.finish, Finish::Stop | Finish::StopToken(_) | Finish::Chosen);
        let mut text = tokenizer.decode(&self.tokens[..self.tokens.len() - usize::from(ended)])?;
        if let Finish::StopString(index) = self.finish
            && let Some(end) = text.find(&stop_strings[index])
        {
            text.truncate(end);
        }
        Ok(text)
    }
}
