//! From a port to connections that may be served: bounded in number, through TLS where the guard speaks it.

use super::connection::{Connection, Peered, Stream};
use super::plain::{Spoken, spoken, tell};
use crate::access::{Guard, Limits};
use axum::extract::connect_info;
use axum::serve::IncomingStream;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

/// Until a port is tried again that gives no connections, because the process has no more files, say.
const PAUSE: Duration = Duration::from_millis(500);

/// A port and what it asks of callers. A bare [`TcpListener`] asks for nothing.
#[derive(Debug)]
pub struct Guarded {
    pub(super) listener: TcpListener,
    pub(super) guard: Guard,
}

impl Guarded {
    /// This port, guarded.
    #[must_use]
    pub fn new(listener: TcpListener, guard: Guard) -> Self {
        Self { listener, guard }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl From<TcpListener> for Guarded {
    fn from(listener: TcpListener) -> Self {
        Self { listener, guard: Guard::open(Limits::default()) }
    }
}

/// What is spoken once a connection stands; clients and servers over TLS agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

/// Connections as they come. Handshakes run side by side, so a slow one delays nobody.
pub(super) struct Connections {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handshake: Duration,
    shares: Arc<Semaphore>,
    opening: JoinSet<Option<Connection>>,
    pause: Option<Pin<Box<Sleep>>>,
    /// The last connection was turned away.
    full: bool,
    cut: CancellationToken,
}

impl Connections {
    pub(super) fn new(guarded: Guarded, protocol: Protocol, cut: CancellationToken) -> Self {
        let Guarded { listener, guard } = guarded;
        let limits = guard.limits();
        Self {
            listener,
            tls: guard.tls().map(|config| TlsAcceptor::from(speaking(config, protocol))),
            handshake: limits.handshake,
            shares: Arc::new(Semaphore::new(limits.connections)),
            opening: JoinSet::new(),
            pause: None,
            full: false,
            cut,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Connection> {
        while let Poll::Ready((stream, peer)) = self.poll_accept(cx) {
            self.admit(stream, peer);
        }
        loop {
            match ready!(self.opening.poll_join_next(cx)) {
                Some(Ok(Some(connection))) => return Poll::Ready(connection),
                // It failed, and was logged; a panic of one handshake is that connection's end alone.
                Some(Ok(None) | Err(_)) => {}
                None => return Poll::Pending,
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(TcpStream, SocketAddr)> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok(accepted) => return Poll::Ready(accepted),
                Err(error) if is_of_one_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection; trying again in a moment");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let Ok(share) = Arc::clone(&self.shares).try_acquire_owned() else {
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!(%peer, "turned a connection away: as many as allowed are open");
            }
            return;
        };
        self.full = false;
        let (tls, handshake, cut) = (self.tls.clone(), self.handshake, self.cut.clone());
        self.opening.spawn(async move {
            let opened = tokio::time::timeout(handshake, open(stream, tls)).await;
            let problem = match opened {
                Ok(Ok(stream)) => return Some(Connection::new(stream, peer, cut, share)),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no TLS handshake within {} s", handshake.as_secs_f64()),
            };
            tracing::info!(%peer, problem, "refused a connection");
            None
        });
    }
}

async fn open(mut stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Either::Left(stream)) };
    match spoken(&stream).await? {
        Spoken::Tls => Ok(Either::Right(Box::new(tls.accept(stream).await?))),
        other => {
            tell(&mut stream, other).await?;
            Err(io::Error::other("it does not speak TLS"))
        }
    }
}

/// The caller went away before it was served; the port itself is well.
fn is_of_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn speaking(config: &ServerConfig, protocol: Protocol) -> Arc<ServerConfig> {
    let name: &[u8] = match protocol {
        Protocol::Grpc => b"h2",
        Protocol::Http => b"http/1.1",
    };
    let mut config = config.clone();
    config.alpn_protocols = vec![name.to_vec()];
    Arc::new(config)
}

impl tokio_stream::Stream for Connections {
    type Item = Result<Connection, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx).map(|connection| Some(Ok(connection)))
    }
}

impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let connection = std::future::poll_fn(|cx| self.poll(cx)).await;
        let peer = connection.peer();
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl connect_info::Connected<IncomingStream<'_, Connections>> for Peered {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        Self(*stream.remote_addr())
    }
}
