//! The wire contract: generated code, typed domain values, conversions, error codes.
//!
//! ```text
//! bytes ─prost─► pb::* ─TryFrom─► Trace, RolloutTask, ScoreRequest … ─► the rest of the system
//! ```
//!
//! **Invariant.** `TryFrom` is the only place where foreign values are validated: a domain value that exists
//! is valid. Only this crate and each `service.rs` / `client.rs` name a `pb` type.

mod check;
pub mod error;
mod ids;
mod job;
mod manifest;
mod prompt;
mod rollout;
mod sample;
mod score;
mod trace;
mod verifier;

pub use error::{Invalid, ServiceError};
pub use ids::{JobId, PolicyVersion, SampleIndex, Sha256, TaskId, WorkerId};
pub use job::{Checkpoint, Event, JobEvent, JobState, JobStatus, StepMetrics};
pub use manifest::{Chunk, ManifestError, ModelFile, ModelManifest};
pub use prompt::{Message, Prompt, PromptKind};
pub use rollout::{Policy, RolloutTask, Sampling};
pub use sample::{Sample, SampleOutcome, SampleVerdict};
pub use score::{
    Composition, HelpGrader, INVALID_CRITIQUE, MOST_CRITIQUES, RewardComponents, ScoreOutcome, ScoreRequest,
    ScoreResult, Verdict,
};
pub use trace::{FinishReason, Segment, Trace, TraceOutcome};
pub use verifier::{GuardFamily, MOST_VERIFIERS, VerifierLoad, VerifierSpec};

/// Generated code, and the descriptors for gRPC reflection.
#[expect(missing_docs, clippy::all, clippy::allow_attributes, reason = "generated")]
pub mod pb {
    tonic::include_proto!("sinternal.v1");
    /// Encoded `FileDescriptorSet` of the whole package.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

#[cfg(test)]
mod round_trip;

#[cfg(test)]
mod tests {
    use prost::Message;

    #[test]
    fn descriptors_hold_the_services() {
        let set = prost_types::FileDescriptorSet::decode(super::pb::DESCRIPTORS).unwrap();
        let mut services: Vec<&str> =
            set.file.iter().flat_map(|f| &f.service).filter_map(|s| s.name.as_deref()).collect();
        services.sort_unstable();
        assert_eq!(services, ["JobService", "RewardService", "RolloutService"]);
    }
}
