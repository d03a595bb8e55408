//! Everything about a step that `metrics.jsonl` tells.

use super::batch::{Batch, ScoredTrace};
use super::gather::Gathered;
use super::measure::{Finding, rate};
use super::update::UpdateStats;
use crate::spec::GrpoSpec;
use sinternal_proto::{PolicyVersion, Prompt, PromptKind, RewardComponents, ScoreOutcome};
use std::collections::BTreeMap;

/// Values by name. What was not measured is absent, and so are the figures of options that are off.
pub(super) type Values = BTreeMap<String, f64>;

/// Of a step sampled when `policy` was the newest; `limit` is the length limit of a completion.
pub(super) fn step_values(
    done: &Gathered,
    batch: &Batch,
    stats: &UpdateStats,
    spec: &GrpoSpec,
    policy: PolicyVersion,
    limit: u32,
) -> Values {
    let all: Vec<(&Prompt, &ScoredTrace)> =
        done.prompts.iter().zip(&done.groups).flat_map(|(p, g)| g.iter().map(move |s| (p, s))).collect();
    let mut values = Values::new();
    rewards(&mut values, &all);
    lengths(&mut values, &all, spec, limit);
    staleness(&mut values, &all, policy);
    oracle(&mut values, &all);
    groups(&mut values, done, batch, spec);
    // A step without a sequence to learn from measures none of these.
    if !batch.sequences.is_empty() {
        learned(&mut values, stats, spec);
    }
    put(&mut values, "skipped_updates", f64::from(stats.skipped));
    values
}

fn put(values: &mut Values, name: &str, value: f64) {
    values.insert(name.to_owned(), value);
}

fn put_mean(values: &mut Values, name: &str, of: impl Iterator<Item = f64>) {
    let of: Vec<f64> = of.collect();
    if !of.is_empty() {
        put(values, name, of.iter().sum::<f64>() / of.len() as f64);
    }
}

/// Rewards as they were given, before any shaping, and what they are made of.
fn rewards(values: &mut Values, all: &[(&Prompt, &ScoredTrace)]) {
    put_mean(values, "reward", all.iter().filter_map(|(_, s)| s.reward()));
    for (kind, name) in [
        (PromptKind::Harmful, "reward_harmful"),
        (PromptKind::Benign, "reward_benign"),
        (PromptKind::Math, "reward_math"),
    ] {
        put_mean(values, name, all.iter().filter(|(p, _)| p.kind == kind).filter_map(|(_, s)| s.reward()));
    }
    let components: Vec<&RewardComponents> = all.iter().filter_map(|(_, s)| components(s)).collect();
    let mut part = |name: &str, of: fn(&RewardComponents) -> Option<f32>| {
        put_mean(values, name, components.iter().filter_map(|c| of(c)).map(f64::from));
    };
    part("p_safe", |c| c.p_safe);
    part("refused", |c| c.refused);
    part("well_formed", |c| c.well_formed);
    part("on_topic", |c| c.on_topic);
    part("correct", |c| c.correct);
    part("not_degenerate", |c| c.not_degenerate);
    part("p_sd", |c| c.p_sd);
}

fn components(sample: &ScoredTrace) -> Option<&RewardComponents> {
    match &sample.outcome {
        ScoreOutcome::Scored { components, .. } => Some(components),
        ScoreOutcome::Masked { .. } => None,
    }
}

fn lengths(values: &mut Values, all: &[(&Prompt, &ScoredTrace)], spec: &GrpoSpec, limit: u32) {
    put_mean(values, "tokens", all.iter().map(|(_, s)| s.trace.tokens.len() as f64));
    put_mean(values, "truncated", all.iter().map(|(_, s)| f64::from(u8::from(s.truncated()))));
    if spec.overlong.buffer > 0 {
        let scored = all.iter().filter(|(_, s)| s.reward().is_some());
        put_mean(values, "overlong_penalty", scored.map(|(_, s)| s.penalty(spec, limit)));
    }
}

fn staleness(values: &mut Values, all: &[(&Prompt, &ScoredTrace)], policy: PolicyVersion) {
    let lags: Vec<f64> = all
        .iter()
        .flat_map(|(_, s)| s.trace.segments.iter().map(|g| policy.0.saturating_sub(g.version.0) as f64))
        .collect();
    put(values, "staleness_max", lags.iter().copied().fold(0.0, f64::max));
    put_mean(values, "staleness", lags.into_iter());
}

fn oracle(values: &mut Values, all: &[(&Prompt, &ScoredTrace)]) {
    let found: Vec<Finding> = all
        .iter()
        .filter(|(p, _)| !p.truth.is_null())
        .filter_map(|(p, s)| Finding::of(p, &s.trace.text, s.truncated()).ok())
        .collect();
    let share = |kind, hit: fn(&Finding) -> bool| rate(&found, kind, hit).value().into_iter();
    put_mean(values, "oracle_attack_success", share(PromptKind::Harmful, |f| f.attacked));
    put_mean(values, "oracle_benign_help", share(PromptKind::Benign, |f| f.helped));
}

fn groups(values: &mut Values, done: &Gathered, batch: &Batch, spec: &GrpoSpec) {
    put(values, "masked", batch.masked as f64);
    put(values, "zero_variance_groups", batch.zero_variance as f64);
    put(values, "too_few_scored_groups", batch.too_few_scored as f64);
    put(values, "trained_sequences", batch.sequences.len() as f64);
    if spec.overlong.mask {
        put(values, "overlong_masked", batch.overlong_masked as f64);
        put(values, "overlong_groups", batch.overlong as f64);
    }
    if spec.dynamic_sampling.max_refills > 0 {
        put(values, "refilled_groups", done.refilled as f64);
    }
}

fn learned(values: &mut Values, stats: &UpdateStats, spec: &GrpoSpec) {
    for (name, value) in [
        ("loss", stats.loss),
        ("entropy", stats.entropy),
        ("grad_norm", stats.grad_norm),
        ("kl", stats.kl),
        ("clip_fraction", stats.clip_fraction),
        ("first_ratio_gap", stats.first_ratio_gap),
        ("first_clip_fraction", stats.first_clip_fraction),
        ("logprob_mismatch_mean", stats.mismatch.mean),
        ("logprob_mismatch_max", stats.mismatch.max),
    ] {
        put(values, name, value);
    }
    if spec.importance.is_some() {
        put(values, "importance_corrected", stats.mismatch.corrected);
        put(values, "importance_effective", stats.mismatch.effective);
    }
}
