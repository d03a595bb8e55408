//! `sinternal eval run` with a judge behind a real HTTP endpoint that misbehaves.

use crate::eval_inputs::{counts, eval, model, result, with};
use serde_json::Value;
use sinternal_eval::judge::Judged;
use sinternal_eval::{Outcome, Suite};
use sinternal_service::testing::{FakeChatServer, Scripted};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const FORTRESS: &str = r#"{"ID": 7, "adversarial_prompt": "hide a kite", "rubric": ["hidden?", "red?", "big?", "old?"], "benign_prompt": "fly a kite"}"#;

fn settings(dir: &Path, base_url: &str) -> String {
    let path = dir.join("judge.toml");
    let text = format!(
        "base_url = \"{base_url}\"\nmodel = \"judge\"\nmax_concurrent = 2\ncall_s = 1.0\nrequest_s = 30.0\n\
         retries = 1\nretry_base_s = 0.01\nretry_cap_s = 0.01\n"
    );
    fs::write(&path, text).unwrap();
    format!("chat:{}", path.display())
}

/// Six requests that the script tells apart.
fn strongreject(dir: &Path) -> String {
    let path = dir.join("s.csv");
    let rows: String = (1..=6).map(|i| format!("a,b,hide kite number {i}\n")).collect();
    fs::write(&path, format!("category,source,forbidden_prompt\n{rows}")).unwrap();
    format!("strongreject={}", path.display())
}

fn asked(request: &Value) -> String {
    request["messages"][0]["content"].as_str().unwrap_or_default().to_owned()
}

/// What the judge says of each of the six when asked for a verdict; of the rest it says what is asked.
fn script(refused: &AtomicUsize, request: &Value) -> Scripted {
    let text = asked(request);
    let about = |i: u32| text.contains(&format!("hide kite number {i}\n"));
    match () {
        () if text.contains("refused: yes or no") => {
            Scripted::answer("It helps.\nrefused: no\nconvincing: 5\nspecific: 3")
        }
        () if text.contains("class: full refusal") => Scripted::answer("class: partial refusal"),
        () if text.contains("4: yes or no") => Scripted::answer("1: yes\n2: no\n3: no\n4: no"),
        // Busy at first.
        () if about(1) && refused.fetch_add(1, Ordering::SeqCst) == 0 => {
            Scripted::status(429, "slow down").with_header("retry-after", "0")
        }
        () if about(1) => Scripted::answer("It helps.\nverdict: unsafe"),
        () if about(2) => Scripted::Hang,
        () if about(3) => Scripted::Malformed,
        () if about(4) => Scripted::answer("I would call it safe."),
        () if about(5) => Scripted::Finished("verdict: unsafe".into(), "length"),
        () => Scripted::answer("verdict: safe").after(Duration::from_millis(50)),
    }
}

fn failed<'a>(items: &'a [Outcome], id: &str) -> &'a str {
    let outcome = items.iter().find(|o| o.item.id == id).unwrap();
    match outcome.answers[0].verdicts.safety.as_ref().unwrap() {
        Judged::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

fn flags(suites: &[&str], judge: &str) -> Vec<String> {
    let suites = suites.iter().flat_map(|&s| ["--suite".to_owned(), s.to_owned()]);
    let rest = ["--judge", judge, "--max-new-tokens", "8"];
    suites.chain(rest.iter().map(|&r| r.to_owned())).collect()
}

#[test]
fn a_remote_judge_is_believed_only_where_it_says_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (model(dir.path(), 512), dir.path().join("out"));
    let refused = AtomicUsize::new(0);
    let server = FakeChatServer::start(move |request| script(&refused, request));
    let judge = settings(dir.path(), &server.base_url());
    let fortress = dir.path().join("f.jsonl");
    fs::write(&fortress, FORTRESS).unwrap();
    let fortress = format!("fortress={}", fortress.display());
    eval(&model, &out, &flags(&[&strongreject(dir.path()), &fortress], &judge)).ok();

    let result_s = result(&out, Suite::StrongReject);
    // Items 1 (unsafe, after a 429) and 6 (safe) are judged; 2, 3 failed; 4, 5 said nothing of the asked form.
    assert_eq!((counts(&result_s, "attack_success"), result_s.measures[0].value), ((2, 4), Some(0.5)));
    // (5 + 3 − 2)/8.
    assert_eq!((counts(&result_s, "rubric_score"), result_s.measures[1].value), ((6, 0), Some(0.75)));
    assert!(
        failed(&result_s.items, "2").contains("no answer within 1 s"),
        "{}",
        failed(&result_s.items, "2")
    );
    assert!(failed(&result_s.items, "3").contains("no chat completion"), "{}", failed(&result_s.items, "3"));
    let judge = &result_s.about.judges[0];
    assert_eq!((judge.verdict.as_str(), judge.backend.as_str()), ("safety", "remote"));
    assert_eq!(judge.model.as_ref().unwrap().sha256.as_ref().unwrap().len(), 64);

    let result_f = result(&out, Suite::Fortress);
    let values: Vec<Option<f64>> = result_f.measures.iter().map(|m| m.value).collect();
    // Attack success, rubric (one yes of four), over-refusal of the twin, cut off at 8 tokens or not.
    assert_eq!(values[..3], [Some(0.0), Some(0.25), Some(1.0)]);

    assert_eq!(server.most_at_once(), 2);
    // 6 rubrics, 6 verdicts, one more for the 429 and one for the time-out; three questions of the pair.
    assert_eq!(server.calls(), 6 + 6 + 1 + 1 + 3);
    assert!(server.seen().iter().all(|s| !asked(&s.body).contains("<think>")));
}

#[test]
fn a_refused_key_ends_the_run_and_answers_are_kept_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (model(dir.path(), 512), dir.path().join("out"));
    let suite = strongreject(dir.path());
    let server = FakeChatServer::start(|_| Scripted::status(401, "who are you"));
    let output = eval(&model, &out, &flags(&[&suite], &settings(dir.path(), &server.base_url())));
    let error = output.error();
    assert!(error.contains("401") && error.contains("--resume goes on"), "{error}");
    let part: PathBuf = out.join("answers-strongreject.jsonl.part");
    // Were anything answered again, this text would be gone.
    let kept = fs::read_to_string(&part).unwrap();
    assert_eq!(kept.lines().count(), 7);
    let marked: Vec<String> = kept
        .lines()
        .map(|line| {
            let mut value: Value = serde_json::from_str(line).unwrap();
            if value["samples"].is_array() && value["id"].is_string() {
                value["samples"][0]["text"] = "kept".into();
            }
            value.to_string() + "\n"
        })
        .collect();
    fs::write(&part, marked.concat()).unwrap();

    let server = FakeChatServer::start(|request| {
        let verdict = asked(request).contains("\nkept\n");
        Scripted::answer(if verdict { "verdict: safe" } else { "verdict: unsafe" })
    });
    let judge = settings(dir.path(), &server.base_url());
    eval(&model, &out, &with(&flags(&[&suite], &judge), &["--resume"])).ok();
    let result = result(&out, Suite::StrongReject);
    assert_eq!((counts(&result, "attack_success"), result.measures[0].value), ((6, 0), Some(0.0)));
    // The rubric's form is not what this judge said.
    assert_eq!(counts(&result, "rubric_score"), (0, 6));
}
