//! One call over HTTP: connect, send, read a bounded body, before a deadline.

use super::api_key::ApiKey;
use super::error::cut;
use super::limits::{self, Hints};
use super::rules::{is_loopback, parse_base_url};
use super::wire::{parse_answer, parse_failure};
use super::{ChatAnswer, ChatProblem, ChatSettings, ChatSetupError};
use crate::config::Invalid;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, StatusCode, Url};
use std::time::{Duration, SystemTime};

/// Far above what `max_tokens` allows; a server that sends more is no chat endpoint.
pub(super) const MOST_BODY_BYTES: usize = 4 << 20;

/// The way to one endpoint.
#[derive(Debug)]
pub(super) struct Transport {
    client: Client,
    endpoint: Url,
    key: Option<ApiKey>,
    deadline: Duration,
}

impl Transport {
    pub(super) fn new(settings: &ChatSettings, key: Option<ApiKey>) -> Result<Self, ChatSetupError> {
        let base = parse_base_url(&settings.base_url, settings.allow_insecure)
            .map_err(|problem| Invalid::new("base_url", problem))?;
        let endpoint = format!("{}/chat/completions", base.as_str().trim_end_matches('/'));
        let endpoint = Url::parse(&endpoint).map_err(|error| Invalid::new("base_url", error.to_string()))?;
        let client = client(&endpoint, settings.max_concurrent)?;
        Ok(Self { client, endpoint, key, deadline: settings.call })
    }

    /// The address that is called; it holds no secret.
    pub(super) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Makes one call. The headers' wishes come with every response, good or bad.
    pub(super) async fn call(&self, body: Vec<u8>) -> (Hints, Result<ChatAnswer, ChatProblem>) {
        let mut hints = Hints::default();
        let exchange = self.exchange(body, &mut hints);
        let outcome = tokio::time::timeout(self.deadline, exchange).await;
        let late = |_| Err(ChatProblem::Timeout { after: self.deadline });
        (hints, outcome.unwrap_or_else(late))
    }

    async fn exchange(&self, body: Vec<u8>, hints: &mut Hints) -> Result<ChatAnswer, ChatProblem> {
        let mut request =
            self.client.post(self.endpoint.clone()).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.authorization());
        }
        let response = request.send().await.map_err(unreachable)?;
        *hints = limits::read(response.headers(), SystemTime::now());
        let status = response.status();
        let header =
            |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (kind, location) = (header(CONTENT_TYPE), header(LOCATION));
        let body = read(response).await?;
        if status.is_success() {
            return parse_answer(kind.as_deref(), &body).map_err(|problem| self.without_key(problem));
        }
        Err(self.failure(status, &body, hints.retry_after, location.as_deref()))
    }

    fn failure(
        &self,
        status: StatusCode,
        body: &[u8],
        retry_after: Option<Duration>,
        location: Option<&str>,
    ) -> ChatProblem {
        let (message, out_of_quota) = parse_failure(body);
        let (code, message) = (status.as_u16(), self.scrub(&message));
        if !out_of_quota && (matches!(code, 408 | 429) || status.is_server_error()) {
            return ChatProblem::Busy { status: code, message, retry_after };
        }
        ChatProblem::Refused { status: code, message, way_out: self.way_out(code, location) }
    }

    fn way_out(&self, status: u16, location: Option<&str>) -> String {
        let key =
            self.key.as_ref().map_or("`api_key_file` or `api_key_env`, of which none is set", ApiKey::origin);
        match status {
            300..=399 => {
                let to = location.map_or_else(|| "where it leads".into(), |to| cut(&self.scrub(to)));
                format!("redirects are not followed: set `base_url` to {to}")
            }
            401 => format!("check the API key ({key})"),
            402 | 429 => "add credit to the account, or use another endpoint".into(),
            403 => format!("the API key ({key}) may not use this model: check `model` or the account"),
            404 => "check `base_url` and `model`".into(),
            413 => "shorten the messages".into(),
            _ => "check `model`, the sampling settings and the messages' length".into(),
        }
    }

    fn scrub(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.scrub(text))
    }

    fn without_key(&self, problem: ChatProblem) -> ChatProblem {
        match problem {
            ChatProblem::Malformed(words) => ChatProblem::Malformed(self.scrub(&words)),
            ChatProblem::Empty { finish } => ChatProblem::Empty { finish: self.scrub(&finish) },
            other => other,
        }
    }
}

fn client(endpoint: &Url, idle: usize) -> Result<Client, ChatSetupError> {
    // Whoever comes first sets the process's provider; any of them will do, so a second call may fail.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(concat!("sinternal/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(idle);
    if endpoint.scheme() == "http" {
        // Without TLS no certificates are needed: a machine that has none could not make a client otherwise.
        builder = builder.tls_certs_only([]);
    }
    if is_loopback(endpoint) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| ChatSetupError::Client(innermost(&error)))
}

/// Reads the body as far as an answer may be long.
async fn read(mut response: Response) -> Result<Vec<u8>, ChatProblem> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MOST_BODY_BYTES {
            return Err(ChatProblem::TooLarge { most: MOST_BODY_BYTES });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn unreachable(error: reqwest::Error) -> ChatProblem {
    ChatProblem::Unreachable(innermost(&error))
}

/// The cause of all causes; the outer ones say "error sending request" and repeat the address.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cut(&cause.to_string())
}
