//! What a server asks of those who call it, and how much it takes on at once.

use super::methods::{Callers, Kind, Method, method};
use super::pem::server_config;
use super::throttle::Throttle;
use super::token_file::TokenFile;
use super::{AccessError, Refusal, Role, Secret, TokenEntry, authenticate};
use crate::config::{AuthConfig, TlsConfig};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use rustls::ServerConfig;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Bounds of a server. Beyond them callers are told so at once; nothing queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections in all.
    pub connections: usize,
    /// Calls of one connection that run.
    pub streams: u32,
    /// Calls in all that run.
    pub calls: usize,
    /// From a connection to the end of its TLS handshake.
    pub handshake: Duration,
    /// Of a call with one request and one answer; a caller may ask for less.
    pub unary: Duration,
}

impl Default for Limits {
    /// For some hundreds of workers, each with a connection and four calls.
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 128,
            calls: 4096,
            handshake: Duration::from_secs(10),
            unary: Duration::from_secs(60),
        }
    }
}

/// A cheap handle.
#[derive(Debug, Clone)]
pub struct Guard {
    tls: Option<Arc<ServerConfig>>,
    tokens: Option<Arc<TokenFile>>,
    throttle: Arc<Mutex<Throttle>>,
    calls: Arc<Semaphore>,
    limits: Limits,
}

/// A call that may run, for as long as it holds this.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) share: OwnedSemaphorePermit,
    /// Of the whole call; none for streams.
    pub(super) deadline: Option<Duration>,
}

impl Guard {
    /// Asks for nothing: for loopback.
    #[must_use]
    pub fn open(limits: Limits) -> Self {
        let calls = Arc::new(Semaphore::new(limits.calls));
        Self { tls: None, tokens: None, throttle: Arc::default(), calls, limits }
    }

    /// Asks for what a configuration says.
    ///
    /// # Errors
    /// The file that cannot be used, by its key.
    pub fn load(tls: &TlsConfig, auth: &AuthConfig, limits: Limits) -> Result<Self, AccessError> {
        let tokens = auth.tokens.as_deref().map(TokenFile::open).transpose()?.map(Arc::new);
        Ok(Self { tls: server_config(tls)?, tokens, ..Self::open(limits) })
    }

    /// Speaks TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Asks for tokens.
    #[must_use]
    pub fn asks_for_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Whether whoever sent these headers from `peer` may use `what`, which is for `roles` and admin. Gives the token's
    /// entry; none where no tokens are asked for.
    ///
    /// # Errors
    /// Why not, and the way out.
    pub fn authorize(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        roles: &[Role],
        what: &str,
    ) -> Result<Option<TokenEntry>, Refusal> {
        let sent = headers.get(AUTHORIZATION).map(|header| header.to_str().unwrap_or_default());
        let entry = self.identify(sent.map(bearer), peer)?;
        entry.as_ref().map_or(Ok(()), |entry| permit(entry, roles, what))?;
        Ok(entry)
    }

    /// Whose token it is. Refusals are counted by peer.
    pub(super) fn identify(
        &self,
        sent: Option<Result<Secret, Refusal>>,
        peer: IpAddr,
    ) -> Result<Option<TokenEntry>, Refusal> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        let now = Instant::now();
        if self.throttle().holds(peer, now) {
            return Err(Refusal::Throttled(peer));
        }
        let secret = sent.unwrap_or(Err(Refusal::Missing));
        let entries = tokens.entries(now);
        let found = secret.and_then(|s| authenticate(&entries, &s, SystemTime::now()).cloned());
        if let Err(refusal) = &found {
            self.throttle().count(peer, now);
            tracing::warn!(%peer, %refusal, "refused a call");
        }
        found.map(Some)
    }

    /// Decides on a gRPC call.
    pub(super) fn admit(&self, path: &str, headers: &HeaderMap, peer: IpAddr) -> Result<Admitted, Status> {
        let row = method(path);
        match row.map(|row| row.callers) {
            Some(Callers::Anybody) => {}
            Some(Callers::AnyToken) => drop(self.authorize(headers, peer, &Role::ALL, path)?),
            Some(Callers::Roles(roles)) => drop(self.authorize(headers, peer, roles, path)?),
            // Whoever has no token does not learn what is served.
            None => {
                self.authorize(headers, peer, &Role::ALL, path)?;
                return Err(Refusal::Method(path.chars().take(200).collect()).into());
            }
        }
        let busy = |_| {
            let most = self.limits.calls;
            Status::resource_exhausted(format!("{most} calls are running already; try again in a moment"))
        };
        let share = Arc::clone(&self.calls).try_acquire_owned().map_err(busy)?;
        let is_unary = |row: &Method| row.kind == Kind::Unary;
        Ok(Admitted { share, deadline: row.filter(|row| is_unary(row)).map(|_| self.limits.unary) })
    }

    pub(crate) fn tls(&self) -> Option<&Arc<ServerConfig>> {
        self.tls.as_ref()
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token of a header `Bearer TOKEN`.
fn bearer(header: &str) -> Result<Secret, Refusal> {
    let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let (_, token) = token.ok_or(Refusal::Malformed("stands in another header form"))?;
    Secret::parse(token).map_err(Refusal::Malformed)
}

/// Whether a token's owner has one of these roles, or admin.
fn permit(entry: &TokenEntry, roles: &[Role], what: &str) -> Result<(), Refusal> {
    if entry.roles.iter().any(|role| *role == Role::Admin || roles.contains(role)) {
        return Ok(());
    }
    let mut takes = roles.to_vec();
    takes.retain(|role| *role != Role::Admin);
    takes.push(Role::Admin);
    let what = what.rsplit('/').next().unwrap_or(what).to_owned();
    Err(Refusal::Role { name: entry.name.clone(), has: entry.roles.clone(), what, takes })
}
