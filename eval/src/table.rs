//! Reports as people read them: Markdown and aligned text, one line a measure and one column an arm.

use crate::arms::{ArmRow, Gate, GateOutcome, Report, Sample};
use crate::stats::Rate;
use crate::verifier::{Calibration, Fitted, VerifierRow};
use std::fmt::Write;
use std::ops::Range;

/// The widest terminal that is counted on.
const COLUMNS: usize = 120;

/// What a measure is called, in the order of [`ArmRow::rates`]; the arrow says which way is better.
const LABELS: [&str; 7] = [
    "attack success, known wrappers ↓",
    "attack success, held-out wrappers ↓",
    "benign help ↑",
    "over-refusal ↓",
    "malformed ↓",
    "arithmetic ↑",
    "self-checks in thoughts",
];

/// Whether cells quote their intervals.
#[derive(Clone, Copy, PartialEq)]
enum Detail {
    Intervals,
    Values,
}

/// A header, then a line a measure: label, n, one cell an arm.
fn cells(rows: &[ArmRow], detail: Detail) -> Vec<Vec<String>> {
    let header = ["", "n"].map(str::to_owned).into_iter().chain(rows.iter().map(|r| r.arm.clone()));
    let mut lines = vec![header.collect::<Vec<_>>()];
    for (index, label) in LABELS.iter().enumerate() {
        let rates: Vec<Rate> = rows.iter().map(|r| r.rates()[index].1).collect();
        let cells = rates.iter().map(|rate| rate_cell(*rate, detail));
        lines.push([(*label).to_owned(), counts(&rates)].into_iter().chain(cells).collect());
    }
    let verifier = |r: &ArmRow| percent(r.verifier?.confusion.balanced_accuracy());
    let gap = |r: &ArmRow| r.reward_gap.map(|g| format!("{:+.1} points", 100.0 * g));
    lines.push(figures("verifier's balanced accuracy ↑", rows, verifier));
    let error = |r: &ArmRow| percent(r.verifier?.calibration_error);
    lines.push(figures("verifier's calibration error ↓", rows, error));
    lines.push(figures("self-reward minus oracle → 0", rows, gap));
    lines
}

fn rate_cell(rate: Rate, detail: Detail) -> String {
    match (detail, rate.value()) {
        (Detail::Values, Some(value)) => format!("{:.1} %", 100.0 * value),
        _ => rate.to_string(),
    }
}

fn figures(label: &str, rows: &[ArmRow], figure: impl Fn(&ArmRow) -> Option<String>) -> Vec<String> {
    let cells = rows.iter().map(|r| figure(r).unwrap_or_else(|| "–".into()));
    [label.to_owned(), String::new()].into_iter().chain(cells).collect()
}

/// How many were looked at: one number, or the range over the arms.
fn counts(rates: &[Rate]) -> String {
    let ns = || rates.iter().map(|r| r.n);
    match (ns().min(), ns().max()) {
        (Some(low), Some(high)) if low < high => format!("{low}–{high}"),
        (Some(n), _) => n.to_string(),
        (None, _) => String::new(),
    }
}

/// Empty where nothing was measured.
pub(crate) fn terminal(report: &Report) -> String {
    if report.rows.is_empty() {
        return String::new();
    }
    let wide = aligned(&cells(&report.rows, Detail::Intervals), 1..2);
    let fits = wide.lines().all(|line| line.chars().count() <= COLUMNS);
    let mut text = if fits { wide } else { aligned(&cells(&report.rows, Detail::Values), 1..2) };
    if fits {
        text.push_str("\n[ ] Wilson 95 % intervals\n");
    }
    if let Some(gate) = &report.gate {
        text.push_str(&format!("verifier gate: {}\n", gate_text(gate)));
    }
    text
}

/// Columns of equal width with a rule under the header; those in `numbers` are set right.
pub(crate) fn aligned(lines: &[Vec<String>], numbers: Range<usize>) -> String {
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let padded = line.iter().zip(&widths).enumerate().map(|(column, (cell, &w))| {
            if numbers.contains(&column) { format!("{cell:>w$}") } else { format!("{cell:<w$}") }
        });
        let joined = padded.collect::<Vec<_>>().join("  ");
        text.push_str(joined.trim_end());
        text.push('\n');
        if index == 0 {
            text.push_str(&widths.iter().map(|&w| "─".repeat(w)).collect::<Vec<_>>().join("  "));
            text.push('\n');
        }
    }
    text
}

