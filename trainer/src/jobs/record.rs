//! One job as the manager holds it: its status, whoever watches it, and the store behind it.

use super::state::{Refused, Signal, decide, name};
use super::store::{Asked, JobStore, NewEvent, StoreError, StoredJob};
use crate::run_dir::AttemptLog;
use sinternal_proto::{Event, JobState};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why a client's wish was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDone {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) stored: StoredJob,
    store: Arc<dyn JobStore>,
    /// Tells watchers that there is something to read.
    pub(super) changed: watch::Sender<()>,
    /// Of the present attempt.
    pub(super) cancel: CancellationToken,
    /// Of the present attempt.
    log: Option<AttemptLog>,
    /// Units in all, and how many percent of them were told to be done.
    pub(super) told: Option<(u64, u64)>,
    /// The state under which metrics count it.
    counted: Option<JobState>,
}

impl Record {
    /// A new job, on disk when this returns.
    pub(super) fn create(stored: StoredJob, store: Arc<dyn JobStore>) -> Result<Self, StoreError> {
        let mut record = Self::of(stored, store);
        record.store.put(&record.stored, vec![state_event(&record.stored)])?;
        record.count();
        Ok(record)
    }

    /// A job of the last process, in the state in which its end left it.
    pub(super) fn recover(stored: StoredJob, store: Arc<dyn JobStore>) -> Result<Self, StoreError> {
        let mut record = Self::of(stored, store);
        let signal = record.after_stop("trainer restarted");
        match record.try_signal(&signal) {
            Ok(()) => {}
            Err(NotDone::Refused(kept)) => {
                tracing::debug!(job = %record.stored.status.id, %kept, "state kept over the restart");
            }
            Err(NotDone::Store(error)) => return Err(error),
        }
        record.count();
        Ok(record)
    }

    fn of(stored: StoredJob, store: Arc<dyn JobStore>) -> Self {
        let (changed, _) = watch::channel(());
        Self {
            stored,
            store,
            changed,
            cancel: CancellationToken::new(),
            log: None,
            told: None,
            counted: None,
        }
    }

    /// What becomes of a job whose attempt was stopped: what a client asked for, else another attempt.
    pub(super) fn after_stop(&self, why: &str) -> Signal {
        match self.stored.asked {
            Some(Asked::Cancel) => Signal::Cancel,
            Some(Asked::Pause) => Signal::Pause("paused on request".into()),
            None => Signal::Requeue(why.into()),
        }
    }

    /// Applies a signal for a client: done and on disk, or not done.
    pub(super) fn try_signal(&mut self, signal: &Signal) -> Result<(), NotDone> {
        let changed = self.after(signal)?;
        Ok(self.try_change(changed)?)
    }

    /// Takes the place of what was, once it is on disk.
    pub(super) fn try_change(&mut self, changed: StoredJob) -> Result<(), StoreError> {
        let event = state_event(&changed);
        self.write_log(&event.event);
        self.store.put(&changed, vec![event])?;
        self.take(changed);
        Ok(())
    }

    /// Begins the log of an attempt that is about to start.
    pub(super) fn open_log(&mut self) {
        let status = &self.stored.status;
        match AttemptLog::open(&status.run_dir, status.attempts + 1) {
            Ok(log) => self.log = Some(log),
            Err(error) => tracing::error!(job = %status.id, %error, "the attempt has no log"),
        }
    }

    fn write_log(&mut self, event: &Event) {
        let (level, text) = match event {
            Event::State(s) => ("info", format!("{} {}: {}", name(s.state), s.stage, s.reason)),
            Event::Log { level, message } => (level.as_str(), message.clone()),
            Event::Checkpoint(c) => ("info", format!("checkpoint {}", c.path.display())),
            Event::Progress { .. } | Event::Metrics(_) | Event::Sample(_) => return,
        };
        let Some(Err(error)) = self.log.as_mut().map(|log| log.line(level, &text)) else { return };
        tracing::error!(job = %self.stored.status.id, %error, "a line of the attempt's log is not written");
    }

    /// Applies a signal that tells what has happened. A disk that refuses cannot undo that: it is logged.
    pub(super) fn signal(&mut self, signal: &Signal) -> Result<(), Refused> {
        let changed = self.after(signal)?;
        self.change(changed, |stored| Event::State(stored.status.clone()));
        Ok(())
    }

    /// Takes the place of what was, and tells it by `event`.
    pub(super) fn change(&mut self, changed: StoredJob, event: impl FnOnce(&StoredJob) -> Event) {
        let event = NewEvent { time_ms: unix_ms(), event: event(&changed) };
        self.write_log(&event.event);
        if let Err(error) = self.store.put(&changed, vec![event]) {
            tracing::error!(job = %changed.status.id, %error, "the job's state is not on disk");
        }
        self.take(changed);
    }

    /// Adds an event, and wakes watchers.
    pub(super) fn emit(&mut self, event: Event) {
        self.write_log(&event);
        if let Err(error) = self.store.append(&self.stored.status.id, NewEvent { time_ms: unix_ms(), event })
        {
            tracing::error!(job = %self.stored.status.id, %error, "an event of the job is not on disk");
        }
        self.changed.send_replace(());
    }

    /// What a signal makes of the job.
    pub(super) fn after(&self, signal: &Signal) -> Result<StoredJob, Refused> {
        let decision = decide(self.stored.status.state, signal)?;
        let mut changed = self.stored.clone();
        let status = &mut changed.status;
        (status.state, status.reason) = (decision.state, decision.reason);
        if *signal == Signal::Start {
            status.attempts += 1;
            status.started_ms.get_or_insert_with(unix_ms);
        }
        if status.state.is_final() {
            status.ended_ms = Some(unix_ms());
        }
        if !matches!(signal, Signal::Start | Signal::Run) {
            changed.asked = None;
        }
        Ok(changed)
    }

    fn take(&mut self, changed: StoredJob) {
        let (before, status) = (self.stored.status.state, &changed.status);
        if before != status.state {
            tracing::info!(job = %status.id, state = name(status.state), reason = %status.reason, "job");
        }
        self.stored = changed;
        self.count();
        self.changed.send_replace(());
    }

    fn count(&mut self) {
        super::telemetry::count(&mut self.counted, self.stored.status.state);
    }
}

fn state_event(stored: &StoredJob) -> NewEvent {
    NewEvent { time_ms: unix_ms(), event: Event::State(stored.status.clone()) }
}

/// Milliseconds since the Unix epoch.
pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
