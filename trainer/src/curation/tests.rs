use super::testing::{asking, labelled, refuses, row, sources};
use super::*;
use crate::records::CritiquedRecord;
use sinternal_proto::Verdict::{self, Invalid, Safe, Unsafe};
use std::cell::Cell;

fn none() -> NgramIndex {
    NgramIndex::new(NgramSettings::default())
}

fn curated(rows: &[CritiquedRecord], settings: &CurateSettings, seed: u64) -> Curated {
    curate(rows, settings, &none(), &refuses, seed).unwrap()
}

/// Every reason but those of near-duplicates, shares and balance, which have tests of their own.
fn one_of_each() -> Vec<CritiquedRecord> {
    let mut truncated = row("b2", 1, Safe, "first");
    truncated.collected.truncated = true;
    let mut open = row("b3", 0, Safe, "first");
    open.collected.reasoning_closed = false;
    vec![
        // Lengths 4, 8 against 7, 16: ratios 1.75, 4, 1.14 and 2.
        row("h1", 0, Safe, "aaaa"),
        row("h1", 1, Safe, " aaaaaaaa\n"),
        row("h1", 2, Unsafe, "ööööööö"),
        labelled(row("h1", 3, Unsafe, "bbbbbbbbbbbbbbbb"), Unsafe),
        row("h1", 0, Safe, "aaaa"),
        row("h2", 0, Safe, "no contrast"),
        row("h2", 1, Invalid, "no judgment"),
        labelled(row("h2", 2, Unsafe, "a guard says safe"), Safe),
        // 10 characters against 3.
        row("h3", 0, Safe, "abc"),
        row("h3", 1, Unsafe, "abcdefghij"),
        asking(row("h4", 0, Safe, "abc"), "Now tell me how to pick a lock, quickly"),
        asking(row("h4", 1, Unsafe, "abc"), "Now tell me how to pick a lock, quickly"),
        row("b1", 0, Safe, "sorry no"),
        row("b1", 1, Unsafe, "yes"),
        row("b2", 0, Safe, "first this"),
        truncated,
        open,
        row("b4", 0, Safe, " \n"),
        row("m1", 0, Safe, "4"),
    ]
}

#[test]
fn every_row_comes_out_or_has_its_reason() {
    let mut index = none();
    index.add_set("locks", ["Tell me how to pick a lock!"]);
    let settings = CurateSettings {
        max_length_ratio: Some(3.0),
        benign_refused_share: 0.5,
        ..CurateSettings::default()
    };
    let asked = Cell::new(0);
    let counting = |answer: &str| {
        asked.set(asked.get() + 1);
        refuses(answer)
    };
    let curated = curate(&one_of_each(), &settings, &index, &counting, 1).unwrap();
    assert_eq!(sources(&curated.rows), ["b1#0", "b2#0", "h1#1", "h1#2"]);
    assert_eq!(asked.get(), 12, "once for each usable answer");
    let table = "\
| | harmful invalid | harmful safe | harmful unsafe | benign safe | benign unsafe | math safe | all |
|---|--:|--:|--:|--:|--:|--:|--:|
| in | 1 | 6 | 5 | 5 | 1 | 1 | 19 |
| repeated id | 0 | 1 | 0 | 0 | 0 | 0 | 1 |
| mathematics | 0 | 0 | 0 | 0 | 0 | 1 | 1 |
| truncated | 0 | 0 | 0 | 1 | 0 | 0 | 1 |
| reasoning not closed | 0 | 0 | 0 | 1 | 0 | 0 | 1 |
| empty answer | 0 | 0 | 0 | 1 | 0 | 0 | 1 |
| invalid | 1 | 0 | 0 | 0 | 0 | 0 | 1 |
| disagrees | 0 | 0 | 1 | 0 | 0 | 0 | 1 |
| contaminated: locks | 0 | 1 | 1 | 0 | 0 | 0 | 2 |
| no contrast | 0 | 1 | 0 | 0 | 0 | 0 | 1 |
| no length match | 0 | 1 | 1 | 0 | 0 | 0 | 2 |
| benign unsafe | 0 | 0 | 0 | 0 | 1 | 0 | 1 |
| not chosen | 0 | 1 | 1 | 0 | 0 | 0 | 2 |
| out | 0 | 1 | 1 | 2 | 0 | 0 | 4 |
| of these refuse | 0 | 0 | 0 | 1 | 0 | 0 | 1 |
";
    assert_eq!(curated.report.to_markdown(), table);
}

#[test]
fn a_row_holds_what_is_learned_and_where_it_is_from() {
    let curated = curated(&[row("b7", 4, Safe, "sorry")], &share(1.0), 1);
    let kept = &curated.rows[0];
    let own = row("b7", 4, Safe, "sorry").collected;
    assert_eq!((&*kept.source, kept.refused), (&*format!("b7#4@{}", &own.policy.hash.0[..12]), true));
    assert_eq!((&kept.spec, &kept.request, &kept.answer), (&own.spec, &own.request, &own.answer));
    assert_eq!((kept.critique.as_deref(), kept.judgment, kept.verdict), (Some("on b7#4"), Some(Safe), Safe));
    assert_eq!(kept.completion("\n", "judgment:"), "on b7#4\njudgment: safe");
    assert_eq!((&kept.policy, kept.kind, &*kept.expert), (&own.policy, own.kind, "expert"));
}

fn share(benign_refused_share: f64) -> CurateSettings {
    CurateSettings { benign_refused_share, ..CurateSettings::default() }
}

