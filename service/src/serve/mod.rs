//! A server's life: bind → serve → shutdown asked → drain under a deadline → cut.

mod bind;
mod connection;
mod listener;
mod page;
mod plain;
mod signal;

pub use bind::{BindError, bind};
pub use connection::Peered;
pub use listener::Guarded;
pub use page::serve_http;
pub use signal::{exit_with_parent, shutdown_signal};

use crate::access::answer;
use crate::health::{Health, Readiness};
use axum::middleware::from_fn_with_state;
use listener::{Connections, Protocol};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Limit of one message, to be set on every generated client and server; weights travel in smaller chunks.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Limit of a job client's message: job files and what is asked about jobs.
pub const MAX_JOB_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Limit of a call's headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// A dead client is noticed after at most twice this.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every call was answered.
    Complete,
    /// The deadline passed; what still ran was cut off.
    CutOff,
}

/// Serving failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener has no address.
    #[error("failed to serve: {0}")]
    Listener(std::io::Error),
    /// The built-in descriptors do not decode.
    #[error("failed to set up gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport broke down.
    #[error("failed to serve on {address}: {source}")]
    Transport {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Serves `routes`, gRPC health (as `health` says) and reflection until `shutdown` resolves; then takes no new
/// connections and waits at most `drain` for the calls that run. Every call passes the listener's guard first.
///
/// # Errors
/// The transport broke down.
pub async fn serve_grpc(
    listener: impl Into<Guarded>,
    routes: Routes,
    health: Health,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) -> Result<Drained, ServeError> {
    let listener = listener.into();
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let guard = listener.guard.clone();
    let cut = CancellationToken::new();
    // Whatever ends this function, no connection outlives it.
    let cut_at_end = cut.clone().drop_guard();
    let stop = CancellationToken::new();
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let mut readiness = health.watch();
    tell(&mut readiness, &reporter).await;
    let routes = routes.add_service(health_service).add_service(reflection()?);
    let routes = routes.into_axum_router().layer(from_fn_with_state(guard.clone(), answer));
    let connections = Connections::new(listener, Protocol::Grpc, cut);
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(guard.limits().streams)
        .add_routes(routes.into())
        .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
    let reporting = report(readiness, reporter);
    let serving = async {
        tokio::select! {
            served = serving => served.map_err(|source| ServeError::Transport { address, source }),
            never = reporting => match never {},
        }
    };
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return served.map(|()| Drained::Complete),
        () = shutdown => {}
    }
    health.set_not_ready("draining");
    stop.cancel();
    let drained = tokio::time::timeout(drain, &mut serving).await;
    drop(cut_at_end);
    match drained {
        Ok(served) => served.map(|()| Drained::Complete),
        Err(_) => {
            tracing::warn!(%address, drain_s = drain.as_secs_f64(), "cut off calls that did not end in time");
            Ok(Drained::CutOff)
        }
    }
}

fn reflection() -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
    tonic_reflection::server::Error,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(sinternal_proto::pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
}

/// Passes every change of readiness on to the gRPC health service.
async fn report(mut readiness: watch::Receiver<Readiness>, reporter: HealthReporter) -> Infallible {
    while readiness.changed().await.is_ok() {
        tell(&mut readiness, &reporter).await;
    }
    // Nobody can change it any more.
    std::future::pending().await
}

/// The empty name stands for the server as a whole.
async fn tell(readiness: &mut watch::Receiver<Readiness>, reporter: &HealthReporter) {
    let status = match *readiness.borrow_and_update() {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::NotReady(_) => ServingStatus::NotServing,
    };
    reporter.set_service_status("", status).await;
}

#[cfg(test)]
mod tests;
