//! A real HTTP server on loopback that speaks the chat interface by a script.
//!
//! It has a thread and a clock of its own, so a test may be synchronous, pause its clock, or start other processes.

use super::Scripted;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use axum::routing::post;
use serde_json::Value;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::oneshot;

/// A call that the server got.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The request's JSON; null if it was none.
    pub body: Value,
    /// The header `Authorization`, if it was sent.
    pub authorization: Option<String>,
    /// When it came.
    pub at: Instant,
}

/// The server; it ends when this is dropped.
pub struct FakeChatServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

type Script = dyn Fn(&Value) -> Scripted + Send + Sync;

struct Shared {
    script: Box<Script>,
    state: Mutex<Counters>,
}

#[derive(Default)]
struct Counters {
    seen: Vec<Seen>,
    now: usize,
    most: usize,
}

impl FakeChatServer {
    /// Starts a server on a free port of 127.0.0.1. `script` is called with every request's JSON.
    ///
    /// # Panics
    /// The system gives no port or no thread.
    pub fn start(script: impl Fn(&Value) -> Scripted + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared { script: Box::new(script), state: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("fake-chat".into())
            .spawn(move || serve(listener, served, stopped))
            .expect("a thread");
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// What stands before `/chat/completions`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.shared.state().seen.len()
    }

    /// Calls that were under way at the same time, at most.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared.state().most
    }

    /// Every call so far, in the order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }
}

impl Drop for FakeChatServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the script has shown itself at the client; there is nobody else to tell.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for FakeChatServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeChatServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Counters> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way; it ends with this, however it ends.
struct UnderWay(Arc<Shared>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state().now -= 1;
    }
}

/// Serves until `stopped`; what is then under way is cut.
fn serve(listener: TcpListener, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        listener.set_nonblocking(true).expect("a listener that does not block");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let routes = Router::new()
            .route("/v1/chat/completions", post(complete))
            .layer(DefaultBodyLimit::disable())
            .with_state(shared);
        tokio::select! {
            served = axum::serve(listener, routes) => served.expect("a listener that lives on"),
            _ = stopped => {}
        }
    });
}

async fn complete(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let authorization =
        headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let _under_way = {
        let mut state = shared.state();
        state.seen.push(Seen { body: request.clone(), authorization, at: Instant::now() });
        state.now += 1;
        state.most = state.most.max(state.now);
        UnderWay(Arc::clone(&shared))
    };
    let scripted = (shared.script)(&request);
    scripted.respond(&request).await
}
