//! Where jobs and their events are kept: what a client was told of survives the process.
//!
//! ```text
//! manager ─ put, append ─► writer thread ─► one transaction ─► answered
//! watchers ─ events ─────► reader
//! ```
//!
//! **Invariant.** A write is durable when it returns, and nothing is read that is not.

mod schema;
mod sqlite;

pub use sqlite::SqliteStore;

use sinternal_proto::{Event, JobEvent, JobId, JobStatus};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What a client asked a running job for; it is done at the next step boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To hold.
    Pause,
    /// To end.
    Cancel,
}

/// A job as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredJob {
    /// What clients see.
    pub status: JobStatus,
    /// The same key gives the same job again; empty for none.
    pub idempotency_key: String,
    /// The job file.
    pub toml: String,
    /// Relative paths in the file are read from here.
    pub base_dir: PathBuf,
    /// A failed verifier gate does not stop it.
    pub skip_verifier_gate: bool,
    /// What it was asked for and has not done yet.
    pub asked: Option<Asked>,
}

/// An event before it has its place in the job's stream.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// What happened.
    pub event: Event,
}

/// A store of jobs. Calls block on the disk for at most some seconds, and fail then.
pub trait JobStore: fmt::Debug + Send + Sync + 'static {
    /// All jobs, in no order.
    ///
    /// # Errors
    /// When they cannot be read.
    fn jobs(&self) -> Result<Vec<StoredJob>, StoreError>;

    /// Inserts or replaces a job and appends `events` to its stream: both or none.
    ///
    /// # Errors
    /// When that is not on disk.
    fn put(&self, job: &StoredJob, events: Vec<NewEvent>) -> Result<(), StoreError>;

    /// Appends to the stream of a job that is there.
    ///
    /// # Errors
    /// When that is not on disk.
    fn append(&self, job: &JobId, event: NewEvent) -> Result<(), StoreError>;

    /// At most `max` events whose cursor is `cursor` or more. Where the first of them are no longer kept, a log event in their
    /// place says so.
    ///
    /// # Errors
    /// When they cannot be read.
    fn events(&self, job: &JobId, cursor: u64, max: usize) -> Result<Vec<JobEvent>, StoreError>;
}

/// The store cannot do what was asked. Names its file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite, or the disk below it.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Written by a later version of this program.
    #[error(
        "{}: has schema {found}, and this program knows {known}: run the program that wrote it, or a newer one",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// The newest one that is known.
        known: usize,
    },
    /// The file is not whole.
    #[error("{}: is damaged ({problem}): restore it from a backup, or move it away to start without its jobs", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite found.
        problem: String,
    },
    /// A row does not hold what this program writes.
    #[error("{}: {row}: {problem}", path.display())]
    Row {
        /// The database.
        path: PathBuf,
        /// Which.
        row: String,
        /// What is wrong.
        problem: String,
    },
    /// The disk did not answer in time.
    #[error("{}: not written within {} s: look at the disk", path.display(), after.as_secs())]
    Slow {
        /// The database.
        path: PathBuf,
        /// The deadline.
        after: Duration,
    },
    /// The writer is gone.
    #[error("{}: its writer has ended: restart the trainer", path.display())]
    Gone {
        /// The database.
        path: PathBuf,
    },
}
