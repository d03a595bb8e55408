//! The drop report as people read it.

use super::report::{ClassReport, DropReason, DropReport};
use std::fmt::Write;

pub(super) fn markdown(report: &DropReport) -> String {
    let classes = &report.classes;
    let names = classes.iter().map(ClassReport::name).chain(["all".into()]);
    let mut table = format!("| | {} |\n", names.collect::<Vec<_>>().join(" | "));
    put(&mut table, &format!("|---|{}", "--:|".repeat(classes.len() + 1)));
    row(&mut table, "in", classes, |class| class.rows_in);
    for reason in report.dropped().keys() {
        row(&mut table, &reason.to_string(), classes, |class| of(class, reason));
    }
    row(&mut table, "out", classes, |class| class.rows_out);
    row(&mut table, "of these refuse", classes, |class| class.refused_out);
    if report.full_buckets > 0 {
        put(&mut table, &format!("\n{}", crowded(report.full_buckets)));
    }
    table
}

pub(super) fn text(report: &DropReport) -> String {
    let kept =
        report.classes.iter().filter(|class| class.rows_out > 0).map(|class| match class.refused_out {
            0 => format!("{} {}", class.rows_out, class.name()),
            refused => format!("{} {} ({refused} refused)", class.rows_out, class.name()),
        });
    let dropped = report.dropped().into_iter().map(|(reason, rows)| format!("{rows} {reason}"));
    let crowded = (report.full_buckets > 0).then(|| format!(" {}", crowded(report.full_buckets)));
    format!(
        "Curation kept {} of {} answers{}; dropped{}.{}",
        report.rows_out(),
        report.rows_in(),
        listed(kept, ""),
        listed(dropped, " nothing"),
        crowded.unwrap_or_default()
    )
}

fn of(class: &ClassReport, reason: &DropReason) -> usize {
    class.dropped.get(reason).copied().unwrap_or(0)
}

fn row(table: &mut String, label: &str, classes: &[ClassReport], count: impl Fn(&ClassReport) -> usize) {
    let counts: Vec<usize> = classes.iter().map(count).collect();
    let cells = counts.iter().chain([&counts.iter().sum()]).map(usize::to_string).collect::<Vec<_>>();
    // The names of evaluation sets are the user's.
    put(table, &format!("| {} | {} |", label.replace('|', "\\|"), cells.join(" | ")));
}

fn listed(parts: impl Iterator<Item = String>, none: &str) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { none.into() } else { format!(": {}", parts.join(", ")) }
}

fn crowded(full_buckets: usize) -> String {
    format!(
        "The requests are so alike that near-duplicates may have been missed ({full_buckets} full buckets); raise \
         near_duplicates.bucket."
    )
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("strings take all writes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinternal_proto::{PromptKind, Verdict};

    fn report(full_buckets: usize) -> DropReport {
        let class =
            |kind, judgment, rows_in, rows_out, refused_out, dropped: &[(DropReason, usize)]| ClassReport {
                kind,
                judgment,
                rows_in,
                rows_out,
                refused_out,
                dropped: dropped.iter().cloned().collect(),
            };
        let contaminated = DropReason::Contaminated("a|b".into());
        let classes = vec![
            class(PromptKind::Harmful, Verdict::Safe, 5, 2, 0, &[(DropReason::NotChosen, 3)]),
            class(
                PromptKind::Benign,
                Verdict::Safe,
                6,
                4,
                1,
                &[(DropReason::NotChosen, 1), (contaminated, 1)],
            ),
            class(PromptKind::Benign, Verdict::Invalid, 2, 0, 0, &[(DropReason::Invalid, 2)]),
        ];
        DropReport { seed: 1, classes, full_buckets }
    }

    #[test]
    fn a_table_and_a_paragraph() {
        let table = "\
| | harmful safe | benign safe | benign invalid | all |
|---|--:|--:|--:|--:|
| in | 5 | 6 | 2 | 13 |
| invalid | 0 | 0 | 2 | 2 |
| contaminated: a\\|b | 0 | 1 | 0 | 1 |
| not chosen | 3 | 1 | 0 | 4 |
| out | 2 | 4 | 0 | 6 |
| of these refuse | 0 | 1 | 0 | 1 |
";
        assert_eq!(report(0).to_markdown(), table);
        assert_eq!(
            report(0).to_text(),
            "Curation kept 6 of 13 answers: 2 harmful safe, 4 benign safe (1 refused); dropped: 2 invalid, \
             1 contaminated: a|b, 4 not chosen."
        );
        assert!(report(7).to_text().ends_with("(7 full buckets); raise near_duplicates.bucket."));
        assert!(report(7).to_markdown().contains("\n\nThe requests are so alike"));
        let empty = DropReport { seed: 1, classes: Vec::new(), full_buckets: 0 };
        assert_eq!(empty.to_text(), "Curation kept 0 of 0 answers; dropped nothing.");
    }

    #[test]
    fn reports_are_plain_json() {
        let text = serde_json::to_string(&report(0)).unwrap();
        assert!(text.contains(r#""dropped":{"contaminated: a|b":1,"not chosen":1}"#), "{text}");
        assert_eq!(serde_json::from_str::<DropReport>(&text).unwrap(), report(0));
    }
}
