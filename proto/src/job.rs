//! A job's state and events as clients see them.

use crate::check::{invalid, present, require};
use crate::{Invalid, JobId, Sample, Sha256, pb};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for the learner.
    Queued,
    /// Checks its inputs and loads its model.
    Preparing,
    /// Runs its stages.
    Running,
    /// Stopped by a person or by a gate that asks for one; can go on.
    Paused,
    /// Ended well.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl JobState {
    /// Nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A job as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct JobStatus {
    /// Its id.
    pub id: JobId,
    /// Its name in the job file.
    pub name: String,
    /// Where it stands.
    pub state: JobState,
    /// Why.
    pub reason: String,
    /// Its run directory on the trainer's machine.
    pub run_dir: PathBuf,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The stage that runs; empty before the first.
    pub stage: String,
    /// Optimizer steps of that stage that are done.
    pub step: u64,
    /// Of how many.
    pub steps: u64,
    /// Of two jobs that wait the higher one runs first.
    pub priority: i32,
    /// Times that it was started.
    pub attempts: u32,
    /// When it was started first, in milliseconds since the Unix epoch.
    pub started_ms: Option<u64>,
    /// When it reached its final state.
    pub ended_ms: Option<u64>,
}

/// A checkpoint that is whole and on disk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Checkpoint {
    /// The stage.
    pub stage: String,
    /// Its step.
    pub step: u64,
    /// The folder, on the trainer's machine.
    pub path: PathBuf,
    /// Hash of its `manifest.sha256`.
    pub manifest: Sha256,
}

/// Numbers of one step.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StepMetrics {
    /// The stage.
    pub stage: String,
    /// Its step, from 1.
    pub step: u64,
    /// By name, as in `metrics.jsonl`.
    pub values: BTreeMap<String, f64>,
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It changed state.
    State(JobStatus),
    /// Part of a stage is done.
    Progress {
        /// The stage.
        stage: String,
        /// Units done.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// A step is done.
    Metrics(StepMetrics),
    /// Something worth a line.
    Log {
        /// `info`, `warn` or `error`.
        level: String,
        /// The line.
        message: String,
    },
    /// One of the step's samples.
    Sample(Box<Sample>),
    /// A checkpoint is there.
    Checkpoint(Checkpoint),
}

/// An event with its place in the job's stream.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEvent {
    /// Place in the stream, from 1.
    pub cursor: u64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// What happened.
    pub event: Event,
}

impl From<JobState> for pb::JobState {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Queued => Self::Queued,
            JobState::Preparing => Self::Preparing,
            JobState::Running => Self::Running,
            JobState::Paused => Self::Paused,
            JobState::Succeeded => Self::Succeeded,
            JobState::Failed => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
        }
    }
}

impl TryFrom<pb::JobState> for JobState {
    type Error = Invalid;

    fn try_from(state: pb::JobState) -> Result<Self, Invalid> {
        match state {
            pb::JobState::Queued => Ok(Self::Queued),
            pb::JobState::Preparing => Ok(Self::Preparing),
            pb::JobState::Running => Ok(Self::Running),
            pb::JobState::Paused => Ok(Self::Paused),
            pb::JobState::Succeeded => Ok(Self::Succeeded),
            pb::JobState::Failed => Ok(Self::Failed),
            pb::JobState::Cancelled => Ok(Self::Cancelled),
            pb::JobState::Unspecified => Err(invalid("job.state", "is not specified")),
        }
    }
}

impl From<JobStatus> for pb::Job {
    fn from(s: JobStatus) -> Self {
        Self {
            job_id: s.id.0,
            name: s.name,
            state: pb::JobState::from(s.state).into(),
            reason: s.reason,
            run_dir: s.run_dir.to_string_lossy().into_owned(),
            created_ms: s.created_ms,
            step: s.step,
            steps: s.steps,
            stage: s.stage,
            priority: s.priority,
            attempts: s.attempts,
            started_ms: s.started_ms,
            ended_ms: s.ended_ms,
        }
    }
}

impl TryFrom<pb::Job> for JobStatus {
    type Error = Invalid;

    fn try_from(j: pb::Job) -> Result<Self, Invalid> {
        let state = j.state().try_into()?;
        require(!j.job_id.is_empty(), "job.job_id", "is empty")?;
        Ok(Self {
            id: JobId(j.job_id),
            name: j.name,
            state,
            reason: j.reason,
            run_dir: j.run_dir.into(),
            created_ms: j.created_ms,
            stage: j.stage,
            step: j.step,
            steps: j.steps,
            priority: j.priority,
            attempts: j.attempts,
            started_ms: j.started_ms,
            ended_ms: j.ended_ms,
        })
    }
}

impl From<StepMetrics> for pb::StepMetrics {
    fn from(m: StepMetrics) -> Self {
        Self { stage: m.stage, step: m.step, values: m.values.into_iter().collect() }
    }
}

impl From<pb::StepMetrics> for StepMetrics {
    fn from(m: pb::StepMetrics) -> Self {
        Self { stage: m.stage, step: m.step, values: m.values.into_iter().collect() }
    }
}

