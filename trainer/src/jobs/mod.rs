//! Jobs: what a runner is given and may say, the state machine, the queue with its events, and the gRPC service.

mod list;
pub mod manager;
mod queue;
mod record;
pub mod service;
pub mod state;
pub mod store;
mod telemetry;

pub use list::{JobFilter, JobPage};
pub use manager::{JobManager, JobsError, JobsOptions, Submission, Submitted};

use crate::preflight::Preflight;
use crate::run_dir::RunDir;
use queue::Inner;
use sinternal_proto::{Checkpoint, Event, JobId, Sample, StepMetrics};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use tokio_util::sync::CancellationToken;

/// What a job file says of itself before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// For people; also the front of the job's id.
    pub name: String,
    /// Optimizer steps in all.
    pub steps: u64,
}

/// Why a job does not go on: one line with the cause and, where there is one, the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// It cannot.
    #[error("{0}")]
    Failed(String),
    /// It should not until somebody has looked at it; there is a checkpoint to go on from.
    #[error("{0}")]
    Paused(String),
}

/// Runs jobs; the stages behind the manager.
#[async_trait::async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Reads a job file, and what it names, without starting anything; `runs` is where its results will go.
    ///
    /// # Errors
    /// One line that names the key.
    fn check(&self, toml: &str, base_dir: &Path, runs: &Path) -> Result<Preflight, String>;

    /// Runs a job to its end. Once `ctx.cancel` fires it should return, with an error, at the next step boundary, leaving a
    /// state from which a later attempt goes on.
    ///
    /// # Errors
    /// Why the job does not go on.
    async fn run(&self, ctx: JobContext) -> Result<(), JobError>;
}

/// What a run is given.
#[derive(Debug)]
pub struct JobContext {
    /// The job.
    pub id: JobId,
    /// Its file.
    pub toml: String,
    /// Relative paths in the file are read from here.
    pub base_dir: PathBuf,
    /// Where its results go.
    pub run_dir: RunDir,
    /// Where it says what happens.
    pub events: EventSink,
    /// Fires when it should stop at the next step boundary.
    pub cancel: CancellationToken,
    /// A failed verifier gate is logged and does not stop it.
    pub skip_verifier_gate: bool,
    /// From 1. After the first, it goes on from its last checkpoint, if it has one.
    pub attempt: u32,
}

/// Weight of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// For those who watch.
    Info,
    /// Something is not as it should be; the job goes on.
    Warn,
    /// Something failed.
    Error,
}

impl LogLevel {
    /// As it travels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// A running job's voice. Cheap to clone; never waits for a watcher; what is said after the job's end is dropped.
#[derive(Debug, Clone)]
pub struct EventSink {
    id: JobId,
    manager: Weak<Inner>,
}

impl EventSink {
    fn new(id: JobId, manager: &Arc<Inner>) -> Self {
        Self { id, manager: Arc::downgrade(manager) }
    }

    /// A sink that nobody listens to, for tests of stages.
    #[must_use]
    pub fn detached() -> Self {
        Self { id: JobId("detached".into()), manager: Weak::new() }
    }

    /// A stage of `steps` optimizer steps (0 if it has none) begins. The first one makes the job running.
    pub fn stage(&self, name: &str, steps: u64) {
        self.with(|inner| inner.begin_stage(&self.id, name, steps));
    }

    /// `done` of `total` units of the present stage are done.
    pub fn progress(&self, done: u64, total: u64) {
        self.with(|inner| inner.progress(&self.id, done, total));
    }

    /// A step is done.
    pub fn metrics(&self, step: StepMetrics) {
        self.with(|inner| inner.step_done(&self.id, step));
    }

    /// One of the samples of the step at hand.
    pub fn sample(&self, sample: Sample) {
        self.with(|inner| inner.emit(&self.id, Event::Sample(Box::new(sample))));
    }

    /// A checkpoint is whole and on disk.
    pub fn checkpoint(&self, checkpoint: Checkpoint) {
        self.with(|inner| inner.emit(&self.id, Event::Checkpoint(checkpoint)));
    }

    /// A line for those who watch.
    pub fn log(&self, level: LogLevel, message: impl Into<String>) {
        let event = Event::Log { level: level.as_str().into(), message: message.into() };
        self.with(|inner| inner.emit(&self.id, event));
    }

    fn with(&self, act: impl FnOnce(&Inner)) {
        if let Some(inner) = self.manager.upgrade() {
            act(&inner);
        }
    }
}
