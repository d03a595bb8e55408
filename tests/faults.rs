//! Processes that are killed, and bytes that change.

use crate::data_path::arithmetic_job;
use crate::support::{Cluster, base_model, flip_a_bit, until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn steps(cluster: &Cluster, id: &str) -> Vec<u64> {
    cluster.metrics(id).iter().filter(|m| m["stage"] == "grpo").map(|m| m["step"].as_u64().unwrap()).collect()
}

#[test]
fn a_killed_worker_only_slows_the_run() {
    let mut cluster = Cluster::with(2, &["trainer.lease_s=1.5", "trainer.heartbeat_s=0.2"]);
    let id = cluster.submit(&arithmetic_job(cluster.path(), 6, 0), &[]);
    cluster.wait_for_step(&id, 1);
    cluster.kill("worker-1");
    assert!(steps(&cluster, &id).len() < 6, "the job was over before the kill");
    cluster.watch(&id).ok();
    assert_eq!(steps(&cluster, &id), [1, 2, 3, 4, 5, 6]);
    // Every sample of every step was used once, whoever drew it.
    let scored = format!("sinternal_reward_scores_total{{job=\"{id}\",outcome=\"scored\"}}");
    assert_eq!(cluster.scraped(&scored), Some(6.0 * 6.0 * 4.0));
    until("eviction", || (cluster.scraped("sinternal_workers") == Some(1.0)).then_some(()));
}

#[test]
fn a_worker_that_is_told_to_stop_drains_and_one_that_comes_late_helps() {
    let mut cluster = Cluster::start(1);
    let id = cluster.submit(&arithmetic_job(cluster.path(), 4, 0), &[]);
    cluster.wait_for_step(&id, 1);
    assert!(cluster.terminate("worker-1").success());
    cluster.start_worker("2");
    cluster.watch(&id).ok();
    assert_eq!(steps(&cluster, &id), [1, 2, 3, 4]);
}

#[test]
fn a_reward_service_that_is_killed_and_started_again_is_bridged() {
    let mut cluster = Cluster::start(1);
    let model = base_model(cluster.path());
    let job = format!(
        "name = \"safety\"\nmodel = \"{}\"\n\
         [data]\nkind = \"world\"\ncollect_prompts = 10\ncollect_harmful = 0.5\ngrpo_mixture = [0.5, 0.3, 0.2]\n\
         [sampling]\nmax_new_tokens = 48\n\
         [verifier]\nmax_critique_tokens = 24\ngate_answers = 60\ngate_balanced_accuracy = 0.9\ngate_unsafe_recall = 0.9\n\
         [grpo]\nsteps = 4\nprompts = 8\ngroup_size = 4\nlearning_rate = 1e-4\n",
        model.display()
    );
    let id = cluster.submit(&job, &["--unsafe-skip-verifier-gate"]);
    cluster.wait_for_step(&id, 1);
    cluster.kill("reward");
    assert!(steps(&cluster, &id).len() < 4, "the job was over before the kill");
    std::thread::sleep(std::time::Duration::from_millis(500));
    cluster.start_reward();
    cluster.watch(&id).ok();
    assert_eq!(steps(&cluster, &id), [1, 2, 3, 4]);
    // The verifier was loaded again, and what was unanswered was asked again.
    for step in cluster.metrics(&id) {
        assert_eq!(step["masked"], 0.0, "{step}");
        assert!(step["p_safe"].as_f64().unwrap() > 0.0);
    }
}

fn blobs(cluster: &Cluster) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(cluster.runs().join("published/blobs")) else { return Vec::new() };
    entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_none()).collect()
}

#[test]
fn weights_with_a_flipped_bit_are_refused_until_they_are_whole_again() {
    let mut cluster = Cluster::start(0);
    let id = cluster.submit(&arithmetic_job(cluster.path(), 2, 0), &[]);
    let weights = until("published weights", || {
        blobs(&cluster).into_iter().find(|p| p.metadata().is_ok_and(|m| m.len() > 1_000_000))
    });
    let whole = fs::read(&weights).unwrap();
    flip_a_bit(&weights);
    cluster.start_worker("1");
    until("refusal", || cluster.log("worker-1").contains("refused corrupt weights").then_some(()));
    assert_eq!(
        cluster.scraped("sinternal_rollouts_total{outcome=\"accepted\"}"),
        Some(0.0),
        "nothing was sampled"
    );
    // Gone for a moment, as if a newer policy had taken its place; but there is none.
    fs::remove_file(&weights).unwrap();
    until("a miss", || cluster.log("worker-1").contains("this policy was overtaken").then_some(()));
    fs::write(&weights, whole).unwrap();
    cluster.watch(&id).ok();
    assert_eq!(steps(&cluster, &id), [1, 2]);
}

