//! One sample on its way: what is known of it, and how much of that is in the cache.

use super::request::{Choice, Finish, Finished, Request, Then};
use super::sampler::Drawn;
use super::stop::Decoder;
use std::sync::Arc;
use std::time::Instant;

/// A sample that waits or runs. Its tokens are the prompt's and those drawn; the first `cached` of them are in its row.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) request: Arc<Request>,
    pub(super) sample: u32,
    /// Rank of arrival: a smaller one goes first and is preempted last.
    pub(super) order: u64,
    /// Tokens it may come to hold, the prompt's included.
    pub(super) capacity: usize,
    /// Tokens whose keys and values are in the cache.
    pub(super) cached: usize,
    /// Its prompt's keys and values are those of the present weights.
    pub(super) shareable: bool,
    pub(super) started: Option<Instant>,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    plain_logprobs: Vec<f32>,
    segments: Vec<(u64, u32)>,
    choice_logprobs: Option<Vec<f32>>,
}

impl Sequence {
    pub(super) fn new(request: &Arc<Request>, sample: u32, order: u64, capacity: usize) -> Self {
        Self {
            request: Arc::clone(request),
            sample,
            order,
            capacity,
            cached: 0,
            shareable: false,
            started: None,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            plain_logprobs: Vec::new(),
            segments: Vec::new(),
            choice_logprobs: None,
        }
    }

    /// Tokens of the prompt and of the completion so far.
    pub(super) fn len(&self) -> usize {
        self.request.prompt.len() + self.tokens.len()
    }

    /// Tokens that another sample of the request could copy: a prompt's last token is decoded by each for itself,
    /// as that is what gives the first draw.
    pub(super) fn prefix(&self) -> usize {
        self.request.prompt.len() - 1
    }

    /// Tokens to be computed before the last one, whose pass gives the next draw.
    pub(super) fn unfilled(&self) -> usize {
        self.len() - 1 - self.cached
    }

    /// Every token but the one to be drawn next is in the cache.
    pub(super) fn is_due(&self) -> bool {
        self.cached == self.len()
    }

    /// The first token that is not in the cache.
    pub(super) fn next_input(&self) -> u32 {
        self.token(self.cached)
    }

    /// The next `count` tokens that are not in the cache.
    pub(super) fn inputs(&self, count: usize) -> Vec<u32> {
        (self.cached..self.cached + count).map(|at| self.token(at)).collect()
    }

    /// Another sample of the same request.
    pub(super) fn is_twin(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.request, &other.request)
    }

    /// The prompt's tokens and those drawn.
    pub(super) fn known(&self) -> impl Iterator<Item = u32> {
        self.request.prompt.iter().chain(&self.tokens).copied()
    }

    /// How many of its first `most` tokens are also the first of `others`.
    pub(super) fn common(&self, most: usize, others: impl Iterator<Item = u32>) -> usize {
        self.known().take(most).zip(others).take_while(|(a, b)| a == b).count()
    }

    fn token(&self, at: usize) -> u32 {
        let prompt = &self.request.prompt;
        if at < prompt.len() { prompt[at] } else { self.tokens[at - prompt.len()] }
    }

    /// Position of the next draw in the completion.
    pub(super) fn position(&self) -> usize {
        self.tokens.len()
    }

    /// The constraint on the next token, if there is one.
    pub(super) fn due_choice(&self) -> Option<&Choice> {
        self.request.choice.as_ref().filter(|choice| self.tokens.ends_with(&choice.trigger))
    }

    /// Appends a draw; says why the completion ends with it, if it does.
    pub(super) fn push(
        &mut self,
        drawn: Drawn,
        version: u64,
        end_of_text: &[u32],
        decoder: Option<&Decoder>,
    ) -> Option<Finish> {
        let chosen = self.due_choice().is_some_and(|choice| choice.then == Then::End);
        self.tokens.push(drawn.token);
        self.logprobs.push(drawn.logprob);
        self.plain_logprobs.extend(drawn.plain);
        self.choice_logprobs = drawn.choice_logprobs.or(self.choice_logprobs.take());
        match self.segments.last_mut() {
            Some((last, count)) if *last == version => *count += 1,
            _ => self.segments.push((version, 1)),
        }
        if chosen { Some(Finish::Chosen) } else { self.ended(drawn.token, end_of_text, decoder) }
    }

    fn ended(&self, last: u32, end_of_text: &[u32], decoder: Option<&Decoder>) -> Option<Finish> {
        let sampling = &self.request.sampling;
        if !sampling.ignore_eos && end_of_text.contains(&last) {
            return Some(Finish::Stop);
        }
        if sampling.stop_tokens.contains(&last) {
            return Some(Finish::StopToken(last));
        }
        let stopped = decoder.and_then(|d| d.stopped(&self.tokens, &sampling.stop_strings));
        let full = self.len() >= self.capacity || self.tokens.len() >= sampling.max_new_tokens;
        stopped.map(Finish::StopString).or(full.then_some(Finish::Length))
    }

    pub(super) fn finished(self, finish: Finish) -> Finished {
        Finished {
            id: self.request.id,
            sample: self.sample,
            tokens: self.tokens,
            logprobs: self.logprobs,
            plain_logprobs: self.request.sampling.plain_logprobs.then_some(self.plain_logprobs),
            segments: self.segments,
            finish,
            choice_logprobs: self.choice_logprobs,
            elapsed: self.started.map(|at| at.elapsed()).unwrap_or_default(),
        }
    }
}
