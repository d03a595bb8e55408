//! The study's tables and charts, from the cells' files alone.

use super::cells::{Arm, Base, Cell, Reward, Start};
use super::paired::{Difference, HEADLINE, Pair, by_self_check, difference, pairs};
use super::results::{CellResult, Store};
use anyhow::Context;
use serde_json::Value;
use sinternal_eval::{Chart, Series, Spread};
use sinternal_service::atomic::write_atomic;
use std::collections::{BTreeMap, BTreeSet};

type Results = BTreeMap<Cell, CellResult>;

/// What a column reads of a report's line; in 0–1, or a difference of such.
const COLUMNS: [(&str, &[&str]); 10] = [
    ("attack success, known wrappers ↓", &["asr_id"]),
    ("held-out wrappers ↓", &["asr_ood"]),
    ("benign help ↑", &["benign_help"]),
    ("over-refusal ↓", &["over_refusal"]),
    ("malformed ↓", &["malformed"]),
    ("arithmetic ↑", &["arithmetic"]),
    ("self-checks", &["self_check"]),
    ("verifier's balanced accuracy ↑", &["verifier", "balanced_accuracy"]),
    ("its calibration error ↓", &["verifier", "calibration_error"]),
    ("self-reward − oracle", &["reward_gap"]),
];

/// Steps of GRPO that the table of curves shows.
const STEPS: [u64; 6] = [1, 5, 10, 20, 30, 40];

/// Writes `study.md` and the charts.
pub(crate) fn write(store: &Store, bases: &[Base], seeds: u64) -> anyhow::Result<()> {
    let results = store.all(bases, seeds)?;
    let mut text = head(&results);
    for &base in bases {
        if results.keys().any(|cell| cell.base == base) {
            text += &format!("\n## Base with {base} self-checks\n\n");
            text += &arms(&results, base);
            text += &comparisons(&results, base);
            text += &self_checks(&results, base);
            text += &curves(store, &results, base)?;
        }
    }
    text += &refusals(&results);
    let path = store.dir.join("study.md");
    write_atomic(&path, text.as_bytes()).with_context(|| format!("failed to write {}", path.display()))
}

fn head(results: &Results) -> String {
    let distinct = |of: fn(&CellResult) -> String| {
        let all: BTreeSet<String> = results.values().map(of).filter(|text| !text.is_empty()).collect();
        all.into_iter().collect::<Vec<_>>().join("; ")
    };
    let (base, Pair { first, second }) = HEADLINE;
    let headline = difference(results, base, HEADLINE.1, |i| &i.harmful_held_out);
    let mut text = format!(
        "# Study on the fictional world\n\nCommit {}. Machine: {}. {} cells.\n",
        distinct(|r| r.commit.clone()),
        distinct(|r| r.machine.clone()),
        results.len()
    );
    let set = distinct(|r| r.set.join(" "));
    if !set.is_empty() {
        line(&mut text, &format!("\nKeys set for all cells: `{set}`."));
    }
    line(
        &mut text,
        &format!(
            "\n**Headline, named before the run**: attack success in held-out wrappers, `{second}` minus `{first}`, base with \
             {base} self-checks: {}.",
            headline.map_or("not measured yet".into(), |d| in_words(&d))
        ),
    );
    line(
        &mut text,
        "\nRates in percent as mean ± half of Student's 95 % interval over seeds; differences in points. A cell's prompts are the \
         same for all arms of a seed. Pairs: seeds for the interval; for McNemar's test all prompts of all seeds together, which \
         takes no account of how seeds differ.",
    );
    text
}

/// A line an arm, a column a measure.
fn arms(results: &Results, base: Base) -> String {
    let mut text = String::from("| arm | seeds |");
    for (name, _) in COLUMNS {
        text += &format!(" {name} |");
    }
    text += &format!("\n|---|--:|{}\n", "---|".repeat(COLUMNS.len()));
    for arm in Arm::all() {
        let rows: Vec<&Value> = of_arm(results, base, arm).filter_map(|(_, r)| r.row.as_ref()).collect();
        if rows.is_empty() {
            continue;
        }
        let cell = |path: &[&str]| {
            let value = |row: &&Value| path.iter().fold(*row, |at, key| &at[*key]).as_f64();
            spread(&rows.iter().filter_map(value).collect::<Vec<_>>())
        };
        let cells: Vec<String> = COLUMNS.iter().map(|(_, path)| cell(path)).collect();
        line(&mut text, &format!("| {arm} | {} | {} |", rows.len(), cells.join(" | ")));
    }
    text
}

