//! Jobs that last: stopped at every step, killed at every phase, held, reordered; and what they leave behind.

use crate::data_path::arithmetic_job;
use crate::support::{Cluster, base_model, flip_a_bit, lines, sinternal, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Everything of a line but its times and what depends on the process that wrote it.
fn timeless(line: &Value) -> Value {
    let mut line = line.clone();
    // What the sampler computed may differ by rounding, for its batches had other companies; versions count anew in each process.
    let gone = |key: &str| {
        key.starts_with("seconds_")
            || key.starts_with("logprob_mismatch")
            || key.starts_with("importance_")
            || key == "time_ms"
            || key == "versions"
    };
    line.as_object_mut().unwrap().retain(|key, _| !gone(key));
    line
}

fn timeless_lines(path: &Path) -> Vec<Value> {
    lines(path).iter().map(timeless).collect()
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let read =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap());
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| read(e.unwrap().path())).collect();
    files.sort();
    files
}

/// Weights, moments, states, metrics and samples of two runs are the same.
fn assert_same(cluster: &Cluster, whole: &str, broken: &str, checkpoint: &str) {
    let run = |id: &str| cluster.runs().join(id);
    for name in ["metrics.jsonl", "samples.jsonl"] {
        let (a, b) = (timeless_lines(&run(whole).join(name)), timeless_lines(&run(broken).join(name)));
        assert_eq!(a.len(), b.len(), "{name}");
        for (a, b) in a.iter().zip(&b) {
            assert_eq!(a, b, "{name}");
        }
    }
    let at = |id: &str| files(&run(id).join("checkpoints").join(checkpoint));
    assert!(at(whole) == at(broken), "the files of {checkpoint} are the same bits");
}

#[test]
fn a_run_that_is_stopped_after_every_step_ends_as_one_that_never_stopped() {
    let mut cluster = Cluster::start(1);
    let job = arithmetic_job(cluster.path(), 6, 0);
    let whole = cluster.submit(&job, &[]);
    cluster.watch(&whole).ok();
    cluster.kill("trainer");
    cluster.start_trainer_until("checkpoint.published");
    let broken = cluster.submit(&job, &[]);
    for step in 1..=6 {
        assert!(!cluster.wait_for_end("trainer").success());
        assert_eq!(cluster.metrics(&broken).len(), step, "one step an attempt");
        cluster.start_trainer_until(if step < 6 { "checkpoint.published" } else { "" });
    }
    cluster.watch(&broken).ok();
    assert_same(&cluster, &whole, &broken, "grpo-000006");
}

#[test]
fn a_job_that_is_held_makes_way_and_ends_as_one_that_never_stopped() {
    let cluster = Cluster::start(1);
    let job = arithmetic_job(cluster.path(), 12, 0).replace("checkpoint_every = 1\n", "");
    let whole = cluster.submit(&job, &[]);
    cluster.watch(&whole).ok();
    let held = cluster.submit(&job, &[]);
    for pause in 1..=2 {
        cluster.wait_for_step(&held, 3 * pause);
        let asked = cluster.client(&["pause", &held]).ok();
        assert!(asked.contains("asked to pause") || asked.contains("paused on request"), "{asked}");
        cluster.wait_for_state(&held, "paused");
        let told = cluster.watch(&held).error();
        assert!(told.contains("is paused: paused on request; `sinternal resume"), "{told}");
        let steps = cluster.metrics(&held).len();
        assert!(steps < 12, "the job was over before the pause");
        let checkpoint = cluster.runs().join(&held).join(format!("checkpoints/grpo-{steps:06}"));
        assert!(checkpoint.is_dir(), "nothing is lost: step {steps} has a checkpoint");
        if pause == 1 {
            cluster.watch(&cluster.submit(&arithmetic_job(cluster.path(), 1, 0), &[])).ok();
        }
        assert!(cluster.client(&["resume", &held]).ok().contains("queued"));
    }
    cluster.watch(&held).ok();
    assert_same(&cluster, &whole, &held, "grpo-000012");
    // One log an attempt, the first of which ends with its pause.
    let log = fs::read_to_string(cluster.runs().join(&held).join("logs/attempt-1.log")).unwrap();
    assert!(log.lines().any(|line| line.ends_with("paused grpo: paused on request")), "{log}");
    let events = fs::read_dir(cluster.runs().join(&held).join("tensorboard/grpo")).unwrap().count();
    assert_eq!(events, 3, "an event file an attempt");
}

