//! The job state machine: what may follow what, and why.
//!
//! ```text
//! queued ─► preparing ─► running ─► succeeded
//!   ▲  ▲        │           │ │
//!   │  └────────┴───────────┘ └───► failed       (also from queued and preparing)
//!   │       requeue
//!   └─── paused ◄─── queued, preparing, running       cancelled  (from every state that is not final)
//! ```

use sinternal_proto::JobState;

/// Something that happens to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// The learner is free and takes the job.
    Start,
    /// Its inputs are checked and its first stage begins.
    Run,
    /// A person or a gate stops it for now, for this reason.
    Pause(String),
    /// It may go on.
    Resume,
    /// The trainer stops or stopped under it, for this reason: it goes on from its last checkpoint.
    Requeue(String),
    /// It is done.
    Succeed,
    /// It cannot go on, for this reason.
    Fail(String),
    /// Somebody asked for its end.
    Cancel,
}

/// What a signal led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The state from now on.
    pub state: JobState,
    /// Why.
    pub reason: String,
}

/// The signal does not fit the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {state} job cannot {verb}")]
pub struct Refused {
    /// Where the job stands.
    pub state: &'static str,
    /// What was asked of it.
    pub verb: &'static str,
}

/// The state as people write it.
#[must_use]
pub fn name(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Preparing => "preparing",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

/// The state that people write so.
#[must_use]
pub fn named(name: &str) -> Option<JobState> {
    STATES.into_iter().find(|state| self::name(*state) == name)
}

/// All states.
pub const STATES: [JobState; 7] = [
    JobState::Queued,
    JobState::Preparing,
    JobState::Running,
    JobState::Paused,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Cancelled,
];

/// Decides what `signal` makes of a job in `state`.
///
/// # Errors
/// When the signal does not fit the state.
pub fn decide(state: JobState, signal: &Signal) -> Result<Decision, Refused> {
    use JobState::{Cancelled, Failed, Paused, Preparing, Queued, Running, Succeeded};
    let (state, reason) = match (state, signal) {
        (Queued, Signal::Start) => (Preparing, "the learner is free"),
        (Preparing, Signal::Run) => (Running, "inputs are checked"),
        (Queued | Preparing | Running, Signal::Pause(why)) => (Paused, why.as_str()),
        (Paused, Signal::Resume) => (Queued, "resumed on request"),
        (Preparing | Running, Signal::Requeue(why)) => (Queued, why.as_str()),
        (Running, Signal::Succeed) => (Succeeded, "all stages are done"),
        (Queued | Preparing | Running, Signal::Fail(why)) => (Failed, why.as_str()),
        (Queued | Preparing | Running | Paused, Signal::Cancel) => (Cancelled, "cancelled on request"),
        _ => {
            return Err(Refused { state: name(state), verb: signal.verb() });
        }
    };
    Ok(Decision { state, reason: reason.to_owned() })
}

impl Signal {
    fn verb(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Run => "run",
            Self::Pause(_) => "be paused",
            Self::Resume => "be resumed",
            Self::Requeue(_) => "be queued again",
            Self::Succeed => "succeed",
            Self::Fail(_) => "fail",
            Self::Cancel => "be cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows: states as above. Columns: start, run, pause, resume, requeue, succeed, fail, cancel. `.` is refused.
    const TABLE: [&str; 7] =
        ["P.H...FC", ".RH.Q.FC", "..H.QSFC", "...Q...C", "........", "........", "........"];

    fn signals() -> [Signal; 8] {
        let why = || "why".to_owned();
        [
            Signal::Start,
            Signal::Run,
            Signal::Pause(why()),
            Signal::Resume,
            Signal::Requeue(why()),
            Signal::Succeed,
            Signal::Fail(why()),
            Signal::Cancel,
        ]
    }

    fn letter(state: JobState) -> char {
        match state {
            JobState::Queued => 'Q',
            JobState::Preparing => 'P',
            JobState::Running => 'R',
            JobState::Paused => 'H',
            JobState::Succeeded => 'S',
            JobState::Failed => 'F',
            JobState::Cancelled => 'C',
        }
    }

    #[test]
    fn the_whole_table() {
        for (state, row) in STATES.into_iter().zip(TABLE) {
            let found: String =
                signals().iter().map(|s| decide(state, s).map_or('.', |d| letter(d.state))).collect();
            assert_eq!(found, row, "{}", name(state));
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert!(STATES.into_iter().all(|state| named(name(state)) == Some(state)));
        assert_eq!(named("Running"), None);
    }

    #[test]
    fn final_states_are_those_that_refuse_everything() {
        for state in STATES {
            let stuck = signals().iter().all(|s| decide(state, s).is_err());
            assert_eq!(stuck, state.is_final(), "{}", name(state));
        }
    }

    #[test]
    fn reasons_travel() {
        let failed = decide(JobState::Running, &Signal::Fail("out of memory".into())).unwrap();
        assert_eq!(failed.reason, "out of memory");
        let refused = decide(JobState::Succeeded, &Signal::Cancel).unwrap_err();
        assert_eq!(refused.to_string(), "a succeeded job cannot be cancelled");
    }
}
