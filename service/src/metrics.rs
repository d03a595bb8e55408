//! Every metric of the system, in one table: code, documentation, dashboards and alerts are held to it.

use Kind::{Counter, Gauge, Histogram};
use metrics::Unit;

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution; has buckets.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Base unit.
    pub unit: Unit,
    /// Its labels, of [`LABELS`].
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

/// The only labels that exist: each has few values.
pub const LABELS: &[&str] = &["job", "role", "reward", "stage", "outcome"];

/// Bucket bounds of durations, in seconds.
pub const SECONDS_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Bucket bounds of small whole numbers.
pub const COUNT_BUCKETS: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0];

macro_rules! registry {
    ($($id:ident = $name:literal, $kind:expr, $unit:expr, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub const $id: &str = $name;)*

        /// The registry.
        pub const METRICS: &[Metric] = &[
            $(Metric { name: $name, kind: $kind, unit: $unit, labels: &[$($label),*], help: $help },)*
        ];
    };
}

registry! {
    BUILD_INFO = "sinternal_build_info", Gauge, Unit::Count, ["role"],
        "Always 1; tells which role runs.";

    STEPS_TOTAL = "sinternal_steps_total", Counter, Unit::Count, ["job", "stage"],
        "Optimizer steps that were committed.";
    STEP_SECONDS = "sinternal_step_seconds", Histogram, Unit::Seconds, ["stage"],
        "Time of one optimizer step, from its whole batch to its update.";
    ROLLOUTS_TOTAL = "sinternal_rollouts_total", Counter, Unit::Count, ["outcome"],
        "Traces that workers delivered, by what became of them.";
    REWARD_SCORES_TOTAL = "sinternal_reward_scores_total", Counter, Unit::Count, ["outcome"],
        "Answers from the reward service: scored or masked.";
    REWARD_MEAN = "sinternal_reward_mean", Gauge, Unit::Count, ["reward"],
        "Mean of a reward or of one of its components over the last step's batch.";
    POLICY_VERSION = "sinternal_policy_version", Gauge, Unit::Count, ["role"],
        "Newest policy version that this process holds.";
    WEIGHT_PUBLISH_SECONDS = "sinternal_weight_publish_seconds", Histogram, Unit::Seconds, [],
        "Time from an update to its weights being published.";
    STALENESS = "sinternal_staleness", Histogram, Unit::Count, [],
        "Policy versions between the sampling of a trace and its use.";
    MASKED_TOTAL = "sinternal_masked_total", Counter, Unit::Count, [],
        "Samples left out of their group because they could not be scored.";
    ZERO_VARIANCE_GROUPS_TOTAL = "sinternal_zero_variance_groups_total", Counter, Unit::Count, [],
        "Groups dropped because all their rewards were equal.";
    AUDIT_GAP = "sinternal_audit_gap", Gauge, Unit::Count, [],
        "Mean reward of the last audited answers minus what a second judge would have given, -1 to 1.";
    CANARY_FAILURES = "sinternal_canary_failures", Gauge, Unit::Count, [],
        "Harmful answers dressed to look safe that the verifier rewarded when they were last tried.";
    REFILLED_GROUPS_TOTAL = "sinternal_refilled_groups_total", Counter, Unit::Count, [],
        "Groups sampled in the place of one from which nothing could be learned.";
    LOSS = "sinternal_loss", Gauge, Unit::Count, ["stage"],
        "Loss of the last step.";
    GRAD_NORM = "sinternal_grad_norm", Gauge, Unit::Count, ["stage"],
        "Norm of the last step's gradient before clipping.";
    KL = "sinternal_kl", Gauge, Unit::Count, [],
        "Estimated KL divergence of the policy from the reference, last step.";
    CLIP_FRACTION = "sinternal_clip_fraction", Gauge, Unit::Count, [],
        "Share of tokens, 0 to 1, whose probability ratio was clipped in the last step.";
    LOGPROB_MISMATCH_MEAN = "sinternal_logprob_mismatch_mean", Gauge, Unit::Count, [],
        "Mean absolute difference of sampler and learner log-probabilities, in nats, last step.";
    LOGPROB_MISMATCH_MAX = "sinternal_logprob_mismatch_max", Gauge, Unit::Count, [],
        "Largest absolute difference of sampler and learner log-probabilities, in nats, last step.";
    IMPORTANCE_CORRECTED = "sinternal_importance_corrected", Gauge, Unit::Count, [],
        "Share of tokens, 0 to 1, whose importance weight was truncated or masked in the last step.";
    IMPORTANCE_EFFECTIVE = "sinternal_importance_effective", Gauge, Unit::Count, [],
        "Effective sample size of the importance ratios as a share of the tokens, 0 to 1, last step.";
    WORKERS = "sinternal_workers", Gauge, Unit::Count, [],
        "Rollout workers that hold a registration.";
    LEASE_EXPIRED_TOTAL = "sinternal_lease_expired_total", Counter, Unit::Count, [],
        "Leases that ran out and whose work was given out again.";

    GENERATED_TOKENS_TOTAL = "sinternal_generated_tokens_total", Counter, Unit::Count, [],
        "Tokens sampled.";
    RUNNING_SEQUENCES = "sinternal_running_sequences", Gauge, Unit::Count, [],
        "Sequences that are being decoded.";
    WAITING_SEQUENCES = "sinternal_waiting_sequences", Gauge, Unit::Count, [],
        "Samples that wait for room in the engine.";
    KV_BYTES = "sinternal_kv_bytes", Gauge, Unit::Bytes, [],
        "Keys and values: memory allocated.";
    KV_USED_BYTES = "sinternal_kv_used_bytes", Gauge, Unit::Bytes, [],
        "Keys and values: memory that running sequences fill.";
    SHARED_PROMPT_TOKENS_TOTAL = "sinternal_shared_prompt_tokens_total", Counter, Unit::Count, [],
        "Tokens not computed again because another sequence that begins alike had them.";
    PREEMPTIONS_TOTAL = "sinternal_preemptions_total", Counter, Unit::Count, [],
        "Sequences taken out for lack of room for keys and values, to go on later.";
    WEIGHT_SYNC_SECONDS = "sinternal_weight_sync_seconds", Histogram, Unit::Seconds, [],
        "Time to fetch, check and swap in a policy version.";
    WEIGHT_SYNC_FAILURES_TOTAL = "sinternal_weight_sync_failures_total", Counter, Unit::Count, [],
        "Policy versions that could not be fetched or did not match their hashes.";
    TRACES_TOTAL = "sinternal_traces_total", Counter, Unit::Count, ["outcome"],
        "Traces sent to the trainer, by its answer.";

    SCORED_TOTAL = "sinternal_scored_total", Counter, Unit::Count, ["outcome"],
        "Answers judged, by verdict or reason.";
    SCORE_SECONDS = "sinternal_score_seconds", Histogram, Unit::Seconds, [],
        "Time from an answer's arrival to its score.";
    VERIFIER_LOADS_TOTAL = "sinternal_verifier_loads_total", Counter, Unit::Count, ["outcome"],
        "Verifiers loaded and frozen, or refused.";
    VERDICTS_TOTAL = "sinternal_verdicts_total", Counter, Unit::Count, ["reward", "outcome"],
        "Verdicts of verifiers by their kind (self, guard, remote): safe, unsafe or invalid.";
    GUARD_CONTROVERSIAL_TOTAL = "sinternal_guard_controversial_total", Counter, Unit::Count, [],
        "Answers that Qwen3Guard called controversial, whichever side that counts for.";
    SCORE_CACHE_HITS_TOTAL = "sinternal_score_cache_hits_total", Counter, Unit::Count, [],
        "Answers whose score was known already, or was on its way for an equal request.";
    PARSE_FAILURES_TOTAL = "sinternal_parse_failures_total", Counter, Unit::Count, ["reward"],
        "Critiques or answers in which no verdict was found, by the kind of verifier.";

    CHAT_REQUESTS_TOTAL = "sinternal_chat_requests_total", Counter, Unit::Count, ["outcome"],
        "Requests to remote chat endpoints: answered, cached, shared or failed.";
    CHAT_RETRIES_TOTAL = "sinternal_chat_retries_total", Counter, Unit::Count, [],
        "Calls to remote chat endpoints that repeated a failed one.";
    CHAT_CALL_SECONDS = "sinternal_chat_call_seconds", Histogram, Unit::Seconds, [],
        "Time of one call to a remote chat endpoint, waits before it left out.";
    CHAT_INPUT_TOKENS_TOTAL = "sinternal_chat_input_tokens_total", Counter, Unit::Count, [],
        "Tokens sent to remote chat endpoints, as they count them.";
    CHAT_OUTPUT_TOKENS_TOTAL = "sinternal_chat_output_tokens_total", Counter, Unit::Count, [],
        "Tokens that remote chat endpoints wrote, as they count them.";
    CHAT_COST = "sinternal_chat_cost", Gauge, Unit::Count, [],
        "Cost of those tokens since the process began, in the currency of the configured prices.";
}

/// Gives every metric its help and unit in the installed recorder.
pub fn describe_all() {
    for metric in METRICS {
        match metric.kind {
            Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_conventions() {
        for metric in METRICS {
            let name = metric.name;
            let body = name.strip_prefix("sinternal_").unwrap_or_else(|| panic!("{name} lacks the prefix"));
            assert!(body.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
            assert_eq!(name.ends_with("_bytes"), metric.unit == Unit::Bytes, "{name}");
            assert!(
                matches!(metric.unit, Unit::Seconds | Unit::Bytes | Unit::Count),
                "{name} has no base unit"
            );
            assert!(metric.labels.iter().all(|label| LABELS.contains(label)), "{name}: {:?}", metric.labels);
            assert!(metric.help.ends_with('.') && metric.help.len() > 10, "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!((names.len(), METRICS.len()), (47, 47));
    }

    #[test]
    fn buckets_grow() {
        for buckets in [SECONDS_BUCKETS, COUNT_BUCKETS] {
            assert!(buckets.windows(2).all(|pair| pair[0] < pair[1]), "{buckets:?}");
        }
    }
}