impl From<Checkpoint> for pb::Checkpoint {
    fn from(c: Checkpoint) -> Self {
        let path = c.path.to_string_lossy().into_owned();
        Self { stage: c.stage, step: c.step, path, manifest_sha256: c.manifest.0 }
    }
}

impl TryFrom<pb::Checkpoint> for Checkpoint {
    type Error = Invalid;

    fn try_from(c: pb::Checkpoint) -> Result<Self, Invalid> {
        let manifest = Sha256::parse(&c.manifest_sha256, "checkpoint.manifest_sha256")?;
        Ok(Self { stage: c.stage, step: c.step, path: c.path.into(), manifest })
    }
}

impl From<JobEvent> for pb::JobEvent {
    fn from(e: JobEvent) -> Self {
        use pb::job_event::Event as Wire;
        let event = match e.event {
            Event::State(status) => Wire::State(status.into()),
            Event::Progress { stage, done, total } => Wire::Progress(pb::Progress { stage, done, total }),
            Event::Metrics(metrics) => Wire::Metrics(metrics.into()),
            Event::Log { level, message } => Wire::Log(pb::LogLine { level, message }),
            Event::Sample(sample) => Wire::Sample((*sample).into()),
            Event::Checkpoint(checkpoint) => Wire::Checkpoint(checkpoint.into()),
        };
        Self { cursor: e.cursor, time_ms: e.time_ms, event: Some(event) }
    }
}

impl TryFrom<pb::JobEvent> for JobEvent {
    type Error = Invalid;

    fn try_from(e: pb::JobEvent) -> Result<Self, Invalid> {
        use pb::job_event::Event as Wire;
        require(e.cursor > 0, "event.cursor", "counts from 1")?;
        let event = match present(e.event, "event")? {
            Wire::State(job) => Event::State(job.try_into()?),
            Wire::Progress(p) => Event::Progress { stage: p.stage, done: p.done, total: p.total },
            Wire::Metrics(m) => Event::Metrics(m.into()),
            Wire::Log(l) => {
                let known = ["info", "warn", "error"].contains(&&*l.level);
                require(known, "log.level", "must be info, warn or error")?;
                Event::Log { level: l.level, message: l.message }
            }
            Wire::Sample(s) => Event::Sample(Box::new(s.try_into()?)),
            Wire::Checkpoint(c) => Event::Checkpoint(c.try_into()?),
        };
        Ok(Self { cursor: e.cursor, time_ms: e.time_ms, event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: JobState) -> JobStatus {
        JobStatus {
            id: JobId("j".into()),
            name: "n".into(),
            state,
            reason: "r".into(),
            run_dir: "runs/j".into(),
            created_ms: 5,
            stage: "grpo".into(),
            step: 3,
            steps: 9,
            priority: -2,
            attempts: 1,
            started_ms: Some(7),
            ended_ms: None,
        }
    }

    #[test]
    fn events_round_trip() {
        use JobState::{Cancelled, Failed, Paused, Preparing, Queued, Running, Succeeded};
        let states = [Queued, Preparing, Running, Paused, Succeeded, Failed, Cancelled];
        let metrics = StepMetrics { stage: "sft".into(), step: 2, values: [("loss".into(), 0.5)].into() };
        let others = [
            Event::Progress { stage: "s".into(), done: 1, total: 2 },
            Event::Metrics(metrics),
            Event::Log { level: "info".into(), message: "m".into() },
            Event::Sample(Box::new(crate::sample::tests::sample())),
            Event::Checkpoint(Checkpoint {
                stage: "grpo".into(),
                step: 4,
                path: "runs/j/checkpoints/grpo-000004".into(),
                manifest: Sha256::of(b"manifest"),
            }),
        ];
        for event in states.map(|s| Event::State(status(s))).into_iter().chain(others) {
            let event = JobEvent { cursor: 4, time_ms: 6, event };
            assert_eq!(JobEvent::try_from(pb::JobEvent::from(event.clone())).unwrap(), event);
            let text = serde_json::to_string(&event.event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event.event);
        }
    }

    #[test]
    fn malformed_jobs_name_their_field() {
        let wire = pb::Job::from(status(JobState::Queued));
        let no_id = pb::Job { job_id: String::new(), ..wire.clone() };
        assert_eq!(JobStatus::try_from(no_id).unwrap_err().field, "job.job_id");
        assert_eq!(JobStatus::try_from(pb::Job { state: 0, ..wire }).unwrap_err().field, "job.state");
        let event =
            |cursor, event| JobEvent::try_from(pb::JobEvent { cursor, time_ms: 1, event }).unwrap_err().field;
        assert_eq!(event(1, None), "event");
        assert_eq!(event(0, None), "event.cursor");
        let line = pb::LogLine { level: "loud".into(), message: "m".into() };
        assert_eq!(event(1, Some(pb::job_event::Event::Log(line))), "log.level");
    }

    #[test]
    fn three_states_are_final() {
        use JobState::{Cancelled, Failed, Paused, Preparing, Queued, Running, Succeeded};
        assert!([Succeeded, Failed, Cancelled].iter().all(|s| s.is_final()));
        assert!(![Queued, Preparing, Running, Paused].iter().any(|s| s.is_final()));
    }
}
