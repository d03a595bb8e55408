//! The process: settings, ports, serving, draining.

use crate::RewardError;
use crate::service::Grpc;
use crate::state::State;
use crate::verifier::VerifierOptions;
use sinternal_model::device::parse_device;
use sinternal_model::{Kind, set_threads};
use sinternal_proto::pb::reward_service_server::RewardServiceServer;
use sinternal_service::access::Guard;
use sinternal_service::config::{Device, JudgeConfig, RewardConfig};
use sinternal_service::health::Health;
use sinternal_service::serve::{Guarded, MAX_MESSAGE_BYTES, bind, serve_grpc};
use sinternal_service::telemetry::{Role, serve_metrics};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// Bytes of verifier files kept on disk, unless told otherwise.
pub const CACHE_BYTES: u64 = 64 << 30;

/// Bounds of the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Folder of verifier files.
    pub cache: PathBuf,
    /// Bytes that it may hold; also the largest model.
    pub cache_bytes: u64,
    /// Where and how the verifier runs.
    pub verifier: VerifierOptions,
    /// From an answer's arrival to its score, then it is masked; also the longest pause in an upload.
    pub deadline: Duration,
    /// Remote judges by name.
    pub judges: BTreeMap<String, JudgeConfig>,
}

impl Options {
    /// Those of a configuration: float32 on the CPU, bfloat16 on CUDA.
    ///
    /// # Errors
    /// A device that is not there.
    pub fn new(config: &RewardConfig) -> Result<Self, RewardError> {
        let (device, kind) = match config.device {
            Device::Cpu => (parse_device("cpu")?, Kind::Float),
            Device::Cuda => (parse_device("cuda")?, Kind::BFloat16),
        };
        let (max_sequences, kv_budget_bytes) = (config.max_sequences, config.kv_budget_bytes);
        Ok(Self {
            cache: config.cache.clone(),
            cache_bytes: CACHE_BYTES,
            verifier: VerifierOptions { device, kind, max_sequences, kv_budget_bytes },
            deadline: config.score,
            judges: config.judges.clone(),
        })
    }
}

/// Runs the reward service until `shutdown` resolves. Callers pass `guard` first.
///
/// # Errors
/// A port that is taken; a folder that cannot be made; a device that is not there; a transport that breaks down.
pub async fn run(
    config: &RewardConfig,
    guard: Guard,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RewardError> {
    let listener = Guarded::new(bind(config.listen, "reward.listen").await?, guard);
    let metrics = bind(config.metrics_listen, "reward.metrics_listen").await?;
    set_threads(config.threads);
    let options = Options::new(config)?;
    let (health, stop) = (Health::starting(), CancellationToken::new());
    let stopping = {
        let stop = stop.clone();
        async move {
            shutdown.await;
            stop.cancel();
        }
    };
    let metrics = async {
        serve_metrics(metrics, Role::Reward, health.clone(), stop.cancelled_owned()).await?;
        std::future::pending().await // it ends as soon as it is asked to; the calls that run do not
    };
    tokio::select! {
        served = serve(listener, options, health.clone(), stopping, config.drain) => served,
        failed = metrics => failed,
    }
}

/// Serves scoring on a listener until `shutdown` resolves: then the streams that are open answer what they have
/// accepted, and end. After `drain` they are cut.
///
/// # Errors
/// A cache folder or a remote judge that cannot be set up; a transport that breaks down.
pub async fn serve(
    listener: impl Into<Guarded>,
    options: Options,
    health: Health,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) -> Result<(), RewardError> {
    let listener = listener.into();
    let stop = CancellationToken::new();
    let state = Arc::new(State::new(options, health.clone())?);
    let service = RewardServiceServer::new(Grpc { state, stop: stop.clone() })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "reward service listens");
    }
    health.set_ready(); // mathematics needs no verifier
    let stopping = async move {
        shutdown.await;
        stop.cancel();
    };
    serve_grpc(listener, Routes::new(service), health, stopping, drain).await?;
    Ok(())
}
