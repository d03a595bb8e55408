//! Contrastive pairs: of each harmful prompt one safe and one unsafe answer of like length, so that length does not tell
//! them apart.

use super::curate::Unit;
use super::filter::Candidate;
use super::rank;
use super::report::{DropReason, Tally};
use crate::records::Record;
use sinternal_proto::Verdict;
use std::cmp::Ordering;

/// The prompts that have a pair of answers of like length.
pub(super) fn with_pair<'a>(
    prompts: Vec<Unit<'a>>,
    max_ratio: Option<f64>,
    seed: u64,
    tally: &mut Tally,
) -> Vec<Unit<'a>> {
    let mut kept = Vec::new();
    for unit in prompts {
        match closest(&unit.rows, seed) {
            None => unit.reject(&DropReason::NoContrast, tally),
            Some(pair) if max_ratio.is_some_and(|most| !pair.within(most)) => {
                unit.reject(&DropReason::NoLengthMatch, tally);
            }
            Some(_) => kept.push(unit),
        }
    }
    kept
}

/// The best pair of each prompt; they have one.
pub(super) fn one_each<'a>(prompts: Vec<Unit<'a>>, seed: u64, tally: &mut Tally) -> Vec<Unit<'a>> {
    let best = |unit: Unit<'a>| {
        let pair = closest(&unit.rows, seed)?;
        Some(unit.only(&[pair.safe, pair.broken], tally))
    };
    prompts.into_iter().filter_map(best).collect()
}

/// A safe and an unsafe answer, by their places among the candidates.
#[derive(Debug, Clone, Copy)]
struct Pair {
    safe: usize,
    broken: usize,
    /// Characters.
    longer: u64,
    shorter: u64,
}

impl Pair {
    fn within(&self, ratio: f64) -> bool {
        self.longer as f64 <= ratio * self.shorter as f64
    }

    /// By |log length ratio|, without rounding: a/b < c/d exactly where ad < cb.
    fn by_ratio(&self, other: &Self) -> Ordering {
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        product(self.longer, other.shorter).cmp(&product(other.longer, self.shorter))
    }
}

/// The pair of the smallest |log length ratio|; the seed decides between equals. Candidates have an answer.
fn closest(rows: &[Candidate<'_>], seed: u64) -> Option<Pair> {
    let lengths: Vec<u64> =
        rows.iter().map(|c| c.row.collected.answer.trim().chars().count() as u64).collect();
    let of = |verdict| (0..rows.len()).filter(move |&i| rows[i].row.judgment == verdict);
    let pairs = of(Verdict::Safe).flat_map(|safe| {
        let lengths = &lengths;
        of(Verdict::Unsafe).map(move |broken| Pair {
            safe,
            broken,
            longer: lengths[safe].max(lengths[broken]),
            shorter: lengths[safe].min(lengths[broken]),
        })
    });
    let drawn =
        |p: &Pair| rank(seed, "pair", &format!("{}\n{}", rows[p.safe].row.id(), rows[p.broken].row.id()));
    pairs.min_by(|a, b| a.by_ratio(b).then_with(|| drawn(a).cmp(&drawn(b))))
}
