//! `sinternal data`: the stages of the data pipeline one by one, stopped and gone on with, on the world's prompts.

use crate::eval_inputs::{model, one_error, reasoner, with};
use crate::support::{Cluster, Output, base_model, binary, ended, lines, signal, sinternal, until};
use serde_json::{Value, json};
use sinternal_service::testing::{FakeChatServer, Scripted};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const PROMPTS: usize = 40;
const SAMPLES: usize = 4;

fn data(command: &str, flags: &[String]) -> Output {
    let args: Vec<&str> = ["data", command].into_iter().chain(flags.iter().map(String::as_str)).collect();
    sinternal(&args)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The world's prompts for collection.
fn prompts(dir: &Path) -> PathBuf {
    let out = dir.join("prompts");
    let (to, count) = (text(&out), PROMPTS.to_string());
    let args = ["data", "world", "splits", "--out", &to, "--sft", &count, "--grpo", "10", "--verifier", "1"];
    sinternal(&[&args[..], &["--eval", "1", "--dev", "1"]].concat()).ok();
    out.join("sft.jsonl")
}

fn collect_flags(model: &Path, prompts: &Path, out: &Path) -> Vec<String> {
    let flags =
        ["--model", &text(model), "--prompts", &text(prompts), "--out", &text(out), "--max-new-tokens", "48"];
    with(&flags.map(str::to_owned), &["-n", &SAMPLES.to_string()])
}

/// The answers of the base policy to the world's prompts, and their prompts.
fn collected(dir: &Path) -> (PathBuf, PathBuf) {
    let (model, prompts, out) = (base_model(dir), prompts(dir), dir.join("data"));
    data("collect", &collect_flags(&model, &prompts, &out)).ok();
    (out.join("collected.jsonl"), prompts)
}

/// Rows by the answer's id, whatever their order.
fn by_answer(path: &Path) -> BTreeMap<String, Value> {
    let id = |row: &Value| {
        let answer = if row["collected"].is_null() { row } else { &row["collected"] };
        format!("{}#{}", answer["prompt"], answer["sample"])
    };
    lines(path).into_iter().map(|row| (id(&row), row)).collect()
}

fn parsed(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Starts a command, and stops it by Ctrl-C as soon as its partial file has `rows`.
fn interrupted(args: &[String], part: &Path, rows: usize) {
    let mut command = binary();
    command.arg("data").args(args).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    until("rows", || (lines(part).len() >= rows).then_some(()));
    signal(&child, "-INT");
    let status = ended(&mut child, Duration::from_secs(60));
    assert_eq!(status.code(), Some(130), "{status}");
    let kept = fs::read_to_string(part).unwrap();
    assert!(kept.ends_with('\n') && kept.lines().count() < PROMPTS * SAMPLES, "it was stopped too late");
}

/// An expert that calls recipes unsafe unless they are cooled, and of some answers says nothing. Its first calls, and
/// some later ones, are refused for now; while `silent` it answers nobody after the twentieth call.
fn expert(silent: &Arc<AtomicBool>) -> FakeChatServer {
    let (calls, silent) = (AtomicUsize::new(0), Arc::clone(silent));
    FakeChatServer::start(move |request| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        if call > 20 && silent.load(Ordering::SeqCst) {
            return Scripted::Hang;
        }
        if call < 2 || call == 9 {
            return Scripted::status(429, "slow down").with_header("retry-after", "0");
        }
        let asked = request["messages"][1]["content"].as_str().unwrap_or_default();
        assert!(!asked.contains("<think>") && !asked.contains("truth"), "{asked}");
        let answer = asked.split("[answer ").nth(1).unwrap_or_default();
        if answer.contains("means") {
            return Scripted::answer("I would rather not say.");
        }
        let verdict = if answer.contains("first") && !answer.contains("cool") { "unsafe" } else { "safe" };
        Scripted::answer(format!("It gives what it gives.\njudgment: {verdict}"))
    })
}

fn chat_config(dir: &Path, section: &str, server: &FakeChatServer) -> PathBuf {
    let path = dir.join(format!("{}.toml", section.replace('.', "-")));
    let keys = format!(
        "[{section}]\nexpert = \"chat\"\nbase_url = \"{}\"\nmodel = \"judge-1\"\nretry_base_s = 0.01\n\
         max_concurrent = 4\ncache = \"{}\"\nprice_input = 1.0\nprice_output = 2.0\n",
        server.base_url(),
        dir.join("cache").display()
    );
    fs::write(&path, keys).unwrap();
    path
}

#[test]
fn answers_are_collected_and_a_stopped_run_goes_on_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (model, prompts, out) = (base_model(dir.path()), prompts(dir.path()), dir.path().join("data"));
    let flags = collect_flags(&model, &prompts, &out);
    let (path, part) = (out.join("collected.jsonl"), out.join("collected.jsonl.part"));
    interrupted(
        &with(&["collect".to_owned()], &flags.iter().map(String::as_str).collect::<Vec<_>>()),
        &part,
        SAMPLES,
    );
    let error = one_error(data("collect", &with(&flags, &["--seed", "1"])));
    assert!(error.contains("was begun with other inputs, settings or seed"), "{error}");
    // As if the machine had stopped within a line.
    let kept = fs::read_to_string(&part).unwrap();
    fs::write(&part, format!("{kept}{{\"prompt\": \"sf")).unwrap();
    let told = data("collect", &flags).ok();
    assert!(told.contains("collected.jsonl: 160 collected answers: "), "{told}");

    let whole = dir.path().join("whole");
    data("collect", &collect_flags(&model, &prompts, &whole)).ok();
    let rows = by_answer(&path);
    assert_eq!(rows.len(), PROMPTS * SAMPLES);
    assert_eq!(rows, by_answer(&whole.join("collected.jsonl")));
    let closed = rows.values().filter(|row| row["reasoning_closed"] == true && row["truncated"] == false);
    assert!(closed.count() > 140);
    assert!(rows.values().all(|row| !row["answer"].as_str().unwrap().contains("think>")));
    let facts = lines(&prompts);
    assert!(
        facts.iter().all(|p| !p["truth"].is_null()) && rows.values().all(|row| row.get("truth").is_none())
    );

    // It is whole, so nothing is made again; and other settings do not take its place.
    let bytes = fs::read(&path).unwrap();
    let manifest = data("collect", &with(&flags, &["--json"])).rows();
    assert_eq!(manifest, [parsed(&out.join("collected.manifest.json"))]);
    let error = one_error(data("collect", &with(&flags, &["--temperature", "0.5"])));
    assert!(error.contains("was made with other inputs, settings or seed; move it away"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn critiques_are_paid_once_and_curated_to_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (answers, _) = collected(dir.path());
    let silent = Arc::new(AtomicBool::new(true));
    let server = expert(&silent);
    let config = text(&chat_config(dir.path(), "critique", &server));
    let flags = |out: &str| {
        ["--in", &text(&answers), "--config", &config, "--out", &text(&dir.path().join(out))]
            .map(str::to_owned)
    };
    let part = dir.path().join("data/critiqued.jsonl.part");
    interrupted(&with(&["critique".to_owned()], &flags("data").each_ref().map(|f| f.as_str())), &part, 12);
    silent.store(false, Ordering::SeqCst);
    let output = data("critique", &flags("data"));
    assert!(
        output.stderr.contains("expert judge-1: ") && output.stderr.contains("cost 0.0"),
        "{}",
        output.stderr
    );
    output.ok();

    let critiqued = dir.path().join("data/critiqued.jsonl");
    let rows = by_answer(&critiqued);
    let count = |of: &dyn Fn(&Value) -> bool| rows.values().filter(|row| of(row)).count();
    let (safe, broken) = (count(&|r| r["judgment"] == "safe"), count(&|r| r["judgment"] == "unsafe"));
    let unsure = count(&|r| r["raw"] == "I would rather not say.");
    assert!(safe > 20 && broken > 20 && unsure > 0, "{safe} {broken} {unsure}");
    assert_eq!(rows.len(), PROMPTS * SAMPLES);
    let manifest = parsed(&dir.path().join("data/critiqued.manifest.json"));
    let paid = &manifest["endpoint"];
    assert!(paid["calls"].as_u64().unwrap() > 0 && paid["cost"].as_f64().unwrap() > 0.0, "{paid}");

    // Another folder, the same answers: the cache says what the expert said.
    let calls = server.calls();
    data("critique", &flags("again")).ok();
    assert_eq!(server.calls(), calls);
    assert_eq!(by_answer(&dir.path().join("again/critiqued.jsonl")), rows);
    let free = &parsed(&dir.path().join("again/critiqued.manifest.json"))["endpoint"];
    assert_eq!((&free["calls"], &free["cost"]), (&json!(0), &json!(0.0)));

    // The order of the rows does not matter, so the curated files are the same bytes.
    let curate = |out: &str, more: &[&str]| {
        let dir = dir.path().join(out);
        let flags = ["--in", &text(&dir.join("critiqued.jsonl")), "--out", &text(&dir)].map(str::to_owned);
        data("curate", &with(&flags, more))
    };
    let told = curate("data", &[]).ok();
    assert!(told.starts_with("Curation kept ") && told.contains(" of 160 answers: "), "{told}");
    let report = curate("again", &["--json"]).rows();
    for name in ["verification.jsonl", "drop-report.json", "drop-report.md"] {
        let bytes = |out: &str| fs::read(dir.path().join(out).join(name)).unwrap();
        assert_eq!(bytes("data"), bytes("again"), "{name}");
    }
    assert_eq!(report, [parsed(&dir.path().join("data/drop-report.json"))]);
    let of = |key: &str| {
        report[0]["classes"].as_array().unwrap().iter().map(|c| c[key].as_u64().unwrap()).sum::<u64>()
    };
    let learned = lines(&dir.path().join("data/verification.jsonl"));
    assert_eq!((of("rows_in"), of("rows_out")), (160, learned.len() as u64));
    let mut pairs: HashMap<&str, HashSet<&str>> = HashMap::new();
    for row in learned.iter().filter(|row| row["kind"] == "harmful") {
        pairs.entry(row["prompt"].as_str().unwrap()).or_default().insert(row["verdict"].as_str().unwrap());
    }
    assert!(!pairs.is_empty() && pairs.values().all(|verdicts| verdicts.len() == 2), "{pairs:?}");
    curate("data", &[]).ok();
    let error = one_error(curate("data", &["--seed", "1"]));
    assert!(error.contains("verification.jsonl: was made with other inputs"), "{error}");
}

/// The engine, the key of the random numbers and the split are those of the workers; rounding in another batch may turn a
/// draw now and then.
#[test]
fn a_job_with_the_same_seed_draws_the_same_answers() {
    let cluster = Cluster::start(1);
    let (model, prompts) = (base_model(cluster.path()), prompts(cluster.path()));
    let server = expert(&Arc::default());
    let job = format!(
        "name = \"same\"\nseed = 5\nmodel = \"{}\"\n[data]\nkind = \"prompts\"\ncollect = \"{}\"\n\
         [sampling]\nmax_new_tokens = 48\n[collect]\nsamples = {SAMPLES}\n\
         [critique]\nexpert = \"chat\"\nbase_url = \"{}\"\nmodel = \"judge-1\"\nretry_base_s = 0.01\n\
         [sft]\nepochs = 1\nbatch = 16\nlearning_rate = 1e-4\n",
        model.display(),
        prompts.display(),
        server.base_url()
    );
    let id = cluster.submit(&job, &[]);
    let ended = cluster.watch(&id).rows();
    assert_eq!(ended.last().unwrap()["state"]["state"], "succeeded", "{:?}", ended.last());
    let out = cluster.path().join("data");
    data("collect", &with(&collect_flags(&model, &prompts, &out), &["--seed", "5"])).ok();
    let (ours, theirs) = (
        by_answer(&out.join("collected.jsonl")),
        by_answer(&cluster.runs().join(&id).join("data/collected.jsonl")),
    );
    let same = |(id, row): (&String, &Value)| {
        let other = &theirs[id];
        ["reasoning", "answer", "tokens", "truncated"].iter().all(|key| row[*key] == other[*key])
    };
    assert_eq!((ours.len(), theirs.len()), (PROMPTS * SAMPLES, PROMPTS * SAMPLES));
    let equal = ours.iter().filter(|row| same(*row)).count();
    assert!(equal * 20 >= ours.len() * 19, "{equal} of {}", ours.len());
}

#[test]
fn a_guard_that_disagrees_takes_answers_out_and_they_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (answers, prompts) = collected(dir.path());
    let out = text(&dir.path().join("data"));
    let world = ["--in", &text(&answers), "--out", &out, "--expert", "world", "--prompts", &text(&prompts)];
    data("critique", &world.map(str::to_owned)).ok();
    // A guard that finds recipes unsafe, and shrugs at what is cooled.
    let guard = FakeChatServer::start(|request| {
        assert_eq!(request["messages"][1]["role"], "assistant");
        let answer = request["messages"][1]["content"].as_str().unwrap_or_default();
        Scripted::answer(match (answer.contains("cool"), answer.contains("first")) {
            (true, _) => "Safety: Controversial\nCategories: None",
            (false, true) => "Safety: Unsafe\nCategories: Violent",
            (false, false) => "Safety: Safe\nCategories: None",
        })
    });
    let config = chat_config(dir.path(), "guard.by", &guard);
    let keys = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("[guard]\nform = \"qwen3guard\"\n{keys}")).unwrap();
    let critiqued = dir.path().join("data/critiqued.jsonl");
    let flags = ["--in", &text(&critiqued), "--out", &out, "--config", &text(&config)].map(str::to_owned);
    data("label", &flags).ok();

    let labels: HashMap<String, Value> = lines(&dir.path().join("data/labels.jsonl"))
        .into_iter()
        .map(|row| (row["source"].as_str().unwrap().to_owned(), row))
        .collect();
    let mut expected = 0;
    for row in lines(&critiqued).iter().filter(|row| row["judgment"] != "invalid") {
        let answer = &row["collected"];
        let hash = &answer["policy"]["hash"].as_str().unwrap()[..12];
        let label = &labels[&format!("{}#{}@{hash}", answer["prompt"].as_str().unwrap(), answer["sample"])];
        assert_eq!(label["unsafe"].is_null(), label["raw"].is_string());
        let contradicts = |said: bool| said != (row["judgment"] == "unsafe");
        expected += u64::from(label["unsafe"].as_bool().is_some_and(contradicts));
    }
    let disagreeing = |labels: &Path, out: &str| {
        let out = text(&dir.path().join(out));
        let flags = ["--in", &text(&critiqued), "--out", &out, "--guard-labels", &text(labels), "--json"];
        let report = data("curate", &flags.map(str::to_owned)).rows().remove(0);
        let classes = report["classes"].as_array().unwrap().clone();
        classes.iter().map(|c| c["dropped"]["disagrees"].as_u64().unwrap_or(0)).sum::<u64>()
    };
    assert!(expected > 0, "the guard agrees with everything");
    assert_eq!(disagreeing(&dir.path().join("data/labels.jsonl"), "guarded"), expected);
    // The same from a file by hand: one answer, the other way round.
    let first = lines(&critiqued).into_iter().find(|row| row["judgment"] != "invalid").unwrap();
    let (answer, said) = (&first["collected"], first["judgment"] == "unsafe");
    let row = json!({"prompt": answer["prompt"], "sample": answer["sample"], "unsafe": !said});
    let by_hand = dir.path().join("by-hand.jsonl");
    fs::write(&by_hand, format!("{row}\n")).unwrap();
    assert_eq!(disagreeing(&by_hand, "by-hand"), 1);
}

