//! Takes jobs in, runs one at a time, and tells watchers what happens.
//!
//! ```text
//! submit ─► store ─► queue ─► Runner::run ─► EventSink ─► store ─► watchers
//! ```
//!
//! What a client is told has happened is on disk. The runner never waits for a watcher, and a watcher keeps nothing but its
//! cursor: events are read from the store, a few at a time.

use super::list::{JobFilter, JobPage};
use super::queue::{Inner, work};
use super::record::{NotDone, Record, unix_ms};
use super::state::{Refused, Signal};
use super::store::{Asked, JobStore, SqliteStore, StoreError, StoredJob};
use super::{JobSummary, Runner};
use crate::preflight::Preflight;
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
    pub events: u64,
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
    /// Of two jobs that wait the higher one runs first.
    pub priority: i32,
}

/// The jobs cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// The folder of runs.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The job.
    pub id: JobId,
    /// It was there before under the same idempotency key.
    pub existed: bool,
    /// What may not work, one line each.
    pub warnings: Vec<String>,
}

/// The manager; a cheap handle.
#[derive(Debug, Clone)]
pub struct JobManager {
    inner: Arc<Inner>,
    worker: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl JobManager {
    /// Reads the jobs of `options.runs` and starts to work on them; jobs that ran when the last process ended are queued
    /// again. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// When the folder or its store cannot be read; names the file.
    pub fn open(mut options: JobsOptions, runner: Arc<dyn Runner>) -> Result<Self, JobsError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| JobsError::Folder { path, source }
        };
        options.runs = std::path::absolute(&options.runs).map_err(failed(&options.runs))?;
        std::fs::create_dir_all(&options.runs).map_err(failed(&options.runs))?;
        let store: Arc<dyn JobStore> = Arc::new(SqliteStore::open(&options.runs, options.events)?);
        let mut jobs = HashMap::new();
        for stored in store.jobs()? {
            let record = Record::recover(stored, store.clone())?;
            jobs.insert(record.stored.status.id.clone(), record);
        }
        let (closing, _) = watch::channel(false);
        let inner = Arc::new(Inner { options, runner, store, jobs: Mutex::new(jobs), closing });
        let worker = tokio::spawn(work(inner.clone()));
        Ok(Self { inner, worker: Arc::new(Mutex::new(Some(worker))) })
    }

    /// Tells what a job will take, as [`JobManager::submit`] would check it. Blocks on the disk.
    ///
    /// # Errors
    /// When the job file is wrong, or cannot work on this machine.
    pub fn preflight(&self, new: &Submission) -> Result<Preflight, ServiceError> {
        if !new.base_dir.is_absolute() {
            return Err(invalid("base_dir", format!("{} is not an absolute path", new.base_dir.display())));
        }
        let runs = &self.inner.options.runs;
        self.inner.runner.check(&new.toml, &new.base_dir, runs).map_err(|e| invalid("job_toml", e))
    }

    /// Checks and queues a job; on disk when this returns. Blocks on the disk.
    ///
    /// # Errors
    /// When the job file is wrong, the queue is full, the key belongs to another job, or the disk refuses.
    pub fn submit(&self, new: Submission) -> Result<Submitted, ServiceError> {
        if let Some(existing) = find_key(&self.inner.lock(), &new)? {
            return Ok(existing);
        }
        let Preflight { summary, warnings, .. } = self.preflight(&new)?;
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
        let record = Record::create(stored, self.inner.store.clone()).map_err(|e| not_stored(&e))?;
        jobs.insert(id.clone(), record);
        self.inner.wake();
        Ok(Submitted { id, existed: false, warnings })
    }

    /// A job's status.
    ///
    /// # Errors
    /// When there is no such job.
    pub fn get(&self, id: &JobId) -> Result<JobStatus, ServiceError> {
        self.inner.with(id, |r| r.stored.status.clone())
    }

    /// A page of the jobs that match.
    #[must_use]
    pub fn list(&self, filter: &JobFilter) -> JobPage {
        let all: Vec<JobStatus> = self.inner.lock().values().map(|r| r.stored.status.clone()).collect();
        filter.page(all)
    }

    /// Ends a job: at once where it waits, else at its next step boundary. A job that was cancelled stays so.
    ///
    /// # Errors
    /// When there is no such job, it ended otherwise, or the disk refuses.
    pub fn cancel(&self, id: &JobId) -> Result<JobStatus, ServiceError> {
        self.steer(id, |record| match record.stored.status.state {
            JobState::Cancelled => Ok(()),
            JobState::Preparing | JobState::Running => {
                ask(record, Asked::Cancel, "asked to stop; ends at its next step")
            }
            _ => record.try_signal(&Signal::Cancel),
        })
    }

    /// Holds a job: at once where it waits, else behind a checkpoint at its next step boundary. A paused job stays so, with
    /// its reason.
    ///
    /// # Errors
    /// When there is no such job, it has ended or is about to be cancelled, or the disk refuses.
    pub fn pause(&self, id: &JobId) -> Result<JobStatus, ServiceError> {
        self.steer(id, |record| match (record.stored.status.state, record.stored.asked) {
            (JobState::Paused, _) => Ok(()),
            (JobState::Preparing | JobState::Running, None | Some(Asked::Pause)) => {
                ask(record, Asked::Pause, "asked to pause; holds at its next step")
            }
            (JobState::Preparing | JobState::Running, Some(Asked::Cancel)) => {
                Err(Refused { state: "cancelled", verb: "be paused" }.into())
            }
            _ => record.try_signal(&Signal::Pause("paused on request".into())),
        })
    }

    /// Queues a paused job again; it goes on from its last checkpoint. With `skip_verifier_gate` a failed gate does not stop it
    /// from now on.
    ///
    /// # Errors
    /// When there is no such job, it is not paused, or the disk refuses.
    pub fn resume(&self, id: &JobId, skip_verifier_gate: bool) -> Result<JobStatus, ServiceError> {
        self.steer(id, |record| {
            let mut changed = record.after(&Signal::Resume)?;
            changed.skip_verifier_gate |= skip_verifier_gate;
            Ok(record.try_change(changed)?)
        })
    }

    fn steer(
        &self,
        id: &JobId,
        act: impl FnOnce(&mut Record) -> Result<(), NotDone>,
    ) -> Result<JobStatus, ServiceError> {
        let outcome = self.inner.with(id, |r| act(r).map(|()| r.stored.status.clone()))?;
        self.inner.wake();
        outcome.map_err(|not_done| match not_done {
            NotDone::Refused(refused) => ServiceError::Precondition(format!("job {id}: {refused}")),
            NotDone::Store(error) => not_stored(&error),
        })
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

fn not_stored(error: &StoreError) -> ServiceError {
    ServiceError::Internal(format!("not done, for it is not on disk: {error}"))
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
    Ok(Some(Submitted { id, existed: true, warnings: Vec::new() }))
}

/// Notes what a running job is asked for, and tells it to stop.
fn ask(record: &mut Record, what: Asked, reason: &str) -> Result<(), NotDone> {
    let mut changed = record.stored.clone();
    changed.asked = Some(what);
    changed.status.reason = reason.into();
    record.try_change(changed)?;
    record.cancel.cancel();
    Ok(())
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

fn stored(runs: &Path, id: JobId, summary: JobSummary, new: Submission, created_ms: u64) -> StoredJob {
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
        priority: new.priority,
        attempts: 0,
        started_ms: None,
        ended_ms: None,
    };
    StoredJob {
        status,
        idempotency_key: new.idempotency_key,
        toml: new.toml,
        base_dir: new.base_dir,
        skip_verifier_gate: new.skip_verifier_gate,
        asked: None,
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
        let Ok(ended) = inner.with(&id, |r| r.stored.status.state.is_final()) else {
            return;
        };
        let over = ended || *inner.closing.borrow();
        let Some(batch) = read(&inner, &id, cursor).await else {
            return;
        };
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

/// The next events. A store that cannot be read ends the watching, as a lost trainer does: the client asks again.
async fn read(inner: &Arc<Inner>, id: &JobId, cursor: u64) -> Option<Vec<JobEvent>> {
    let (store, job) = (inner.store.clone(), id.clone());
    let read = tokio::task::spawn_blocking(move || store.events(&job, cursor, WATCH_BATCH)).await;
    match read {
        Ok(Ok(events)) => Some(events),
        Ok(Err(error)) => {
            tracing::error!(job = %id, %error, "a watcher cannot be served");
            None
        }
        Err(error) => {
            tracing::error!(job = %id, %error, "a watcher cannot be served");
            None
        }
    }
}

#[cfg(test)]
mod tests;
