//! The trainer process: bind → lock the runs → hub, manager → serve → drain.

use crate::jobs::service::JobService;
use crate::jobs::{JobManager, JobsError, JobsOptions, Runner};
use crate::publish::PublishError;
use crate::rollouts::service::RolloutService;
use crate::rollouts::{HubOptions, RolloutHub};
use crate::run_dir::RunDirError;
use axum::Router;
use sinternal_proto::pb::job_service_server::JobServiceServer;
use sinternal_proto::pb::rollout_service_server::RolloutServiceServer;
use sinternal_service::access::{self, Guard, protect};
use sinternal_service::config::TrainerConfig;
use sinternal_service::health::Health;
use sinternal_service::serve::{
    BindError, Guarded, MAX_JOB_MESSAGE_BYTES, MAX_MESSAGE_BYTES, ServeError, bind, serve_grpc,
};
use sinternal_service::telemetry::{MetricsError, Role, install, serve_metrics_with};
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tonic::service::Routes;

/// Groups in the work buffer: far more than workers hold, far less than memory.
const GROUPS: usize = crate::spec::MOST_GROUPS;
const QUEUED_JOBS: usize = 100;
/// Events kept of each job, some kilobytes each at most.
const EVENTS: u64 = 10_000;
/// A long poll ends this early, so that it never looks like a dead call.
const LONGEST_POLL: Duration = Duration::from_secs(20);
/// A step may take minutes; a job that was cancelled has this long to reach its end.
const CANCEL_GRACE: Duration = Duration::from_secs(600);
/// Without any trace for this long, a full buffer will not drain any more.
const OFFER_TIMEOUT: Duration = Duration::from_secs(3600);

/// The trainer cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// A port is taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// gRPC broke down.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Metrics broke down.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The folder of runs cannot be used.
    #[error(transparent)]
    Runs(#[from] RunDirError),
    /// The jobs cannot be read.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// The folder of published files cannot be used.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Two trainers would run the same jobs.
    #[error("another trainer uses {}; stop it, or choose another folder with --set trainer.runs=…", .0.display())]
    InUse(PathBuf),
    /// The stages cannot be set up.
    #[error("{0}")]
    Runner(String),
}

/// Where a started trainer listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
}

/// Runs a trainer until `shutdown` resolves, then drains: the running job stops at its next step boundary (and goes on in
/// the next process), open calls end, all within about `config.drain`.
///
/// Callers pass `guard` first. `runner` makes the stages over the hub; `ready` is told the addresses once both are served.
///
/// # Errors
/// One line with the cause.
pub async fn run(
    config: &TrainerConfig,
    guard: Guard,
    runner: impl FnOnce(RolloutHub) -> Result<Arc<dyn Runner>, String>,
    ready: impl FnOnce(Addresses),
    shutdown: impl Future<Output = ()>,
) -> Result<(), TrainerError> {
    let grpc = bind(config.listen, "trainer.listen").await?;
    let metrics = bind(config.metrics_listen, "trainer.metrics_listen").await?;
    let addresses = Addresses {
        grpc: grpc.local_addr().map_err(ServeError::Listener)?,
        metrics: metrics.local_addr().map_err(MetricsError::Serve)?,
    };
    install(Role::Trainer)?;
    let _lock = lock(&config.runs)?;
    let hub = RolloutHub::new(hub_options(config, addresses.grpc))?;
    let manager = JobManager::open(jobs_options(config), runner(hub.clone()).map_err(TrainerError::Runner)?)?;
    let health = Health::starting();
    let stop = {
        let (health, hub, manager) = (health.clone(), hub.clone(), manager.clone());
        async move {
            shutdown.await;
            health.set_not_ready("draining");
            manager.drain().await;
            hub.close();
        }
    };
    // The port of metrics speaks no TLS, so what a page shows goes no further than this machine.
    let page = match addresses.metrics.ip().is_loopback() {
        true => {
            protect(crate::web::router(manager.clone()), &guard, &[access::Role::Read, access::Role::Submit])
        }
        false => Router::new(),
    };
    let serving =
        serve_grpc(Guarded::new(grpc, guard), routes(hub, manager), health.clone(), stop, config.drain / 4);
    let measuring = serve_metrics_with(metrics, Role::Trainer, health.clone(), page, std::future::pending());
    health.set_ready();
    tracing::info!(address = %addresses.grpc, metrics = %addresses.metrics, "the trainer is ready");
    ready(addresses);
    tokio::select! {
        served = serving => served.map(|_| ()).map_err(Into::into),
        broken = measuring => broken.map_err(Into::into),
    }
}

fn routes(hub: RolloutHub, manager: JobManager) -> Routes {
    let rollouts = RolloutServiceServer::new(RolloutService::new(hub));
    let jobs = JobServiceServer::new(JobService::new(manager));
    Routes::new(rollouts.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(jobs.max_decoding_message_size(MAX_JOB_MESSAGE_BYTES))
}

fn hub_options(config: &TrainerConfig, address: SocketAddr) -> HubOptions {
    HubOptions {
        address: address.to_string(),
        published: config.runs.join("published"),
        capacity: GROUPS,
        lease: config.lease,
        heartbeat: config.heartbeat,
        max_wait: LONGEST_POLL.min(config.lease / 2),
        offer_timeout: OFFER_TIMEOUT,
    }
}

fn jobs_options(config: &TrainerConfig) -> JobsOptions {
    JobsOptions {
        runs: config.runs.clone(),
        max_queued: QUEUED_JOBS,
        events: EVENTS,
        stop_grace: config.drain / 4 * 3,
        cancel_grace: CANCEL_GRACE,
    }
}

/// Holds the folder for this process; the system lets go of it however the process ends.
fn lock(runs: &Path) -> Result<File, TrainerError> {
    let path = runs.join(".lock");
    let failed = |source| RunDirError::Io { path: path.clone(), source };
    std::fs::create_dir_all(runs).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainerError::InUse(runs.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source).into()),
    }
}

#[cfg(test)]
mod tests;
