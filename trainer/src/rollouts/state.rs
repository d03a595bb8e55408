//! What the hub knows, and how it decides about a worker's words.

use super::error::{RolloutError, UnknownWorker};
use super::workers::Workers;
use crate::work_buffer::{Delivery, Idle, SampleKey, WorkBuffer};
use sinternal_proto::{JobId, Policy, RolloutTask, TaskId, Trace, TraceOutcome, WorkerId};
use std::collections::VecDeque;
use tokio::time::Instant;

/// Answer to a request for work.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Work {
    /// May be empty.
    pub(super) tasks: Vec<RolloutTask>,
    /// Newest published policy, to start them with.
    pub(super) policy: Option<Policy>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) buffer: WorkBuffer,
    pub(super) workers: Workers,
    pub(super) policy: Option<Policy>,
    pub(super) session: Option<Open>,
    pub(super) closing: bool,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) job: JobId,
    pub(super) traces: VecDeque<Trace>,
    /// A task that cannot be sampled, and why.
    pub(super) rejected: Option<(TaskId, String)>,
}

impl State {
    pub(super) fn seen(&mut self, worker: &WorkerId) -> Result<(), UnknownWorker> {
        let known = self.workers.seen(worker, Instant::now().into_std());
        if known { Ok(()) } else { Err(UnknownWorker(worker.clone())) }
    }

    pub(super) fn lease(&mut self, worker: &WorkerId, room: u32) -> Result<Work, UnknownWorker> {
        self.seen(worker)?;
        let none = |state: &Self| Work { tasks: Vec::new(), policy: state.policy.clone() };
        let Some(policy) = self.policy.clone().filter(|_| !self.closing) else {
            return Ok(none(self));
        };
        match self.buffer.lease(worker, room, policy.version, Instant::now().into_std()) {
            Ok(tasks) => Ok(Work { tasks, policy: Some(policy) }),
            Err(Idle::UnknownWorker) => Err(UnknownWorker(worker.clone())),
            Err(why) => {
                tracing::trace!(%worker, %why, "no work");
                Ok(none(self))
            }
        }
    }

    pub(super) fn deliver(&mut self, trace: Trace) -> TraceOutcome {
        let Some(open) = self.session.as_mut().filter(|open| open.job == trace.job) else {
            return TraceOutcome::Unknown;
        };
        let versions = || trace.segments.iter().map(|s| s.version);
        let newest = versions().max().unwrap_or_default();
        if self.policy.as_ref().is_none_or(|p| newest > p.version) {
            return TraceOutcome::Rejected(format!(
                "trace.segments: policy {newest} was never published here"
            ));
        }
        let key = SampleKey { job: trace.job.clone(), task: trace.task, sample: trace.sample };
        match self.buffer.deliver(&key, versions().min().unwrap_or_default()) {
            Delivery::Accepted => {
                open.traces.push_back(trace);
                TraceOutcome::Accepted
            }
            Delivery::Duplicate => TraceOutcome::Duplicate,
            Delivery::Unknown => TraceOutcome::Unknown,
            Delivery::Stale { min_version } => {
                TraceOutcome::Rejected(format!("trace.segments: older than policy {min_version}"))
            }
        }
    }

    /// What a worker said against the session's work.
    pub(super) fn rejection(&self) -> Option<RolloutError> {
        let (task, problem) = self.session.as_ref()?.rejected.clone()?;
        Some(RolloutError::Rejected { task, problem })
    }

    pub(super) fn pop(&mut self) -> Option<Trace> {
        let trace = self.session.as_mut()?.traces.pop_front()?;
        let key = SampleKey { job: trace.job.clone(), task: trace.task, sample: trace.sample };
        self.buffer.take(&key);
        Some(trace)
    }
}
