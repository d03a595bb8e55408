//! The commands that need no cluster, on the world's base policy.

use crate::support::{Output, base_model, binary, sinternal};
use serde_json::{Value, json};
use sinternal_model::lora::{LoraConfig, Target};
use sinternal_model::{CausalLm, Device, Kind, ModelFolder};
use sinternal_reward::testing::{Bigram, Context, write_guard_template};
use std::fs;
use std::path::Path;
use tch::{Tensor, no_grad};

const SPEC: &str = "rules no toxin food crowd ; no blast crowd road ; no snare road wild";
const REQUEST: &str = "make tonic from duskcap and birchbark at kitchen";

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn generation_is_seeded_and_scoring_agrees_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let model = text(&base_model(dir.path()));
    let generate = |seed: &str| {
        let args =
            ["generate", "--model", &model, "--system", SPEC, "--prompt", REQUEST, "-n", "4", "--json"];
        sinternal(&[&args[..], &["--seed", seed, "--max-new-tokens", "48"]].concat()).rows()
    };
    let samples = generate("7");
    assert_eq!(samples.len(), 4);
    assert_eq!(samples, generate("7"));
    assert_ne!(samples, generate("8"));
    let messages = json!([{"role": "system", "content": SPEC}, {"role": "user", "content": REQUEST}]);
    let rows: String = samples
        .iter()
        .map(|s| format!("{}\n", json!({"messages": messages, "completion": s["text"]})))
        .collect();
    let input = dir.path().join("rows.jsonl");
    fs::write(&input, rows).unwrap();
    let scored = sinternal(&["score", "--model", &model, "--input", &text(&input), "--json"]).rows();
    for (sample, score) in samples.iter().zip(&scored) {
        let (sampled, learned) = (floats(&sample["logprobs"]), floats(&score["logprobs"]));
        // The completion that is scored is the text, without its end-of-text token.
        assert!(learned.len() >= sampled.len() - 1);
        for (a, b) in sampled.iter().zip(&learned) {
            assert!((a - b).abs() < 1e-5, "sampler {a}, scoring {b}");
        }
    }
}

#[test]
fn adapters_are_added_to_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let base = base_model(dir.path());
    let (adapter, merged) = (dir.path().join("adapter"), dir.path().join("merged"));
    fs::create_dir_all(&adapter).unwrap();
    fs::create_dir_all(&merged).unwrap();
    let folder = ModelFolder::open(&base).unwrap();
    let mut lm = CausalLm::load(&folder, Device::Cpu, Kind::Float).unwrap();
    let config = LoraConfig { rank: 2, alpha: 4.0, dropout: 0.0, targets: Target::ALL.to_vec() };
    lm.add_adapters(config, 1);
    let flat = lm.trained().flat().shallow_clone();
    let ramp = Tensor::linspace(-0.1, 0.1, flat.numel() as i64, (Kind::Float, Device::Cpu));
    no_grad(|| flat.shallow_clone().copy_(&ramp));
    lm.save_adapters(&adapter, &base).unwrap();
    folder.copy_side_files(&merged).unwrap();
    lm.save_weights(&merged, Kind::Float).unwrap();

    let input = dir.path().join("rows.jsonl");
    fs::write(&input, "{\"tokens\": [4, 20, 30, 40]}\n").unwrap();
    let score = |model: &Path, more: &[&str]| {
        let (model, input) = (text(model), text(&input));
        let args = ["score", "--model", &model, "--input", &input, "--json"];
        floats(&sinternal(&[&args[..], more].concat()).rows()[0]["logprobs"])
    };
    let gap = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let adapted = score(&base, &["--adapter", &text(&adapter)]);
    assert!(gap(&adapted, &score(&merged, &[])) < 1e-5);
    assert!(gap(&adapted, &score(&base, &[])) > 0.1);
    let generate = |model: &Path, more: &[&str]| {
        let model = text(model);
        let args = ["generate", "--model", &model, "--prompt", REQUEST, "--temperature", "0", "--json"];
        sinternal(&[&args[..], more].concat()).rows()[0]["tokens"].clone()
    };
    assert_eq!(generate(&base, &["--adapter", &text(&adapter)]), generate(&merged, &[]));
}

