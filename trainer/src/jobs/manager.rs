//! Takes jobs in, runs one at a time, and tells watchers what happens.
//!
//! ```text
//! submit ─► job.json on disk ─► queue ─► Runner::run ─► EventSink ─► ring of events ─► watchers
//! ```
//!
//! A job is acknowledged once its file is on disk. What waits for nothing: the runner never waits for a watcher, and a
//! watcher keeps nothing but its cursor.

use super::queue::{Inner, work};
use super::record::{Record, Stored, unix_ms};
use super::state::{Refused, Signal};
use super::{JobSummary, Runner};
use crate::run_dir::RunDirError;
use sinternal_proto::error::Invalid;
use sinternal_proto::{JobEvent, JobId, JobState, JobStatus, ServiceError};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// Events that a watcher holds at once.
const WATCH_BATCH: usize = 32;

/// Where jobs are kept, and bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsOptions {
    /// Folder of run directories.
    pub runs: PathBuf,
    /// Jobs that may wait.
    pub max_queued: usize,
    /// Events kept of each job.
    pub events: usize,
    /// Time in which the running job must stop when the trainer does.
    pub stop_grace: Duration,
    /// Time in which a cancelled job must stop.
    pub cancel_grace: Duration,
}

/// A job to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The job file.
    pub toml: String,
    /// Relative paths in the file are read from here; absolute.
    pub base_dir: PathBuf,
    /// The same key gives the same job again; empty for none.
    pub idempotency_key: String,
    /// A failed verifier gate does not stop it.
    pub skip_verifier_gate: bool,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The job.
    pub id: JobId,
    /// It was there before under the same idempotency key.
    pub existed: bool,
}

/// The manager; a cheap handle.
#[derive(Debug, Clone)]
pub struct JobManager {
    inner: Arc<Inner>,
    worker: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl JobManager {
    /// Reads the jobs in `options.runs` and starts to work on them; jobs that ran when the last process ended are queued
    /// again. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// When the folder cannot be read or a job's file is damaged; names the file.
    pub fn open(mut options: JobsOptions, runner: Arc<dyn Runner>) -> Result<Self, RunDirError> {
        options.runs = std::path::absolute(&options.runs)
            .map_err(|source| RunDirError::Io { path: options.runs.clone(), source })?;
        let jobs = load(&options)?;
        let (closing, _) = watch::channel(false);
        let inner = Arc::new(Inner { options, runner, jobs: Mutex::new(jobs), closing });
        let worker = tokio::spawn(work(inner.clone()));
        Ok(Self { inner, worker: Arc::new(Mutex::new(Some(worker))) })
    }

    /// Checks and queues a job; on disk when this returns. Blocks on the disk.
    ///
    /// # Errors
    /// When the job file is wrong, the queue is full, the key belongs to another job, or the disk refuses.
    pub fn submit(&self, new: Submission) -> Result<Submitted, ServiceError> {
        if let Some(existing) = find_key(&self.inner.lock(), &new)? {
            return Ok(existing);
        }
        if !new.base_dir.is_absolute() {
            return Err(invalid("base_dir", format!("{} is not an absolute path", new.base_dir.display())));
        }
        let summary =
            self.inner.runner.check(&new.toml, &new.base_dir).map_err(|e| invalid("job_toml", e))?;
        let mut jobs = self.inner.lock();
        if let Some(existing) = find_key(&jobs, &new)? {
            return Ok(existing);
        }
        admit(&self.inner, &jobs)?;
        let id = fresh_id(&self.inner.options.runs, &summary.name, &jobs);
        // Jobs run in the order of this time: two of one millisecond, or a clock set back, must not swap them.
        let newest = jobs.values().map(|r| r.stored.status.created_ms).max();
        let created_ms = unix_ms().max(newest.map_or(0, |ms| ms + 1));
        let stored = stored(&self.inner.options.runs, id.clone(), summary, new, created_ms);
        let record = Record::create(stored, self.inner.options.events)
            .map_err(|e| ServiceError::Internal(format!("the job is not stored: {e}")))?;
        jobs.insert(id.clone(), record);
        self.inner.wake();
        Ok(Submitted { id, existed: false })
    }

    /// A job's status.
    ///
    /// # Errors
    /// When there is no such job.
    pub fn get(&self, id: &JobId) -> Result<JobStatus, ServiceError> {
        self.inner.with(id, |r| r.stored.status.clone())
    }

    /// All jobs, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<JobStatus> {
        let mut all: Vec<_> = self.inner.lock().values().map(|r| r.stored.status.clone()).collect();
        all.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        all
    }

    /// Ends a job: at once where it waits, else at its next step boundary. A job that was cancelled stays so.
    ///
    /// # Errors
    /// When there is no such job, or it ended otherwise.
    pub fn cancel(&self, id: &JobId) -> Result<JobStatus, ServiceError> {
        let outcome = self.inner.with(id, |r| request_cancel(r).map(|()| r.stored.status.clone()))?;
        self.inner.wake();
        outcome.map_err(|refused| ServiceError::Precondition(format!("job {id}: {refused}")))
    }