#[test]
fn a_trainer_that_is_killed_at_every_phase_of_a_step_commits_each_step_once() {
    let mut cluster = Cluster::start(1);
    let job = arithmetic_job(cluster.path(), 10, 0);
    let whole = cluster.submit(&job, &[]);
    cluster.watch(&whole).ok();
    cluster.kill("trainer");
    let phases = [
        "grpo.gathered",
        "grpo.learned",
        "grpo.published",
        "grpo.sampled",
        "grpo.recorded",
        "checkpoint.staged",
        "checkpoint.hashed",
        "checkpoint.published",
    ];
    cluster.start_trainer_until("grpo.gathered:2");
    let broken = cluster.submit(&job, &[]);
    for (i, phase) in phases.into_iter().enumerate() {
        let status = cluster.wait_for_end("trainer");
        assert!(!status.success(), "{phase} was never passed");
        let next = phases.get(i + 1).map(|next| format!("{next}:2")).unwrap_or_default();
        cluster.start_trainer_until(&next);
    }
    cluster.watch(&broken).ok();
    assert_same(&cluster, &whole, &broken, "grpo-000010");
    let job = cluster.client(&["jobs", "--json", "--name", "arithmetic"]).rows();
    let job = job.iter().find(|job| job["id"] == *broken).unwrap();
    assert_eq!(job["attempts"], 9, "{job}");
    let left = fs::read_dir(cluster.runs().join(&broken).join("checkpoints")).unwrap();
    assert!(left.flatten().all(|e| !e.file_name().to_string_lossy().contains(".tmp-")));
}

#[test]
fn fine_tuning_that_is_killed_midway_goes_on_from_there() {
    let mut cluster = Cluster::start(1);
    let model = base_model(cluster.path());
    let job = format!(
        "name = \"tuned\"\nseed = 3\nmodel = \"{}\"\n\
         [data]\nkind = \"world\"\ncollect_prompts = 40\ncollect_harmful = 0.5\ngrpo_mixture = [0.5, 0.3, 0.2]\n\
         [sampling]\nmax_new_tokens = 48\n[collect]\nsamples = 4\n\
         [sft]\nepochs = 2\nbatch = 8\nlearning_rate = 1e-4\nreplay = 0.25\ncheckpoint_every = 2\n",
        model.display()
    );
    let whole = cluster.submit(&job, &[]);
    cluster.watch(&whole).ok();
    let total = cluster.metrics(&whole).len();
    assert!(total >= 6, "{total} steps are too few to be stopped midway");
    cluster.kill("trainer");
    cluster.start_trainer_until("sft.recorded:5");
    let broken = cluster.submit(&job, &[]);
    assert!(!cluster.wait_for_end("trainer").success());
    cluster.start_trainer();
    cluster.watch(&broken).ok();
    // The checkpoint of step 4 may not have been whole yet.
    let log = cluster.log("trainer");
    assert!(log.contains("sft-000002, after step 2") || log.contains("sft-000004, after step 4"), "{log}");
    assert_same(&cluster, &whole, &broken, &format!("sft-{total:06}"));
    let left = fs::read_dir(cluster.runs().join(&broken).join("checkpoints")).unwrap().count();
    assert_eq!(left, 1, "checkpoints on the way are gone");
}