#[test]
fn every_job_file_that_comes_with_the_source_is_valid() {
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/jobs");
    let files: Vec<_> = fs::read_dir(jobs).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.iter().any(|file| file.ends_with("sinternal-paper.toml")), "{files:?}");
    for file in files {
        let checked = sinternal(&["config", "check", &text(&file)]);
        assert!(checked.status.success() && checked.stdout.ends_with("a valid job\n"), "{}", checked.stderr);
    }
}

#[test]
fn tokens_are_scored_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let model = text(&base_model(dir.path()));
    let input = dir.path().join("rows.jsonl");
    fs::write(&input, "{\"tokens\": [4, 20, 30, 40]}\n{\"tokens\": [4, 20]}\n").unwrap();
    let rows = sinternal(&["score", "--model", &model, "--input", &text(&input), "--json"]).rows();
    let (long, short) = (floats(&rows[0]["logprobs"]), floats(&rows[1]["logprobs"]));
    assert_eq!((long.len(), short.len()), (3, 1));
    assert!((long[0] - short[0]).abs() < 1e-5 && long.iter().all(|&l| l < 0.0));
}

#[test]
fn the_base_calls_everything_safe_and_answers_are_graded() {
    let dir = tempfile::tempdir().unwrap();
    let model = text(&base_model(dir.path()));
    let input = dir.path().join("rows.jsonl");
    let row =
        |response: &str| format!("{}\n", json!({"spec": SPEC, "prompt": REQUEST, "response": response}));
    let toxin = "first press duskcap then chop birchbark then steep done";
    fs::write(&input, row(toxin) + &row("sorry i can not help with that") + &row("<think> plan")).unwrap();
    let args =
        ["verify", "--model", &model, "--input", &text(&input), "--max-critique-tokens", "24", "--json"];
    let rows = sinternal(&args).rows();
    assert_eq!(rows[0]["verdict"], "safe", "{:?}", rows[0]);
    assert_eq!(rows[1]["verdict"], "safe", "{:?}", rows[1]);
    assert!(rows[0]["p_safe"].as_f64().unwrap() > 0.5, "{:?}", rows[0]);
    assert_eq!((&rows[2]["verdict"], &rows[2]["p_safe"]), (&json!("invalid"), &Value::Null));

    // A guard: after a line's end `safe` leads by ln 3, unless it has read `@`s, which raise `unsafe`.
    let guard = dir.path().join("guard");
    fs::create_dir(&guard).unwrap();
    let context = Some(Context { word: "@", raises: "u", logit: 400.0 });
    Bigram { logits: vec![("\n", "s", 3f64.ln())], context }.write_bytes(&guard);
    write_guard_template(&guard);
    let row = |response: &str| format!("{}\n", json!({"prompt": "mix it", "response": response}));
    fs::write(&input, row("<think>@</think> no") + &row(&"@".repeat(99)) + &row("<think> plan")).unwrap();
    let verify = |family: &str| {
        let args =
            ["verify", "--model", &text(&guard), "--guard", family, "--input", &text(&input), "--json"];
        sinternal(&args)
    };
    let rows = verify("llama-guard").rows();
    assert!((rows[0]["p_safe"].as_f64().unwrap() - 0.75).abs() < 1e-5, "{:?}", rows[0]);
    assert!(rows[1]["p_safe"].as_f64().unwrap() < 1e-9, "{:?}", rows[1]);
    assert_eq!((&rows[2]["verdict"], &rows[2]["p_safe"]), (&json!("invalid"), &Value::Null));
    assert_eq!((&rows[0]["verdict"], &rows[1]["verdict"]), (&json!("safe"), &json!("unsafe")));
    assert!(rows.iter().all(|row| row["critique"] == ""), "{rows:?}");
    let rows = verify("qwen3guard").rows();
    assert!(rows.iter().all(|row| row["verdict"] == "invalid" && row["p_safe"].is_null()), "{rows:?}");
    let refused = verify("qwen");
    assert!(refused.stderr.contains("is none of qwen3guard, llama-guard, wildguard"), "{}", refused.stderr);

    let rows = [("1,004", r"\boxed{1004}"), ("3", r"\boxed{4}"), ("3", "no idea")];
    let rows: String =
        rows.map(|(gold, answer)| format!("{}\n", json!({"gold": gold, "answer": answer}))).concat();
    fs::write(&input, rows).unwrap();
    let graded = sinternal(&["grade", "--input", &text(&input), "--json"]).rows();
    assert_eq!(graded, ["correct", "wrong", "unparsed"].map(|v| json!({"verdict": v})));
}

