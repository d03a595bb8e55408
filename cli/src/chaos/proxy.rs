//! A TCP proxy whose connections can be delayed, held or cut.

use anyhow::Context;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// They pass.
    Open,
    /// They wait for this long, each time some come.
    Slow(Duration),
    /// They wait until the way is another one; new connections are taken and say nothing.
    Held,
}

/// Between clients and one server.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    way: watch::Sender<Way>,
    /// Every change cuts the connections of before.
    cuts: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port for connections to `target`.
    pub(super) async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to listen for the proxy")?;
        let address = listener.local_addr().context("failed to listen for the proxy")?;
        let (way, ways) = watch::channel(Way::Open);
        let (cuts, cut) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, ways.clone(), cut.clone()));
            }
        });
        Ok(Self { address, way, cuts, accepting })
    }

    /// From now on.
    pub(super) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Ends all connections; new ones are taken.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|n| *n += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn carry(
    client: TcpStream,
    target: SocketAddr,
    way: watch::Receiver<Way>,
    mut cut: watch::Receiver<u64>,
) {
    cut.mark_unchanged();
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, way.clone()) => {}
        () = pump(from_server, to_client, way) => {}
        _ = cut.changed() => {}
    }
}

/// Ends where either side does.
async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut way: watch::Receiver<Way>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut bytes).await {
        if read == 0 {
            return;
        }
        let now = *way.borrow_and_update();
        match now {
            Way::Open => {}
            Way::Slow(delay) => tokio::time::sleep(delay).await,
            Way::Held => drop(way.wait_for(|way| *way != Way::Held).await),
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
