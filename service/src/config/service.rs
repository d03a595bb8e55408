//! The configuration of the processes themselves: addresses, folders, threads, deadlines.

use super::JudgeConfig;
use super::seconds;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// One file configures every role; each reads its own section.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceConfig {
    /// `sinternal trainer`.
    pub trainer: TrainerConfig,
    /// `sinternal reward`.
    pub reward: RewardConfig,
    /// `sinternal rollout-worker`.
    pub rollout_worker: RolloutWorkerConfig,
    /// `sinternal up`.
    pub up: UpConfig,
    /// Log lines of every role.
    pub log: LogConfig,
    /// TLS of servers, and of those who call them.
    pub tls: TlsConfig,
    /// Tokens of servers, and of those who call them.
    pub auth: AuthConfig,
    /// The metrics ports of every role.
    pub metrics: MetricsConfig,
}

/// Files of TLS, all in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate with its chain; with it, trainer and reward service speak TLS alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The server's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Authorities of client certificates; with it, a server takes only clients that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Authorities by which a caller knows its server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The caller's certificate, where its server asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// The caller's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
}

/// Files of tokens. A token itself never stands in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Who may call what, as `sinternal token` writes it; with it, a server answers nobody without a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PathBuf>,
    /// The token with which a worker calls the trainer, and the trainer the reward service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// The ports of metrics and health. They speak plain HTTP and ask for no token: Prometheus has to scrape them, and
/// they hold figures alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// They may listen beyond loopback.
    pub allow_remote: bool,
}

/// The trainer process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainerConfig {
    /// gRPC address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Metrics and health.
    pub metrics_listen: SocketAddr,
    /// The reward service.
    pub reward: String,
    /// Folder of run directories.
    pub runs: PathBuf,
    /// Folders in which every file and folder that a job names must lie; none: anywhere.
    pub data_roots: Vec<PathBuf>,
    /// Threads of tensor operations.
    pub threads: usize,
    /// Where the learner computes.
    pub device: Device,
    /// A worker that is silent for this long loses its leases.
    #[serde(rename = "lease_s", with = "seconds")]
    pub lease: Duration,
    /// How often workers report.
    #[serde(rename = "heartbeat_s", with = "seconds")]
    pub heartbeat: Duration,
    /// Deadline of one call to the reward service; an answer's score is due this long after the last score that came.
    #[serde(rename = "call_s", with = "seconds")]
    pub call: Duration,
    /// A run waits this long for the next trace before it fails.
    #[serde(rename = "trace_s", with = "seconds")]
    pub trace: Duration,
    /// A run waits this long for a lost reward service before it fails.
    #[serde(rename = "reward_outage_s", with = "seconds")]
    pub reward_outage: Duration,
    /// Deadline of a graceful stop.
    #[serde(rename = "drain_s", with = "seconds")]
    pub drain: Duration,
}

/// The reward process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// gRPC address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Metrics and health.
    pub metrics_listen: SocketAddr,
    /// Folder of verifier files, by hash.
    pub cache: PathBuf,
    /// Threads of tensor operations.
    pub threads: usize,
    /// Where the verifier computes.
    pub device: Device,
    /// Critiques written at once.
    pub max_sequences: usize,
    /// Bytes of the verifier's keys and values, at most.
    pub kv_budget_bytes: usize,
    /// From an answer's arrival to its score; then it is masked.
    #[serde(rename = "score_s", with = "seconds")]
    pub score: Duration,
    /// Deadline of a graceful stop.
    #[serde(rename = "drain_s", with = "seconds")]
    pub drain: Duration,
    /// Remote judges by the names that jobs call them: `[reward.judges.NAME]`.
    pub judges: BTreeMap<String, JudgeConfig>,
}

/// A rollout worker process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutWorkerConfig {
    /// The trainer.
    pub trainer: String,
    /// Metrics and health; port 0 takes a free one.
    pub metrics_listen: SocketAddr,
    /// How the worker introduces itself; it need not be unique.
    pub name: String,
    /// Folder of policy files, by hash.
    pub cache: PathBuf,
    /// Threads of tensor operations.
    pub threads: usize,
    /// Where the engine computes.
    pub device: Device,
    /// Sequences decoded at once.
    pub max_sequences: usize,
    /// Bytes of keys and values, at most.
    pub kv_budget_bytes: usize,
    /// Deadline of one call to the trainer.
    #[serde(rename = "call_s", with = "seconds")]
    pub call: Duration,
    /// The worker ends when it cannot reach the trainer for this long.
    #[serde(rename = "reconnect_s", with = "seconds")]
    pub reconnect: Duration,
    /// Deadline of a graceful stop.
    #[serde(rename = "drain_s", with = "seconds")]
    pub drain: Duration,
}

/// All roles on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpConfig {
    /// Rollout workers to start.
    pub workers: usize,
}

/// Log lines on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A level, or directives such as `info,sinternal_trainer=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The processor.
    Cpu,
    /// The first CUDA device.
    Cuda,
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self {
            listen: loopback(7500),
            metrics_listen: loopback(7580),
            reward: "http://127.0.0.1:7501".into(),
            runs: "runs".into(),
            data_roots: Vec::new(),
            threads: 2,
            device: Device::Cpu,
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(2),
            call: Duration::from_secs(60),
            trace: Duration::from_secs(1800),
            reward_outage: Duration::from_secs(300),
            drain: Duration::from_secs(10),
        }
    }
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            listen: loopback(7501),
            metrics_listen: loopback(7581),
            cache: "runs/cache/reward".into(),
            threads: 1,
            device: Device::Cpu,
            max_sequences: 64,
            kv_budget_bytes: 2 << 30,
            score: Duration::from_secs(300),
            drain: Duration::from_secs(10),
            judges: BTreeMap::new(),
        }
    }
}

impl Default for RolloutWorkerConfig {
    fn default() -> Self {
        Self {
            trainer: "http://127.0.0.1:7500".into(),
            metrics_listen: loopback(7582),
            name: "worker".into(),
            cache: "runs/cache/rollout-worker".into(),
            threads: 1,
            device: Device::Cpu,
            max_sequences: 256,
            kv_budget_bytes: 2 << 30,
            call: Duration::from_secs(60),
            reconnect: Duration::from_secs(300),
            drain: Duration::from_secs(10),
        }
    }
}

impl Default for UpConfig {
    fn default() -> Self {
        Self { workers: 2 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
