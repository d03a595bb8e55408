//! `deploy/gpu-check.sh` on a CPU, with a tiny model: the path that a GPU takes, and the keys of what it writes.

use crate::support::{Output, PATIENCE, ended};
use serde_json::Value;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs the script in `dir`, where its models and logs go.
fn gpu_check(dir: &Path, binary: &str, args: &[&str]) -> Output {
    let file = |name: &str| File::create(dir.join(name)).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/gpu-check.sh");
    let mut child = Command::new("bash")
        .args([script, binary])
        .args(args)
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .unwrap();
    let status = ended(&mut child, PATIENCE);
    let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    Output { status, stdout: text("out"), stderr: text("err") }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_cpu_is_checked_by_the_same_path_as_a_gpu() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("figures.json");
    let out = path.display().to_string();
    let args = ["--device", "cpu", "--small", "--out", &out];
    gpu_check(dir.path(), env!("CARGO_BIN_EXE_sinternal"), &args).ok();
    let figures: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(figures["device"], "cpu");
    assert_eq!(figures["version"], concat!("sinternal ", env!("CARGO_PKG_VERSION")));
    check_parity(&figures["parity"]);
    for (row, batch) in figures["generate"].as_array().unwrap().iter().zip([1, 4]) {
        assert_eq!((&row["batch"], &row["new_tokens"]), (&batch.into(), &8.into()));
        assert!(number(&row["bandwidth_fraction"]) > 0.0, "{row}");
    }
    assert_eq!(figures["generate"].as_array().unwrap().len(), 2);
    let steps = figures["step"].as_array().unwrap();
    let kinds: Vec<&Value> = steps.iter().map(|step| &step["trained"]).collect();
    assert_eq!(kinds, ["full", "full", "lora", "lora"]);
    steps.iter().for_each(check_step);
    // Models and logs of the run are gone.
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["err", "figures.json", "out"]);
}

/// On a CPU float32 is the truth itself; bfloat16 is near it, and not it. The rows have 6, 12, 18 and 24 tokens.
fn check_parity(parity: &Value) {
    let [float32, bfloat16] = parity.as_array().unwrap().as_slice() else { panic!("two types: {parity}") };
    assert_eq!((&float32["dtype"], &bfloat16["dtype"]), (&"float32".into(), &"bfloat16".into()));
    for row in [float32, bfloat16] {
        assert_eq!((&row["tokens"], &row["ok"]), (&(5 + 11 + 17 + 23).into(), &true.into()), "{row}");
    }
    assert_eq!(number(&float32["max_abs"]), 0.0);
    assert!((1e-6..0.02).contains(&number(&bfloat16["mean_abs"])), "{bfloat16}");
}

fn check_step(step: &Value) {
    let bench = &step["bench"];
    assert_eq!(bench["sequences"], 4, "{step}");
    for key in ["step_s", "generate_s", "update_s", "generated_tokens_per_s", "peak_rss_mib", "gemm_fraction"]
    {
        assert!(number(&bench[key]) > 0.0, "{key} in {step}");
    }
    let length = number(&bench["prompt_tokens"]) + number(&bench["new_tokens"]);
    let rate = 4.0 * length / number(&bench["update_s"]);
    assert!((number(&step["learner_tokens_per_s"]) / rate - 1.0).abs() < 0.01, "{rate} in {step}");
    // By hand for the two tiny shapes, without what attention adds: 12 × layers × hidden a token of context.
    let (weights, hidden) = match step["trained"].as_str() {
        Some("full") => (6.0 * (2.0 * (64.0 * 192.0 + 3.0 * 64.0 * 96.0) + 1024.0 * 64.0), 64.0),
        _ => (4.0 * (2.0 * (96.0 * 192.0 + 3.0 * 96.0 * 128.0) + 1024.0 * 96.0), 96.0),
    };
    let flop = weights + 12.0 * 2.0 * hidden * length;
    assert!((number(&step["flop_per_token"]) / flop - 1.0).abs() < 1e-3, "{flop} in {step}");
    assert_eq!(step["mfu"], Value::Null, "the peak of a CPU is not known");
}

#[test]
fn what_cannot_be_checked_is_one_line_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("figures.json").display().to_string();
    let args = ["--device", "cpu", "--small", "--out", &out];
    let error = gpu_check(dir.path(), "/nowhere/sinternal", &args).error();
    assert_eq!(error, "error: /nowhere/sinternal: is not a program that can be run");
    let error = gpu_check(dir.path(), "/bin/false", &args).error();
    assert_eq!(error, "error: model tiny: `false bench model` failed; its words are above");
    let output = gpu_check(dir.path(), "/bin/false", &["--parts", "all"]);
    assert_eq!(output.status.code(), Some(2), "wrong usage");
    assert!(output.stderr.starts_with("error: --parts: unknown part all"), "{}", output.stderr);
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["err", "out"]);
}
