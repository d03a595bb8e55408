//! Why a worker cannot start or go on.

use sinternal_service::connect::{BadAddress, RpcError};
use sinternal_service::serve::{BindError, ServeError};
use sinternal_service::telemetry::MetricsError;
use std::path::PathBuf;

/// One line; names the file or peer.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The metrics port is taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The metrics endpoint broke down.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Signals cannot be listened for, or the like.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The trainer's address.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// A call to the trainer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The trainer sent what breaks the contract.
    #[error("trainer: {0}")]
    Invalid(#[from] sinternal_proto::Invalid),
    /// A model folder that cannot be used.
    #[error(transparent)]
    Model(#[from] sinternal_model::ModelError),
    /// The cache of policy files.
    #[error("{path}: {source}", path = path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A fetched file whose bytes are not what the manifest promised.
    #[error(
        "trainer: file {name} does not match its hash after {attempts} attempts; the network or its disk changes bytes"
    )]
    Corrupt {
        /// The file.
        name: String,
        /// How often it was fetched.
        attempts: u32,
    },
    /// The thread that owns the model has ended.
    #[error("the generator thread has ended: {0}")]
    Generator(String),
    /// The trainer stayed away.
    #[error(
        "trainer {url}: not reached for {seconds:.0} s ({last}); start it, or set rollout_worker.trainer"
    )]
    Away {
        /// Its address.
        url: String,
        /// For how long.
        seconds: f64,
        /// The last error.
        last: String,
    },
}
