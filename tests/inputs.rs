//! Wrong flags, files and peers: one line that names the culprit, and exit code 1 or 2.

use crate::support::{Cluster, base_model, gsm8k, sinternal};
use std::fs;
use std::net::TcpListener;
use std::path::Path;

fn job(dir: &Path, model: &str, grpo: &str) -> String {
    let data = gsm8k(dir).display().to_string();
    let text = format!(
        "name = \"j\"\nmodel = \"{model}\"\n[data]\nkind = \"gsm8k\"\npath = \"{data}\"\n\
         [grpo]\nsteps = 1\nprompts = 2\nlearning_rate = 1e-4\n{grpo}\n"
    );
    let path = dir.join("job.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn one_error(args: &[&str]) -> String {
    let output = sinternal(args);
    let lines = output.stderr.lines().filter(|l| l.starts_with("error")).count();
    assert_eq!(lines, 1, "{}", output.stderr);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    output.error()
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in
        [&["generate"][..], &["frobnicate"], &["submit", "j.toml", "--wach"], &["generate", "-n", "0"]]
    {
        assert_eq!(sinternal(args).status.code(), Some(2), "{args:?}");
    }
    assert!(sinternal(&["--help"]).ok().contains("quickstart"));
}

#[test]
fn job_files_are_checked_before_anything_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = job(dir.path(), "m", "group_sice = 4");
    let error = one_error(&["submit", &file]);
    assert!(error.contains("job.toml") && error.contains("did you mean `grpo.group_size`?"), "{error}");
    let file = job(dir.path(), "m", "group_size = 1");
    let error = one_error(&["submit", &file]);
    assert!(error.contains("grpo.group_size: must be at least 2"), "{error}");
    let error = one_error(&["config", "check", &file]);
    assert!(error.contains("grpo.group_size"), "{error}");
    let error = one_error(&["submit", "no-such-job.toml"]);
    assert!(error.contains("no-such-job.toml"), "{error}");
}

#[test]
fn absent_peers_are_named() {
    let error = one_error(&["jobs", "--trainer", "http://127.0.0.1:9"]);
    assert!(error.contains("trainer http://127.0.0.1:9"), "{error}");
    let error = one_error(&["jobs", "--trainer", "127.0.0.1"]);
    assert!(error.contains("not an address"), "{error}");
}

#[test]
fn a_taken_port_and_unknown_keys_stop_a_role() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for role in ["trainer", "reward"] {
        let dir = tempfile::tempdir().unwrap();
        let (listen, runs) =
            (format!("{role}.listen={address}"), format!("trainer.runs={}", dir.path().display()));
        let error = one_error(&[role, "--set", &listen, "--set", &runs]);
        assert!(error.contains(&address) && error.contains(&format!("{role}.listen")), "{error}");
    }
    let error = one_error(&["trainer", "--set", "trainer.lisen=127.0.0.1:0"]);
    assert!(error.contains("did you mean `trainer.listen`?"), "{error}");
}

#[test]
fn models_that_are_missing_or_damaged_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let generate =
        |model: &Path| one_error(&["generate", "--model", &model.display().to_string(), "--prompt", "x"]);
    let error = generate(&dir.path().join("nowhere"));
    assert!(error.contains("nowhere: is not a folder"), "{error}");
    let model = base_model(dir.path());
    let weights = model.join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let error = generate(&model);
    assert!(error.contains("model.safetensors: truncated"), "{error}");
    let config = model.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("Qwen3ForCausalLM", "MambaForCausalLM").replace("\"qwen3\"", "\"mamba\""),
    )
    .unwrap();
    let error = generate(&model);
    assert!(error.contains("config.json") && error.contains("amba"), "{error}");
}

#[test]
fn rows_and_folders_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    fs::write(&rows, "{\"gold\": \"4\", \"answer\": \"4\"}\n{\"gold\": 4}\n").unwrap();
    let error = one_error(&["grade", "--input", &rows.display().to_string()]);
    assert!(error.contains("rows.jsonl:2: "), "{error}");
    let error = one_error(&["quickstart", "--out", &dir.path().display().to_string()]);
    assert!(error.contains("is not empty; choose another folder with --out"), "{error}");
}

#[test]
fn a_trainer_refuses_what_it_cannot_run() {
    let cluster = Cluster::start(0);
    let url = cluster.url();
    let file = job(cluster.path(), "nowhere", "group_size = 2");
    let error = one_error(&["submit", &file, "--trainer", &url]);
    assert!(error.contains("nowhere: is not a folder"), "{error}");
    let error = one_error(&["watch", "no-such-job", "--trainer", &url]);
    assert!(error.contains("no job no-such-job"), "{error}");
    let model = base_model(cluster.path());
    let prompts = cluster.path().join("prompts.jsonl");
    fs::write(&prompts, "{\"id\": \"a\", \"kind\": \"harmful\", \"request\": \"r\"}\n").unwrap();
    let text =
        fs::read_to_string(job(cluster.path(), &model.display().to_string(), "group_size = 2")).unwrap();
    let text = text.replace("gsm8k.jsonl", "prompts.jsonl").replace("\"gsm8k\"", "\"prompts\"");
    let error = cluster.try_submit(&text, &[]).error();
    assert!(error.contains("prompts.jsonl:1: ") && error.contains("verifier"), "{error}");
    assert_eq!(sinternal(&["jobs", "--trainer", &url]).ok(), "");
}
