//! What can go wrong with rollouts, and the way out.

use crate::publish::PublishError;
use crate::work_buffer::{BufferStats, OfferRefused};
use sinternal_proto::{JobId, TaskId, WorkerId};
use std::time::Duration;

/// Why rollouts do not come.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// Nobody is there to sample.
    #[error(
        "no rollout worker is connected to {address}; start one with `sinternal rollout-worker` (waited {waited:?})"
    )]
    NoWorker {
        /// Where workers dial in.
        address: String,
        /// For how long.
        waited: Duration,
    },
    /// Workers are there, but nothing came.
    #[error(
        "no trace came within {waited:?} from {workers} rollout workers at {address} ({} samples wait, {} are leased): \
         read the workers' logs, or allow more time with trainer.trace_s",
        stats.waiting, stats.leased
    )]
    Silent {
        /// Where workers dial in.
        address: String,
        /// For how long.
        waited: Duration,
        /// How many are connected.
        workers: usize,
        /// What they hold.
        stats: BufferStats,
    },
    /// Nothing was offered that could still come.
    #[error("job {0} waits for traces but has no group in the work buffer")]
    NothingOffered(JobId),
    /// The group was not taken in.
    #[error("{refused} (waited {waited:?})")]
    Refused {
        /// Why.
        refused: OfferRefused,
        /// For how long.
        waited: Duration,
    },
    /// A worker says that a task can never be sampled.
    #[error("task {task} cannot be sampled: {problem}")]
    Rejected {
        /// The task.
        task: TaskId,
        /// Why.
        problem: String,
    },
    /// Another job samples now.
    #[error("job {0} samples already; one job at a time")]
    Busy(JobId),
    /// The weights could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// No such worker: it was evicted, or this is another process than the one that it registered with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("worker {0} is not registered here; register again")]
pub struct UnknownWorker(pub WorkerId);
