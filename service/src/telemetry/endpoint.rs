//! The HTTP side port of a process: `/metrics`, `/healthz` (alive) and `/readyz` (takes work).

use super::Role;
use crate::health::{Health, Readiness};
use crate::metrics::{BUILD_INFO, COUNT_BUCKETS, SECONDS_BUCKETS, STALENESS, describe_all};
use crate::serve::serve_http;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;

/// Histograms hold raw samples until they are folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Metrics cannot be collected or served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The recorder was not built, or another one is there.
    #[error("failed to install the metrics recorder: {0}")]
    Recorder(#[from] BuildError),
    /// The listener broke down.
    #[error("failed to serve metrics: {0}")]
    Serve(#[from] std::io::Error),
}

/// The process's recorder of metrics; the first call installs it and describes every metric.
///
/// # Errors
/// Another recorder is installed already.
pub fn recorder() -> Result<PrometheusHandle, MetricsError> {
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    // Without buckets, histograms would come out as summaries, which cannot be added up over processes.
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(STALENESS.into()), COUNT_BUCKETS)?
        .install_recorder()?;
    describe_all();
    *installed = Some(handle.clone());
    Ok(handle)
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
    let handle = recorder()?;
    metrics::gauge!(BUILD_INFO, "role" => role.as_str()).set(1.0);
    let upkeep = async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            handle.run_upkeep();
        }
    };
    let serving = serve_http(listener, routes(handle.clone(), health), shutdown);
    tokio::select! {
        served = serving => Ok(served?),
        () = upkeep => Ok(()),
    }
}

fn routes(handle: PrometheusHandle, health: Health) -> Router {
    let scrape = async move || ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render());
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
