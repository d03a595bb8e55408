use super::*;
use ::metrics::Unit;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn names_follow_the_conventions() {
    for metric in METRICS {
        let name = metric.name;
        let body = name.strip_prefix("sinternal_").unwrap_or_else(|| panic!("{name} lacks the prefix"));
        assert!(body.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        let of_unit = name.strip_suffix("_total").unwrap_or(name);
        assert_eq!(of_unit.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
        assert_eq!(of_unit.ends_with("_bytes"), metric.unit == Unit::Bytes, "{name}");
        assert!(matches!(metric.unit, Unit::Seconds | Unit::Bytes | Unit::Count), "{name} has no base unit");
        assert!(metric.help.ends_with('.') && metric.help.len() > 10, "{name}");
        assert!(!metric.help.contains('|'), "{name}: it would end the table's cell");
    }
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "a name is there twice");
}

#[test]
fn labels_are_few_and_their_values_known() {
    for metric in METRICS {
        for label in metric.labels {
            assert!(LABELS.contains(&label.name) && label.name != "role", "{}: {}", metric.name, label.name);
            assert_eq!(label.values.is_empty(), label.name == JOB, "{}: {}", metric.name, label.name);
            let distinct: BTreeSet<_> = label.values.iter().collect();
            assert_eq!(distinct.len(), label.values.len(), "{}: {}", metric.name, label.name);
        }
        assert!(!metric.is_of_a_job() || metric.by == TRAINER, "{}: jobs run in the trainer", metric.name);
        assert!(!metric.by.is_empty(), "{}: nobody exports it", metric.name);
    }
}

#[test]
fn histograms_have_buckets_that_grow() {
    for metric in METRICS {
        assert_eq!(metric.kind == Kind::Histogram, !metric.buckets.is_empty(), "{}", metric.name);
        assert!(metric.buckets.windows(2).all(|pair| pair[0] < pair[1]), "{}", metric.name);
    }
}

#[test]
fn a_metric_has_a_series_for_every_combination_of_its_labels() {
    let verdicts = METRICS.iter().find(|m| m.name == "sinternal_verdicts_total").expect("there");
    let text = |series: Vec<Vec<::metrics::Label>>| -> Vec<String> {
        let one = |labels: Vec<::metrics::Label>| {
            labels.iter().map(|l| format!("{}={}", l.key(), l.value())).collect::<Vec<_>>().join(" ")
        };
        series.into_iter().map(one).collect()
    };
    let all = text(verdicts.series(None));
    assert_eq!(
        (all.len(), all[0].as_str(), all[8].as_str()),
        (9, "reward=self outcome=safe", "reward=remote outcome=invalid")
    );
    let steps = METRICS.iter().find(|m| m.name == "sinternal_steps_total").expect("there");
    assert_eq!(text(steps.series(Some("a"))), ["job=a stage=sft", "job=a stage=grpo"]);
    assert!(steps.series(None).is_empty(), "a job's series need the job");
}

#[test]
fn reasons_become_few_labels() {
    assert_eq!(mask_label("verifier refused: request 7: the prompt has 5000 tokens"), "verifier refused");
    assert_eq!(mask_label("reward: `p_safe` was not measured"), "other");
    assert_eq!(mask_label(sinternal_proto::INVALID_CRITIQUE), "invalid critique");
    for label in SCORES.iter().filter(|label| !["safe", "unsafe", "graded"].contains(label)) {
        assert_eq!(mask_label(label), *label);
    }
}

#[test]
fn the_page_is_that_of_this_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, markdown()).expect("writes");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == markdown(),
        "docs/METRICS.md is not what the registry says; run `UPDATE_DOCS=1 cargo test -p sinternal-service metrics` to write it"
    );
    let rows = there.lines().filter(|line| line.starts_with("| `sinternal_")).count();
    let histograms = METRICS.iter().filter(|m| m.kind == Kind::Histogram).count();
    assert_eq!(rows, METRICS.len() + histograms, "a metric of roles that the page does not know");
}
