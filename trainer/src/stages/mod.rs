//! The stages of a job, in order: collect, curate, sft, verifier gate, grpo, with measurement between.

mod audit;
mod batch;
mod collect;
mod critique;
mod curate;
mod data;
mod eval;
mod expert;
pub mod gate;
mod gather;
mod grpo;
mod guard;
mod kept;
pub mod measure;
mod prompts;
mod run;
mod sampling;
mod sft;
mod step_values;
mod suites;
mod telemetry;
mod update;
mod verification_chat;
mod verifier;

pub use batch::{Batch, ScoredTrace};
pub use collect::{Sampled, collect_task, collected, to_sample};
pub use curate::{Refusals, curate_answers, evaluation_prompts, write_drop_report};
pub use data::{DataError, JobData, LabelledAnswer};
pub use expert::{
    Chats, Hooks, Reply, Take, ask_endpoint, ask_world, critiqued, endpoint, expert_chat, local_expert_chat,
    to_critique, unaskable,
};
pub use guard::{check_local, guard_chat, guarded, local_guard_chat, to_guard};
pub use prompts::safety_prompts;
pub use run::{Pipeline, PipelineOptions};
pub use update::{UpdateStats, update};

/// Why a job cannot go on. One line; names the stage's file, peer or figure.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The job was told to stop.
    #[error("cancelled")]
    Cancelled,
    /// The job file.
    #[error("{0}")]
    Spec(String),
    /// The prompts.
    #[error("{0}")]
    Data(String),
    /// The data files.
    #[error(transparent)]
    Load(#[from] DataError),
    /// A file of the data pipeline.
    #[error(transparent)]
    Record(#[from] crate::records::RecordError),
    /// A model folder.
    #[error(transparent)]
    Model(#[from] sinternal_model::ModelError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::SaveError),
    /// The rollout workers.
    #[error(transparent)]
    Rollouts(#[from] crate::rollouts::RolloutError),
    /// Publishing a policy.
    #[error(transparent)]
    Publish(#[from] crate::publish::PublishError),
    /// The reward service.
    #[error(transparent)]
    Reward(#[from] crate::reward_client::RewardError),
    /// The run directory.
    #[error(transparent)]
    RunDir(#[from] crate::run_dir::RunDirError),
    /// A file that must appear whole.
    #[error(transparent)]
    Write(#[from] sinternal_service::atomic::AtomicError),
    /// The learner's thread is gone.
    #[error("learner: {0}")]
    Learner(#[from] sinternal_service::owner::OwnerGone),
    /// The verifier is not good enough to be a reward.
    #[error("{0}")]
    Gate(String),
    /// The reward is not to be believed any more. The step before is in a checkpoint.
    #[error("audit: {0}")]
    Audit(String),
    /// Training went wrong in a way that more steps would not mend.
    #[error("{0}")]
    Diverged(String),
}
