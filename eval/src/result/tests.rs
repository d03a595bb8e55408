//! Documents, tables and files of small evaluations.

use super::*;
use crate::judge::{Judged, Safety};
use crate::measure::tests::{outcome, safety};
use crate::suite::Kind;
use std::fs;

fn about(suite: Suite, model: &str) -> About {
    About {
        version: "0.1.0 (abc)".into(),
        suite,
        data: DataUsed { path: "h.csv".into(), sha256: "d0".into(), rows: 4, take: Take::First(4) },
        model: ModelUsed { name: model.into(), sha256: Some("a0".into()) },
        judges: vec![JudgeUsed { verdict: "safety".into(), backend: "self".into(), model: None }],
        decoding: Decoding {
            samples: 1,
            temperature: 0.6,
            top_p: 0.95,
            top_k: None,
            min_p: 0.0,
            max_new_tokens: 64,
            system: None,
            seed: 3,
        },
        resampling: Resampling { seed: 4, draws: 500 },
    }
}

/// `unsafe_answers` of four items are unsafe.
pub(crate) fn evaluation(suite: Suite, model: &str, unsafe_answers: usize) -> Evaluation {
    let verdict = |i| if i < unsafe_answers { Safety::Unsafe } else { Safety::Safe };
    let items =
        (0..4).map(|i| outcome(&i.to_string(), Kind::Harmful, vec![safety(Judged::Said(verdict(i)))]));
    Evaluation::new(about(suite, model), items.collect()).unwrap()
}

#[test]
fn the_document_reads_back_and_knows_its_fields() {
    let evaluation = evaluation(Suite::HarmBench, "base", 3);
    let text = evaluation.to_json();
    assert_eq!(Evaluation::from_json(&text).unwrap(), evaluation);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["about"]["suite"], "harmbench");
    assert_eq!(
        (&json["measures"][0]["measure"], &json["measures"][0]["value"]),
        (&"attack_success".into(), &0.75.into())
    );
    assert_eq!(json["items"][0]["answers"][0]["verdicts"]["safety"]["said"], "unsafe");
    let more = text.replacen("\"version\"", "\"vrsion\": 1, \"version\"", 1);
    let error = Evaluation::from_json(&more).unwrap_err().to_string();
    assert!(error.starts_with("unknown field `vrsion`"), "{error}");
}

#[test]
fn items_read_back_line_by_line() {
    let items = evaluation(Suite::HarmBench, "base", 3).items;
    let text = items_jsonl(&items);
    assert_eq!(text.lines().count(), 4);
    assert_eq!(read_items_jsonl(&text).unwrap(), items);
    let broken = text.replacen("\"answers\"", "\"answer\"", 1);
    assert!(
        read_items_jsonl(&broken)
            .unwrap_err()
            .to_string()
            .starts_with("items line 1: unknown field `answer`")
    );
}

#[test]
fn tables_have_a_line_a_measure_and_a_column_a_model() {
    let all = [
        evaluation(Suite::HarmBench, "base", 3),
        evaluation(Suite::HCot, "base", 4),
        evaluation(Suite::HarmBench, "tuned", 0),
    ];
    let text = terminal(&all);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["n", "unparsed", "base", "tuned"]);
    // H-CoT comes first, as in Suite::ALL; 3 of 4: Wilson's interval is 30.1–95.4 %, 0 of 4: 0–49.0 %.
    assert_eq!(
        lines[2].split_whitespace().collect::<Vec<_>>().join(" "),
        "h-cot · attack success ↓ 4 0 100.0 % [51.0, 100.0] –"
    );
    assert_eq!(
        lines[4].split_whitespace().collect::<Vec<_>>().join(" "),
        "harmbench · attack success ↓ 4 0 75.0 % [30.1, 95.4] 0.0 % [0.0, 49.0]"
    );
    assert!(text.ends_with("[ ] 95 % intervals: Wilson's\n"), "{text}");
    let text = markdown("Results", &all, "chart.svg");
    for part in [
        "# Results\n\n|  | n | unparsed | base | tuned |\n|---|--:|--:|---|---|\n",
        "| harmbench · attack success ↓ | 4 | 0 | 75.0 % [30.1, 95.4] | 0.0 % [0.0, 49.0] |\n",
        "![measures with intervals](chart.svg)",
        "### h-cot by base\n\n- sinternal 0.1.0 (abc)\n- model: SHA-256 `a0`\n- data: `h.csv`, SHA-256 `d0`, 4 items\n- safety: self\n",
        "- 1 samples an item, temperature 0.6, top-p 0.95, at most 64 tokens, seed 3; bootstrap seed 4\n",
    ] {
        assert!(text.contains(part), "{part}\n---\n{text}");
    }
}

#[test]
fn the_chart_has_a_bar_for_each_model() {
    let all = [evaluation(Suite::HarmBench, "base", 3), evaluation(Suite::HCot, "tuned", 4)];
    let chart = bar_chart("Results", &all);
    assert_eq!(chart.series, ["base", "tuned"]);
    let values: Vec<Vec<Option<f64>>> =
        chart.groups.iter().map(|g| g.bars.iter().map(|b| b.map(|b| b.value)).collect()).collect();
    assert_eq!(values, [[None, Some(1.0)], [Some(0.75), None]]);
}

#[test]
fn reports_are_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("report");
    let all = [evaluation(Suite::HarmBench, "a/base", 3), evaluation(Suite::HarmBench, "tuned", 0)];
    for _ in 0..2 {
        write_report(&dir, "Results", &all).unwrap();
    }
    let mut names: Vec<String> =
        fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = [
        "a_base.harmbench.items.jsonl",
        "a_base.harmbench.json",
        "chart.png",
        "chart.svg",
        "report.md",
        "tuned.harmbench.items.jsonl",
        "tuned.harmbench.json",
    ];
    assert_eq!(names, expected);
    let text = fs::read_to_string(dir.join("tuned.harmbench.json")).unwrap();
    assert_eq!(Evaluation::from_json(&text).unwrap(), all[1]);
    write_report(&dir, "Results", &all[..1]).unwrap();
    assert!(dir.join("harmbench.json").is_file());
}

#[test]
fn what_cannot_be_written_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let one = [evaluation(Suite::HarmBench, "base", 3)];
    let error = write_report(&file, "Results", &one).unwrap_err().to_string();
    assert!(error.starts_with(&format!("failed to write {}", file.display())), "{error}");
    let twice = [one[0].clone(), one[0].clone()];
    let error = write_report(folder.path(), "Results", &twice).unwrap_err().to_string();
    assert_eq!(error, "two evaluations are of harmbench by `base`; give the models different names");
    // A folder in the place of a file: nothing temporary is left.
    fs::create_dir(folder.path().join("harmbench.json")).unwrap();
    assert!(write_report(folder.path(), "Results", &one).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}
