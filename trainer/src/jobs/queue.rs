//! The queue behind the manager: one job runs at a time, and its attempt ends in a state with a reason.

use super::manager::JobsOptions;
use super::record::Record;
use super::state::Signal;
use super::store::{JobStore, StoredJob};
use super::{EventSink, JobContext, JobError, Runner};
use crate::run_dir::RunDir;
use sinternal_proto::{Event, JobId, JobState, ServiceError, StepMetrics};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinError;

const ABORT_GRACE: Duration = Duration::from_secs(1);

pub(super) struct Inner {
    pub(super) options: JobsOptions,
    pub(super) runner: Arc<dyn Runner>,
    pub(super) store: Arc<dyn JobStore>,
    pub(super) jobs: Mutex<HashMap<JobId, Record>>,
    /// `true` once the trainer drains; every change wakes the queue.
    pub(super) closing: watch::Sender<bool>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Runs queued jobs one after the other until the trainer drains.
pub(super) async fn work(inner: Arc<Inner>) {
    let mut woken = inner.closing.subscribe();
    loop {
        if *woken.borrow_and_update() {
            return;
        }
        if let Some(id) = inner.start_next() {
            inner.run(&id).await;
        } else if woken.changed().await.is_err() {
            return;
        }
    }
}

/// How an attempt ended.
enum Ended {
    Returned(Result<(), JobError>),
    Failed(JoinError),
    Overdue,
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Record>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with<R>(&self, id: &JobId, act: impl FnOnce(&mut Record) -> R) -> Result<R, ServiceError> {
        let mut jobs = self.lock();
        let record =
            jobs.get_mut(id).ok_or_else(|| ServiceError::NotFound(format!("no job {id} on this trainer")))?;
        Ok(act(record))
    }

    pub(super) fn wake(&self) {
        self.closing.send_modify(|_| {});
    }

    /// Starts the queued job with the highest priority, and of these the oldest.
    fn start_next(&self) -> Option<JobId> {
        let mut jobs = self.lock();
        let queued = jobs.values_mut().filter(|r| r.stored.status.state == JobState::Queued);
        let next = queued.min_by_key(|r| (Reverse(r.stored.status.priority), r.stored.status.created_ms))?;
        next.cancel = tokio_util::sync::CancellationToken::new();
        next.open_log();
        next.signal(&Signal::Start).ok()?;
        Some(next.stored.status.id.clone())
    }

    async fn run(self: &Arc<Self>, id: &JobId) {
        let ended = match self.context(id) {
            Ok(ctx) => self.attempt(ctx).await,
            Err(reason) => Ended::Returned(Err(JobError::Failed(reason))),
        };
        self.finish(id, ended);
    }

    fn context(self: &Arc<Self>, id: &JobId) -> Result<JobContext, String> {
        let (stored, cancel) =
            self.with(id, |r| (r.stored.clone(), r.cancel.clone())).map_err(|e| e.to_string())?;
        if *self.closing.borrow() {
            cancel.cancel();
        }
        Ok(JobContext {
            id: id.clone(),
            run_dir: RunDir::open(&stored.status.run_dir).map_err(|e| e.to_string())?,
            toml: stored.toml,
            base_dir: stored.base_dir,
            events: EventSink::new(id.clone(), self),
            cancel,
            skip_verifier_gate: stored.skip_verifier_gate,
            attempt: stored.status.attempts,
        })
    }

    async fn attempt(&self, ctx: JobContext) -> Ended {
        let (runner, cancel) = (self.runner.clone(), ctx.cancel.clone());
        let mut task = tokio::spawn(async move { runner.run(ctx).await });
        let overdue = async {
            cancel.cancelled().await;
            let mut closing = self.closing.subscribe();
            let drained = async {
                // The sender lives as long as this queue.
                drop(closing.wait_for(|closing| *closing).await);
                tokio::time::sleep(self.options.stop_grace).await;
            };
            drop(tokio::time::timeout(self.options.cancel_grace, drained).await);
        };
        let returned = tokio::select! {
            result = &mut task => Some(result),
            () = overdue => None,
        };
        if returned.is_none() {
            task.abort();
            // What it holds is let go before the next job starts; a thread that blocks is not waited for.
            drop(tokio::time::timeout(ABORT_GRACE, &mut task).await);
        }
        returned.map_or(Ended::Overdue, |result| result.map_or_else(Ended::Failed, Ended::Returned))
    }

    fn finish(&self, id: &JobId, ended: Ended) {
        let closing = *self.closing.borrow();
        let applied = self.with(id, |r| {
            let signal = match ended {
                Ended::Returned(Ok(())) => Signal::Succeed,
                Ended::Failed(error) => Signal::Fail(panic_message(error)),
                Ended::Overdue => r.after_stop("trainer stopped before the job did"),
                Ended::Returned(Err(_)) if r.stored.asked.is_some() || closing => {
                    r.after_stop("trainer stopped")
                }
                Ended::Returned(Err(JobError::Failed(reason))) => Signal::Fail(reason),
                Ended::Returned(Err(JobError::Paused(reason))) => Signal::Pause(reason),
            };
            if r.stored.status.state == JobState::Preparing && signal == Signal::Succeed {
                r.signal(&Signal::Run)?;
            }
            r.signal(&signal)
        });
        match applied {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => {
                tracing::error!(job = %id, %refused, "a job's end does not fit its state")
            }
            Err(error) => tracing::error!(job = %id, %error, "a job's end is lost"),
        }
    }

    pub(super) fn begin_stage(&self, id: &JobId, name: &str, steps: u64) {
        self.living(id, |r| {
            let status = &mut r.stored.status;
            name.clone_into(&mut status.stage);
            (status.step, status.steps) = (0, steps);
            r.told = None;
            if status.state == JobState::Preparing {
                r.signal(&Signal::Run).unwrap_or_else(|e| tracing::error!(job = %id, %e, "cannot run"));
            } else {
                r.change(r.stored.clone(), state_of);
            }
        });
    }

    pub(super) fn progress(&self, id: &JobId, done: u64, total: u64) {
        self.living(id, |r| {
            // One event a percent: each is written to the disk.
            let percent = (done * 100).checked_div(total).unwrap_or(100);
            if r.told != Some((total, percent)) {
                r.told = Some((total, percent));
                r.emit(Event::Progress { stage: r.stored.status.stage.clone(), done, total });
            }
        });
    }

    pub(super) fn step_done(&self, id: &JobId, step: StepMetrics) {
        self.living(id, |r| {
            let mut changed = r.stored.clone();
            changed.status.step = step.step;
            r.change(changed, |_| Event::Metrics(step));
        });
    }

    pub(super) fn emit(&self, id: &JobId, event: Event) {
        self.living(id, |r| r.emit(event));
    }

    /// Acts on a job that runs; words of an attempt that is over are dropped.
    fn living(&self, id: &JobId, act: impl FnOnce(&mut Record)) {
        let heard = self.with(id, |r| {
            let runs = matches!(r.stored.status.state, JobState::Preparing | JobState::Running);
            if runs {
                act(r);
            }
            runs
        });
        if !matches!(heard, Ok(true)) {
            tracing::debug!(job = %id, "an event of a job that does not run is dropped");
        }
    }
}

fn state_of(stored: &StoredJob) -> Event {
    Event::State(stored.status.clone())
}

fn panic_message(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "the job was aborted".into();
    };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    format!("panicked: {}", text.as_deref().unwrap_or("without a message"))
}