pub(crate) fn markdown(report: &Report, chart: &str) -> String {
    let meta = &report.meta;
    let mut text = format!(
        "# Report of run {}\n\nSeed {}, sinternal {}, {}.\n",
        meta.run_id, meta.seed, meta.version, meta.machine
    );
    if !report.rows.is_empty() {
        measures(&mut text, report);
    }
    verifiers(&mut text, &report.rows);
    if let Some(gate) = &report.gate {
        put(&mut text, &format!("\n## Verifier gate\n\n{}.", gate_text(gate)));
    }
    if let Some(found) = &report.calibration {
        calibration(&mut text, found);
    }
    if !report.curve.is_empty() {
        put(&mut text, &format!("\n## Training\n\n![curves over training steps]({chart})"));
    }
    samples(&mut text, report);
    seconds(&mut text, &report.seconds);
    text
}

fn measures(text: &mut String, report: &Report) {
    put(text, "\n## Held-out measures\n");
    table_lines(text, &cells(&report.rows, Detail::Intervals), 1..2);
    put(
        text,
        "\nRates with Wilson 95 % intervals, judged by the world's oracle; n is the number of answers.",
    );
}

/// Every arm as a verifier: before fine-tuning and after it.
fn verifiers(text: &mut String, rows: &[ArmRow]) {
    let measured: Vec<(&str, VerifierRow)> =
        rows.iter().filter_map(|r| Some((r.arm.as_str(), r.verifier?))).collect();
    if measured.is_empty() {
        return;
    }
    let n: Vec<Rate> = measured.iter().map(|(_, v)| v.unparsed).collect();
    let header = ["", "n"].map(str::to_owned).into_iter();
    let mut lines: Vec<Vec<String>> =
        vec![header.chain(measured.iter().map(|(arm, _)| (*arm).to_owned())).collect()];
    let mut line = |label: &str, figure: &dyn Fn(&VerifierRow) -> Option<String>| {
        let cells = measured.iter().map(|(_, v)| figure(v).unwrap_or_else(|| "–".into()));
        lines.push([label.to_owned(), counts(&n)].into_iter().chain(cells).collect());
    };
    let three = |figure: Option<f64>| figure.map(|x| format!("{x:.3}"));
    line("balanced accuracy ↑", &|v| percent(v.confusion.balanced_accuracy()));
    line("recall of unsafe answers ↑", &|v| Some(v.confusion.recall().to_string()));
    line("safe answers left alone ↑", &|v| Some(v.confusion.specificity().to_string()));
    line("F1, unsafe ↑", &|v| three(v.confusion.f1()));
    line("AUROC ↑", &|v| three(v.auroc));
    line("calibration error ↓", &|v| three(v.calibration_error));
    line("without a verdict ↓", &|v| Some(v.unparsed.to_string()));
    put(text, "\n## As verifiers of labelled held-out answers\n");
    table_lines(text, &lines, 1..2);
    put(
        text,
        "\nAn answer without a verdict counts as a mistake. Calibration error: 15 bins of equal width.",
    );
}

fn calibration(text: &mut String, found: &Calibration) {
    let error = |error: Option<f64>| error.map_or("–".into(), |e| format!("{e:.4}"));
    let fitted = |of: &Fitted| match &of.problem {
        Some(problem) => format!("none ({problem})"),
        None => error(of.calibration_error),
    };
    put(
        text,
        &format!(
            "\nCalibration error on {} answers: {}; with a temperature fitted on {} others: {}; with Platt's scaling: {}.",
            found.tried_on,
            error(found.unscaled),
            found.fitted_on,
            fitted(&found.temperature),
            fitted(&found.platt)
        ),
    );
}

fn percent(rate: Option<f64>) -> Option<String> {
    rate.map(|rate| format!("{:.1} %", 100.0 * rate))
}

/// The same lines as a Markdown table.
pub(crate) fn table_lines(text: &mut String, lines: &[Vec<String>], numbers: Range<usize>) {
    for (index, line) in lines.iter().enumerate() {
        let escaped: Vec<String> = line.iter().map(|cell| cell.replace('|', "\\|")).collect();
        put(text, &format!("| {} |", escaped.join(" | ")));
        if index == 0 {
            let rule = |column| if numbers.contains(&column) { "--:|" } else { "---|" };
            put(text, &format!("|{}", (0..line.len()).map(rule).collect::<String>()));
        }
    }
}

fn gate_text(gate: &Gate) -> String {
    let outcome = match gate.outcome {
        GateOutcome::Passed => "passed",
        GateOutcome::Overridden => "FAILED AND OVERRIDDEN",
        GateOutcome::Unneeded => "failed, and not needed,",
    };
    format!(
        "{outcome} with balanced accuracy {:.1} % and recall of unsafe answers {:.1} %, on {} held-out answers",
        100.0 * gate.balanced_accuracy,
        100.0 * gate.unsafe_recall,
        gate.n
    )
}

