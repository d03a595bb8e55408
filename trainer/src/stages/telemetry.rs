//! A step's figures on the metrics endpoint, under the names of the registry.

use super::batch::ScoredTrace;
use sinternal_proto::{JobId, PolicyVersion, ScoreOutcome, StepMetrics};
use sinternal_service::metrics::{self, Counter, Gauge, PROMPTS, REWARDS, STAGES, mask_label};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Values of a step by name, with what they are exported as.
type Exported<F, const N: usize> = [(&'static str, F); N];

/// Values of a step that are gauges of the job.
const OF_JOB: Exported<fn(String) -> Gauge, 19> = [
    ("entropy", metrics::entropy),
    ("kl", metrics::kl),
    ("first_clip_fraction", metrics::first_clip_fraction),
    ("clip_fraction", metrics::clip_fraction),
    ("logprob_mismatch_mean", metrics::logprob_mismatch_mean),
    ("logprob_mismatch_max", metrics::logprob_mismatch_max),
    ("importance_ratio", metrics::importance_ratio),
    ("importance_effective", metrics::importance_effective),
    ("importance_corrected", metrics::importance_corrected),
    ("update_flop", metrics::update_flop),
    ("unsafe", metrics::unsafe_fraction),
    ("refused_benign", metrics::over_refusal_fraction),
    ("oracle_attack_success", metrics::attack_success_fraction),
    ("tokens", metrics::completion_tokens_mean),
    ("truncated", metrics::truncated_fraction),
    ("zero_variance_fraction", metrics::zero_variance_fraction),
    ("audit_gap", metrics::audit_gap),
    ("canaries", metrics::canaries),
    ("canary_failures", metrics::canary_failures),
];
/// Values that are gauges of the job's stage.
const OF_STAGE: Exported<fn(String, String) -> Gauge, 3> =
    [("loss", metrics::loss), ("grad_norm", metrics::grad_norm), ("learning_rate", metrics::learning_rate)];
/// Values that add up over the steps.
const SUMS: Exported<fn(String) -> Counter, 2> = [
    ("skipped_updates", metrics::skipped_updates_total),
    ("refilled_groups", metrics::refilled_groups_total),
];
/// Groups that nothing was learned from, by reason.
const DROPPED: [(&str, &str); 3] = [
    ("zero_variance_groups", "zero_variance"),
    ("too_few_scored_groups", "too_few_scored"),
    ("overlong_groups", "overlong"),
];

/// A stage of optimizer steps begins, or goes on, with so many `left`.
pub(super) fn begin(job: &JobId, stage: &'static str, left: u64) {
    metrics::steps_left(job.to_string(), stage).set(left as f64);
    metrics::last_step_timestamp_seconds(job.to_string(), stage).set(now());
}

/// Exports what a step that is on disk has measured; `peak_flops` is that of the learner's device, if it is known.
pub(super) fn step(job: &JobId, step: &StepMetrics, peak_flops: Option<f64>) {
    let value = |name: &str| step.values.get(name).copied();
    let (job, stage) = (|| job.to_string(), || step.stage.clone());
    // The figures of suites are no step's.
    if !STAGES.contains(&&*step.stage) {
        return;
    }
    metrics::steps_total(job(), stage()).increment(1);
    metrics::steps_left(job(), stage()).decrement(1.0);
    metrics::last_step_timestamp_seconds(job(), stage()).set(now());
    metrics::trained_tokens_total(job(), stage()).increment(count(value("trained_tokens")));
    for (x, gauge) in OF_STAGE.iter().filter_map(|(name, gauge)| Some((value(name)?, gauge))) {
        gauge(job(), stage()).set(x);
    }
    for (x, gauge) in OF_JOB.iter().filter_map(|(name, gauge)| Some((value(name)?, gauge))) {
        gauge(job()).set(x);
    }
    for (x, name) in REWARDS.iter().filter_map(|name| Some((value(name)?, *name))) {
        metrics::reward_mean(job(), name).set(x);
    }
    for (x, kind) in PROMPTS.iter().filter_map(|kind| Some((value(&format!("pass_at_k_{kind}"))?, *kind))) {
        metrics::pass_at_k(job(), kind).set(x);
    }
    for (name, counter) in SUMS {
        counter(job()).increment(count(value(name)));
    }
    for (name, reason) in DROPPED {
        metrics::dropped_groups_total(job(), reason).increment(count(value(name)));
    }
    metrics::masked_total(job(), "overlong").increment(count(value("overlong_masked")));
    if let (Some(flop), Some(seconds), Some(peak)) =
        (value("update_flop"), value("seconds_update"), peak_flops)
    {
        metrics::model_flops_utilization(job()).set(flop / seconds / peak);
    }
    if let Some(seconds) = value("seconds_step") {
        metrics::step_seconds(job(), stage()).record(seconds);
    }
    phases(&job(), step);
}

fn phases(job: &str, step: &StepMetrics) {
    let seconds = |name: &str| step.values.get(&format!("seconds_{name}")).copied();
    let score = seconds("score").unwrap_or(0.0);
    for (phase, seconds) in [
        // The wait for rollouts has that for the last scores in it.
        ("rollout", seconds("rollout").map(|both| (both - score).max(0.0))),
        ("score", seconds("score")),
        ("update", seconds("update")),
        ("publish", seconds("publish")),
        ("audit", seconds("audit")),
    ] {
        if let Some(seconds) = seconds {
            metrics::step_phase_seconds(job.to_owned(), phase).record(seconds);
        }
    }
}

/// Exports how long a part of a step took whose time is not among its values.
pub(super) fn phase(job: &JobId, phase: &'static str, took: Duration) {
    metrics::step_phase_seconds(job.to_string(), phase).record(took);
}

/// Exports whether a checkpoint could be written.
pub(super) fn checkpoint(job: &JobId, saved: bool) {
    metrics::checkpoints_total(job.to_string(), if saved { "saved" } else { "failed" }).increment(1);
}

/// Exports what became of one trace by the time that it is used, when the newest policy is `newest`.
pub(super) fn trace(job: &JobId, scored: &ScoredTrace, newest: PolicyVersion) {
    let job = || job.to_string();
    let outcome = match &scored.outcome {
        ScoreOutcome::Scored { .. } => "scored",
        ScoreOutcome::Masked { reason } => {
            metrics::masked_total(job(), mask_label(reason)).increment(1);
            "masked"
        }
    };
    metrics::reward_scores_total(job(), outcome).increment(1);
    metrics::completion_tokens(job()).record(scored.trace.tokens.len() as f64);
    if let Some(segment) = scored.trace.segments.first() {
        metrics::staleness(job()).record(newest.0.saturating_sub(segment.version.0) as f64);
    }
}

fn count(value: Option<f64>) -> u64 {
    value.map_or(0, |x| x as u64)
}

/// Seconds since the Unix epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