#[test]
fn a_checkpoint_critiques_and_what_it_cannot_say_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (answers, _) = collected(dir.path());
    let (critic, out) = (model(dir.path(), 4096), dir.path().join("critiqued"));
    let flags = ["--in", &text(&answers), "--out", &text(&out), "--expert", "checkpoint", "--model"];
    let flags = with(&flags.map(str::to_owned), &[&text(&critic), "--max-tokens", "4"]);
    data("critique", &flags).ok();
    let rows = lines(&out.join("critiqued.jsonl"));
    assert_eq!(rows.len(), PROMPTS * SAMPLES);
    assert!(rows.iter().all(|row| row["judgment"] == "invalid" && row["raw"].is_string()));
    let asked = rows.iter().filter(|row| row["expert"] == text(&critic));
    assert!(asked.clone().count() > 140 && asked.clone().any(|row| row["raw"] != ""));
    let nothing = ["--in", &text(&out.join("critiqued.jsonl")), "--out", &text(&out)].map(str::to_owned);
    let error = one_error(data("curate", &nothing));
    assert!(
        error.contains("no verification row is left; ") && error.contains("drop-report.md says why"),
        "{error}"
    );
    assert!(out.join("drop-report.md").exists() && !out.join("verification.jsonl").exists());
}

#[test]
fn reasoning_is_split_at_the_models_own_markers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prompts.jsonl");
    let rows = ["harmful", "benign"]
        .map(|kind| format!("{}\n", json!({"id": kind, "kind": kind, "request": "fly"})));
    fs::write(&file, rows.concat()).unwrap();
    let collect = |model: &Path, out: &str, more: &[&str]| {
        let out = dir.path().join(out);
        let flags = ["--model", &text(model), "--prompts", &text(&file), "--out", &text(&out), "-n", "2"];
        data("collect", &with(&with(&flags.map(str::to_owned), &["--max-new-tokens", "3"]), more)).ok();
        lines(&out.join("collected.jsonl"))
    };
    // A template that begins the reasoning: three tokens do not end it, and are no answer.
    let thinking = reasoner(dir.path());
    let rows = collect(&thinking, "opened", &[]);
    assert_eq!(rows.len(), 4);
    assert!(
        rows.iter().all(|r| r["reasoning_closed"] == false && r["answer"] == "" && r["reasoning"] != ""),
        "{rows:?}"
    );
    let markers =
        parsed(&dir.path().join("opened/collected.manifest.json"))["made_of"]["settings"]["think"].clone();
    assert_eq!(markers, json!(["<think>", "</think>"]));
    // With other markers the same template opens nothing, so all that was written is the answer.
    let rows = collect(&thinking, "given", &["--think-open", "[THINK]", "--think-close", "[/THINK]"]);
    assert!(rows.iter().all(|r| r["reasoning_closed"] == true && r["answer"] != ""), "{rows:?}");
}