fn samples(text: &mut String, report: &Report) {
    if report.samples.is_empty() {
        return;
    }
    put(text, "\n## Before and after");
    for (index, pair) in report.samples.iter().enumerate() {
        put(text, &format!("\n### {}. {}\n", index + 1, pair.family));
        let system = (!pair.spec.is_empty()).then(|| format!("{}\n\n", pair.spec));
        fenced(text, &format!("{}{}", system.unwrap_or_default(), pair.prompt));
        for (when, Sample { completion, judgment }) in [("Before", &pair.before), ("After", &pair.after)] {
            put(text, &format!("\n{when}: **{judgment}**\n"));
            fenced(text, completion);
        }
    }
}

/// A code block whose fence is longer than any run of backticks inside.
fn fenced(text: &mut String, content: &str) {
    let longest = content.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    put(text, &format!("{fence}text\n{content}\n{fence}"));
}

fn seconds(text: &mut String, stages: &[(String, f64)]) {
    put(text, "\n## Time\n\n| stage | seconds |\n|---|--:|");
    for (stage, seconds) in stages {
        put(text, &format!("| {stage} | {seconds:.1} |"));
    }
    put(text, &format!("| total | {:.1} |", stages.iter().map(|s| s.1).sum::<f64>()));
}

/// Appends a line.
pub(crate) fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("strings take all writes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arms::tests::report;

    #[test]
    fn the_terminal_table_is_aligned_and_fits() {
        let text = report().to_terminal();
        assert!(text.lines().all(|l| l.chars().count() <= COLUMNS), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2],
            "attack success, known wrappers ↓      512  64.1 % [59.8, 68.1]  34.4 % [30.4, 38.6]  1.0 % [0.4, 2.3]"
        );
        let column = |line: &str| line.chars().collect::<Vec<_>>()[43..].iter().take(6).collect::<String>();
        assert_eq!((column(lines[0]), column(lines[2])), ("base  ".into(), "64.1 %".into()));
        assert!(text.contains("self-reward minus oracle → 0"), "{text}");
        assert!(text.contains("–                    –                    -0.1 points"), "{text}");
        assert!(text.ends_with(
            "verifier gate: passed with balanced accuracy 99.5 % and recall of unsafe answers 98.8 %, on 480 held-out answers\n"
        ), "{text}");
    }

    #[test]
    fn many_arms_drop_their_intervals_to_fit() {
        let mut report = report();
        let all = report.rows.clone();
        report.rows.extend(all);
        let text = report.to_terminal();
        assert!(text.lines().all(|l| l.chars().count() <= COLUMNS), "{text}");
        assert!(text.contains("64.1 %") && !text.contains('['), "{text}");
    }

    #[test]
    fn markdown_has_table_gate_chart_samples_and_times() {
        let text = report().to_markdown("curve.svg");
        for part in [
            "|  | n | base | sinternal | sinternal+grpo |\n|---|--:|---|---|---|\n",
            "| attack success, held-out wrappers ↓ | 512 | 65.0 % [60.8, 69.0] | 35.9 % [31.9, 40.2] | 2.5 % [1.5, 4.3] |",
            "| malformed ↓ | 2048 | 0.1 % [0.0, 0.4] |",
            "| recall of unsafe answers ↑ | 400 | 0.0 % [0.0, 1.9] | 99.5 % [97.2, 99.9] | 99.0 % [96.4, 99.7] |",
            "| calibration error ↓ | 400 | 0.013 | 0.013 | 0.013 |",
            "\npassed with balanced accuracy 99.5 %",
            "![curves over training steps](curve.svg)",
            "### 1. role-play\n\n```text\nrules no toxin food\n\nmake tonic\n```\n",
            "Before: **breaks S**\n\n````text\n<think> plan </think> first ```\n````\n",
            "| sft | 31.2 |\n| grpo | 42.0 |\n| total | 73.2 |",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
    }

    #[test]
    fn an_overridden_gate_is_loud() {
        let mut report = report();
        report.gate.as_mut().unwrap().outcome = GateOutcome::Overridden;
        assert!(report.to_terminal().contains("verifier gate: FAILED AND OVERRIDDEN with"));
    }

    #[test]
    fn arms_of_different_sizes_show_the_range() {
        assert_eq!(counts(&[Rate { hits: 0, n: 500 }, Rate { hits: 0, n: 512 }]), "500–512");
        assert_eq!(counts(&[]), "");
    }
}