#[test]
fn work_that_was_sampled_ahead_is_not_sampled_again() {
    let cluster = Cluster::start(1);
    let id = cluster.submit(&arithmetic_job(cluster.path(), 8, 2), &[]);
    cluster.wait_for_step(&id, 2);
    cluster.client(&["pause", &id]).ok();
    cluster.wait_for_state(&id, "paused");
    let steps = cluster.metrics(&id).len();
    assert!(steps < 8, "the job was over before the pause");
    let checkpoint = cluster.runs().join(&id).join(format!("checkpoints/grpo-{steps:06}"));
    let kept = lines(&checkpoint.join("work.jsonl"));
    let shown = sinternal(&["checkpoint", "inspect", &checkpoint.display().to_string(), "--json"]).rows();
    assert_eq!(shown[0]["samples_ahead"], kept.len());
    let before = cluster.scraped("sinternal_rollouts_total{outcome=\"accepted\"}").unwrap();
    cluster.client(&["resume", &id]).ok();
    cluster.watch(&id).ok();
    let sampled = cluster.scraped("sinternal_rollouts_total{outcome=\"accepted\"}").unwrap() - before;
    // 6 groups of 4 a step; what was kept is left out.
    assert_eq!(sampled as usize, (8 - steps) * 24 - kept.len());
    let stale: Vec<f64> = cluster.metrics(&id).iter().map(|m| m["staleness_max"].as_f64().unwrap()).collect();
    assert!(stale.len() == 8 && stale.iter().all(|&s| s <= 2.0), "{stale:?}");
}

