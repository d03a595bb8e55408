//! The figures of `report.json`, one run's arms or two runs' last arms side by side.

use super::error::PageError;
use super::{format, layout, text};
use maud::{Markup, html};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest report that is read.
const MOST_BYTES: u64 = 16 << 20;

/// What each key of a row is called; the arrow says which way is better.
const MEASURES: [(&str, &str); 9] = [
    ("asr_id", "attack success, known wrappers ↓"),
    ("asr_ood", "attack success, held-out wrappers ↓"),
    ("benign_help", "benign help ↑"),
    ("over_refusal", "over-refusal ↓"),
    ("malformed", "malformed ↓"),
    ("arithmetic", "arithmetic ↑"),
    ("self_check", "self-checks in thoughts"),
    ("verifier_balanced_accuracy", "verifier's balanced accuracy ↑"),
    ("reward_gap", "self-reward minus oracle → 0"),
];

/// A column of the table: a name and a row of `report.json`.
pub(super) type Column<'a> = (String, &'a Value);

/// The report of a run; `None` before its end.
pub(super) fn read(run_dir: &Path) -> Result<Option<Value>, PageError> {
    json(&run_dir.join("report.json"))
}

/// The verifier gate's figures and outcome; `None` before it, or where the job has none.
pub(super) fn gate(run_dir: &Path) -> Result<Option<Value>, PageError> {
    json(&run_dir.join("gate.json"))
}

fn json(path: &Path) -> Result<Option<Value>, PageError> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(PageError::file(path, &e)),
    }
    let value = serde_json::from_str(&text);
    value.map(Some).map_err(|e| PageError::Internal(format!("{}: {e}", path.display())))
}

/// One column an arm, in the order of training.
pub(super) fn arms(report: &Value) -> Vec<Column<'_>> {
    let rows = report["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().map(|row| (row["arm"].as_str().unwrap_or("?").to_owned(), row)).collect()
}

/// Measures by column; those that no column has are left out.
pub(super) fn table(columns: &[Column<'_>]) -> Markup {
    let measured = |key: &str| columns.iter().any(|(_, row)| row[key].is_number());
    html! {
        @if columns.is_empty() {
            (layout::note("The report has no held-out measures: the job has no [eval] section."))
        } @else {
            div.scroll {
                table.figures {
                    thead { tr { th { "" } @for (name, _) in columns { th { (text::shown(name)) } } } }
                    tbody {
                        @for (key, label) in MEASURES.into_iter().filter(|(key, _)| measured(key)) {
                            tr { th { (label) } @for (_, row) in columns { td { (cell(row, key)) } } }
                        }
                    }
                }
            }
            p.small { "[ ] Wilson 95 % intervals; n is the number of answers" }
        }
    }
}

fn cell(row: &Value, key: &str) -> Markup {
    let Some(value) = row[key].as_f64() else { return layout::figure(None) };
    if key == "reward_gap" {
        return html! { (format::signed((1000.0 * value).round() / 10.0)) " points" };
    }
    let interval = &row["intervals"][key];
    html! {
        b { (format::percent(value)) }
        @if let (Some(low), Some(high)) = (interval[0].as_f64(), interval[1].as_f64()) {
            span.interval { " [" (format!("{:.1}", 100.0 * low)) ", " (format!("{:.1}", 100.0 * high)) "]" }
        }
        @if let Some(n) = row["n"][key].as_u64() { span.interval { " n " (n) } }
    }
}

/// The gate in a sentence; `value` is `gate` of the report or the file that a running job has.
pub(super) fn gate_line(value: &Value) -> Markup {
    let share = |key: &str| value[key].as_f64().map_or_else(|| "–".into(), format::percent);
    let outcome = value["outcome"].as_str().unwrap_or("unknown");
    html! {
        p {
            span class={ "state gate-" (outcome) } { (outcome) }
            " Balanced accuracy " b { (share("balanced_accuracy")) } ", recall of unsafe answers "
            b { (share("unsafe_recall")) } ", on " (value["n"].as_u64().unwrap_or_default())
            " held-out answers."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_have_values_intervals_and_counts() {
        let row = json!({
            "arm": "base", "asr_id": 0.003, "reward_gap": -0.0703, "self_check": null,
            "intervals": {"asr_id": [0.001_02, 0.008_78]}, "n": {"asr_id": 1000},
        });
        let report = json!({"rows": [row]});
        let html = table(&arms(&report)).into_string();
        assert!(html.contains(
            "<b>0.3 %</b><span class=\"interval\"> [0.1, 0.9]</span><span class=\"interval\"> n 1000"
        ));
        assert!(html.contains("−7 points") && !html.contains("self-checks"), "{html}");
    }

    #[test]
    fn the_gate_is_a_sentence() {
        let gate = json!({"balanced_accuracy": 0.95, "unsafe_recall": 1.0, "n": 1993, "outcome": "passed"});
        let html = gate_line(&gate).into_string();
        assert!(
            html.contains(">passed</span>") && html.contains("<b>95.0 %</b>") && html.contains("on 1993")
        );
    }
}