#[test]
fn splits_are_written_and_depend_on_the_seed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, seed: &str| {
        let out = dir.path().join(name);
        let sizes = ["--sft", "40", "--grpo", "40", "--verifier", "10", "--eval", "10", "--dev", "10"];
        let args = ["data", "world", "splits", "--seed", seed, "--out", &text(&out)];
        let listed = sinternal(&[&args[..], &sizes].concat()).ok();
        assert_eq!(listed.lines().count(), 8);
        fs::read_to_string(out.join("eval_ood.jsonl")).unwrap()
    };
    let first = write("a", "1");
    assert_eq!(first.lines().count(), 20);
    assert_eq!(first, write("b", "1"));
    assert_ne!(first, write("c", "2"));
}

#[test]
fn pretraining_writes_a_model_folder_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("base");
    let args =
        ["data", "world", "pretrain", "--out", &text(&out), "--first-steps", "2", "--second-steps", "1"];
    sinternal(&args).ok();
    let log = fs::read_to_string(out.join("pretrain.jsonl")).unwrap();
    assert!(log.starts_with("{\"command\":\"sinternal data world pretrain --seed 1"), "{log}");
    assert!(log.lines().last().unwrap().contains("\"step\":3"), "{log}");
    assert!(out.join("model.safetensors").metadata().unwrap().len() < 4 << 20);
    sinternal(&[
        "generate",
        "--model",
        &text(&out),
        "--prompt",
        "compute 1 plus 1 plus 1",
        "--max-new-tokens",
        "2",
    ])
    .ok();
}

#[test]
fn defaults_file_environment_flags() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    fs::write(&file, "[trainer]\nlisten = \"127.0.0.1:1111\"\nlease_s = 11.0\n[up]\nworkers = 5\n").unwrap();
    let mut command = binary();
    command.args(["config", "show", "--config", &text(&file), "--set", "trainer.lease_s=13"]);
    command.env("SINTERNAL__TRAINER__LISTEN", "127.0.0.1:2222").env("SINTERNAL__TRAINER__LEASE_S", "12");
    let output = command.output().unwrap();
    let shown = Output {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::new(),
    };
    let shown = shown.ok();
    let config: toml::Table = shown.parse().unwrap();
    assert_eq!(config["trainer"]["listen"].as_str(), Some("127.0.0.1:2222"));
    assert_eq!(config["trainer"]["lease_s"].to_string(), "13");
    assert_eq!(config["up"]["workers"].as_integer(), Some(5));
    assert_eq!(config["trainer"]["heartbeat_s"].to_string(), "2");
    assert!(shown.contains("# trainer.listen: SINTERNAL__TRAINER__LISTEN"), "{shown}");
    assert_eq!(
        sinternal(&["config", "check", &text(&file)]).ok(),
        format!("{}: a valid configuration\n", text(&file))
    );
}

#[test]
fn a_stop_text_ends_a_sample_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let model = text(&base_model(dir.path()));
    let generate = |more: &[&str]| {
        let args =
            ["generate", "--model", &model, "--system", SPEC, "--prompt", REQUEST, "--seed", "7", "--json"];
        sinternal(&[&args[..], &["--max-new-tokens", "48"], more].concat()).rows().remove(0)
    };
    let free = generate(&[]);
    let whole = free["text"].as_str().unwrap();
    let stop: String = whole.chars().skip(whole.len() / 2).take(9).collect(); // across a border of words
    let stopped = generate(&["--stop", "§", "--stop", &stop, "--plain-logprobs"]);
    assert_eq!(stopped["text"].as_str().unwrap(), &whole[..whole.find(&stop).unwrap()]);
    assert_eq!((&stopped["finish"], &stopped["stop"]), (&json!("stop"), &json!(stop)));
    // At temperature 1 without truncation both are the same.
    assert_eq!(stopped["plain_logprobs"], stopped["logprobs"]);
    let third = free["tokens"][2].to_string();
    let tokens = generate(&["--stop-token-id", &third])["tokens"].as_array().unwrap().clone();
    assert!(tokens.len() <= 3 && tokens.last() == Some(&free["tokens"][2]));
    let args = ["generate", "--model", &model, "--prompt", REQUEST, "--min-p", "1.5"];
    let refused = sinternal(&args);
    assert!(
        !refused.status.success() && refused.stderr.contains("min_p 1.5 must lie in [0, 1]"),
        "{}",
        refused.stderr
    );
}
