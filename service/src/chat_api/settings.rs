//! What a chat endpoint is and how it is used: the keys of one section of a configuration.

use super::ChatRequest;
use crate::config::seconds;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// An OpenAI-compatible endpoint. `base_url` and `model` must be given; the rest has the defaults below.
///
/// The API key itself never stands here, only where it is: settings are logged, reported and committed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChatSettings {
    /// What stands before `/chat/completions`, such as `https://api.example.com/v1`.
    pub base_url: String,
    /// The model's name at that endpoint.
    pub model: String,
    /// File that holds the API key. Without a file or a variable, no key is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Environment variable that holds the API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// Plain HTTP beyond this machine: messages and key can then be read on the way. Default: false.
    pub allow_insecure: bool,
    /// Requests worked on at once, at most. Default: 8.
    pub max_concurrent: usize,
    /// Requests sent in a minute, at most, evenly spaced. Default: no limit of our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Deadline of one call, from connecting to the last byte. Default: 120 s.
    #[serde(rename = "call_s", with = "seconds")]
    pub call: Duration,
    /// Deadline of a request with all its calls and waits, from its turn on. Default: 600 s.
    #[serde(rename = "request_s", with = "seconds")]
    pub request: Duration,
    /// Calls after the first, at most. Default: 6.
    pub retries: u32,
    /// The first wait before a retry is drawn from 0 to this. Default: 1 s.
    #[serde(rename = "retry_base_s", with = "seconds")]
    pub retry_base: Duration,
    /// That range doubles with every retry, up to this. Default: 60 s.
    #[serde(rename = "retry_cap_s", with = "seconds")]
    pub retry_cap: Duration,
    /// 0 is greedy. Default: 0.
    pub temperature: f64,
    /// Length limit of an answer, in the endpoint's tokens. Default: 1,024.
    pub max_tokens: u32,
    /// The field in which the endpoint expects that limit. Default: `max_tokens`.
    pub token_limit_field: TokenLimitField,
    /// Nucleus, in (0, 1]. Default: the endpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Seed of sampling, where the endpoint knows one; a request may bring its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Price of a million input tokens, in any currency. Without prices no cost is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_input: Option<f64>,
    /// Price of a million output tokens, in the same currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_output: Option<f64>,
    /// Folder of answers, so that the same request is paid once. It grows by one small file for every distinct
    /// request and is never emptied; several processes may share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

/// How an endpoint names the length limit of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimitField {
    /// The original name, which nearly all servers know.
    #[default]
    MaxTokens,
    /// The name that OpenAI's reasoning models insist on.
    MaxCompletionTokens,
}

impl ChatSettings {
    /// Keys that the default leaves out, for `Config::OPTIONAL` of what this is a section of.
    pub const OPTIONAL_KEYS: &'static [&'static str] = &[
        "api_key_file",
        "api_key_env",
        "requests_per_minute",
        "top_p",
        "seed",
        "price_input",
        "price_output",
        "cache",
    ];

    /// `model` at `base_url`, everything else as documented.
    #[must_use]
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), model: model.into(), ..Self::default() }
    }

    /// The seed that a request is sent with.
    pub(super) fn seed_of(&self, request: &ChatRequest) -> Option<u64> {
        request.seed.or(self.seed)
    }

    /// Cost of so many tokens; `None` without prices.
    pub(super) fn cost(&self, input_tokens: u64, output_tokens: u64) -> Option<f64> {
        const MILLION: f64 = 1e6;
        let (input, output) = (self.price_input?, self.price_output?);
        Some((input_tokens as f64 * input + output_tokens as f64 * output) / MILLION)
    }
}

impl Default for ChatSettings {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            model: String::new(),
            api_key_file: None,
            api_key_env: None,
            allow_insecure: false,
            max_concurrent: 8,
            requests_per_minute: None,
            call: Duration::from_secs(120),
            request: Duration::from_secs(600),
            retries: 6,
            retry_base: Duration::from_secs(1),
            retry_cap: Duration::from_secs(60),
            temperature: 0.0,
            max_tokens: 1024,
            token_limit_field: TokenLimitField::MaxTokens,
            top_p: None,
            seed: None,
            price_input: None,
            price_output: None,
            cache: None,
        }
    }
}
