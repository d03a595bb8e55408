//! One job as the manager keeps it: its status, its events, and its file `job.json`.

use super::events::EventLog;
use super::state::{Refused, Signal, decide};
use crate::run_dir::RunDirError;
use serde::{Deserialize, Serialize};
use sinternal_proto::{Event, JobStatus};
use sinternal_service::atomic::write_atomic;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const FILE: &str = "job.json";
/// Cursors are promised to `job.json` in blocks of this many, so that none is used twice after a restart.
const CURSOR_BLOCK: u64 = 100_000;

/// What survives a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    pub(super) status: JobStatus,
    pub(super) idempotency_key: String,
    pub(super) toml: String,
    pub(super) base_dir: PathBuf,
    pub(super) skip_verifier_gate: bool,
    pub(super) attempts: u32,
    pub(super) cancel_requested: bool,
    pub(super) cursors_reserved: u64,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) stored: Stored,
    pub(super) log: EventLog,
    /// Tells watchers that there is something to read.
    pub(super) changed: watch::Sender<()>,
    /// Of the present attempt.
    pub(super) cancel: CancellationToken,
}

impl Record {
    /// A new job, on disk when this returns.
    pub(super) fn create(mut stored: Stored, ring: usize) -> Result<Self, RunDirError> {
        stored.cursors_reserved = CURSOR_BLOCK;
        write(&stored)?;
        let mut record = Self::new(stored, ring, 1);
        record.emit_state();
        Ok(record)
    }

    /// The job of a run directory; `None` where it never became one.
    pub(super) fn load(dir: &Path, ring: usize) -> Result<Option<Self>, RunDirError> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RunDirError::Io { path, source }),
        };
        let mut stored: Stored = serde_json::from_str(&text).map_err(|source| RunDirError::Line {
            path,
            line: source.line(),
            source,
        })?;
        dir.clone_into(&mut stored.status.run_dir);
        let first = stored.cursors_reserved + 1;
        stored.cursors_reserved += CURSOR_BLOCK;
        let mut record = Self::new(stored, ring, first);
        record.recover();
        write(&record.stored)?;
        Ok(Some(record))
    }

    fn new(stored: Stored, ring: usize, first_cursor: u64) -> Self {
        let (changed, _) = watch::channel(());
        Self { stored, log: EventLog::new(ring, first_cursor), changed, cancel: CancellationToken::new() }
    }

    /// What the end of the last process means for this job.
    fn recover(&mut self) {
        let signal = if self.stored.cancel_requested {
            Signal::Cancel
        } else {
            Signal::Requeue("trainer restarted".into())
        };
        match decide(self.stored.status.state, &signal) {
            Ok(decision) => {
                self.stored.status.state = decision.state;
                self.stored.status.reason = decision.reason;
            }
            Err(kept) => {
                tracing::debug!(job = %self.stored.status.id, %kept, "state kept over the restart")
            }
        }
        self.emit_state();
    }

    /// Applies a signal, tells watchers, and writes the file.
    pub(super) fn signal(&mut self, signal: &Signal) -> Result<(), Refused> {
        let decision = decide(self.stored.status.state, signal)?;
        let status = &mut self.stored.status;
        (status.state, status.reason) = (decision.state, decision.reason);
        tracing::info!(job = %status.id, state = super::state::name(status.state), reason = %status.reason, "job");
        self.changed_state();
        Ok(())
    }

    /// Says and stores that the status is another one now.
    pub(super) fn changed_state(&mut self) {
        self.persist();
        self.emit_state();
    }

    fn emit_state(&mut self) {
        self.emit(Event::State(self.stored.status.clone()));
    }

    /// Adds an event, and wakes watchers.
    pub(super) fn emit(&mut self, event: Event) {
        self.log.push(unix_ms(), event);
        if self.log.next() > self.stored.cursors_reserved {
            self.stored.cursors_reserved += CURSOR_BLOCK;
            self.persist();
        }
        self.changed.send_replace(());
    }

    /// Writes the file. A failure cannot undo what happened: it is logged for operators and watchers.
    fn persist(&mut self) {
        if let Err(error) = write(&self.stored) {
            tracing::error!(job = %self.stored.status.id, %error, "the job's state is not on disk");
            let message = format!("the job's state is not on disk: {error}");
            self.log.push(unix_ms(), Event::Log { level: "error".into(), message });
        }
    }
}

fn write(stored: &Stored) -> Result<(), RunDirError> {
    let path = stored.status.run_dir.join(FILE);
    let failed = |source| RunDirError::Io { path: path.clone(), source };
    let bytes = serde_json::to_vec_pretty(stored).map_err(|e| failed(e.into()))?;
    std::fs::create_dir_all(&stored.status.run_dir).map_err(failed)?;
    Ok(write_atomic(&path, &bytes)?)
}

/// Milliseconds since the Unix epoch.
pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