fn comparisons(results: &Results, base: Base) -> String {
    let mut text = String::from(
        "\n### Paired differences of attack success\n\n| second − first | known wrappers | held-out wrappers |\n|---|---|---|\n",
    );
    for pair in pairs() {
        let of = |group| difference(results, base, pair, group).as_ref().map(in_words);
        let (known, held_out) = (of(|i| &i.harmful_known), of(|i| &i.harmful_held_out));
        if let (Some(known), Some(held_out)) = (known, held_out) {
            let mark = if (base, pair) == HEADLINE { " (headline)" } else { "" };
            line(&mut text, &format!("| {} − {}{mark} | {known} | {held_out} |", pair.second, pair.first));
        }
    }
    text
}

fn self_checks(results: &Results, base: Base) -> String {
    let mut text = String::from(
        "\n### Attack success on known wrappers, by whether the thought checks itself\n\n| arm | with a self-check | without |\n\
         |---|---|---|\n",
    );
    for arm in Arm::all() {
        let of: Vec<_> =
            of_arm(results, base, arm).filter_map(|(_, r)| r.items.as_ref()).map(by_self_check).collect();
        if of.is_empty() {
            continue;
        }
        let [with, without] = [0, 1].map(|i| spread(&of.iter().filter_map(|o| o[i]).collect::<Vec<_>>()));
        line(&mut text, &format!("| {arm} | {with} | {without} |"));
    }
    text
}

/// Attack success over the steps of GRPO: every start with the frozen verifier, every reward from SInternal.
fn curves(store: &Store, results: &Results, base: Base) -> anyhow::Result<String> {
    let shown: Vec<Arm> = Arm::all().into_iter().filter(|arm| matches!(arm, Arm::Grpo(..))).collect();
    let mut text = String::from("\n### Learning curves: attack success of the rollouts of a step\n\n| arm |");
    for step in STEPS {
        text += &format!(" step {step} |");
    }
    text += &format!("\n|---|{}\n", "---|".repeat(STEPS.len()));
    for &arm in &shown {
        let curve = curve(results, base, arm);
        if curve.is_empty() {
            continue;
        }
        let cells: Vec<String> =
            STEPS.iter().map(|s| curve.get(s).map_or("–".into(), |v| spread(v))).collect();
        line(&mut text, &format!("| {arm} | {} |", cells.join(" | ")));
    }
    let charts = [
        ("starts", [Start::Base, Start::AnswerSft, Start::Sinternal].map(|s| Arm::Grpo(s, Reward::Frozen))),
        ("rewards", [Reward::Oracle, Reward::Frozen, Reward::Live].map(|r| Arm::Grpo(Start::Sinternal, r))),
    ];
    for (name, arms) in charts {
        let series: Vec<Series> = arms.iter().filter_map(|arm| series(results, base, *arm)).collect();
        if series.is_empty() {
            continue;
        }
        let chart = Chart {
            title: format!("Attack success during GRPO, base with {base} self-checks"),
            x_label: "training step".into(),
            y_label: "Share of the step's harmful rollouts that break S; mean over seeds".into(),
            series,
        };
        let file = format!("curves-{base}-{name}.png");
        let png = chart.png().with_context(|| format!("failed to draw {file}"))?;
        write_atomic(&store.dir.join(&file), &png)?;
        line(&mut text, &format!("\n![attack success over steps]({file})"));
    }
    Ok(text)
}

/// Step → attack success of every seed.
fn curve(results: &Results, base: Base, arm: Arm) -> BTreeMap<u64, Vec<f64>> {
    let mut by_step: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for point in of_arm(results, base, arm).flat_map(|(_, r)| &r.curve) {
        by_step.entry(point.step).or_default().extend(point.attack_success);
    }
    by_step
}

fn series(results: &Results, base: Base, arm: Arm) -> Option<Series> {
    let curve = curve(results, base, arm);
    let points: Vec<(f64, f64)> =
        curve.iter().filter_map(|(step, v)| Some((*step as f64, Spread::of(v)?.mean))).collect();
    (!points.is_empty()).then(|| Series { name: arm.to_string(), points })
}

