//! What a client has done so far, for reports and as metrics.

use super::{ChatAnswer, ChatError, ChatSettings, Source};
use crate::metrics;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts since the client was made. Requests = from the server + from the cache + shared + failed + under way.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatTotals {
    /// Requests that were made of the client.
    pub requests: u64,
    /// Of them, answered by the server for themselves.
    pub answered: u64,
    /// Of them, answered from the cache on disk.
    pub cache_hits: u64,
    /// Of them, answered with an equal request that was under way.
    pub shared: u64,
    /// Of them, ended with an error.
    pub failed: u64,
    /// HTTP calls, retries included.
    pub calls: u64,
    /// Calls that repeated one.
    pub retries: u64,
    /// Tokens of messages, as the server counts them.
    pub input_tokens: u64,
    /// Tokens of answers, as the server counts them.
    pub output_tokens: u64,
    /// Answers of the server without a count of tokens: with any, tokens and cost are lower bounds.
    pub uncounted: u64,
    /// Answers that could not be written to the cache.
    pub cache_failures: u64,
    /// Cost of those tokens, in the currency of the prices; `None` without prices.
    pub cost: Option<f64>,
}

impl fmt::Display for ChatTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, cache_hits, shared, failed, calls, retries, .. } = self;
        write!(f, "{requests} requests ({cache_hits} from the cache, {shared} shared, {failed} failed), ")?;
        write!(f, "{calls} calls ({retries} retries), ")?;
        let bound = if self.uncounted > 0 { "at least " } else { "" };
        write!(f, "{bound}{} input and {} output tokens", self.input_tokens, self.output_tokens)?;
        self.cost.map_or(Ok(()), |cost| write!(f, ", cost {bound}{cost:.4}"))
    }
}

/// The counts of one client.
#[derive(Debug)]
pub(super) struct Counts {
    totals: Mutex<ChatTotals>,
    settings: ChatSettings,
}

impl Counts {
    pub(super) fn new(settings: &ChatSettings) -> Self {
        Self { totals: Mutex::default(), settings: settings.clone() }
    }

    pub(super) fn snapshot(&self) -> ChatTotals {
        let totals = *self.totals();
        ChatTotals { cost: self.settings.cost(totals.input_tokens, totals.output_tokens), ..totals }
    }

    pub(super) fn request(&self) {
        self.totals().requests += 1;
    }

    pub(super) fn call(&self) {
        self.totals().calls += 1;
    }

    pub(super) fn retry(&self) {
        self.totals().retries += 1;
        metrics::chat_retries_total().increment(1);
    }

    pub(super) fn cache_failure(&self) {
        self.totals().cache_failures += 1;
    }

    /// How a request ended.
    pub(super) fn outcome(&self, outcome: &Result<ChatAnswer, ChatError>) {
        let mut totals = self.totals();
        let (count, label) = match outcome.as_ref().map(|answer| answer.source) {
            Ok(Source::Server) => (&mut totals.answered, "answered"),
            Ok(Source::Cache) => (&mut totals.cache_hits, "cached"),
            Ok(Source::Shared) => (&mut totals.shared, "shared"),
            Err(_) => (&mut totals.failed, "failed"),
        };
        *count += 1;
        metrics::chat_requests_total(label).increment(1);
    }

    /// What the server charges for.
    pub(super) fn charged(&self, answer: &ChatAnswer) {
        let mut totals = self.totals();
        let Some(usage) = answer.usage else {
            totals.uncounted += 1;
            return;
        };
        totals.input_tokens = totals.input_tokens.saturating_add(usage.input_tokens);
        totals.output_tokens = totals.output_tokens.saturating_add(usage.output_tokens);
        metrics::chat_input_tokens_total().increment(usage.input_tokens);
        metrics::chat_output_tokens_total().increment(usage.output_tokens);
        if let Some(cost) = self.settings.cost(usage.input_tokens, usage.output_tokens) {
            metrics::chat_cost().increment(cost);
        }
    }

    fn totals(&self) -> MutexGuard<'_, ChatTotals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat_api::{Finish, Usage};

    #[test]
    fn tokens_become_cost_at_the_prices_given() {
        let settings =
            ChatSettings { price_input: Some(2.5), price_output: Some(10.0), ..ChatSettings::new("x", "m") };
        let (free, paid) = (Counts::new(&ChatSettings::default()), Counts::new(&settings));
        let answer =
            |usage| ChatAnswer { text: "x".into(), finish: Finish::Stop, usage, source: Source::Server };
        for counts in [&free, &paid] {
            counts.charged(&answer(Some(Usage { input_tokens: 400_000, output_tokens: 100_000 })));
            counts.charged(&answer(Some(Usage { input_tokens: 600_000, output_tokens: 50_000 })));
            counts.charged(&answer(None));
        }
        // 1.0 million at 2.5 and 0.15 million at 10.
        assert_eq!((free.snapshot().cost, paid.snapshot().cost), (None, Some(4.0)));
        let totals = paid.snapshot();
        assert_eq!((totals.input_tokens, totals.output_tokens, totals.uncounted), (1_000_000, 150_000, 1));
        assert_eq!(
            totals.to_string(),
            "0 requests (0 from the cache, 0 shared, 0 failed), 0 calls (0 retries), at least 1000000 input and \
             150000 output tokens, cost at least 4.0000"
        );
    }
}