#[test]
fn jobs_are_listed_ordered_and_cancelled_as_asked() {
    let cluster = Cluster::start(0);
    // Without workers the first job waits for its samples.
    let job = arithmetic_job(cluster.path(), 2, 0);
    let first = cluster.submit(&job, &[]);
    cluster.wait_for_state(&first, "running");
    let low = cluster.submit(&job, &["--priority", "-1", "--idempotency-key", "low"]);
    let high = cluster.submit(&job, &["--priority", "5"]);
    assert_eq!(cluster.submit(&job, &["--priority", "-1", "--idempotency-key", "low"]), low);
    let ids = |args: &[&str]| -> Vec<String> {
        let rows = cluster.client(&[&["jobs", "--json"], args].concat()).rows();
        rows.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&[]), [&*high, &*low, &*first]);
    assert_eq!(ids(&["--state", "queued"]), [&*high, &*low]);
    assert_eq!(ids(&["--limit", "1"]), [&*high]);
    assert!(ids(&["--name", "geometry"]).is_empty());
    assert!(cluster.client(&["cancel", &first]).ok().contains("asked to stop"));
    cluster.wait_for_state(&first, "cancelled");
    cluster.wait_for_state(&high, "running");
    assert_eq!(ids(&["--state", "queued"]), [&*low]);
    let refused = cluster.client(&["resume", &low]).error();
    assert!(refused.contains(&format!("job {low}: a queued job cannot be resumed")), "{refused}");
    let unknown = cluster.client(&["pause", "nothing"]).error();
    assert!(unknown.contains("no job nothing on this trainer"), "{unknown}");
    let wrong = cluster.client(&["jobs", "--state", "Running"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(wrong.stderr.contains("expected one of queued, preparing, running"), "{}", wrong.stderr);
}

#[test]
fn a_dry_run_shows_the_job_and_spends_nothing() {
    let cluster = Cluster::start(0);
    let job = arithmetic_job(cluster.path(), 4, 0);
    let shown = cluster.try_submit(&job, &["--dry-run"]);
    assert!(
        shown.stderr.contains("prompt arithmetic-0 (") && shown.stderr.contains("compute 0 plus 0 times 0"),
        "{}",
        shown.stderr
    );
    assert!(
        shown.stderr.contains("memory of the trainer: about ") && shown.stderr.contains("moments"),
        "{}",
        shown.stderr
    );
    // 817,664 weights and twice as many moments, in float32.
    assert!(shown.stderr.contains("disk: 4 checkpoints of 9.36 MiB, "), "{}", shown.stderr);
    let resolved = shown.ok();
    assert!(resolved.contains("kl_estimator = \"k3\"") && resolved.contains("group_size = 4"), "{resolved}");
    // What it prints is a job.
    let again = cluster.try_submit(&resolved, &["--dry-run"]).ok();
    assert_eq!(again, resolved);
    let rows = cluster.try_submit(&job, &["--dry-run", "--json"]).rows();
    assert_eq!(
        (rows[0]["job"]["grpo"]["steps"].as_u64(), rows[0]["prompts"].as_array().unwrap().len()),
        (Some(4), 3)
    );
    let one = cluster.try_submit(&job.replace("group_size = 4", "group_size = 1"), &["--dry-run"]).error();
    assert!(one.contains("grpo.group_size: must be at least 2: a group of one has no advantage"), "{one}");
    let typo = cluster.try_submit(&job.replace("learning_rate", "learnin_rate"), &["--dry-run"]).error();
    assert!(typo.contains("did you mean `grpo.learning_rate`?"), "{typo}");
    assert_eq!(cluster.client(&["jobs"]).ok(), "");
}

#[test]
fn what_a_job_leaves_behind_is_read_over_the_wire() {
    let cluster = Cluster::start(1);
    let job = arithmetic_job(cluster.path(), 3, 0) + "keep_last = 1\n";
    let id = cluster.submit(&job, &[]);
    let events = cluster.watch(&id).rows();
    let of = |kind: &str| events.iter().filter(|e| e[kind].is_object()).count();
    assert_eq!((of("metrics"), of("sample"), of("checkpoint")), (3, 3, 3));

    let samples = cluster.client(&["samples", &id, "--json", "--limit", "100"]).rows();
    assert_eq!(samples, lines(&cluster.runs().join(&id).join("samples.jsonl")));
    let third = cluster.client(&["samples", &id, "--json", "--from-step", "3", "--max-reward", "0.5"]).rows();
    let expected: Vec<&Value> = samples
        .iter()
        .filter(|s| s["step"] == 3 && s["score"]["reward"].as_f64().is_some_and(|r| r <= 0.5))
        .collect();
    assert!(third.iter().eq(expected.iter().copied()) && !third.is_empty(), "{third:?}");
    let text = cluster.client(&["samples", &id, "--limit", "1"]);
    assert!(text.stderr.contains("there are more: --limit 2"), "{}", text.stderr);
    let text = text.ok();
    assert!(
        text.contains("── step 1 · Math") && text.contains("correct ") && text.contains("advantage: "),
        "{text}"
    );

    let metrics = cluster.client(&["metrics", &id, "--json", "--stage", "grpo", "--from-step", "2"]).rows();
    assert_eq!(metrics.iter().map(|m| m["step"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(metrics[0]["values"]["reward"], cluster.metrics(&id)[1]["reward"]);

    let files = cluster.client(&["artifacts", &id, "--json"]).rows();
    let paths: Vec<&str> = files.iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert!(
        paths.contains(&"checkpoints/grpo-000003/model.safetensors") && paths.contains(&"logs/attempt-1.log")
    );
    assert!(!paths.iter().any(|p| p.contains("grpo-000002")), "one checkpoint is kept: {paths:?}");
    let out = cluster.path().join("fetched.toml").display().to_string();
    cluster.client(&["artifacts", &id, "config.toml", "--out", &out]).ok();
    assert_eq!(fs::read(&out).unwrap(), fs::read(cluster.runs().join(&id).join("config.toml")).unwrap());
    let again = cluster.client(&["artifacts", &id, "config.toml", "--out", &out]).error();
    assert!(again.contains("is there already"), "{again}");
    let out = cluster.path().join("other").display().to_string();
    for path in ["../jobs.sqlite3", "/etc/passwd", "nothing.txt"] {
        let refused = cluster.client(&["artifacts", &id, path, "--out", &out]).error();
        assert!(refused.contains(path), "{refused}");
    }
    assert!(!Path::new(&out).exists());
}

#[test]
fn checkpoints_are_inspected_verified_exported_and_merged() {
    let cluster = Cluster::start(1);
    let job = arithmetic_job(cluster.path(), 2, 0) + "[learner.lora]\nrank = 4\n";
    let id = cluster.submit(&job, &[]);
    cluster.watch(&id).ok();
    let at = |name: &str| cluster.runs().join(&id).join("checkpoints").join(name).display().to_string();
    let run = |args: &[&str]| sinternal(&[&["checkpoint"], args].concat());
    let whole = at("grpo-000002");
    let shown = run(&["inspect", &whole]).ok();
    assert!(
        shown.contains("stage grpo, after step 2, seed 5") && shown.contains(" 817664 parameters"),
        "{shown}"
    );
    assert!(run(&["verify", &whole]).ok().contains("whole; stage grpo, after step 2"));
    let exported = cluster.path().join("exported").display().to_string();
    run(&["export", &whole, "--out", &exported]).ok();
    assert!(!Path::new(&exported).join("optimizer.safetensors").exists());
    let generate =
        ["generate", "--model", &exported, "--prompt", "compute 1 plus 1 times 1", "--max-new-tokens", "4"];
    sinternal(&generate).ok();
    // The adapters on their base are the whole checkpoint.
    let merged = cluster.path().join("merged").display().to_string();
    let base = cluster.path().join("base").display().to_string();
    run(&["merge", &at("grpo-000002-peft"), "--base", &base, "--out", &merged, "--dtype", "float32"]).ok();
    let weights = |dir: &str| -> BTreeMap<String, Tensor> {
        Tensor::read_safetensors(Path::new(dir).join("model.safetensors")).unwrap().into_iter().collect()
    };
    let (merged_weights, trained) = (weights(&merged), weights(&whole));
    assert!(merged_weights.keys().eq(trained.keys()));
    let changed = |other: &BTreeMap<String, Tensor>| {
        let of = |(name, t): (&String, &Tensor)| (t - &other[name]).abs().max().double_value(&[]);
        trained.iter().map(of).fold(0.0, f64::max)
    };
    assert_eq!(changed(&merged_weights), 0.0);
    let base_weights = weights(&base);
    assert!(changed(&base_weights) > 1e-5, "{}", changed(&base_weights));
    let again = run(&["merge", &at("grpo-000002-peft"), "--base", &base, "--out", &merged]).error();
    assert!(again.contains("merged: is there already"), "{again}");

    let damaged = Path::new(&whole).join("model.safetensors");
    flip_a_bit(&damaged);
    for args in [vec!["verify", &whole], vec!["inspect", &whole], vec!["export", &whole, "--out", "/nowhere"]]
    {
        let error = run(&args).error();
        assert!(error.contains(&damaged.display().to_string()) && error.contains("hash"), "{error}");
    }
}

#[test]
fn a_submission_that_was_acknowledged_survives_the_trainer() {
    let mut cluster = Cluster::start(1);
    let id = cluster.submit(&arithmetic_job(cluster.path(), 1, 0), &[]);
    cluster.kill("trainer");
    cluster.start_trainer();
    cluster.watch(&id).ok();
    // A store of a later version is left alone.
    cluster.kill("trainer");
    let store = cluster.runs().join("jobs.sqlite3");
    until("a whole store", || fs::metadata(&store).ok().filter(|m| m.len() > 0).map(drop));
    let mut bytes = fs::read(&store).unwrap();
    // The header's user version.
    bytes[60..64].copy_from_slice(&99u32.to_be_bytes());
    fs::write(&store, bytes).unwrap();
    for suffix in ["-wal", "-shm"] {
        drop(fs::remove_file(store.with_file_name(format!("jobs.sqlite3{suffix}"))));
    }
    let runs = format!("trainer.runs={}", cluster.runs().display());
    let refused = sinternal(&[
        "trainer",
        "--set",
        &runs,
        "--set",
        "trainer.listen=127.0.0.1:0",
        "--set",
        "trainer.metrics_listen=127.0.0.1:0",
    ]);
    assert!(refused.error().contains("jobs.sqlite3: has schema 99, and this program knows 1"), "named");
}
