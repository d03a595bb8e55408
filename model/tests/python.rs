//! What is written here, read by `transformers` and `peft`. Needs a Python that has them: SINTERNAL_BENCH_PYTHON, or the
//! environment that `cargo xtask bench` makes. Without one these tests say so and check nothing; the golden values of
//! `parity.rs` need no Python.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use sinternal_model::lora::{LoraConfig, Target};
use sinternal_model::random_model::RandomModel;
use sinternal_model::{CausalLm, Device, Kind, ModelFolder, Packed, logprob};
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::{Tensor, no_grad};

const TOKENS: [u32; 12] = [3, 200, 17, 44, 300, 9, 9, 120, 256, 31, 5, 77];

/// A Python with both packages.
fn python() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-env/bin/python");
    let candidates = [std::env::var_os("SINTERNAL_BENCH_PYTHON").map(PathBuf::from), Some(made)];
    let has_both = |python: &PathBuf| {
        let imports = Command::new(python).args(["-c", "import torch, transformers, peft"]).output();
        imports.is_ok_and(|o| o.status.success())
    };
    let found = candidates.into_iter().flatten().find(has_both);
    if found.is_none() {
        eprintln!("no Python with torch, transformers and peft: nothing is checked here");
    }
    found
}

fn theirs(python: &Path, model: &Path, adapter: Option<&Path>) -> Vec<f32> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/scores.py");
    let mut command = Command::new(python);
    command.arg(script).arg(model).arg(serde_json::to_string(&TOKENS).unwrap());
    let output = command.args(adapter).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn ours(lm: &CausalLm) -> Vec<f32> {
    let hidden = no_grad(|| lm.forward(&Packed::new(&[TOKENS], Device::Cpu))).narrow(0, 0, 11);
    let targets: Vec<i64> = TOKENS[1..].iter().map(|&t| i64::from(t)).collect();
    Vec::try_from(logprob::target_log_probs(&hidden, lm.head(), &Tensor::from_slice(&targets), 1.0)).unwrap()
}

fn assert_close(a: &[f32], b: &[f32], what: &str) {
    let gap = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(a.len() == b.len() && gap < 1e-4, "{what}: {gap}");
}

fn make(family: &str, untied: bool, dir: &Path) -> ModelFolder {
    let shape = RandomModel {
        family: family.into(),
        vocab: 384,
        hidden: 48,
        intermediate: 80,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: if family == "qwen2" { 12 } else { 20 },
        max_positions: 64,
        untied,
        std: 0.12,
        seed: 31,
    };
    shape.write(dir, Kind::Float).unwrap();
    ModelFolder::open(dir).unwrap()
}

#[test]
fn transformers_loads_what_is_saved() {
    let Some(python) = python() else { return };
    for (family, untied) in [("qwen2", false), ("qwen3", true), ("llama", true)] {
        let (made, saved) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = make(family, untied, made.path());
        let lm = CausalLm::load(&folder, Device::Cpu, Kind::Float).unwrap();
        folder.copy_side_files(saved.path()).unwrap();
        lm.save_weights(saved.path(), Kind::Float).unwrap();
        assert_close(&ours(&lm), &theirs(&python, saved.path(), None), family);
    }
}

#[test]
fn peft_loads_the_adapters() {
    let Some(python) = python() else { return };
    let (base, adapter) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = make("qwen3", false, base.path());
    let mut lm = CausalLm::load(&folder, Device::Cpu, Kind::Float).unwrap();
    let plain = ours(&lm);
    lm.add_adapters(LoraConfig { rank: 4, alpha: 10.0, dropout: 0.1, targets: Target::ALL.to_vec() }, 3);
    let ramp = Tensor::linspace(-0.1, 0.1, lm.trained().flat().numel() as i64, (Kind::Float, Device::Cpu));
    no_grad(|| lm.trained().flat().shallow_clone().copy_(&ramp));
    lm.save_adapters(adapter.path(), base.path()).unwrap();
    let adapted = ours(&lm);
    assert!(plain.iter().zip(&adapted).any(|(a, b)| (a - b).abs() > 0.1), "the adapters matter");
    assert_close(&adapted, &theirs(&python, base.path(), Some(adapter.path())), "peft");
    // And merged.
    let merged = tempfile::tempdir().unwrap();
    folder.copy_side_files(merged.path()).unwrap();
    lm.save_weights(merged.path(), Kind::Float).unwrap();
    assert_close(&adapted, &theirs(&python, merged.path(), None), "merged");
}
