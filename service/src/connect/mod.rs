//! Calling another process: channels with deadlines, single calls, retries; every error names the peer.

mod address;
mod retry;
mod tls;

pub use address::BadAddress;
pub use retry::{RetryError, RetryPolicy, retry};

pub(crate) use address::parse_endpoint;

use crate::access::{Bearer, Credentials};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Response, Status};

/// The way to a peer; puts the caller's token into every call.
pub type Channel = InterceptedService<tonic::transport::Channel, Bearer>;

/// A dead connection is noticed after at most twice this, even when nothing is sent.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Another process, as errors name it: `trainer http://127.0.0.1:7500`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    role: &'static str,
    url: Arc<str>,
}

impl Peer {
    /// The process in `role` at `url`.
    pub fn new(role: &'static str, url: &str) -> Self {
        Self { role, url: url.into() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.url)
    }
}

/// A call that failed, or was not answered in time.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The peer, or the way to it, says no.
    #[error("{peer}: {what}: {}", describe(status))]
    Status {
        /// Who was called.
        peer: Peer,
        /// For what.
        what: &'static str,
        /// The answer.
        status: Box<Status>,
    },
    /// No answer before the deadline.
    #[error("{peer}: {what}: no answer within {} s", after.as_secs_f64())]
    Deadline {
        /// Who was called.
        peer: Peer,
        /// For what.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
}

impl RpcError {
    /// The same call may succeed later: the peer is away, busy or slow, and has not refused the request itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Deadline { .. } => true,
            Self::Status { status, .. } => is_transient(status),
        }
    }

    /// The peer does not take who calls, or this side does not take the peer: token, role or certificate are wrong, or one
    /// speaks TLS and the other does not. Trying again would not mend it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(is_refusal)
    }

    /// The peer's answer, if it was one.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status { status, .. } => Some(status),
            Self::Deadline { .. } => None,
        }
    }
}

/// Codes that say "not now" rather than "not this". `Unknown` and `Cancelled` are what a broken connection
/// looks like from this side.
#[must_use]
pub fn is_transient(status: &Status) -> bool {
    let now = matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Unknown
            | Code::Cancelled
    );
    now && !is_refusal(status)
}

fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) || tls::problem(status).is_some()
}

/// One line for a status: its message and the innermost cause, or what is wrong with TLS and the way out.
#[must_use]
pub fn describe(status: &Status) -> String {
    if let Some(problem) = tls::problem(status) {
        return problem;
    }
    let message = if status.message().is_empty() { status.code().description() } else { status.message() };
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    match cause.map(ToString::to_string) {
        Some(cause) if !message.contains(&cause) => format!("{message}: {cause}"),
        _ => message.to_owned(),
    }
}

/// A channel that connects at its first call, and again after every loss.
///
/// # Errors
/// The address is neither `https://host:port` nor `http://host:port` on this machine; there are no certificates to know
/// the server by.
pub fn channel(
    peer: &Peer,
    credentials: &Credentials,
    connect_timeout: Duration,
) -> Result<Channel, BadAddress> {
    let endpoint = address::endpoint(peer, credentials)?;
    let channel = endpoint
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_lazy();
    Ok(InterceptedService::new(channel, credentials.bearer()))
}

/// Makes one call under a deadline.
///
/// # Errors
/// The peer's status, or that there was none in time.
pub async fn call<T>(
    peer: &Peer,
    what: &'static str,
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, RpcError> {
    match with_deadline(peer, what, deadline, call).await? {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(RpcError::Status { peer: peer.clone(), what, status: Box::new(status) }),
    }
}

/// Waits for `future`, but not beyond the deadline.
///
/// # Errors
/// [`RpcError::Deadline`].
pub async fn with_deadline<T>(
    peer: &Peer,
    what: &'static str,
    deadline: Duration,
    future: impl Future<Output = T>,
) -> Result<T, RpcError> {
    tokio::time::timeout(deadline, future).await.map_err(|_| RpcError::Deadline {
        peer: peer.clone(),
        what,
        after: deadline,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::new("trainer", "http://127.0.0.1:7500")
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_call_names_peer_purpose_and_deadline() {
        let never = std::future::pending::<Result<Response<()>, Status>>();
        let error = call(&peer(), "lease", Duration::from_millis(1500), never).await.expect_err("silent");
        assert_eq!(error.to_string(), "trainer http://127.0.0.1:7500: lease: no answer within 1.5 s");
        assert!(error.is_transient());
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_message_and_is_final() {
        let refuse =
            async { Err::<Response<()>, _>(Status::failed_precondition("another verifier is loaded")) };
        let error = call(&peer(), "score", Duration::from_secs(1), refuse).await.expect_err("refused");
        assert_eq!(error.to_string(), "trainer http://127.0.0.1:7500: score: another verifier is loaded");
        assert!(!error.is_transient());
    }

    #[tokio::test]
    async fn a_refused_connection_is_transient_and_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        drop(listener);
        let peer = Peer::new("trainer", &url);
        let channel = channel(&peer, &Credentials::default(), Duration::from_secs(1)).expect("address");
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
        let check = health.check(request);
        let error = call(&peer, "health", Duration::from_secs(5), check).await.expect_err("nobody listens");
        assert!(error.is_transient());
        let text = error.to_string();
        assert!(text.starts_with(&format!("trainer {url}: health: ")), "{text}");
        assert!(text.contains("Connection refused"), "{text}");
    }

    #[test]
    fn a_refused_token_is_final() {
        for code in [Code::Unauthenticated, Code::PermissionDenied] {
            let status = Box::new(Status::new(code, "no"));
            let error = RpcError::Status { peer: peer(), what: "lease", status };
            assert!(error.is_refusal() && !error.is_transient(), "{code:?}");
        }
        let status = Box::new(Status::unavailable("busy"));
        assert!(!RpcError::Status { peer: peer(), what: "lease", status }.is_refusal());
    }
}
