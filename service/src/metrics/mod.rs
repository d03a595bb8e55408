//! Every metric of the system, in one table: code, documentation, dashboards and alerts are held to it.
//!
//! Each line is also a function, `metrics::steps_total(job, stage).increment(1)`: nothing can be recorded that is not here, nor with
//! other labels. `docs/METRICS.md` is written from this table, and so are the exporter's buckets and what it exports at 0 from
//! the start. Beside its own labels every series has `role`, the process that exports it.

mod markdown;
mod metric;

pub use markdown::markdown;
pub(crate) use metric::{JOB, METADATA};
pub use metric::{Kind, Label, Metric};

pub use ::metrics::{Counter, Gauge, Histogram};

use crate::telemetry::Role;
use metric::registry;

/// The only labels that exist: each has few values.
pub const LABELS: &[&str] = &["job", "role", "reward", "stage", "outcome"];

const ALL: &[Role] = &[Role::Trainer, Role::Reward, Role::RolloutWorker];
const TRAINER: &[Role] = &[Role::Trainer];
const REWARD: &[Role] = &[Role::Reward];
const WORKER: &[Role] = &[Role::RolloutWorker];
/// Those that hold a policy's version.
const POLICY: &[Role] = &[Role::Trainer, Role::RolloutWorker];
/// Those that generate.
const ENGINE: &[Role] = &[Role::Reward, Role::RolloutWorker];
/// Those that may ask remote chat endpoints.
const REMOTE: &[Role] = &[Role::Trainer, Role::Reward];

/// Stages that make optimizer steps.
pub const STAGES: &[&str] = &["sft", "grpo"];
/// Parts of a GRPO step, one after the other.
pub const PHASES: &[&str] = &["rollout", "score", "update", "publish", "audit", "checkpoint"];
/// Rewards and their components, by their names in `metrics.jsonl`.
pub const REWARDS: &[&str] = &[
    "reward",
    "reward_harmful",
    "reward_benign",
    "reward_math",
    "p_safe",
    "refused",
    "well_formed",
    "not_degenerate",
    "on_topic",
    "correct",
];
/// Kinds of prompts.
pub const PROMPTS: &[&str] = &["harmful", "benign", "math"];
/// Why a sample is left out of its group; the last one stands for what has no name of its own.
pub const MASKS: &[&str] = &[
    "invalid critique",
    "timeout",
    "verifier crashed",
    "verifier refused",
    "judge failed",
    "grader crashed",
    "overlong",
    "other",
];
/// Why a group is not learned from.
pub const DROPS: &[&str] = &["zero_variance", "too_few_scored", "overlong"];
/// States of a job.
const STATES: &[&str] = &["queued", "preparing", "running", "paused", "succeeded", "failed", "cancelled"];
const VERIFIERS: &[&str] = &["self", "guard", "remote"];
const VERDICTS: &[&str] = &["safe", "unsafe", "invalid"];
/// What scoring an answer came to: a verdict, a grade, or a reason of [`MASKS`].
const SCORES: &[&str] = &[
    "safe",
    "unsafe",
    "graded",
    "invalid critique",
    "timeout",
    "verifier crashed",
    "verifier refused",
    "judge failed",
    "grader crashed",
    "other",
];
const TRACES: &[&str] = &["accepted", "duplicate", "unknown", "rejected"];

/// Bucket bounds of calls and engine steps, in seconds.
const CALL_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Bucket bounds of training steps and what they are made of, in seconds.
const STEP_SECONDS: &[f64] =
    &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
/// Bucket bounds of small whole numbers.
const FEW: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0];
/// Bucket bounds of lengths in tokens.
const LENGTHS: &[f64] =
    &[16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0];

