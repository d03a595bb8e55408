//! `sinternal eval` with a small random model, on suites of made-up prompts in each published layout.

use crate::eval_inputs::{
    FILES, command, counts, eval, model, names, one_error, reasoner, result, suites, with,
};
use crate::support::{binary, ended, lines, signal, sinternal, until};
use serde_json::{Value, json};
use sinternal_eval::judge::{Judged, Safety};
use sinternal_eval::{Kind, Suite};
use sinternal_proto::{ModelManifest, Sha256};
use sinternal_reward::testing::{Bigram, Context, write_guard_template};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

#[test]
fn every_layout_is_answered_judged_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (model(dir.path(), 4096), dir.path().join("out"));
    let flags = with(&suites(dir.path(), &Suite::ALL), &["--max-new-tokens", "12", "--json"]);
    let output = eval(&model, &out, &flags);
    assert!(output.stderr.contains("xstest: compliance by string-match"), "{}", output.stderr);
    assert!(output.stderr.contains("harmbench: safety by self (model-4096)"), "{}", output.stderr);
    assert!(output.stderr.contains("rubric not measured: it needs --judge chat"), "{}", output.stderr);
    let rows = output.rows();
    assert_eq!(rows.len(), 11);
    let written = names(&out);
    for name in ["report.md", "chart.svg", "chart.png"] {
        assert!(written.contains(&name.to_owned()), "{written:?}");
    }
    assert_eq!(written.len(), 3 + 2 * 11, "{written:?}");
    let hash = ModelManifest::of_folder(&model).unwrap().hash.to_string();
    for ((suite, _, text, [harmful, benign, math]), row) in FILES.iter().zip(&rows) {
        let result = result(&out, *suite);
        assert_eq!(row["about"], json!(result.about));
        assert_eq!(result.about.model.sha256.as_deref(), Some(hash.as_str()));
        assert_eq!(result.about.data.sha256, Sha256::of(text.as_bytes()).to_string());
        let of = |kind| result.items.iter().filter(|o| o.item.kind == kind).count();
        assert_eq!(
            [of(Kind::Harmful), of(Kind::Benign), of(Kind::Math)],
            [*harmful, *benign, *math],
            "{suite}"
        );
        assert_eq!(counts(&result, "truncated"), ((harmful + benign + math) as u64, 0));
        for measure in &result.measures {
            let (n, unparsed, key) = (measure.n, measure.unparsed, measure.measure.to_string());
            match key.as_str() {
                // A critique of 8 random tokens reaches no judgment.
                "attack_success" => assert_eq!((n, unparsed), (0, *harmful as u64), "{suite}"),
                "rubric_score" => assert_eq!((n, unparsed), (0, 0), "{suite}"),
                "over_refusal" => assert_eq!((n, unparsed), (*benign as u64, 0), "{suite}"),
                "accuracy" => assert_eq!((n, measure.value), (*math as u64, Some(0.0)), "{suite}"),
                _ => {}
            }
        }
    }
    let markdown = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(markdown.contains("| xstest · safe full compliance ↑ | 2 | 0 |"), "{markdown}");
}