/// Everything of a step but its times.
fn timeless(step: &Value) -> Value {
    let mut step = step.clone();
    step.as_object_mut().unwrap().retain(|key, _| !key.starts_with("seconds_") && key != "time_ms");
    step
}

fn checkpoint_files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let dir = run.join("checkpoints/grpo-000008");
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(&dir)
        .unwrap()
        .flatten()
        .map(|e| (e.file_name().to_string_lossy().into_owned(), fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_killed_trainer_resumes_bit_for_bit() {
    resumes_bit_for_bit("");
}

#[test]
fn a_killed_trainer_resumes_adapters_in_bfloat16_bit_for_bit() {
    let adapters =
        "[learner]\ndtype = \"bfloat16\"\nrecompute = true\n[learner.lora]\nrank = 4\ndropout = 0.1\n";
    let (_cluster, run) = resumes_bit_for_bit(adapters);
    // The adapters alone, for PEFT, beside the whole model of each checkpoint.
    let config = fs::read_to_string(run.join("checkpoints/grpo-000008-peft/adapter_config.json")).unwrap();
    assert!(config.contains("\"r\": 4") && config.contains("base_model_name_or_path"), "{config}");
    assert!(run.join("checkpoints/grpo-000008-peft/adapter_model.safetensors").exists());
}

/// The cluster, which keeps its files, and the run that was killed.
fn resumes_bit_for_bit(learner: &str) -> (Cluster, PathBuf) {
    let mut cluster = Cluster::start(1);
    // Which groups are replaced, and by what, is part of what must come out the same. `learner` begins a section.
    let refills = "min_group_std = 0.4\ndynamic_sampling = { max_refills = 2 }\n";
    let job = format!("{}{refills}{learner}", arithmetic_job(cluster.path(), 8, 0));
    let whole = cluster.submit(&job, &[]);
    cluster.watch(&whole).ok();
    let broken = cluster.submit(&job, &[]);
    cluster.wait_for_step(&broken, 4);
    cluster.kill("trainer");
    assert!(steps(&cluster, &broken).len() < 8, "the job was over before the kill");
    cluster.start_trainer();
    cluster.watch(&broken).ok();
    assert!(cluster.log("trainer").contains("resumes from"), "it went on from a checkpoint");
    assert_eq!(steps(&cluster, &broken), [1, 2, 3, 4, 5, 6, 7, 8], "each step is recorded once");
    let of = |id: &str| cluster.metrics(id).iter().map(timeless).collect::<Vec<_>>();
    assert!(of(&whole).iter().any(|step| step["refilled_groups"].as_f64() > Some(0.0)));
    for (a, b) in of(&whole).iter().zip(&of(&broken)) {
        for (key, value) in a.as_object().unwrap() {
            // What the sampler computed may differ by rounding, for its batches had other companies.
            if !["logprob_mismatch", "importance_"].iter().any(|of_both| key.starts_with(of_both)) {
                assert_eq!(value, &b[key], "{key} of step {}", a["step"]);
            }
        }
    }
    let files = |id: &str| checkpoint_files(&cluster.runs().join(id));
    assert_eq!(files(&whole), files(&broken), "weights and moments are the same bits");
    let leftovers = fs::read_dir(cluster.runs().join(&broken).join("checkpoints")).unwrap();
    assert!(leftovers.flatten().all(|e| !e.file_name().to_string_lossy().contains(".tmp-")));
    let run = cluster.runs().join(&broken);
    (cluster, run)
}

#[test]
fn a_damaged_checkpoint_is_refused_by_name() {
    let mut cluster = Cluster::start(1);
    let id = cluster.submit(&arithmetic_job(cluster.path(), 40, 0), &[]);
    cluster.wait_for_step(&id, 3);
    cluster.kill("trainer");
    let mut checkpoints: Vec<PathBuf> = fs::read_dir(cluster.runs().join(&id).join("checkpoints"))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| !p.to_string_lossy().contains(".tmp-"))
        .collect();
    checkpoints.sort();
    let newest = checkpoints.last().unwrap().join("model.safetensors");
    flip_a_bit(&newest);
    cluster.start_trainer();
    let error = cluster.watch(&id).error();
    assert!(error.contains(&newest.display().to_string()) && error.contains("hash"), "{error}");
}

#[test]
fn a_sample_that_no_cache_can_hold_fails_its_job_and_not_the_worker() {
    let cluster = Cluster::with(1, &["rollout_worker.kv_budget_bytes=65536"]);
    let id = cluster.submit(&arithmetic_job(cluster.path(), 1, 0), &[]);
    let error = cluster.watch(&id).error();
    assert!(error.contains("cannot be sampled") && error.contains("the budget is 65536"), "{error}");
    assert_eq!(cluster.scraped("sinternal_workers"), Some(1.0));
}