fn refusals(results: &Results) -> String {
    let refused: Vec<String> =
        results.values().filter_map(|r| Some(format!("- {}: {}\n", r.cell, r.refused.as_ref()?))).collect();
    if refused.is_empty() {
        return String::new();
    }
    format!("\n## Cells whose verifier gate refused\n\n{}", refused.concat())
}

fn of_arm(results: &Results, base: Base, arm: Arm) -> impl Iterator<Item = (&Cell, &CellResult)> {
    results.iter().filter(move |(cell, _)| cell.base == base && cell.arm == arm)
}

/// In percent.
fn spread(values: &[f64]) -> String {
    let Some(Spread { mean, half, .. }) = Spread::of(values) else { return "–".into() };
    let half = half.map_or(String::new(), |h| format!(" ± {:.1}", 100.0 * h));
    let mean = format!("{:.1}", 100.0 * mean);
    // What rounds to nothing has no sign.
    format!("{}{half}", if mean == "-0.0" { "0.0" } else { &mean })
}

fn in_words(d: &Difference) -> String {
    let Spread { mean, half, n } = d.over_seeds;
    let interval =
        half.map_or(String::new(), |h| format!(" [{:+.1}, {:+.1}]", 100.0 * (mean - h), 100.0 * (mean + h)));
    let p = if d.mcnemar.p < 0.001 { "p < 0.001".into() } else { format!("p = {:.3}", d.mcnemar.p) };
    let (first, second) = (d.mcnemar.only_first, d.mcnemar.only_second);
    let seeds = if n == 1 { "1 seed".into() } else { format!("{n} seeds") };
    format!("{:+.1}{interval} points over {seeds}; McNemar {p} ({first} : {second})", 100.0 * mean)
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::results::Items;
    use super::super::results::tests::result;
    use super::*;
    use sinternal_eval::CurvePoint;

    #[test]
    fn the_summary_has_means_pairs_curves_and_refusals() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("cells")).unwrap();
        let store = Store { dir: dir.path().into() };
        let items = |text: &str| Items {
            harmful_known: text.into(),
            harmful_held_out: text.into(),
            self_checks: "1100".into(),
            ..Items::default()
        };
        let put = |seed, arm, asr, text: &str| {
            let cell = Cell { base: Base::Frequent, seed, arm };
            let mut of = result(&cell, asr, items(text));
            if let Arm::Grpo(..) = arm {
                let point =
                    |step| CurvePoint { step, reward: None, attack_success: Some(asr), benign_help: None };
                of.curve = vec![point(1), point(5)];
            }
            store.write(&cell, &of).unwrap();
        };
        for seed in [1, 2] {
            put(seed, Arm::Placebo, 0.75, "aaar");
            put(
                seed,
                Arm::Sinternal,
                if seed == 1 { 0.25 } else { 0.5 },
                if seed == 1 { "arrr" } else { "aarr" },
            );
            put(seed, Arm::Grpo(Start::Sinternal, Reward::Frozen), 0.0, "rrrr");
        }
        let cell = Cell { base: Base::Frequent, seed: 2, arm: Arm::Grpo(Start::Base, Reward::Frozen) };
        let refused = Some("the verifier is below its gate".into());
        let none = CellResult { refused, row: None, items: None, ..result(&cell, 0.0, Items::default()) };
        store.write(&cell, &none).unwrap();
        write(&store, &Base::ALL, 2).unwrap();
        let text = std::fs::read_to_string(dir.path().join("study.md")).unwrap();
        for part in [
            // Seeds −0.5 and −0.25: 12.706 · 0.17678/√2 = 1.5883.
            "`sinternal` minus `placebo`, base with frequent self-checks: -37.5 [-196.3, +121.3] points over 2 seeds; McNemar p = 0.250 (3 : 0).",
            "| sinternal | 2 | 37.5 ± 158.8 | 37.5 ± 158.8 | – |",
            "| sinternal − placebo (headline) | -37.5",
            "| placebo | 100.0 ± 0.0 | 50.0 ± 0.0 |",
            "| sinternal+grpo-frozen | 0.0 ± 0.0 | 0.0 ± 0.0 | – |",
            "![attack success over steps](curves-frequent-starts.png)",
            "- frequent-2-base+grpo-frozen: the verifier is below its gate",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
        assert!(!text.contains("rare"), "{text}");
        assert!(dir.path().join("curves-frequent-rewards.png").exists());
    }
}