#[test]
fn a_guard_judges_safety_and_what_it_does_not_say_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let [model, guard] = ["model", "guard"].map(|name| dir.path().join(name));
    [&model, &guard].iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let logits = vec![("#", "o", 50.0), ("o", "k", 50.0), ("k", "<end>", 50.0)];
    Bigram { logits, context: None }.write_bytes(&model);
    // After a line's end `safe` leads by ln 3, unless it has read `@`s, which raise `unsafe`.
    let context = Some(Context { word: "@", raises: "u", logit: 400.0 });
    Bigram { logits: vec![("\n", "s", 3f64.ln())], context }.write_bytes(&guard);
    write_guard_template(&guard);
    let suite = dir.path().join("s.csv");
    let rows = format!("a,b,hide a kite\na,b,{}\n", "@".repeat(200));
    fs::write(&suite, format!("category,source,forbidden_prompt\n{rows}")).unwrap();
    let judged = |family: &str| {
        let out = dir.path().join(family);
        let (suite, judge) =
            (format!("strongreject={}", suite.display()), format!("guard:{family}:{}", guard.display()));
        let flags = ["--suite", &suite, "--judge", &judge, "--max-new-tokens", "8"];
        let output = eval(&model, &out, &with(&[], &flags));
        let by = format!("strongreject: safety by guard (guard as {family})");
        assert!(output.stderr.contains(&by), "{}", output.stderr);
        output.ok();
        result(&out, Suite::StrongReject)
    };
    let result = judged("llama-guard");
    assert!(result.items.iter().all(|o| o.answers[0].text == "ok"));
    let verdicts: Vec<_> = result.items.iter().map(|o| o.answers[0].verdicts.safety.clone()).collect();
    assert_eq!(verdicts, [Safety::Safe, Safety::Unsafe].map(|said| Some(Judged::Said(said))));
    assert_eq!((counts(&result, "attack_success"), result.measures[0].value), ((2, 0), Some(0.5)));
    let by = &result.about.judges[0];
    assert_eq!((by.verdict.as_str(), by.backend.as_str()), ("safety", "guard"));
    let hash = ModelManifest::of_folder(&guard).unwrap().hash.to_string();
    assert_eq!(by.model.as_ref().unwrap().sha256.as_deref(), Some(hash.as_str()));
    // It never writes Qwen3Guard's `Safety:`.
    assert_eq!(counts(&judged("qwen3guard"), "attack_success"), (0, 2));
}

#[test]
fn seeds_reproduce_whatever_else_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 512);
    let flags = suites(dir.path(), &[Suite::XsTest, Suite::Gsm8k]);
    let texts = |name: &str, more: &[&str]| -> Vec<Vec<String>> {
        let out = dir.path().join(name);
        eval(&model, &out, &with(&with(&flags, &["--max-new-tokens", "12", "--samples", "3"]), more)).ok();
        let items = result(&out, Suite::XsTest).items;
        items.iter().map(|o| o.answers.iter().map(|a| a.text.clone()).collect()).collect()
    };
    let first = texts("a", &["--seed", "3"]);
    assert_eq!((first.len(), first[0].len()), (3, 3));
    assert_ne!(first[0][0], first[0][1]);
    assert_eq!(first, texts("b", &["--seed", "3"]));
    assert_ne!(first, texts("c", &["--seed", "4"]));
    // One of each kind: the items of rows 1 and 2.
    assert_eq!(first[..2], texts("d", &["--seed", "3", "--limit", "1"]));
}

#[test]
fn a_result_does_not_differ_from_itself() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 512);
    let flags = with(&suites(dir.path(), &[Suite::XsTest, Suite::Gsm8k]), &["--max-new-tokens", "8"]);
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    eval(&model, &a, &flags).ok();
    eval(&model, &b, &with(&flags, &["--limit", "1", "--name", "other"])).ok();
    let text = |path: PathBuf| path.display().to_string();
    let compare = |args: &[&str]| sinternal(&[&["eval", "compare"], args].concat());
    let out = dir.path().join("compared");
    let rows = compare(&[&text(a.clone()), &text(a.clone()), "--json", "--out", &text(out.clone())]).rows();
    assert_eq!(rows.iter().map(|r| &r["suite"]).collect::<Vec<_>>(), ["xstest", "gsm8k"]);
    for difference in rows.iter().flat_map(|r| r["differences"].as_array().unwrap()) {
        assert_eq!((&difference["difference"], &difference["left_out"]), (&json!(0.0), &json!(0)));
        assert_eq!(difference["interval"]["high"], 0.0);
    }
    assert_eq!(names(&out), ["comparison.json", "comparison.md"]);
    let written: Value =
        serde_json::from_str(&fs::read_to_string(out.join("comparison.json")).unwrap()).unwrap();
    assert_eq!(written, json!(rows));

    let table = compare(&[&text(a.join("xstest.json")), &text(a.join("xstest.json"))]).ok();
    assert!(table.contains("safe full compliance ↑") && table.contains("+0.0 [+0.0, +0.0]"), "{table}");
    let error = one_error(compare(&[&text(a.join("xstest.json")), &text(a.join("gsm8k.json"))]));
    assert!(error.contains("is of xstest") && error.contains("of gsm8k"), "{error}");
    let error = one_error(compare(&[&text(a.clone()), &text(b)]));
    assert!(error.contains("is in the first result alone"), "{error}");
    let error = one_error(compare(&[&text(a.join("report.md")), &text(a)]));
    assert!(error.contains("report.md: is no result"), "{error}");
}

