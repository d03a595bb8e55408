//! One accepted connection, plain or over TLS, that can be cut when draining takes too long.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Who called, as requests carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peered(pub SocketAddr);

pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection that reads as aborted once its token is cancelled, which ends all that runs on it.
pub(super) struct Connection {
    stream: Stream,
    peer: SocketAddr,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _share: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(
        stream: Stream,
        peer: SocketAddr,
        cut: CancellationToken,
        share: OwnedSemaphorePermit,
    ) -> Self {
        Self { stream, peer, cut: Box::pin(cut.cancelled_owned()), _share: share }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut Stream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl Connected for Connection {
    type ConnectInfo = Peered;

    fn connect_info(&self) -> Peered {
        Peered(self.peer)
    }
}

impl AsyncRead for Connection {
    // A server connection always waits for its next frame, so reads alone notice the cut.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}
