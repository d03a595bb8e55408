//! Between stages and workers: stages offer groups and read traces; workers lease, report and deliver.
//!
//! One lock holds the whole state; every change wakes all who wait, and each looks again. Who waits for what: a worker's
//! long poll for work, `offer` for room in the buffer, `next` for a trace. Each has a deadline.

use super::error::{RolloutError, UnknownWorker};
use super::session::RolloutSession;
use super::state::{Open, State, Work};
use super::workers::Workers;
use crate::publish::{BlobStore, PublishError, Publisher};
use crate::work_buffer::{BufferStats, WorkBuffer};
use sinternal_proto::{JobId, Policy, PolicyVersion, TaskId, Trace, TraceOutcome, WorkerId};
use sinternal_service::metrics;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Deadlines and bounds of the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Where workers dial in, for error messages.
    pub address: String,
    /// Folder of published files.
    pub published: PathBuf,
    /// Groups in the work buffer.
    pub capacity: usize,
    /// A worker that is silent for this long is evicted, and its leases end.
    pub lease: Duration,
    /// How often workers are asked to report.
    pub heartbeat: Duration,
    /// The longest that a worker's request for work is held.
    pub max_wait: Duration,
    /// The longest that `offer` waits for room.
    pub offer_timeout: Duration,
}

/// Answer to a worker's report.
#[derive(Debug, Clone, PartialEq)]
pub struct Orders {
    /// Newest published policy.
    pub policy: Option<Policy>,
    /// Tasks that it reported and no longer holds.
    pub cancelled: Vec<TaskId>,
    /// It should finish and leave.
    pub drain: bool,
}

/// Shared by stages and the gRPC service; a cheap handle.
#[derive(Debug, Clone)]
pub struct RolloutHub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) options: HubOptions,
    state: Mutex<State>,
    publisher: tokio::sync::Mutex<Publisher>,
    blobs: BlobStore,
    pub(super) changed: watch::Sender<()>,
}

impl RolloutHub {
    /// An empty hub. Must be called in a tokio runtime: leases end in the background.
    ///
    /// # Errors
    /// When the folder of published files cannot be made.
    pub fn new(options: HubOptions) -> Result<Self, PublishError> {
        let publisher = Publisher::open(&options.published)?;
        let state = State {
            buffer: WorkBuffer::new(options.capacity, options.lease),
            workers: Workers::new(options.lease),
            policy: None,
            session: None,
            closing: false,
        };
        let (changed, _) = watch::channel(());
        let (blobs, publisher) = (publisher.blobs(), tokio::sync::Mutex::new(publisher));
        let inner = Arc::new(Inner { options, state: Mutex::new(state), publisher, blobs, changed });
        tokio::spawn(tick(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// The options it runs with.
    #[must_use]
    pub fn options(&self) -> &HubOptions {
        &self.inner.options
    }

    /// Makes the model folder `dir` the current policy. Its files must not change afterwards.
    ///
    /// # Errors
    /// When its files cannot be read, hashed or kept.
    pub async fn publish(&self, version: PolicyVersion, dir: &Path) -> Result<Policy, PublishError> {
        let mut publisher = self.inner.publisher.lock().await;
        let policy = publisher.publish(version, dir).await?;
        self.inner.change(|state| state.policy = Some(policy.clone()));
        metrics::policy_version().set(version.0 as f64);
        tracing::info!(%version, hash = %policy.manifest.hash, "published a policy");
        Ok(policy)
    }

    /// Opens the hub for a job's groups.
    ///
    /// # Errors
    /// [`RolloutError::Busy`] while another session is open.
    pub fn open(&self, job: JobId) -> Result<RolloutSession, RolloutError> {
        self.inner.change(|state| match &state.session {
            Some(open) => Err(RolloutError::Busy(open.job.clone())),
            None => {
                state.session = Some(Open { job: job.clone(), traces: VecDeque::new(), rejected: None });
                Ok(RolloutSession { inner: self.inner.clone(), job })
            }
        })
    }

    /// Connected workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.inner.lock().workers.len()
    }

    /// The newest published policy.
    #[must_use]
    pub fn policy(&self) -> Option<Policy> {
        self.inner.lock().policy.clone()
    }

    /// What the work buffer holds.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        self.inner.lock().buffer.stats()
    }

    /// Ends workers' long polls, now and from now on, so that the server can stop.
    pub fn close(&self) {
        self.inner.change(|state| state.closing = true);
    }

    /// Tells all workers that report from now on to finish and leave.
    pub fn dismiss_workers(&self) {
        self.inner.change(|state| state.workers.dismiss());
    }

    /// A new worker, or one that comes back: then it keeps the leases of `previous`, its last id.
    pub(super) fn register(&self, name: &str, max_sequences: u32, previous: Option<&WorkerId>) -> WorkerId {
        let id = self.inner.change(|state| {
            let id = state.workers.add(name, Instant::now().into_std());
            state.buffer.add_worker(id.clone(), max_sequences);
            if let Some(previous) = previous.filter(|id| state.workers.knows(id)) {
                state.buffer.rename_worker(previous, &id);
                state.workers.remove(previous);
            }
            metrics::workers().set(state.workers.len() as f64);
            id
        });
        tracing::info!(worker = %id, max_sequences, "a rollout worker joined");
        id
    }

    /// Work for a worker with room for `room` sequences, and the policy to start it with; waits up to `wait`.
    pub(super) async fn lease(
        &self,
        worker: &WorkerId,
        room: u32,
        wait: Duration,
    ) -> Result<Work, UnknownWorker> {
        let deadline = Instant::now() + wait.min(self.inner.options.max_wait);
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let (work, closing) = self.inner.lease(worker, room)?;
            let over = closing || !work.tasks.is_empty();
            if over || timeout_at(deadline, changed.changed()).await.is_err() {
                return Ok(work);
            }
        }
    }

