//! prompts → leases → traces → scores → advantages → update → publish, over gRPC, and what it leaves on disk.

use crate::support::{Cluster, arithmetic, base_model, gsm8k, lines, random_model, sinternal};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;

/// GRPO on arithmetic: hot sampling, so that the base policy makes mistakes to learn from.
pub(crate) fn arithmetic_job(dir: &Path, steps: u64, staleness: u64) -> String {
    let (model, data) = (base_model(dir), arithmetic(dir));
    format!(
        "name = \"arithmetic\"\nseed = 5\nmodel = \"{}\"\n\
         [data]\nkind = \"prompts\"\npath = \"{}\"\n\
         [sampling]\ntemperature = 2.0\nmax_new_tokens = 32\n\
         [grpo]\nsteps = {steps}\nprompts = 6\ngroup_size = 4\nlearning_rate = 1e-4\nepochs = 2\n\
         staleness = {staleness}\ncheckpoint_every = 1\nkl = 0.01\n",
        model.display(),
        data.display()
    )
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("no `{key}` in {row}"))
}

#[test]
fn a_job_runs_and_its_numbers_hold() {
    let cluster = Cluster::start(2);
    let id = cluster.submit(&arithmetic_job(cluster.path(), 3, 0), &[]);
    let events = cluster.watch(&id).rows();
    assert_eq!(events.last().unwrap()["state"]["state"], "succeeded");
    let metrics = cluster.metrics(&id);
    assert_eq!(metrics.iter().map(|m| number(m, "step")).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
    for step in &metrics {
        // On-policy the first ratio is 1 and nothing is clipped, exactly.
        assert_eq!((number(step, "first_ratio_gap"), number(step, "first_clip_fraction")), (0.0, 0.0));
        let mismatch = number(step, "logprob_mismatch_max");
        assert!(mismatch < 1e-5, "sampler and learner differ by {mismatch}");
        assert_eq!((number(step, "masked"), number(step, "staleness_max")), (0.0, 0.0));
        let reward = number(step, "reward");
        assert!(reward > 0.0 && reward < 1.0, "reward {reward}");
        assert_eq!(number(step, "reward"), number(step, "reward_math"));
        assert!(number(step, "trained_sequences") >= 4.0 && number(step, "grad_norm") > 0.0);
    }
    let run = cluster.runs().join(&id);
    check_manifest(&run.join("checkpoints/grpo-000003"));
    let samples = lines(&run.join("samples.jsonl"));
    assert_eq!(samples.len(), 3 * 4, "one group of arithmetic a step");
    assert!(samples.iter().all(|s| s["kind"] == "math" && s["score"]["components"]["correct"].is_number()));
    let resolved = std::fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(resolved.contains("clip = 0.2"), "defaults are written out: {resolved}");
    // It has a report with its curve, though there is no oracle to measure with.
    let report = std::fs::read_to_string(run.join("report.md")).unwrap();
    assert!(report.contains("(curve.png)") && !report.contains("Held-out measures"), "{report}");
    assert!(std::fs::read(run.join("curve.png")).unwrap().starts_with(b"\x89PNG"));
    // What Prometheus sees is what the run says.
    let steps = format!("sinternal_steps_total{{job=\"{id}\",stage=\"grpo\"}}");
    assert_eq!(cluster.scraped(&steps), Some(3.0));
    assert_eq!(cluster.scraped("sinternal_rollouts_total{outcome=\"accepted\"}"), Some(3.0 * 6.0 * 4.0));
    let exported = cluster.scraped(&format!("sinternal_logprob_mismatch_max{{job=\"{id}\"}}")).unwrap();
    assert_eq!(exported, number(&metrics[2], "logprob_mismatch_max"));
    // The checkpoint is a model like any other.
    let model = run.join("checkpoints/grpo-000003").display().to_string();
    let generate = ["generate", "--model", &model, "--prompt", "compute 3 plus 4 times 2", "--json"];
    assert_eq!(sinternal(&generate).rows().len(), 1);
}

/// As `sha256sum --check manifest.sha256` would.
fn check_manifest(checkpoint: &Path) {
    let manifest = std::fs::read_to_string(checkpoint.join("manifest.sha256")).unwrap();
    for line in manifest.lines() {
        let (hash, name) = line.split_once("  ").unwrap();
        let bytes = std::fs::read(checkpoint.join(name)).unwrap();
        assert_eq!(hex(&Sha256::digest(&bytes)), hash, "{name}");
    }
    for name in ["model.safetensors", "config.json", "tokenizer.json", "state.json"] {
        assert!(manifest.contains(&format!("  {name}\n")), "{name} is not listed");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn estimators_aggregations_and_clips_are_chosen_in_the_job_file() {
    let cluster = Cluster::start(1);
    let job = arithmetic_job(cluster.path(), 2, 0);
    let mut losses = Vec::new();
    for (advantage, aggregation) in [
        ("grpo", "sequence-mean-token-mean"),
        ("dr-grpo", "fixed-length"),
        ("rloo", "token-mean"),
        ("batch", "sequence-mean-token-sum"),
    ] {
        let choice =
            format!("advantage = \"{advantage}\"\naggregation = \"{aggregation}\"\nclip_high = 0.28\n");
        let id = cluster.submit(&format!("{job}{choice}"), &[]);
        cluster.watch(&id).ok();
        let first = &cluster.metrics(&id)[0];
        assert_eq!((number(first, "first_ratio_gap"), number(first, "first_clip_fraction")), (0.0, 0.0));
        assert!(number(first, "trained_sequences") > 0.0);
        losses.push(number(first, "grad_norm"));
    }
    // The same samples, four different gradients.
    assert!(losses.windows(2).all(|w| (w[0] - w[1]).abs() > 1e-6), "{losses:?}");
    let error = cluster.try_submit(&format!("{job}advantage = \"gae\"\n"), &[]).error();
    assert!(error.contains("grpo.advantage") && error.contains("gae"), "{error}");
}

#[test]
fn objectives_are_chosen_in_the_job_file_and_each_starts_at_ratio_one() {
    let cluster = Cluster::start(1);
    let job = arithmetic_job(cluster.path(), 2, 0);
    let mask = "importance = { kind = \"mask\", low = 0.9, high = 1.1 }\n";
    for (options, warns) in [
        ("objective = \"gspo\"\nclip = 1e-6\naggregation = \"sequence-mean-token-mean\"\n", false),
        ("dual_clip = 3.0\nclip = 1e-6\nkl_estimator = \"k1\"\n", true),
    ] {
        let id = cluster.submit(&format!("{job}{options}{mask}"), &[]);
        let events = cluster.watch(&id).rows();
        let of_k1 = |e: &Value| e["log"]["message"].as_str().is_some_and(|m| m.contains("grpo.kl_estimator"));
        assert_eq!(events.iter().any(of_k1), warns);
        let metrics = cluster.metrics(&id);
        assert_eq!(metrics.len(), 2);
        for step in &metrics {
            assert_eq!((number(step, "first_ratio_gap"), number(step, "first_clip_fraction")), (0.0, 0.0));
            // The second pass moved past so narrow a bound.
            assert!(number(step, "clip_fraction") > 0.1, "{step}");
            // Sampler and learner agree, so nothing is masked.
            assert_eq!(number(step, "importance_corrected"), 0.0);
            assert!((number(step, "importance_effective") - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn cispo_with_truncation_overlong_shaping_and_dynamic_sampling() {
    let cluster = Cluster::start(2);
    // The buffer is the whole length, so every token costs; not every group deviates by 0.45, so some are replaced.
    let options = "objective = \"cispo\"\nclip_high = 4.0\nkl_estimator = \"k2\"\nentropy = 1e-3\nmin_group_std = 0.45\n\
                   importance = { kind = \"truncate\", cap = 1.0 }\noverlong = { buffer = 32, mask = true }\n\
                   dynamic_sampling = { max_refills = 2 }\n";
    let id = cluster.submit(&format!("{}{options}", arithmetic_job(cluster.path(), 3, 1)), &[]);
    cluster.watch(&id).ok();
    let metrics = cluster.metrics(&id);
    assert_eq!(metrics.len(), 3);
    let (mut samples, mut refills) = (0.0, 0.0);
    for step in &metrics {
        assert_eq!((number(step, "first_ratio_gap"), number(step, "first_clip_fraction")), (0.0, 0.0));
        assert!(number(step, "staleness_max") <= 1.0 && number(step, "masked") == 0.0, "{step}");
        let (penalty, tokens) = (number(step, "overlong_penalty"), number(step, "tokens"));
        assert!((penalty + tokens / 32.0).abs() < 1e-9, "{step}");
        let (corrected, effective) =
            (number(step, "importance_corrected"), number(step, "importance_effective"));
        assert!(corrected > 0.0 && corrected < 1.0, "{step}");
        assert!(effective > 0.5 && effective <= 1.0, "{step}");
        // Each of the 6 places was filled at most thrice, and each group that was replaced taught nothing.
        let (refilled, dropped) = (number(step, "refilled_groups"), number(step, "zero_variance_groups"));
        let empty = number(step, "overlong_groups");
        assert!(refilled <= 12.0 && refilled <= dropped + empty, "{step}");
        let learned = number(step, "trained_sequences") + number(step, "overlong_masked");
        assert_eq!(learned, 4.0 * (6.0 + refilled - dropped), "{step}");
        samples += 4.0 * (6.0 + refilled);
        refills += refilled;
    }
    assert!(refills >= 2.0, "{refills}");
    assert_eq!(cluster.scraped("sinternal_rollouts_total{outcome=\"accepted\"}"), Some(samples));
    assert_eq!(cluster.scraped(&format!("sinternal_refilled_groups_total{{job=\"{id}\"}}")), Some(refills));
    let effective = cluster.scraped(&format!("sinternal_importance_effective{{job=\"{id}\"}}")).unwrap();
    assert!((effective - number(&metrics[2], "importance_effective")).abs() < 1e-12);
}

#[test]
fn a_random_model_of_each_family_goes_through_and_what_taught_nothing_changes_nothing() {
    let cluster = Cluster::start(1);
    let data = gsm8k(cluster.path());
    for family in ["Qwen2", "Qwen3", "Llama"] {
        let model = random_model(cluster.path(), family);
        let job = format!(
            "name = \"{family}\"\nmodel = \"{}\"\n[data]\nkind = \"gsm8k\"\npath = \"{}\"\n\
             instruction = \"\"\n[sampling]\nmax_new_tokens = 8\n\
             [grpo]\nsteps = 2\nprompts = 3\ngroup_size = 2\nlearning_rate = 1e-3\n",
            model.display(),
            data.display()
        );
        let id = cluster.submit(&job, &[]);
        let events = cluster.watch(&id).rows();
        let warned =
            |e: &&Value| e["log"]["message"].as_str().is_some_and(|m| m.contains("nothing was learned"));
        assert_eq!(events.iter().filter(warned).count(), 1, "{family}");
        for step in cluster.metrics(&id) {
            assert_eq!((number(&step, "reward"), number(&step, "zero_variance_groups")), (0.0, 3.0));
            assert_eq!(step.get("loss"), None, "a loss of nothing is not 0");
        }
        let weights = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
        let checkpoint = cluster.runs().join(&id).join("checkpoints/grpo-000002");
        assert_eq!(weights(&checkpoint), weights(&model), "{family}");
    }
}

#[test]
fn staleness_is_a_capacity() {
    let cluster = Cluster::start(1);
    let id = cluster.submit(&arithmetic_job(cluster.path(), 4, 1), &[]);
    cluster.watch(&id).ok();
    let stale: Vec<f64> = cluster.metrics(&id).iter().map(|m| number(m, "staleness_max")).collect();
    assert_eq!(stale.len(), 4);
    assert!(stale.iter().all(|&s| s <= 1.0), "{stale:?}");
    // Work of the next step is sampled while this one is learned from, so the bound is used.
    assert_eq!(stale[1..].iter().fold(0.0, |a: f64, &s| a.max(s)), 1.0, "{stale:?}");
}

#[test]
fn what_cannot_be_scored_is_masked_and_never_zero() {
    let cluster = Cluster::start(1);
    // Critiques of two tokens never reach a judgment, so no safety answer has a score.
    let model = base_model(cluster.path());
    let job = format!(
        "name = \"unjudged\"\nmodel = \"{}\"\n\
         [data]\nkind = \"world\"\ncollect_prompts = 10\ncollect_harmful = 0.5\ngrpo_mixture = [0.5, 0.25, 0.25]\n\
         [sampling]\nmax_new_tokens = 48\n\
         [verifier]\nmax_critique_tokens = 2\ngate_answers = 4\ngate_balanced_accuracy = 0.9\ngate_unsafe_recall = 0.9\n\
         [grpo]\nsteps = 2\nprompts = 8\ngroup_size = 4\nlearning_rate = 1e-4\n",
        model.display()
    );
    let id = cluster.submit(&job, &["--unsafe-skip-verifier-gate"]);
    cluster.watch(&id).ok();
    for step in cluster.metrics(&id) {
        // Refusals are told by a grader alone, but without p_safe they have no reward either.
        assert_eq!(number(&step, "masked"), 6.0 * 4.0);
        assert_eq!(
            (step.get("reward_harmful"), step.get("reward_benign")),
            (None, None),
            "no mean of nothing"
        );
        assert_eq!(number(&step, "reward"), number(&step, "reward_math"));
    }
    let samples = lines(&cluster.runs().join(&id).join("samples.jsonl"));
    let masked: Vec<&Value> = samples.iter().filter(|s| s["kind"] != "math").collect();
    assert_eq!(masked.len(), 2 * 2 * 4, "a group of either kind in each step");
    for sample in masked {
        assert_eq!(
            (&sample["score"]["masked"], &sample["advantage"]),
            (&"invalid critique".into(), &Value::Null)
        );
    }
}
