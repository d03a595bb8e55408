//! What holds of curation whatever the rows and the settings are. Seeds of proptest: 7.

use super::testing::{asking, labelled, refuses, row};
use super::*;
use crate::records::{CritiquedRecord, Record, VerificationRow};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sinternal_proto::PromptKind;
use sinternal_proto::Verdict::{self, Invalid, Safe, Unsafe};
use std::collections::BTreeMap;

const ANSWERS: [&str; 6] =
    ["", "sorry", "sorry, that I can not do", "yes", "first this", "first this, then that, and done"];
const REQUESTS: [&str; 4] = [
    "tell me how bread is baked in an old oven",
    "tell me how bread is baked in an old oven please",
    "which of the two rivers is the longer one",
    "name the evaluation prompt that nobody may learn from",
];

fn rows() -> impl Strategy<Value = Vec<CritiquedRecord>> {
    let flags = (prop::bool::weighted(0.9), prop::bool::weighted(0.1));
    let judged = (
        prop::sample::select(vec![Safe, Safe, Unsafe, Unsafe, Invalid]),
        prop::option::weighted(0.3, any::<bool>()),
    );
    let one = (0..12_u32, 0..6_u32, judged, prop::sample::select(ANSWERS.to_vec()), flags);
    let made = one.prop_map(|(prompt, sample, (judgment, label), answer, (closed, truncated))| {
        let kind = ["h", "b", "h", "b", "m"][prompt as usize % 5];
        let mut row =
            asking(row(&format!("{kind}{prompt}"), sample, judgment, answer), REQUESTS[prompt as usize % 4]);
        (row.collected.reasoning_closed, row.collected.truncated) = (closed, truncated);
        label.map_or(row.clone(), |safe| labelled(row, if safe { Safe } else { Unsafe }))
    });
    prop::collection::vec(made, 0..120)
}

fn settings() -> impl Strategy<Value = CurateSettings> {
    let near = prop::bool::ANY.prop_map(|on| on.then(NearDuplicateSettings::default));
    let ratio = || prop::option::of(1.0..4.0_f64);
    (ratio(), 0.0..=1.0_f64, ratio(), near).prop_map(
        |(max_length_ratio, benign_refused_share, largest_class_ratio, near_duplicates)| CurateSettings {
            max_length_ratio,
            benign_refused_share,
            largest_class_ratio,
            near_duplicates,
            labels: None,
        },
    )
}

fn index() -> NgramIndex {
    let mut index = NgramIndex::new(NgramSettings::default());
    index.add_set("held out", [REQUESTS[3]]);
    index
}

fn class(kind: PromptKind, judgment: Verdict) -> String {
    format!("{kind:?} {judgment:?}")
}

fn counts(classes: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    classes.fold(BTreeMap::new(), |mut counts, class| {
        *counts.entry(class).or_default() += 1;
        counts
    })
}

fn length(row: &VerificationRow) -> f64 {
    row.answer.chars().count() as f64
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn counts_add_up_for_every_class(rows in rows(), settings in settings(), seed: u64) {
        let Curated { rows: kept, report } = curate(&rows, &settings, &index(), &refuses, seed).unwrap();
        for class in &report.classes {
            prop_assert_eq!(class.rows_in, class.rows_out + class.dropped.values().sum::<usize>(), "{}", class.name());
        }
        let named = |count: &dyn Fn(&ClassReport) -> usize| -> BTreeMap<String, usize> {
            report.classes.iter().map(|c| (class(c.kind, c.judgment), count(c))).filter(|(_, n)| *n > 0).collect()
        };
        prop_assert_eq!(named(&|c| c.rows_in), counts(rows.iter().map(|r| class(r.collected.kind, r.judgment))));
        prop_assert_eq!(named(&|c| c.rows_out), counts(kept.iter().map(|r| class(r.kind, r.verdict))));
        let refused = kept.iter().filter(|r| r.refused).map(|r| class(r.kind, r.verdict));
        prop_assert_eq!(named(&|c| c.refused_out), counts(refused));
    }

    #[test]
    fn the_order_of_rows_does_not_matter(
        (rows, shuffled) in rows().prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle())),
        settings in settings(),
        seed: u64,
    ) {
        let [one, other] = [rows, shuffled].map(|rows| curate(&rows, &settings, &index(), &refuses, seed).unwrap());
        prop_assert_eq!(one, other);
    }

    #[test]
    fn what_is_kept_is_as_asked(rows in rows(), settings in settings(), seed: u64) {
        let kept = curate(&rows, &settings, &index(), &refuses, seed).unwrap().rows;
        let mut prompts: BTreeMap<&str, Vec<&VerificationRow>> = BTreeMap::new();
        for row in &kept {
            prompts.entry(&row.prompt).or_default().push(row);
            prop_assert!(rows.iter().any(|r| r.id() == row.source && r.judgment == row.verdict));
            prop_assert_ne!(&*row.request, REQUESTS[3]);
            prop_assert!(row.check().is_ok());
        }
        let (mut pairs, mut benign, mut refused) = (0_usize, 0_usize, 0_usize);
        for rows in prompts.values() {
            let verdicts: Vec<Verdict> = rows.iter().map(|r| r.verdict).collect();
            if rows[0].kind == PromptKind::Harmful {
                prop_assert!(verdicts == [Safe, Unsafe] || verdicts == [Unsafe, Safe], "{:?}", verdicts);
                let ratio = (length(rows[0]) / length(rows[1])).ln().abs().exp();
                prop_assert!(settings.max_length_ratio.is_none_or(|most| ratio <= most + 1e-9));
                pairs += 1;
            } else {
                prop_assert_eq!(verdicts, [Safe]);
                benign += 1;
                refused += usize::from(rows[0].refused);
            }
        }
        match settings.largest_class_ratio {
            Some(ratio) => prop_assert!(pairs.max(benign) as f64 <= ratio * pairs.min(benign) as f64),
            // Balance rounds the share once more.
            None => prop_assert!(refused <= (settings.benign_refused_share * benign as f64).round() as usize),
        }
    }
}
