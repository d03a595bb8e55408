//! The data of the ablations, each a change of the verification rows.

use crate::records::VerificationRow;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curation::testing::{refuses, row};
    use crate::curation::{CurateSettings, NgramIndex, NgramSettings, curate};
    use sinternal_proto::Verdict::{Safe, Unsafe};

    /// Pairs of the prompts `h…` and answers to `b…` in these ranges.
    fn rows(harmful: std::ops::Range<usize>, benign: std::ops::Range<usize>) -> Vec<VerificationRow> {
        let pair = |i| [Safe, Unsafe].map(|judgment| row(&format!("h{i}"), judgment as u32, judgment, "abc"));
        let mut rows: Vec<_> = harmful.flat_map(pair).collect();
        rows.extend(benign.map(|i| row(&format!("b{i}"), 0, Safe, "first")));
        let settings = CurateSettings { benign_refused_share: 0.0, ..CurateSettings::default() };
        curate(&rows, &settings, &NgramIndex::new(NgramSettings::default()), &refuses, 1).unwrap().rows
    }

    #[test]
    fn critique_or_judgment_is_taken_out_and_nothing_else() {
        let all = rows(0..2, 0..2);
        let (mut judgments, mut critiques) = (all.clone(), all.clone());
        without_critique(&mut judgments);
        without_judgment(&mut critiques);
        assert_eq!(judgments[2].completion(" ", "judgment"), "judgment safe");
        assert_eq!(judgments[3].completion(" ", "judgment"), "judgment unsafe");
        assert_eq!(critiques[2].completion(" ", "judgment"), "on h0#0");
        for ((all, judgment), critique) in all.iter().zip(judgments).zip(critiques) {
            let restored = VerificationRow { critique: all.critique.clone(), ..judgment };
            assert_eq!((&restored, &VerificationRow { judgment: all.judgment, ..critique }), (all, all));
        }
    }

    /// Seed 3: of 100 rows most get another's lesson, whole; all lessons stay.
    #[test]
    fn the_placebo_keeps_lessons_and_breaks_their_link() {
        let all = rows(0..50, 0..0);
        let mut shuffled = all.clone();
        shuffle_verdicts(&mut shuffled, 3);
        let moved = all.iter().zip(&shuffled).filter(|(a, b)| a.critique != b.critique).count();
        assert!(moved > 90, "{moved}");
        let lessons = |rows: &[VerificationRow]| {
            let lesson = |row: &VerificationRow| row.completion(" ", "judgment");
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
}