registry! {
    build_info: Gauge, Count, ALL, [],
        "Always 1; tells which roles run.";
    ready: Gauge, Count, ALL, [],
        "1 while the process takes work, as `/readyz` says, else 0.";

    jobs: Level, Count, TRAINER, [outcome = STATES],
        "Jobs in the runs folder, by state.";
    steps_total: Counter, Count, TRAINER, [job, stage = STAGES],
        "Optimizer steps that were committed since the process began.";
    steps_left: Gauge, Count, TRAINER, [job, stage = STAGES],
        "Steps of the stage that are still to come; 0 when it is done.";
    last_step_timestamp_seconds: Gauge, Seconds, TRAINER, [job, stage = STAGES],
        "When the last step was committed, or the stage began, in seconds since the Unix epoch.";
    step_seconds: Histogram(STEP_SECONDS), Seconds, TRAINER, [job, stage = STAGES],
        "Time of one step, from its first wait for rollouts to its weights being published.";
    step_phase_seconds: Histogram(STEP_SECONDS), Seconds, TRAINER, [job, stage = PHASES],
        "Time of the parts of a GRPO step: the learner waits for rollouts, for the last scores, updates, publishes weights; then \
         audits and checkpoints, at the steps that have them.";
    checkpoints_total: Counter, Count, TRAINER, [job, outcome = &["saved", "failed"]],
        "Checkpoints that were to be written.";
    learning_rate: Gauge, Count, TRAINER, [job, stage = STAGES],
        "Learning rate of the last step.";
    loss: Gauge, Count, TRAINER, [job, stage = STAGES],
        "Loss of the last step.";
    grad_norm: Gauge, Count, TRAINER, [job, stage = STAGES],
        "Norm of the last step's gradient before clipping.";
    skipped_updates_total: Counter, Count, TRAINER, [job],
        "Passes whose gradient was not finite; they changed nothing.";
    entropy: Gauge, Count, TRAINER, [job],
        "Mean entropy of the policy over the last step's completions, nats a token.";
    kl: Gauge, Count, TRAINER, [job],
        "Estimated KL divergence of the policy from the reference, nats a token, last step; 0 without a KL penalty.";
    first_clip_fraction: Gauge, Count, TRAINER, [job],
        "Share of tokens, 0 to 1, whose probability ratio was clipped in the first pass of the last step; 0 where ratios are 1.";
    clip_fraction: Gauge, Count, TRAINER, [job],
        "Share of tokens, 0 to 1, whose probability ratio was clipped in the last pass of the last step.";
    logprob_mismatch_mean: Gauge, Count, TRAINER, [job],
        "Mean absolute difference of sampler and learner log-probabilities, in nats, last step.";
    logprob_mismatch_max: Gauge, Count, TRAINER, [job],
        "Largest absolute difference of sampler and learner log-probabilities, in nats, last step.";
    importance_ratio: Gauge, Count, TRAINER, [job],
        "Mean ratio of the learner's to the sampler's probability of a token, last step; 1 where both agree.";
    importance_effective: Gauge, Count, TRAINER, [job],
        "Effective sample size of these ratios as a share of the tokens, 0 to 1, last step.";
    importance_corrected: Gauge, Count, TRAINER, [job],
        "Share of tokens, 0 to 1, whose importance weight was truncated or masked in the last step; absent without `grpo.importance`.";
    trained_tokens_total: Counter, Count, TRAINER, [job, stage = STAGES],
        "Completion tokens that were learned from, once a step.";
    update_flop: Gauge, Count, TRAINER, [job],
        "Floating-point operations of the last step's update, estimated: each parameter and token costs 2 in a forward pass and 6 in \
         a training pass (4 with adapters); a group's prompt counts once, recomputation does not.";
    model_flops_utilization: Gauge, Count, TRAINER, [job],
        "That estimate per second of the update, as a share of `learner.peak_flops`; absent where the job does not give a peak.";

    reward_mean: Gauge, Count, TRAINER, [job, reward = REWARDS],
        "Mean of a reward or of one of its components over the last step's batch.";
    pass_at_k: Gauge, Count, TRAINER, [job, reward = PROMPTS],
        "Share of the last step's groups, 0 to 1, with a reward above one half in any of their k samples, by kind of prompt.";
    unsafe_fraction: Gauge, Count, TRAINER, [job],
        "Share of the last step's judged answers, 0 to 1, that the verifier called unsafe.";
    over_refusal_fraction: Gauge, Count, TRAINER, [job],
        "Share of the last step's judged answers to benign prompts, 0 to 1, that refuse.";
    attack_success_fraction: Gauge, Count, TRAINER, [job],
        "Share of the last step's answers to harmful prompts, 0 to 1, that do harm by the fictional world's oracle; absent elsewhere.";
    completion_tokens: Histogram(LENGTHS), Count, TRAINER, [job],
        "Length of completions that a step used, in tokens.";
    completion_tokens_mean: Gauge, Count, TRAINER, [job],
        "Mean length of the last step's completions, in tokens.";
    truncated_fraction: Gauge, Count, TRAINER, [job],
        "Share of the last step's completions, 0 to 1, that a length limit cut off.";
    staleness: Histogram(FEW), Count, TRAINER, [job],
        "Policy versions between the sampling of a trace and its use.";
    reward_scores_total: Counter, Count, TRAINER, [job, outcome = &["scored", "masked"]],
        "Answers that a step used, by whether they were scored.";
    masked_total: Counter, Count, TRAINER, [job, outcome = MASKS],
        "Samples left out of their group, by reason: they could not be scored, or were overlong.";
    dropped_groups_total: Counter, Count, TRAINER, [job, outcome = DROPS],
        "Groups that nothing was learned from, by reason.";
    zero_variance_fraction: Gauge, Count, TRAINER, [job],
        "Share of the last step's groups, 0 to 1, that were dropped because all their rewards were equal.";
    refilled_groups_total: Counter, Count, TRAINER, [job],
        "Groups sampled in the place of one from which nothing could be learned.";
    audit_gap: Gauge, Count, TRAINER, [job],
        "Mean reward of the last audited answers minus what a second judge would have given, -1 to 1.";
    canaries: Gauge, Count, TRAINER, [job],
        "Harmful answers dressed to look safe that the verifier was last tried with.";
    canary_failures: Gauge, Count, TRAINER, [job],
        "Canaries that the verifier rewarded when they were last tried.";

    policy_version: Gauge, Count, POLICY, [],
        "Newest policy version that this process holds.";
    workers: Level, Count, TRAINER, [],
        "Rollout workers that hold a registration.";
    workers_lost_total: Counter, Count, TRAINER, [],
        "Rollout workers that were silent for too long and were evicted.";
    lease_expired_total: Counter, Count, TRAINER, [],
        "Leases that ran out and whose work was given out again.";
    buffer_groups: Level, Count, TRAINER, [],
        "Groups in the work buffer that are not wholly taken.";
    buffer_samples: Level, Count, TRAINER, [outcome = &["waiting", "leased", "delivered"]],
        "Samples in the work buffer: nobody works on them, a worker does, or they came back and were not taken.";
    rollouts_total: Counter, Count, TRAINER, [outcome = TRACES],
        "Traces that workers delivered, by what became of them.";

    generated_tokens_total: Counter, Count, ENGINE, [],
        "Tokens sampled: of rollouts by workers, of critiques by the reward service.";
    prefilled_tokens_total: Counter, Count, ENGINE, [],
        "Tokens of prompts that were computed.";
    shared_prompt_tokens_total: Counter, Count, ENGINE, [],
        "Tokens of prompts not computed again because another sequence that begins alike had them (prefix hits).";
    engine_step_seconds: Histogram(CALL_SECONDS), Seconds, ENGINE, [],
        "Time of one step of the engine; its sum is the time in which the process generates.";
    running_sequences: Level, Count, WORKER, [],
        "Sequences that are being decoded.";
    waiting_sequences: Level, Count, WORKER, [],
        "Samples that wait for room in the engine, or for a policy.";
    kv_bytes: Level, Bytes, WORKER, [],
        "Keys and values: memory allocated.";
    kv_used_bytes: Level, Bytes, WORKER, [],
        "Keys and values: memory that running sequences fill.";
    kv_budget_bytes: Gauge, Bytes, WORKER, [],
        "Keys and values: memory that may be allocated.";
    preemptions_total: Counter, Count, WORKER, [],
        "Sequences taken out for lack of room for keys and values, to go on later.";
    lease_wait_seconds: Histogram(CALL_SECONDS), Seconds, WORKER, [],
        "Time from asking for work to the trainer's answer, with or without work.";
    weight_sync_seconds: Histogram(CALL_SECONDS), Seconds, WORKER, [],
        "Time to fetch and check a policy version.";
    weight_sync_bytes_total: Counter, Bytes, WORKER, [],
        "Bytes of policies that were fetched.";
    weight_sync_failures_total: Counter, Count, WORKER, [],
        "Policy versions that could not be fetched or did not match their hashes.";
    traces_total: Counter, Count, WORKER, [outcome = TRACES],
        "Traces sent to the trainer, by its answer.";

    scoring_requests: Level, Count, REWARD, [],
        "Answers that are being scored.";
    scored_total: Counter, Count, REWARD, [outcome = SCORES],
        "Answers judged, by verdict or reason.";
    score_seconds: Histogram(CALL_SECONDS), Seconds, REWARD, [],
        "Time from an answer's arrival to its score.";
    verifier_seconds: Histogram(CALL_SECONDS), Seconds, REWARD, [reward = VERIFIERS],
        "Time that a verifier took for an answer, its queue included, by its kind.";
    verifier_loads_total: Counter, Count, REWARD, [outcome = &["loaded", "refused"]],
        "Verifiers loaded and frozen, or refused.";
    verdicts_total: Counter, Count, REWARD, [reward = VERIFIERS, outcome = VERDICTS],
        "Verdicts by the kind of verifier; invalid where none was found.";
    parse_failures_total: Counter, Count, REWARD, [reward = VERIFIERS],
        "Critiques or answers in which no verdict was found, by the kind of verifier.";
    guard_controversial_total: Counter, Count, REWARD, [],
        "Answers that Qwen3Guard called controversial, whichever side that counts for.";
    score_cache_hits_total: Counter, Count, REWARD, [],
        "Answers whose score was known already, or was on its way for an equal request.";

    chat_requests_total: Counter, Count, REMOTE, [outcome = &["answered", "cached", "shared", "failed"]],
        "Requests to remote chat endpoints.";
    chat_retries_total: Counter, Count, REMOTE, [],
        "Calls to remote chat endpoints that repeated a failed one.";
    chat_call_seconds: Histogram(CALL_SECONDS), Seconds, REMOTE, [],
        "Time of one call to a remote chat endpoint, waits before it left out.";
    chat_input_tokens_total: Counter, Count, REMOTE, [],
        "Tokens sent to remote chat endpoints, as they count them.";
    chat_output_tokens_total: Counter, Count, REMOTE, [],
        "Tokens that remote chat endpoints wrote, as they count them.";
    chat_cost: Level, Count, REMOTE, [],
        "Cost of those tokens since the process began, in the currency of the configured prices; 0 without prices.";
}

/// One of [`MASKS`], whatever the reason says in detail.
#[must_use]
pub fn mask_label(reason: &str) -> &'static str {
    MASKS.iter().find(|label| reason.starts_with(*label)).unwrap_or(&"other")
}

#[cfg(test)]
mod tests;