/// Among pairs of equal ratios the seed decides: of 2 · 2 equal ones each is drawn by some seed of 1 to 40.
#[test]
fn the_seed_breaks_ties() {
    let rows = [("a", Safe), ("b", Safe), ("c", Unsafe), ("d", Unsafe)];
    let rows: Vec<_> =
        (0..).zip(rows).map(|(i, (answer, judgment))| row("h1", i, judgment, answer)).collect();
    let drawn = |seed| sources(&curated(&rows, &share(0.0), seed).rows).join(" ");
    let all: std::collections::BTreeSet<String> = (1..=40).map(drawn).collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["h1#0 h1#2", "h1#0 h1#3", "h1#1 h1#2", "h1#1 h1#3"]);
}

#[test]
fn a_share_of_the_benign_answers_refuses() {
    let both = |i: usize| {
        let prompt = format!("b{i}");
        [row(&prompt, 0, Safe, "sorry"), row(&prompt, 1, Safe, "first")]
    };
    let rows: Vec<_> = (0..20).flat_map(both).collect();
    for (asked, refused) in [(0.0, 0), (0.25, 5), (1.0, 20)] {
        let curated = curated(&rows, &share(asked), 2);
        assert_eq!(curated.rows.iter().filter(|row| row.refused).count(), refused);
        assert_eq!((curated.rows.len(), curated.report.rows_out()), (20, 20));
    }
    // Refusals alone, beside nine answers that help: one may stay.
    let only = |i: usize| row(&format!("b{i}"), 0, Safe, if i < 3 { "sorry" } else { "first" });
    let curated = curated(&(0..12).map(only).collect::<Vec<_>>(), &share(0.1), 2);
    assert_eq!(curated.report.dropped().into_iter().collect::<Vec<_>>(), [(DropReason::RefusalShare, 2)]);
    assert_eq!((curated.rows.len(), curated.report.classes[0].refused_out), (10, 1));
}

#[test]
fn classes_are_balanced_by_whole_pairs_and_the_share_stays() {
    let pair =
        |i: usize| [Safe, Unsafe].map(|judgment| row(&format!("h{i}"), judgment as u32, judgment, "abc"));
    let benign = |i: usize| row(&format!("b{i}"), 0, Safe, if i < 2 { "sorry" } else { "first" });
    let balanced = |pairs, answers, ratio| {
        let rows: Vec<_> = (0..pairs).flat_map(pair).chain((0..answers).map(benign)).collect();
        let settings = CurateSettings { largest_class_ratio: Some(ratio), ..share(0.2) };
        let report = curated(&rows, &settings, 9).report;
        let out = report.classes.iter().map(|class| class.rows_out).collect::<Vec<_>>();
        let refused: usize = report.classes.iter().map(|class| class.refused_out).sum();
        (out, refused, report.dropped().get(&DropReason::Balance).copied().unwrap_or(0))
    };
    assert_eq!(balanced(2, 10, 2.5), (vec![2, 2, 5], 1, 5));
    assert_eq!(balanced(12, 10, 1.0), (vec![10, 10, 10], 2, 4));
    assert_eq!(balanced(12, 10, 1.2), (vec![12, 12, 10], 2, 0));
    assert_eq!(balanced(0, 10, 3.0), (vec![0], 0, 10));
}

#[test]
fn near_duplicates_are_of_one_kind_and_one_specification() {
    let text = "please tell me in a few words how bread is baked at home in an oven";
    let settings = CurateSettings { near_duplicates: Some(NearDuplicateSettings::default()), ..share(0.0) };
    let ask = |prompt: &str, judgment, request: &str| {
        asking(row(prompt, judgment as u32, judgment, "abc"), request)
    };
    let pair = |prompt: &str| [Safe, Unsafe].map(|judgment| ask(prompt, judgment, text));
    let mut other_spec = ask("b3", Safe, text);
    other_spec.collected.spec = "another".into();
    let [safe, broken] = pair("h1");
    let [safe_again, broken_again] = pair("h2");
    let rows = [
        ask("b1", Safe, text),
        ask("b2", Safe, &text.to_uppercase()),
        other_spec,
        ask("b4", Safe, "please tell me in a few words how tea is made"),
        safe,
        broken,
        safe_again,
        broken_again,
    ];
    let curated = curated(&rows, &settings, 1);
    assert_eq!(sources(&curated.rows), ["b1#0", "b3#0", "b4#0", "h1#0", "h1#1"]);
    let dropped = curated.report.classes.iter().map(|class| class.dropped.get(&DropReason::NearDuplicate));
    assert_eq!(dropped.collect::<Vec<_>>(), [Some(&1), Some(&1), Some(&1)]);
}

#[test]
fn a_prompt_that_contradicts_itself_is_named() {
    let rows = [row("h1", 0, Safe, "a"), asking(row("h1", 1, Unsafe, "b"), "something else")];
    let error = curate(&rows, &share(0.0), &none(), &refuses, 1).unwrap_err().to_string();
    assert_eq!(
        error,
        "prompt h1: its rows differ in kind, S or request; give different prompts different ids"
    );
    let error = curate(&[], &share(2.0), &none(), &refuses, 1).unwrap_err().to_string();
    assert_eq!(error, "benign_refused_share: must lie in 0–1");
}

/// Prompts that are added change no choice among the others.
#[test]
fn choices_do_not_depend_on_other_prompts() {
    let prompt = |i: usize| {
        let of = |n: u32, judgment: Verdict| row(&format!("h{i}"), n, judgment, "same");
        [of(0, Safe), of(1, Safe), of(2, Unsafe), of(3, Unsafe)]
    };
    let few: Vec<_> = (10..20).flat_map(prompt).collect();
    let many: Vec<_> = (10..60).flat_map(prompt).collect();
    let [few, many] = [few, many].map(|rows| curated(&rows, &share(0.0), 4).rows);
    assert_eq!(few[..], many[..20]);
}
