//! The data of the ablations, each a change of the verification rows.

use super::{CurationError, rank};
use crate::records::{VerificationRow, kind_word};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sinternal_proto::PromptKind;
use std::collections::{BTreeMap, BTreeSet};

/// No critique: judgments alone are learned.
pub fn without_critique(rows: &mut [VerificationRow]) {
    for row in rows {
        row.critique = None;
    }
}

/// No judgment: critiques alone are learned.
pub fn without_judgment(rows: &mut [VerificationRow]) {
    for row in rows {
        row.judgment = None;
    }
}

/// The placebo: every row gets another row's critique and judgment, so the text is the same and the understanding is not.
/// What holds of the answer (`verdict`) stays.
pub fn shuffle_verdicts(rows: &mut [VerificationRow], seed: u64) {
    let mut lessons: Vec<_> =
        rows.iter().map(|row| (row.critique.clone(), row.judgment, row.expert.clone())).collect();
    lessons.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    for (row, lesson) in rows.iter_mut().zip(lessons) {
        (row.critique, row.judgment, row.expert) = lesson;
    }
}

/// Rows of a prompt: a pair, or one benign answer.
type Prompts<'a> = Vec<(&'a str, Vec<&'a VerificationRow>)>;

/// Other-policy answers: of each kind, a share of one's own prompts gives way to as many of the other policy's, the same
/// prompts as far as it has them. Pairs stay whole, and no prompt is there twice.
///
/// # Errors
/// The share does not lie in 0–1; both have answers of one policy; the other has too few prompts of a kind.
pub fn mix_policies(
    own: &[VerificationRow],
    other: &[VerificationRow],
    share: f64,
    seed: u64,
) -> Result<Vec<VerificationRow>, CurationError> {
    if !(0.0..=1.0).contains(&share) {
        return Err(CurationError::Settings("share: must lie in 0–1".into()));
    }
    let hashes: BTreeSet<&str> = own.iter().map(|row| &*row.policy.hash.0).collect();
    if let Some(row) = other.iter().find(|row| hashes.contains(&*row.policy.hash.0)) {
        let problem = format!("other policy: row {} is of the policy that it should differ from", row.source);
        return Err(CurationError::Settings(problem));
    }
    let mut mixed = Vec::with_capacity(own.len());
    for kind in [PromptKind::Harmful, PromptKind::Benign] {
        mixed.extend(mix_kind(prompts(own, kind, seed), prompts(other, kind, seed), kind, share)?);
    }
    mixed.sort_by(|a, b| (&a.prompt, &a.source).cmp(&(&b.prompt, &b.source)));
    Ok(mixed)
}

fn mix_kind(
    mut own: Prompts<'_>,
    mut other: Prompts<'_>,
    kind: PromptKind,
    share: f64,
) -> Result<Vec<VerificationRow>, CurationError> {
    let needed = (share * own.len() as f64).round() as usize;
    let replaced: BTreeSet<&str> = own.drain(..needed).map(|(prompt, _)| prompt).collect();
    let kept: BTreeSet<&str> = own.iter().map(|(prompt, _)| *prompt).collect();
    other.retain(|(prompt, _)| !kept.contains(prompt));
    other.sort_by_key(|(prompt, _)| !replaced.contains(prompt));
    if other.len() < needed {
        let (kind, available) = (kind_word(kind), other.len());
        return Err(CurationError::OtherPolicy { kind, available, needed, share: share.to_string() });
    }
    let rows = own.into_iter().chain(other.into_iter().take(needed));
    Ok(rows.flat_map(|(_, rows)| rows).cloned().collect())
}