    pub(super) fn heartbeat(&self, worker: &WorkerId, tasks: &[TaskId]) -> Result<Orders, UnknownWorker> {
        let now = Instant::now().into_std();
        let mut state = self.inner.lock();
        state.seen(worker)?;
        let cancelled = state.buffer.extend(worker, tasks, now);
        Ok(Orders { policy: state.policy.clone(), cancelled, drain: state.workers.dismissed() })
    }

    /// Decides about a trace, and keeps it if it is new and expected.
    pub(super) fn deliver(&self, worker: &WorkerId, trace: Trace) -> Result<TraceOutcome, UnknownWorker> {
        self.inner.change(|state| {
            state.seen(worker)?;
            Ok(state.deliver(trace))
        })
    }

    /// A worker cannot sample a task, and no other could: the job is told when it reads or offers next.
    pub(super) fn reject(
        &self,
        worker: &WorkerId,
        job: &JobId,
        task: TaskId,
        problem: String,
    ) -> Result<(), UnknownWorker> {
        self.inner.change(|state| {
            state.seen(worker)?;
            tracing::warn!(%worker, %job, %task, problem, "a task cannot be sampled");
            if let Some(open) = state.session.as_mut().filter(|open| &open.job == job) {
                open.rejected = Some((task, problem));
            }
            Ok(())
        })
    }

    /// A sign of life from a worker.
    pub(super) fn seen(&self, worker: &WorkerId) -> Result<(), UnknownWorker> {
        self.inner.lock().seen(worker)
    }

    pub(super) fn knows(&self, worker: &WorkerId) -> bool {
        self.inner.lock().workers.knows(worker)
    }

    /// Resolves once the hub is closed.
    pub(super) async fn closed(&self) {
        let mut changed = self.inner.changed.subscribe();
        while !self.inner.lock().closing {
            // The sender lives as long as this handle.
            let Ok(()) = changed.changed().await else {
                return;
            };
        }
    }

    pub(super) fn blobs(&self) -> BlobStore {
        self.inner.blobs.clone()
    }
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes all who wait.
    pub(super) fn change<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let result = act(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    /// The same for an act that changes nothing when it fails, and then wakes nobody.
    pub(super) fn change_if<R, E>(&self, act: impl FnOnce(&mut State) -> Result<R, E>) -> Result<R, E> {
        let result = act(&mut self.lock());
        if result.is_ok() {
            self.changed.send_replace(());
        }
        result
    }

    fn lease(&self, worker: &WorkerId, room: u32) -> Result<(Work, bool), UnknownWorker> {
        let mut state = self.lock();
        Ok((state.lease(worker, room)?, state.closing))
    }

    pub(super) fn diagnose(&self, job: &JobId, waited: Duration) -> RolloutError {
        let state = self.lock();
        let (workers, stats) = (state.workers.len(), state.buffer.stats());
        let address = self.options.address.clone();
        match (stats.groups, workers) {
            (0, _) => RolloutError::NothingOffered(job.clone()),
            (_, 0) => RolloutError::NoWorker { address, waited },
            _ => RolloutError::Silent { address, waited, workers, stats },
        }
    }

    fn evict_silent(&self) {
        let now = Instant::now().into_std();
        let mut state = self.lock();
        let mut returned = state.buffer.expire(now).len();
        for worker in state.workers.evict(now) {
            tracing::warn!(%worker, "a rollout worker is silent and was evicted");
            metrics::workers_lost_total().increment(1);
            returned += state.buffer.remove_worker(&worker).len();
        }
        metrics::workers().set(state.workers.len() as f64);
        export(state.buffer.stats());
        drop(state);
        if returned > 0 {
            tracing::warn!(samples = returned, "leases ended; their samples wait again");
            metrics::lease_expired_total().increment(returned as u64);
            self.changed.send_replace(());
        }
    }
}

fn export(buffer: BufferStats) {
    let BufferStats { groups, waiting, leased, delivered } = buffer;
    metrics::buffer_groups().set(groups as f64);
    for (outcome, samples) in [("waiting", waiting), ("leased", leased), ("delivered", delivered)] {
        metrics::buffer_samples(outcome).set(samples as f64);
    }
}

/// Ends leases and evicts silent workers for as long as the hub lives.
async fn tick(hub: Weak<Inner>) {
    while let Some(inner) = hub.upgrade() {
        let pause = inner.options.lease / 8;
        inner.evict_silent();
        drop(inner);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests;
