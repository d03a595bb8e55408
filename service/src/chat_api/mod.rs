//! A client of OpenAI-compatible chat endpoints: the expert that writes critiques, and remote judges.
//!
//! ```text
//! complete(request) ─► flights: equal requests once ─► cache on disk? ─► a turn (max_concurrent)
//!     attempts: call, wait, call again, before one deadline
//!         pace: our rate, the server's limits ─► transport: POST, bounded body ─► wire: answer or problem
//! answer ─► totals, metrics ─► cache
//! ```
//!
//! **Invariants.** The key is in no setting, error, log line or file. Every call and every request has a deadline,
//! every body a bound. An answer is what the server said: a cut, filtered, empty or malformed one is told as such.

mod answer;
mod api_key;
mod attempts;
mod cache;
mod error;
mod flights;
mod limits;
mod pace;
mod rules;
mod settings;
mod totals;
mod transport;
mod wire;

pub use answer::{ChatAnswer, ChatRequest, Finish, Source, Usage};
pub use cache::CacheSize;
pub use error::{ChatError, ChatProblem, ChatSetupError};
pub use settings::{ChatSettings, TokenLimitField};
pub use totals::ChatTotals;

use crate::connect::Peer;
use crate::metrics;
use api_key::ApiKey;
use attempts::Attempts;
use cache::{Cache, CacheKey};
use flights::Flights;
use pace::Pace;
use rand::Rng;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use totals::Counts;
use transport::Transport;

/// A cheap clone that speaks to one endpoint; clones share its limits, its requests under way and its totals.
#[derive(Debug, Clone)]
pub struct ChatApi(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    peer: Peer,
    settings: ChatSettings,
    transport: Transport,
    turns: Semaphore,
    /// Whoever holds it waits at the gate; the others queue behind, first come, first served.
    turnstile: tokio::sync::Mutex<()>,
    pace: Mutex<Pace>,
    flights: Flights<Result<ChatAnswer, ChatError>>,
    cache: Option<Cache>,
    counts: Counts,
}

impl ChatApi {
    /// A client; `role` names the endpoint in errors, such as `expert`. Calls nobody yet.
    ///
    /// # Errors
    /// A setting that breaks a rule (its key then stands without its section), a key that cannot be read, a cache
    /// that cannot be made, a machine without certificates.
    pub fn new(role: &'static str, settings: ChatSettings) -> Result<Self, ChatSetupError> {
        settings.validate("")?;
        let key = ApiKey::read(&settings, |name| std::env::var(name).ok())?;
        let transport = Transport::new(&settings, key)?;
        Ok(Self(Arc::new(Shared {
            peer: Peer::new(role, &settings.base_url),
            turns: Semaphore::new(settings.max_concurrent),
            turnstile: tokio::sync::Mutex::new(()),
            pace: Mutex::new(Pace::new(settings.requests_per_minute)),
            flights: Flights::new(),
            cache: settings.cache.as_deref().map(Cache::open).transpose()?,
            counts: Counts::new(&settings),
            transport,
            settings,
        })))
    }

    /// Continues a chat. Equal requests under way are asked once; dropping the future ends its call.
    ///
    /// A request first waits for its turn behind at most `max_concurrent` others; its deadline, `request_s`, counts
    /// from then on.
    ///
    /// # Errors
    /// See [`ChatProblem`].
    pub async fn complete(&self, request: ChatRequest) -> Result<ChatAnswer, ChatError> {
        let shared = &self.0;
        shared.counts.request();
        let body = wire::request_body(&shared.settings, &request);
        let key = CacheKey::of(shared.transport.endpoint().as_str(), &body);
        let (mut outcome, asked) = shared.flights.share(&key, || shared.look_up(&key, body)).await;
        if let (Ok(answer), false) = (&mut outcome, asked) {
            answer.source = Source::Shared;
        }
        shared.counts.outcome(&outcome);
        outcome
    }

    /// What this client and its clones have done so far.
    #[must_use]
    pub fn totals(&self) -> ChatTotals {
        self.0.counts.snapshot()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &ChatSettings {
        &self.0.settings
    }

    /// How much the cache holds, all requests of all its users; nothing without a cache. Reads the folder.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn cache_size(&self) -> io::Result<CacheSize> {
        self.0.cache.as_ref().map_or(Ok(CacheSize::default()), Cache::size)
    }
}

impl Shared {
    async fn look_up(&self, key: &CacheKey, body: Vec<u8>) -> Result<ChatAnswer, ChatError> {
        let Some(cache) = &self.cache else { return self.ask(body).await };
        if let Some(answer) = on_disk(cache, key, Cache::read).await {
            return Ok(answer);
        }
        let answer = self.ask(body).await?;
        let kept = answer.clone();
        if let Err(error) = on_disk(cache, key, move |cache, key| cache.write(key, &kept)).await {
            // The answer is there and paid for; only the next run asks again.
            tracing::warn!(%error, "an answer was not cached");
            self.counts.cache_failure();
        }
        Ok(answer)
    }

    async fn ask(&self, body: Vec<u8>) -> Result<ChatAnswer, ChatError> {
        let _turn = self.turns.acquire().await.expect("turns are never closed");
        let jitter_seed = rand::thread_rng().r#gen();
        let call = |deadline| self.call(body.clone(), deadline);
        let notice = |problem: &ChatProblem, wait: std::time::Duration| {
            self.counts.retry();
            tracing::info!(peer = %self.peer, %problem, wait_s = wait.as_secs_f64(), "will ask again");
        };
        let (attempts, outcome) = Attempts::of(&self.settings).run(jitter_seed, call, notice).await;
        outcome.map_err(|problem| ChatError { peer: self.peer.clone(), problem, attempts })
    }

    async fn call(&self, body: Vec<u8>, deadline: Instant) -> Result<ChatAnswer, ChatProblem> {
        self.pass_gate(deadline).await?;
        self.counts.call();
        let started = Instant::now();
        let (hints, outcome) = self.transport.call(body).await;
        metrics::chat_call_seconds().record(started.elapsed().as_secs_f64());
        let asked = outcome.as_ref().err().and_then(ChatProblem::retry_after);
        if let Some(wait) = hints.exhausted.max(asked) {
            self.pace().close(Instant::now(), wait);
        }
        if let Ok(answer) = &outcome {
            self.counts.charged(answer);
        }
        outcome
    }

    /// Waits until a call may start, unless that is after the deadline.
    async fn pass_gate(&self, deadline: Instant) -> Result<(), ChatProblem> {
        let _first_in_line = self.turnstile.lock().await;
        loop {
            let now = Instant::now();
            let Err(opens) = self.pace().start(now) else { return Ok(()) };
            if opens >= deadline {
                return Err(ChatProblem::Limited { wait: opens - now });
            }
            sleep_until(opens).await;
        }
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files are read and synced off the threads that serve calls.
async fn on_disk<T: Send + 'static>(
    cache: &Cache,
    key: &CacheKey,
    work: impl FnOnce(&Cache, &CacheKey) -> T + Send + 'static,
) -> T {
    let (cache, key) = (cache.clone(), key.clone());
    let working = tokio::task::spawn_blocking(move || work(&cache, &key));
    working.await.expect("reading and writing a file does not panic")
}

#[cfg(test)]
mod tests;