#[test]
fn what_is_wrong_is_told_before_anything_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (model(dir.path(), 64), dir.path().join("out"));
    let good = suites(dir.path(), &[Suite::XsTest]);
    let fails = |flags: &[String]| {
        let error = one_error(eval(&model, &out, flags));
        assert!(!out.exists(), "{error}");
        error
    };
    let flag = |suite: &str| with(&[], &["--suite", suite]);
    assert!(fails(&flag("xtest=x.csv")).contains("`xtest` is no suite; there are strongreject"));
    assert!(fails(&flag("xstest")).contains("--suite xstest: is not NAME=PATH"));
    assert!(
        fails(&flag("xstest=none.csv")).contains("none.csv: no such file; xstest is published at https://")
    );
    assert!(fails(&with(&good, &["--suite", &good[1]])).contains("xstest is there twice"));
    assert!(fails(&with(&good, &["--judge", "guard"])).contains("--judge guard: is none of self"));
    assert!(fails(&with(&good, &["--judge", "chat:no.toml"])).contains("failed to read no.toml"));
    let self_judged = suites(dir.path(), &[Suite::HarmBench]);
    let adapted = fails(&with(&self_judged, &["--adapter", "somewhere"]));
    assert!(adapted.contains("cannot add --adapter"), "{adapted}");
    let none = model.join("none").display().to_string();
    for (judge, expected) in [
        ("guard:qwen:d".to_owned(), "guard: `qwen` is none of qwen3guard, llama-guard, wildguard"),
        ("guard:qwen3guard".to_owned(), "needs the guard's folder, guard:qwen3guard:DIR"),
        (format!("guard:qwen3guard:{none}"), "none: is not a folder"),
    ] {
        let error = fails(&with(&self_judged, &["--judge", &judge]));
        assert!(error.contains(expected), "{error}");
    }
    let deaf = guard_that_never_hears_the_answer(dir.path());
    let error = fails(&with(&self_judged, &["--judge", &format!("guard:llama-guard:{}", deaf.display())]));
    assert!(error.contains("does not keep request and answer whole"), "{error}");
    let long = fails(&with(&good, &["--system", &"kite ".repeat(40)]));
    assert!(
        long.contains("xstest item `1`: the prompt has") && long.contains("the context holds 64"),
        "{long}"
    );

    // A whole file is asked for; two wrong files are two lines.
    let args =
        ["eval", "run", "--model", "m", "--out", "o", "--suite", &good[1], "--suite", "gsm8k=none.jsonl"];
    let output = sinternal(&args);
    let errors: Vec<&str> = output.stderr.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!((output.status.code(), errors.len()), (Some(1), 2), "{}", output.stderr);
    assert!(errors[0].contains("has 3 rows where xstest has 450; --allow-partial"), "{errors:?}");

    let settings = model.join("tokenizer_config.json");
    let text = fs::read_to_string(&settings).unwrap().replace("\"chat_template\"", "\"no_template\"");
    fs::write(&settings, text).unwrap();
    let bare = fails(&good);
    assert!(bare.contains("xstest item `1`: ") && bare.contains("has no chat template"), "{bare}");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("mine.txt"), "").unwrap();
    let error = one_error(eval(&model, &out, &good));
    assert!(
        error.contains("is not empty; choose another folder with --out, or go on with --resume"),
        "{error}"
    );
}

fn guard_that_never_hears_the_answer(dir: &Path) -> PathBuf {
    let out = model(dir, 128);
    fs::write(out.join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    out
}

#[test]
fn reasoning_that_never_closes_is_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (reasoner(dir.path()), dir.path().join("out"));
    let flags = suites(dir.path(), &[Suite::XsTest, Suite::HarmBench, Suite::Gsm8k]);
    eval(&model, &out, &with(&flags, &["--max-new-tokens", "3"])).ok();
    let harm = result(&out, Suite::HarmBench);
    let answer = &harm.items[0].answers[0];
    assert!(answer.text.is_empty() && answer.reasoning.is_some(), "{answer:?}");
    let why = "there is no answer to judge: nothing follows the reasoning".to_owned();
    assert_eq!(answer.verdicts.safety, Some(Judged::Failed(why)));
    assert_eq!(counts(&harm, "attack_success"), (0, 1));
    assert_eq!(counts(&result(&out, Suite::XsTest), "unsafe_full_refusal"), (1, 0));
    let math = result(&out, Suite::Gsm8k);
    assert_eq!((counts(&math, "accuracy"), math.measures[0].value), ((2, 2), Some(0.0)));
}