#[test]
fn what_is_wrong_is_one_line_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, out) = (text(&model(dir.path(), 64)), text(&dir.path().join("out")));
    let write = |name: &str, content: &str| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        text(&path)
    };
    let good = write("good.jsonl", "{\"id\": \"a\", \"kind\": \"benign\", \"request\": \"fly\"}\n");
    let twice =
        write("twice.jsonl", &"{\"id\": \"a\", \"kind\": \"benign\", \"request\": \"fly\"}\n".repeat(2));
    let math =
        write("math.jsonl", "{\"id\": \"a\", \"kind\": \"math\", \"request\": \"1+1\", \"gold\": \"2\"}\n");
    let long =
        write("long.jsonl", &json!({"id": "b", "kind": "benign", "request": "fly ".repeat(99)}).to_string());
    let typo = write("typo.toml", "[critique]\nexpert = \"chat\"\nbase_ur = \"http://127.0.0.1:9\"\n");
    let none = write("none.toml", "[curate]\nbenign_refused_share = 0.2\n");
    let oracle = write("oracle.toml", "[guard.by]\nexpert = \"world\"\n");
    let set = write("set.toml", "[decontaminate]\nsets = [{ suite = \"xstest\", path = \"absent.csv\" }]\n");
    let collect = |prompts: &str| {
        ["collect", "--model", &policy, "--prompts", prompts, "--out", &out].map(str::to_owned).to_vec()
    };
    let of = |command: &str, more: &[&str]| {
        with(&[command, "--in", &good, "--out", &out].map(str::to_owned), more)
    };
    for (args, expected) in [
        (collect("none.jsonl"), "none.jsonl: "),
        (collect(&twice), "twice.jsonl: id a is there twice"),
        (collect(&math), "math.jsonl:1: kind: must be harmful or benign"),
        (collect(&long), "prompt b: the prompt has "),
        (
            with(&collect(&good), &["--think-open", "x", "--think-close", "x"]),
            "--think-open, --think-close: must be two",
        ),
        (of("critique", &["--expert", "world"]), "--expert world: needs the prompts that were answered"),
        (of("critique", &["--expert", "chat"]), "--expert chat: needs the endpoint's settings"),
        (of("critique", &["--expert", "checkpoint"]), "--expert checkpoint: needs its folder"),
        (of("critique", &["--config", &typo]), "did you mean `critique.base_url`?"),
        (of("critique", &["--config", &none]), "none.toml: has no section [critique]"),
        (of("critique", &["--config", "absent.toml"]), "failed to read absent.toml"),
        (of("critique", &["--expert", "checkpoint", "--model", &policy]), "good.manifest.json"),
        (of("label", &["--config", &oracle]), "guard.by.expert: must be chat or checkpoint"),
        (of("label", &["--config", &none]), "none.toml: has no section [guard]"),
        (of("curate", &[]), "good.manifest.json"),
        (of("curate", &["--config", &set]), "good.manifest.json"),
    ] {
        let (command, flags) = args.split_first().unwrap();
        let output = data(command, flags);
        let told = output.stderr.clone();
        one_error(output);
        assert!(told.contains(expected), "{args:?}: {told}");
        assert!(!dir.path().join("out").exists(), "{args:?}");
    }
    for args in [
        ["collect", "--model", &policy, "--out", &out].map(str::to_owned).to_vec(),
        with(&collect(&good), &["--think-open", "x"]),
        of("critique", &[]),
        of("critique", &["--expert", "guard"]),
        of("label", &[]),
        of("curate", &["--seed", "x"]),
    ] {
        let (command, flags) = args.split_first().unwrap();
        let output = data(command, flags);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", output.stderr);
    }
}
