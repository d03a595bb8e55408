//! What the engine does not take, and why.

use super::{Engine, Request};

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

impl Engine {
    pub(super) fn check(&self, request: &Request) -> Result<(), Refused> {
        let checked = self
            .check_tokens(request)
            .and_then(|()| self.check_room(request))
            .and_then(|()| request.sampling.check())
            .and_then(|()| self.check_stops(request));
        checked.map_err(|problem| Refused::Invalid { id: request.id, problem })
    }

    fn check_tokens(&self, request: &Request) -> Result<(), String> {
        if request.prompt.is_empty() {
            return Err("the prompt has no tokens".into());
        }
        if request.choice.as_ref().is_some_and(|c| c.choices.is_empty()) {
            return Err("a choice allows no token".into());
        }
        let vocab = self.lm.config().vocab;
        let inside = |name: &str, tokens: &[u32]| match tokens.iter().find(|&&t| i64::from(t) >= vocab) {
            Some(token) => Err(format!("{name} token {token} is outside the vocabulary of {vocab}")),
            None => Ok(()),
        };
        inside("prompt", &request.prompt)?;
        inside("stop", &request.sampling.stop_tokens)?;
        request.choice.as_ref().map_or(Ok(()), |c| inside("allowed", &c.choices))
    }

    fn check_room(&self, request: &Request) -> Result<(), String> {
        let (len, limit) = (request.prompt.len(), self.lm.config().max_positions);
        if len >= limit {
            return Err(format!("the prompt has {len} tokens; the context holds {limit}"));
        }
        let (longest, budget) = (self.capacity(request), self.options.kv_budget_bytes);
        let need = self.cache.bytes_for(1, longest);
        if need > budget {
            return Err(format!("its {longest} tokens need {need} bytes of cache; the budget is {budget}"));
        }
        Ok(())
    }

    fn check_stops(&self, request: &Request) -> Result<(), String> {
        if !request.sampling.stop_strings.is_empty() && self.decoder.is_none() {
            return Err("stop strings need a tokenizer, and this engine has none".into());
        }
        Ok(())
    }
}
