//! Everything about a step that `metrics.jsonl` tells.

use super::batch::{Batch, ScoredTrace};
use super::gather::Gathered;
use super::measure::{Finding, rate};
use super::update::UpdateStats;
use crate::spec::GrpoSpec;
use sinternal_proto::{PolicyVersion, Prompt, PromptKind, RewardComponents, ScoreOutcome, Verdict};
use std::collections::BTreeMap;

/// A sample that has more reward than this passes, for `pass_at_k`.
const PASS: f64 = 0.5;

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
    for (kind, name) in [(PromptKind::Harmful, "refused_harmful"), (PromptKind::Benign, "refused_benign")] {
        let refused = all.iter().filter(|(p, _)| p.kind == kind).filter_map(|(_, s)| components(s)?.refused);
        put_mean(values, name, refused.map(f64::from));
    }
    let scored: Vec<&RewardComponents> = all.iter().filter_map(|(_, s)| components(s)).collect();
    let mut part = |name: &str, of: fn(&RewardComponents) -> Option<f32>| {
        put_mean(values, name, scored.iter().filter_map(|c| of(c)).map(f64::from));
    };
    part("p_safe", |c| c.p_safe);
    part("refused", |c| c.refused);
    part("well_formed", |c| c.well_formed);
    part("on_topic", |c| c.on_topic);
    part("correct", |c| c.correct);
    part("not_degenerate", |c| c.not_degenerate);
    part("p_sd", |c| c.p_sd);
    let verdicts = all.iter().filter_map(|(_, s)| verdict(s));
    put_mean(values, "unsafe", verdicts.map(|verdict| f64::from(u8::from(verdict == Verdict::Unsafe))));
}

fn verdict(sample: &ScoredTrace) -> Option<Verdict> {
    match sample.outcome {
        ScoreOutcome::Scored { verdict, .. } => verdict,
        ScoreOutcome::Masked { .. } => None,
    }
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
    for (kind, name) in [
        (PromptKind::Harmful, "pass_at_k_harmful"),
        (PromptKind::Benign, "pass_at_k_benign"),
        (PromptKind::Math, "pass_at_k_math"),
    ] {
        let of_kind = done.prompts.iter().zip(&done.groups).filter(|(p, _)| p.kind == kind);
        put_mean(values, name, of_kind.filter_map(|(_, group)| passes(group)));
    }
    put(values, "zero_variance_fraction", batch.zero_variance as f64 / done.groups.len().max(1) as f64);
    put(values, "masked", batch.masked as f64);
    put(values, "zero_variance_groups", batch.zero_variance as f64);
    put(values, "too_few_scored_groups", batch.too_few_scored as f64);
    put(values, "trained_sequences", batch.sequences.len() as f64);
    put(values, "trained_tokens", batch.lengths().iter().sum::<usize>() as f64);
    if spec.overlong.mask {
        put(values, "overlong_masked", batch.overlong_masked as f64);
        put(values, "overlong_groups", batch.overlong as f64);
    }
    if spec.dynamic_sampling.max_refills > 0 {
        put(values, "refilled_groups", done.refilled as f64);
    }
}

/// 1 where any sample of a group has more than half a reward, else 0; `None` where none was scored.
fn passes(group: &[ScoredTrace]) -> Option<f64> {
    let best = group.iter().filter_map(ScoredTrace::reward).reduce(f64::max)?;
    Some(f64::from(u8::from(best > PASS)))
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
        ("importance_ratio", stats.mismatch.ratio),
        ("importance_effective", stats.mismatch.effective),
        ("update_flop", stats.flop),
    ] {
        put(values, name, value);
    }
    if spec.importance.is_some() {
        put(values, "importance_corrected", stats.mismatch.corrected);
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::sample;
    use super::*;

    #[test]
    fn a_group_passes_with_one_sample_above_half_a_reward() {
        let group = |rewards: &[Option<f32>]| rewards.iter().map(|r| sample(*r, &[3])).collect::<Vec<_>>();
        let of = |rewards: &[Option<f32>]| passes(&group(rewards));
        assert_eq!(of(&[Some(0.25), Some(0.75), None]), Some(1.0));
        assert_eq!(of(&[Some(0.25), Some(0.5)]), Some(0.0));
        assert_eq!(of(&[None, None]), None);
    }

    #[test]
    fn refusals_are_counted_among_benign_prompts_and_verdicts_among_all() {
        let prompt = |kind| Prompt {
            id: String::new(),
            kind,
            spec: String::new(),
            request: String::new(),
            gold: None,
            must_use: Vec::new(),
            family: String::new(),
            truth: serde_json::Value::Null,
        };
        let (harmful, benign) = (prompt(PromptKind::Harmful), prompt(PromptKind::Benign));
        let judged = |refused: f32, verdict| {
            let components = RewardComponents { refused: Some(refused), ..RewardComponents::default() };
            let outcome = ScoreOutcome::Scored {
                reward: 0.0,
                components,
                verdict: Some(verdict),
                critique: String::new(),
            };
            ScoredTrace { outcome, ..sample(None, &[3]) }
        };
        let samples = [
            (&harmful, judged(1.0, Verdict::Safe)),
            (&benign, judged(1.0, Verdict::Safe)),
            (&benign, judged(0.0, Verdict::Unsafe)),
            (&benign, judged(0.0, Verdict::Safe)),
            // Neither refused nor judged, for it was masked or malformed.
            (&benign, sample(None, &[3])),
            (&benign, sample(Some(0.0), &[3])),
        ];
        let mut values = Values::new();
        let all: Vec<(&Prompt, &ScoredTrace)> = samples.iter().map(|(p, s)| (*p, s)).collect();
        rewards(&mut values, &all);
        assert_eq!((values["refused_benign"], values["unsafe"], values["refused"]), (1.0 / 3.0, 0.25, 0.5));
    }
}