    /// The job's events whose cursor is `cursor` or more, until it ends. To go on after a break, ask for the last cursor
    /// seen + 1. A watcher that reads slowly misses what the ring no longer holds, and is told so.
    ///
    /// # Errors
    /// When there is no such job.
    pub fn watch(&self, id: &JobId, cursor: u64) -> Result<ReceiverStream<JobEvent>, ServiceError> {
        let changed = self.inner.with(id, |r| r.changed.subscribe())?;
        let (tx, rx) = mpsc::channel(1);
        tokio::spawn(feed(self.inner.clone(), id.clone(), cursor, changed, tx));
        Ok(ReceiverStream::new(rx))
    }

    /// Stops taking jobs, tells the running one to stop at its next step boundary, and waits until it has (at most
    /// the stop grace). It is queued again, for the next process. Watchers end.
    pub async fn drain(&self) {
        self.inner.closing.send_replace(true);
        for record in self.inner.lock().values_mut() {
            record.cancel.cancel();
            record.changed.send_replace(());
        }
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker
            && let Err(error) = worker.await
        {
            tracing::error!(%error, "the job queue failed");
        }
    }
}

fn invalid(field: &'static str, problem: String) -> ServiceError {
    Invalid { field, problem }.into()
}

fn load(options: &JobsOptions) -> Result<HashMap<JobId, Record>, RunDirError> {
    let failed = |source| RunDirError::Io { path: options.runs.clone(), source };
    std::fs::create_dir_all(&options.runs).map_err(failed)?;
    let mut jobs = HashMap::new();
    for entry in std::fs::read_dir(&options.runs).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir()
            && let Some(record) = Record::load(&path, options.events)?
        {
            jobs.insert(record.stored.status.id.clone(), record);
        }
    }
    Ok(jobs)
}

fn find_key(jobs: &HashMap<JobId, Record>, new: &Submission) -> Result<Option<Submitted>, ServiceError> {
    let same_key =
        |r: &&Record| !new.idempotency_key.is_empty() && r.stored.idempotency_key == new.idempotency_key;
    let Some(record) = jobs.values().find(same_key) else {
        return Ok(None);
    };
    let id = record.stored.status.id.clone();
    if record.stored.toml != new.toml || record.stored.base_dir != new.base_dir {
        let key = &new.idempotency_key;
        return Err(ServiceError::Precondition(format!(
            "idempotency key {key} belongs to another job, {id}"
        )));
    }
    Ok(Some(Submitted { id, existed: true }))
}

fn request_cancel(record: &mut Record) -> Result<(), Refused> {
    match record.stored.status.state {
        JobState::Cancelled => Ok(()),
        JobState::Preparing | JobState::Running => {
            record.stored.cancel_requested = true;
            record.stored.status.reason = "asked to stop; ends at its next step".into();
            record.changed_state();
            record.cancel.cancel();
            Ok(())
        }
        _ => record.signal(&Signal::Cancel),
    }
}

fn admit(inner: &Inner, jobs: &HashMap<JobId, Record>) -> Result<(), ServiceError> {
    if *inner.closing.borrow() {
        return Err(ServiceError::Unavailable("the trainer is shutting down".into()));
    }
    let queued = jobs.values().filter(|r| r.stored.status.state == JobState::Queued).count();
    if queued >= inner.options.max_queued {
        return Err(ServiceError::Exhausted(format!("{queued} jobs are queued already; cancel one or wait")));
    }
    Ok(())
}

fn fresh_id(runs: &Path, name: &str, jobs: &HashMap<JobId, Record>) -> JobId {
    let slug: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(40)
        .collect();
    let slug = Some(slug.trim_matches('-')).filter(|s| !s.is_empty()).unwrap_or("job");
    loop {
        let tail = &uuid::Uuid::new_v4().simple().to_string()[..6];
        let id = JobId(format!("{slug}-{tail}"));
        if !jobs.contains_key(&id) && !runs.join(&id.0).exists() {
            return id;
        }
    }
}

fn stored(runs: &Path, id: JobId, summary: JobSummary, new: Submission, created_ms: u64) -> Stored {
    let status = JobStatus {
        run_dir: runs.join(&id.0),
        id,
        name: summary.name,
        state: JobState::Queued,
        reason: "submitted".into(),
        created_ms,
        stage: String::new(),
        step: 0,
        steps: summary.steps,
    };
    Stored {
        status,
        idempotency_key: new.idempotency_key,
        toml: new.toml,
        base_dir: new.base_dir,
        skip_verifier_gate: new.skip_verifier_gate,
        attempts: 0,
        cancel_requested: false,
        cursors_reserved: 0,
    }
}

async fn feed(
    inner: Arc<Inner>,
    id: JobId,
    mut cursor: u64,
    mut changed: watch::Receiver<()>,
    tx: mpsc::Sender<JobEvent>,
) {
    loop {
        changed.mark_unchanged();
        let Ok((batch, ended)) =
            inner.with(&id, |r| (r.log.read(cursor, WATCH_BATCH), r.stored.status.state.is_final()))
        else {
            return;
        };
        let over = ended || *inner.closing.borrow();
        if batch.is_empty() && over {
            return;
        }
        let idle = batch.is_empty();
        for event in batch {
            cursor = event.cursor + 1;
            if tx.send(event).await.is_err() {
                return;
            }
        }
        if idle {
            tokio::select! {
                () = tx.closed() => return,
                news = changed.changed() => if news.is_err() { return },
            }
        }
    }
}

#[cfg(test)]
mod tests;
