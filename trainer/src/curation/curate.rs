//! Curation from end to end.

use super::filter::{Candidate, usable};
use super::near_duplicates::near_duplicates;
use super::report::{DropReason, DropReport, Tally};
use super::settings::{CurateSettings, NearDuplicateSettings};
use super::{CurationError, NgramIndex, balance, benign, pair};
use crate::records::{CritiquedRecord, Record, VerificationRow};
use sinternal_proto::PromptKind;
use std::collections::BTreeMap;

/// The rows to learn from, and what became of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curated {
    /// By prompt and answer.
    pub rows: Vec<VerificationRow>,
    /// Counts by class and reason.
    pub report: DropReport,
}

/// Chooses what is learned from. `refuses` tells whether an answer refuses; it must be a function of the answer.
///
/// # Errors
/// A setting that is out of bounds; rows of one prompt that differ in kind, S or request.
pub fn curate(
    rows: &[CritiquedRecord],
    settings: &CurateSettings,
    decontaminate: &NgramIndex,
    refuses: &dyn Fn(&str) -> bool,
    seed: u64,
) -> Result<Curated, CurationError> {
    settings.check()?;
    let tally = &mut Tally::default();
    let prompts = by_prompt(usable(rows, refuses, tally))?;
    let prompts = clean(prompts, decontaminate, tally);
    let (harmful, benign): (Vec<_>, Vec<_>) =
        prompts.into_iter().partition(|unit| unit.rows[0].row.collected.kind == PromptKind::Harmful);
    let mut harmful = pair::with_pair(harmful, settings.max_length_ratio, seed, tally);
    let mut benign = benign::with_safe(benign, tally);
    let mut full_buckets = 0;
    if let Some(near) = &settings.near_duplicates {
        for units in [&mut harmful, &mut benign] {
            full_buckets += remove_repeats(units, near, seed, tally);
        }
    }
    let pairs = pair::one_each(harmful, seed, tally);
    let benign = benign::one_each(benign, settings.benign_refused_share, seed, tally);
    let units = balance::balance(pairs, benign, settings.largest_class_ratio, seed, tally);
    let mut rows: Vec<VerificationRow> =
        units.iter().flat_map(|unit| &unit.rows).map(|c| verification_row(c, tally)).collect();
    rows.sort_by(|a, b| (&a.prompt, &a.source).cmp(&(&b.prompt, &b.source)));
    Ok(Curated { rows, report: std::mem::take(tally).report(seed, full_buckets) })
}

/// A prompt with the rows that are still candidates for it.
#[derive(Debug, Clone)]
pub(super) struct Unit<'a> {
    pub(super) prompt: &'a str,
    pub(super) rows: Vec<Candidate<'a>>,
}

impl Unit<'_> {
    /// Drops all rows.
    pub(super) fn reject(&self, reason: &DropReason, tally: &mut Tally) {
        for candidate in &self.rows {
            tally.reject(candidate.row, reason.clone());
        }
    }

    /// Keeps the rows at these places, and drops the others as not chosen.
    pub(super) fn only(mut self, places: &[usize], tally: &mut Tally) -> Self {
        let mut kept = Vec::with_capacity(places.len());
        for (place, candidate) in self.rows.drain(..).enumerate() {
            match places.contains(&place) {
                true => kept.push(candidate),
                false => tally.reject(candidate.row, DropReason::NotChosen),
            }
        }
        self.rows = kept;
        self
    }

    fn request(&self) -> &str {
        &self.rows[0].row.collected.request
    }

    fn spec(&self) -> &str {
        &self.rows[0].row.collected.spec
    }
}

/// Prompts in the order of their ids; each has a row.
fn by_prompt(candidates: Vec<Candidate<'_>>) -> Result<Vec<Unit<'_>>, CurationError> {
    let mut prompts: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
    for candidate in candidates {
        prompts.entry(&candidate.row.collected.prompt).or_default().push(candidate);
    }
    if let Some((prompt, _)) = prompts.iter().find(|(_, rows)| contradictory(rows)) {
        return Err(CurationError::Prompt((*prompt).into()));
    }
    Ok(prompts.into_iter().map(|(prompt, rows)| Unit { prompt, rows }).collect())
}

fn contradictory(rows: &[Candidate<'_>]) -> bool {
    let same = |pair: &[Candidate<'_>]| {
        let [a, b] = [&pair[0].row.collected, &pair[1].row.collected];
        (a.kind, &a.spec, &a.request) == (b.kind, &b.spec, &b.request)
    };
    !rows.windows(2).all(same)
}

/// Those that no evaluation set holds.
fn clean<'a>(prompts: Vec<Unit<'a>>, decontaminate: &NgramIndex, tally: &mut Tally) -> Vec<Unit<'a>> {
    let mut kept = Vec::with_capacity(prompts.len());
    for unit in prompts {
        match decontaminate.matching_set(unit.request()) {
            Some(set) => unit.reject(&DropReason::Contaminated(set.into()), tally),
            None => kept.push(unit),
        }
    }
    kept
}

/// Removes prompts whose request nearly repeats an earlier one under the same S, and tells how many buckets were full.
fn remove_repeats(
    units: &mut Vec<Unit<'_>>,
    near: &NearDuplicateSettings,
    seed: u64,
    tally: &mut Tally,
) -> usize {
    let mut by_spec: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, unit) in units.iter().enumerate() {
        by_spec.entry(unit.spec()).or_default().push(index);
    }
    let (mut repeats, mut full_buckets) = (vec![false; units.len()], 0);
    for places in by_spec.into_values() {
        let requests: Vec<&str> = places.iter().map(|&i| units[i].request()).collect();
        let found = near_duplicates(&requests, near, seed);
        full_buckets += found.full_buckets;
        for (place, of) in places.into_iter().zip(found.of) {
            repeats[place] = of.is_some();
        }
    }
    for unit in units.iter().zip(&repeats).filter_map(|(unit, &repeats)| repeats.then_some(unit)) {
        unit.reject(&DropReason::NearDuplicate, tally);
    }
    let mut repeats = repeats.into_iter();
    units.retain(|_| !repeats.next().unwrap_or(false));
    full_buckets
}

fn verification_row(candidate: &Candidate<'_>, tally: &mut Tally) -> VerificationRow {
    let Candidate { row, refused } = *candidate;
    tally.keep(row, refused);
    let answer = &row.collected;
    VerificationRow {
        source: row.id(),
        prompt: answer.prompt.clone(),
        policy: answer.policy.clone(),
        kind: answer.kind,
        spec: answer.spec.clone(),
        request: answer.request.clone(),
        answer: answer.answer.clone(),
        critique: Some(row.critique.clone()),
        judgment: Some(row.judgment),
        verdict: row.judgment,
        refused,
        expert: row.expert.clone(),
    }
}