/// The prompts of a kind in the order in which they give way.
fn prompts(rows: &[VerificationRow], kind: PromptKind, seed: u64) -> Prompts<'_> {
    let mut prompts: BTreeMap<&str, Vec<&VerificationRow>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.kind == kind) {
        prompts.entry(&row.prompt).or_default().push(row);
    }
    let mut prompts: Prompts<'_> = prompts.into_iter().collect();
    prompts.sort_by_cached_key(|(prompt, _)| rank(seed, "other policy", prompt));
    prompts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curation::testing::{refuses, row, sources};
    use crate::curation::{CurateSettings, NgramIndex, NgramSettings, curate};
    use crate::records::Record;
    use sinternal_proto::Sha256;
    use sinternal_proto::Verdict::{Safe, Unsafe};

    /// Pairs of the prompts `h…` and answers to `b…` in these ranges.
    fn rows(
        policy: &str,
        harmful: std::ops::Range<usize>,
        benign: std::ops::Range<usize>,
    ) -> Vec<VerificationRow> {
        let pair = |i| [Safe, Unsafe].map(|judgment| row(&format!("h{i}"), judgment as u32, judgment, "abc"));
        let mut rows: Vec<_> = harmful.flat_map(pair).collect();
        rows.extend(benign.map(|i| row(&format!("b{i}"), 0, Safe, "first")));
        for row in &mut rows {
            row.collected.policy.hash = Sha256::of(policy.as_bytes());
        }
        let settings = CurateSettings { benign_refused_share: 0.0, ..CurateSettings::default() };
        curate(&rows, &settings, &NgramIndex::new(NgramSettings::default()), &refuses, 1).unwrap().rows
    }

    #[test]
    fn critique_or_judgment_is_taken_out_and_nothing_else() {
        let all = rows("own", 0..2, 0..2);
        let (mut judgments, mut critiques) = (all.clone(), all.clone());
        without_critique(&mut judgments);
        without_judgment(&mut critiques);
        assert_eq!(judgments[2].completion("judgment"), "judgment safe");
        assert_eq!(judgments[3].completion("judgment"), "judgment unsafe");
        assert_eq!(critiques[2].completion("judgment"), "on h0#0");
        for ((all, judgment), critique) in all.iter().zip(judgments).zip(critiques) {
            let restored = VerificationRow { critique: all.critique.clone(), ..judgment };
            assert_eq!((&restored, &VerificationRow { judgment: all.judgment, ..critique }), (all, all));
        }
    }

    /// Seed 3: of 100 rows most get another's lesson, whole; all lessons stay.
    #[test]
    fn the_placebo_keeps_lessons_and_breaks_their_link() {
        let all = rows("own", 0..50, 0..0);
        let mut shuffled = all.clone();
        shuffle_verdicts(&mut shuffled, 3);
        let moved = all.iter().zip(&shuffled).filter(|(a, b)| a.critique != b.critique).count();
        assert!(moved > 90, "{moved}");
        let lessons = |rows: &[VerificationRow]| {
            let lesson = |row: &VerificationRow| row.completion("judgment");
            let mut lessons: Vec<String> = rows.iter().map(lesson).collect();
            lessons.sort();
            lessons
        };
        assert_eq!(lessons(&all), lessons(&shuffled));
        let kept = |row: &VerificationRow| (row.source.clone(), row.answer.clone(), row.verdict);
        assert!(all.iter().zip(&shuffled).all(|(a, b)| kept(a) == kept(b)));
        let wrong = shuffled.iter().filter(|row| row.judgment != Some(row.verdict)).count();
        assert!((30..70).contains(&wrong), "half of the judgments are wrong by chance: {wrong}");
    }

    #[test]
    fn a_share_of_prompts_gives_way_to_the_other_policy() {
        let (own, other) = (rows("own", 0..4, 0..6), rows("other", 2..8, 0..6));
        let mixed = mix_policies(&own, &other, 0.5, 5).unwrap();
        let theirs: Vec<_> = mixed.iter().filter(|r| r.policy.hash == Sha256::of(b"other")).collect();
        let count = |rows: &[&VerificationRow], kind| rows.iter().filter(|r| r.kind == kind).count();
        assert_eq!((count(&theirs, PromptKind::Harmful), count(&theirs, PromptKind::Benign)), (4, 3));
        assert_eq!(count(&mixed.iter().collect::<Vec<_>>(), PromptKind::Harmful), 8);
        // The benign prompts are those of both, each once.
        assert_eq!(sources(&mixed)[..6], ["b0#0", "b1#0", "b2#0", "b3#0", "b4#0", "b5#0"]);
        let ids: BTreeSet<String> = mixed.iter().map(Record::id).collect();
        assert_eq!(ids.len(), 14);
        let prompts: BTreeSet<&str> = mixed.iter().map(|r| &*r.prompt).collect();
        assert_eq!(prompts.len(), 10, "4 harmful and 6 benign, none of them twice");

        assert_eq!(mix_policies(&own, &other, 0.0, 5).unwrap(), own);
        let all = mix_policies(&own, &other, 1.0, 5).unwrap();
        assert!(all.len() == 14 && all.iter().all(|r| r.policy.hash == Sha256::of(b"other")));
    }

    #[test]
    fn what_cannot_be_mixed_is_named() {
        let (own, few) = (rows("own", 0..4, 0..6), rows("other", 0..1, 0..6));
        let error = |share| mix_policies(&own, &few, share, 5).unwrap_err().to_string();
        assert_eq!(error(1.0), "the other policy has 1 more harmful prompts; a share of 1 needs 4");
        assert_eq!(error(1.5), "share: must lie in 0–1");
        let same = mix_policies(&own, &own, 0.5, 5).unwrap_err().to_string();
        assert!(same.ends_with("is of the policy that it should differ from"), "{same}");
    }
}
