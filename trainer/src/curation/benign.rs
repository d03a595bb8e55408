//! One safe answer of each benign prompt, a share of them refusals, so that safe is not the same as helpful nor unsafe the
//! same as compliant.

use super::curate::Unit;
use super::rank;
use super::report::{DropReason, Tally};
use crate::records::Record;
use sinternal_proto::Verdict;

/// The safe answers of each prompt that has one.
pub(super) fn with_safe<'a>(prompts: Vec<Unit<'a>>, tally: &mut Tally) -> Vec<Unit<'a>> {
    let keep = |mut unit: Unit<'a>| {
        let (safe, broken) = unit.rows.into_iter().partition(|c| c.row.judgment == Verdict::Safe);
        unit.rows = broken;
        unit.reject(&DropReason::BenignUnsafe, tally);
        unit.rows = safe;
        unit
    };
    prompts.into_iter().map(keep).filter(|unit| !unit.rows.is_empty()).collect()
}

/// What a prompt's safe answers allow, in the order in which refusals are taken from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answers {
    Refusals,
    Both,
    Help,
}

fn answers(unit: &Unit<'_>) -> Answers {
    match (unit.rows.iter().any(|c| c.refused), unit.rows.iter().all(|c| c.refused)) {
        (_, true) => Answers::Refusals,
        (true, _) => Answers::Both,
        (false, _) => Answers::Help,
    }
}

/// One answer of each prompt, so that as near to `share` of them refuse as can be, and no more.
pub(super) fn one_each<'a>(
    mut units: Vec<Unit<'a>>,
    share: f64,
    seed: u64,
    tally: &mut Tally,
) -> Vec<Unit<'a>> {
    units.sort_by_cached_key(|unit| (answers(unit), rank(seed, "refusal", unit.prompt)));
    let count = |which| units.iter().filter(|unit| answers(unit) == which).count();
    let refused = refusals(count(Answers::Refusals), count(Answers::Both), count(Answers::Help), share);
    let mut kept = Vec::new();
    for (index, unit) in units.into_iter().enumerate() {
        let refuses = index < refused;
        let matching = (0..unit.rows.len()).filter(|&i| unit.rows[i].refused == refuses);
        match matching.min_by_key(|&i| rank(seed, "answer", &unit.rows[i].row.id())) {
            Some(chosen) => kept.push(unit.only(&[chosen], tally)),
            None => unit.reject(&DropReason::RefusalShare, tally),
        }
    }
    kept
}

/// How many prompts are answered by a refusal. Where the prompts that have nothing else are too many, some are left out.
fn refusals(only: usize, both: usize, help: usize, share: f64) -> usize {
    let wanted = (share * (only + both + help) as f64).round() as usize;
    if wanted >= only {
        return wanted.min(only + both);
    }
    // r = share · (r + others); the small number keeps rounding from taking one away where that is whole.
    let others = (both + help) as f64;
    ((share / (1.0 - share) * others + 1e-9).floor() as usize).min(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_by_hand() {
        // Only, both, help; share → refusals.
        let cases = [
            ((0, 10, 0, 0.1), 1),
            ((0, 10, 10, 0.25), 5),
            ((2, 3, 5, 0.5), 5),
            // Not enough answers that refuse.
            ((1, 1, 8, 0.5), 2),
            // 9 others allow one refusal in ten; two of the three are left out.
            ((3, 4, 5, 0.1), 1),
            ((3, 4, 5, 0.0), 0),
            ((3, 4, 5, 1.0), 7),
            ((5, 0, 0, 0.2), 0),
            ((0, 0, 0, 0.2), 0),
        ];
        for ((only, both, help, share), expected) in cases {
            assert_eq!(refusals(only, both, help, share), expected, "{only} {both} {help} {share}");
        }
    }
}
