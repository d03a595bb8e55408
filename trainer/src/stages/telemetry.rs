//! A step's figures on the metrics endpoint, under the names of the registry.

use super::batch::ScoredTrace;
use sinternal_proto::{JobId, PolicyVersion, ScoreOutcome, StepMetrics};
use sinternal_service::metrics::{
    AUDIT_GAP, CANARY_FAILURES, CLIP_FRACTION, GRAD_NORM, IMPORTANCE_CORRECTED, IMPORTANCE_EFFECTIVE, KL,
    LOGPROB_MISMATCH_MAX, LOGPROB_MISMATCH_MEAN, LOSS, MASKED_TOTAL, REFILLED_GROUPS_TOTAL, REWARD_MEAN,
    REWARD_SCORES_TOTAL, STALENESS, STEP_SECONDS, STEPS_TOTAL, WEIGHT_PUBLISH_SECONDS,
    ZERO_VARIANCE_GROUPS_TOTAL,
};

/// Values of a step that are gauges of their own.
const GAUGES: [(&str, &str); 8] = [
    ("audit_gap", AUDIT_GAP),
    ("canary_failures", CANARY_FAILURES),
    ("kl", KL),
    ("clip_fraction", CLIP_FRACTION),
    ("logprob_mismatch_mean", LOGPROB_MISMATCH_MEAN),
    ("logprob_mismatch_max", LOGPROB_MISMATCH_MAX),
    ("importance_corrected", IMPORTANCE_CORRECTED),
    ("importance_effective", IMPORTANCE_EFFECTIVE),
];
/// Values that add up over the steps.
const COUNTERS: [(&str, &str); 3] = [
    ("masked", MASKED_TOTAL),
    ("zero_variance_groups", ZERO_VARIANCE_GROUPS_TOTAL),
    ("refilled_groups", REFILLED_GROUPS_TOTAL),
];
/// Values that are means of a reward or of one of its components.
const REWARDS: [&str; 10] = [
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

/// Exports what a step that is on disk has measured.
pub(super) fn step(job: &JobId, metrics: &StepMetrics) {
    let value = |name: &str| metrics.values.get(name).copied();
    let stage = metrics.stage.clone();
    metrics::counter!(STEPS_TOTAL, "job" => job.to_string(), "stage" => stage.clone()).increment(1);
    for (name, gauge) in [("loss", LOSS), ("grad_norm", GRAD_NORM)] {
        if let Some(x) = value(name) {
            metrics::gauge!(gauge, "stage" => stage.clone()).set(x);
        }
    }
    for (name, gauge) in GAUGES {
        if let Some(x) = value(name) {
            metrics::gauge!(gauge).set(x);
        }
    }
    for name in REWARDS {
        if let Some(x) = value(name) {
            metrics::gauge!(REWARD_MEAN, "reward" => name).set(x);
        }
    }
    for (name, counter) in COUNTERS {
        metrics::counter!(counter).increment(value(name).map_or(0, |x| x as u64));
    }
    if let Some(x) = value("seconds_step") {
        metrics::histogram!(STEP_SECONDS, "stage" => stage).record(x);
    }
    if let Some(x) = value("seconds_publish") {
        metrics::histogram!(WEIGHT_PUBLISH_SECONDS).record(x);
    }
}

/// Exports what became of one trace by the time that it is used, when the newest policy is `newest`.
pub(super) fn trace(scored: &ScoredTrace, newest: PolicyVersion) {
    let outcome = match scored.outcome {
        ScoreOutcome::Scored { .. } => "scored",
        ScoreOutcome::Masked { .. } => "masked",
    };
    metrics::counter!(REWARD_SCORES_TOTAL, "outcome" => outcome).increment(1);
    if let Some(segment) = scored.trace.segments.first() {
        metrics::histogram!(STALENESS).record(newest.0.saturating_sub(segment.version.0) as f64);
    }
}
