//! The HTTP side port of a process: `/metrics`, `/healthz` (alive) and `/readyz` (takes work).

use super::Role;
use super::recorder::{Recorders, installed};
use crate::health::{Health, Readiness};
use crate::metrics;
use crate::serve::serve_http;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::BuildError;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Histograms hold raw samples until they are folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Metrics cannot be collected or served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A recorder was not built.
    #[error("failed to set up the metrics recorder: {0}")]
    Recorder(#[from] BuildError),
    /// Another one is there.
    #[error("failed to install the metrics recorder: this process has another one")]
    Installed,
    /// The listener broke down.
    #[error("failed to serve metrics: {0}")]
    Serve(#[from] std::io::Error),
}

/// Serves metrics and health until `shutdown` resolves.
///
/// # Errors
/// The recorder cannot be installed, or the listener breaks down.
pub async fn serve_metrics(
    listener: TcpListener,
    role: Role,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), MetricsError> {
    serve_metrics_with(listener, role, health, Router::new(), shutdown).await
}

/// The same beside `extra`, what else this role serves under paths of its own.
///
/// # Errors
/// The recorder cannot be installed, or the listener breaks down.
pub async fn serve_metrics_with(
    listener: TcpListener,
    role: Role,
    health: Health,
    extra: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), MetricsError> {
    let recorders = installed(role)?;
    metrics::build_info().set(1.0);
    let upkeep = async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            recorders.run_upkeep(Instant::now());
        }
    };
    let routes = routes(recorders.clone(), health).merge(extra);
    let serving = serve_http(listener, routes, shutdown);
    tokio::select! {
        served = serving => Ok(served?),
        () = upkeep => Ok(()),
    }
}

fn routes(recorders: Recorders, health: Health) -> Router {
    let seen = health.clone();
    let scrape = async move || {
        metrics::ready().set(if seen.readiness() == Readiness::Ready { 1.0 } else { 0.0 });
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], recorders.render())
    };
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(async move || ready(&health)))
}

fn ready(health: &Health) -> impl IntoResponse + use<> {
    match health.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::NotReady(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
