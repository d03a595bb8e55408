//! Comparisons of hand-made results, against figures by hand.

use super::*;
use crate::judge::{Judged, Safety};
use crate::measure::tests::{grade, outcome, safety};
use crate::result::tests::evaluation;
use crate::suite::Kind;

const HOW: Resampling = Resampling { seed: 7, draws: 10_000 };

/// An evaluation like any other, of these outcomes.
fn of(suite: Suite, model: &str, items: Vec<Outcome>) -> Evaluation {
    let about = evaluation(Suite::HCot, model, 0).about;
    Evaluation::new(crate::result::About { suite, ..about }, items).unwrap()
}

/// 40 items: in the first result the first `a` are unsafe, in the second those from `from` on, `b` of them.
fn attacks(model: &str, range: std::ops::Range<usize>) -> Evaluation {
    let verdict = |i| if range.contains(&i) { Safety::Unsafe } else { Safety::Safe };
    let items =
        (0..40).map(|i| outcome(&i.to_string(), Kind::Harmful, vec![safety(Judged::Said(verdict(i)))]));
    of(Suite::HarmBench, model, items.collect())
}

#[test]
fn pairs_that_disagree_decide() {
    // Unsafe 0–19 against 18–20: 18 in the first alone, 1 in the second alone.
    let comparison = compare(&attacks("base", 0..20), &attacks("tuned", 18..21), HOW).unwrap();
    let attack = comparison.differences[0];
    assert_eq!((attack.pairs, attack.left_out), (40, 0));
    assert_eq!((attack.first, attack.second), (Some(0.5), Some(0.075)));
    assert!((attack.difference.unwrap() + 0.425).abs() < 1e-12);
    // 2·(C(19,0) + C(19,1))/2¹⁹ = 40/524288.
    let test = attack.mcnemar.unwrap();
    assert_eq!((test.only_first, test.only_second, test.method), (18, 1, McNemarMethod::Exact));
    assert!((test.p - 40.0 / 524_288.0).abs() < 1e-15);
    // The differences have mean −0.425 and variance (18 + 1)/40 − 0.425² = 0.294375: ±1.96 · √(0.294375/40) = ±0.1681.
    let interval = attack.interval.unwrap();
    assert!((interval.low + 0.593).abs() < 0.02 && (interval.high + 0.257).abs() < 0.02, "{interval:?}");
    let text = comparison.to_terminal();
    assert!(text.contains("-42.5 [-6") || text.contains("-42.5 [-5"), "{text}");
    assert!(text.contains("p < 0.001 (exact; 18 against 1)"), "{text}");
    assert!(
        comparison.to_markdown().starts_with("# harmbench: tuned against base\n\n|  | pairs | left out |")
    );
    let json = serde_json::to_string(&comparison).unwrap();
    assert_eq!(serde_json::from_str::<Comparison>(&json).unwrap(), comparison);
}

#[test]
fn the_order_of_items_does_not_matter_and_the_unjudged_are_left_out() {
    let first = attacks("base", 0..20);
    let mut items = attacks("tuned", 18..21).items;
    items[0].answers[0].verdicts.safety = Some(Judged::Unparsed("?".into()));
    items.reverse();
    let attack = compare(&first, &of(Suite::HarmBench, "tuned", items), HOW).unwrap().differences[0];
    assert_eq!((attack.pairs, attack.left_out), (39, 1));
    assert_eq!(attack.mcnemar.map(|t| (t.only_first, t.only_second)), Some((17, 1)));
    // Over the 39 pairs, not over all that the first judged.
    assert_eq!(attack.first, Some(19.0 / 39.0));
}

#[test]
fn several_answers_an_item_have_a_difference_and_no_mcnemar() {
    let graded = |rights: [[bool; 2]; 2]| {
        let item =
            |(i, pair): (usize, [bool; 2])| outcome(&i.to_string(), Kind::Math, pair.map(grade).to_vec());
        of(Suite::Aime24, "m", rights.into_iter().enumerate().map(item).collect())
    };
    let (first, second) = (graded([[true, false], [false, false]]), graded([[true, true], [true, true]]));
    let comparison = compare(&first, &second, HOW).unwrap();
    let average = comparison.differences[0];
    assert_eq!((average.difference, average.mcnemar), (Some(0.75), None));
    // Resamples of the differences ½ and 1 have means ½, ¾, 1.
    assert_eq!(average.interval.map(|i| (i.low, i.high)), Some((0.5, 1.0)));
    let keys: Vec<String> = comparison.differences.iter().map(|d| d.measure.to_string()).collect();
    assert_eq!(keys, ["avg@2", "pass@2", "truncated"]);
}

#[test]
fn what_has_no_pairs_is_refused() {
    let base = attacks("base", 0..20);
    let error = |other: &Evaluation| compare(&base, other, HOW).unwrap_err().to_string();
    assert!(
        error(&evaluation(Suite::HCot, "m", 1))
            .starts_with("the first result is of harmbench, the second of h-cot")
    );
    let mut other = base.clone();
    other.about.data.sha256 = "d1".into();
    assert!(error(&other).starts_with("the results are of different data, SHA-256 d0 and d1"));
    let mut fewer = base.clone();
    fewer.items.remove(3);
    assert!(error(&fewer).starts_with("item `3` is in the first result alone"));
    assert!(
        compare(&fewer, &base, HOW)
            .unwrap_err()
            .to_string()
            .starts_with("item `3` is in the second result alone")
    );
    let mut twice = base.clone();
    twice.items[1] = twice.items[0].clone();
    assert_eq!(error(&twice), "item `0` is in the second result twice");
}