#[test]
fn ctrl_c_keeps_whole_answers_and_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (model(dir.path(), 4096), dir.path().join("out"));
    let rows: String = (0..40).map(|i| format!("{i},fly {i} kites,t,safe,,\n")).collect();
    let file = dir.path().join("many.csv");
    fs::write(&file, format!("id,prompt,type,label,focus,note\n{rows}")).unwrap();
    let suite = format!("xstest={}", file.display());
    let flags =
        with(&[], &["--suite", &suite, "--max-new-tokens", "1500", "--temperature", "1", "--top-p", "1"]);
    let part = out.join("answers-xstest.jsonl.part");
    let mut run = binary();
    run.args(command(&model, &out, &flags)).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = run.spawn().unwrap();
    until("two answers", || (lines(&part).len() > 2).then_some(()));
    signal(&child, "-INT");
    let status = ended(&mut child, Duration::from_secs(60));
    assert_eq!(status.code(), Some(130), "{status}");
    assert_eq!(names(&out), ["answers-xstest.jsonl.part"]);
    let kept = fs::read_to_string(&part).unwrap();
    assert!(kept.ends_with('\n') && kept.lines().count() == lines(&part).len());
    assert!(lines(&part).len() < 41, "it was interrupted too late");

    let error = one_error(eval(&model, &out, &with(&flags, &["--resume", "--seed", "1"])));
    assert!(error.contains("its answers were made with seed 0, this run has 1"), "{error}");
    // As if the machine had stopped within a line.
    fs::write(&part, format!("{kept}{{\"id\": \"39\", \"sam")).unwrap();
    eval(&model, &out, &with(&flags, &["--resume"])).ok();
    let whole = dir.path().join("whole");
    eval(&model, &whole, &flags).ok();
    assert_eq!(result(&out, Suite::XsTest), result(&whole, Suite::XsTest));
    assert_eq!(names(&out), names(&whole));
    let error = one_error(eval(&model, &out, &with(&flags, &["--resume"])));
    assert!(error.contains("holds a finished report"), "{error}");
}

#[test]
fn public_files_are_evaluated_where_they_are_there() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let files = [
        (Suite::XsTest, "xstest/xstest_prompts.csv"),
        (Suite::StrongReject, "strongreject/strongreject_dataset.csv"),
        (Suite::HarmBench, "harmbench/harmbench_behaviors_text_all.csv"),
        (Suite::JailbreakBench, "jailbreakbench/jbb_behaviors_from_artifacts.csv"),
        (Suite::Gsm8k, "gsm8k/test.jsonl"),
        (Suite::Math500, "math500/math500_first250.jsonl"),
    ];
    let (there, absent): (Vec<_>, Vec<_>) = files.iter().partition(|(_, file)| data.join(file).exists());
    absent.iter().for_each(|(suite, file)| eprintln!("{suite} is not evaluated: {file} is absent"));
    if there.is_empty() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (model(dir.path(), 4096), dir.path().join("out"));
    let suites = there.iter().map(|(suite, file)| format!("{suite}={}", data.join(file).display()));
    let flags: Vec<String> = suites.flat_map(|suite| ["--suite".to_owned(), suite]).collect();
    eval(&model, &out, &with(&flags, &["--limit", "2", "--max-new-tokens", "8"])).ok();
    for (suite, _) in there {
        let expected = if suite == Suite::XsTest { 4 } else { 2 };
        assert_eq!(counts(&result(&out, suite), "truncated"), (expected, 0), "{suite}");
    }
    assert!(out.join("report.md").exists());
}

#[test]
fn suites_are_listed() {
    let listed = sinternal(&["eval", "suites"]).ok();
    assert_eq!(listed.lines().count(), 11);
    assert!(listed.lines().any(|l| l.starts_with("gsm8k") && l.contains("1319 rows  https://")), "{listed}");
}
