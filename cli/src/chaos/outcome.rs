//! What a job came to, and whether another one came to the same.

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use sinternal_trainer::checkpoint;
use std::collections::BTreeSet;
use std::path::Path;

/// Everything of a run that faults must not change.
pub(super) struct Outcome {
    /// Of `metrics.jsonl`, without times and what depends on the sampler's batches.
    metrics: Vec<Value>,
    /// Of `samples.jsonl`, without versions, which count anew in each process.
    samples: Vec<Value>,
    /// The last checkpoint's weights.
    weights: Vec<u8>,
    /// Its moments.
    optimizer: Vec<u8>,
}

impl Outcome {
    /// Reads a finished run, and checks it by itself: steps and samples once each, a whole checkpoint, nothing unfinished.
    pub(super) fn read(run: &Path) -> anyhow::Result<Self> {
        let dir = run.join("checkpoints");
        let (newest, state) = checkpoint::latest(&dir, "grpo")?.context("there is no checkpoint")?;
        let metrics = lines(&run.join("metrics.jsonl"))?;
        let steps: Vec<u64> = metrics.iter().filter_map(|row| row["step"].as_u64()).collect();
        ensure!(steps == (1..=state.step).collect::<Vec<_>>(), "steps in metrics.jsonl: {steps:?}");
        let samples = lines(&run.join("samples.jsonl"))?;
        let mut seen = BTreeSet::new();
        for row in &samples {
            let key = (row["step"].as_u64(), row["task"].as_u64(), row["sample"].as_u64());
            ensure!(seen.insert(key), "samples.jsonl has {key:?} twice");
        }
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            ensure!(!name.contains(".tmp-"), "{name} was left unfinished");
        }
        let read =
            |name: &str| std::fs::read(newest.join(name)).with_context(|| format!("failed to read {name}"));
        Ok(Self {
            metrics: metrics.into_iter().map(timeless).collect(),
            samples: samples.into_iter().map(timeless).collect(),
            weights: read("model.safetensors")?,
            optimizer: read("optimizer.safetensors")?,
        })
    }

    /// That the other one is the same.
    pub(super) fn same_as(&self, other: &Self) -> anyhow::Result<()> {
        for (name, own, others) in
            [("metrics", &self.metrics, &other.metrics), ("samples", &self.samples, &other.samples)]
        {
            ensure!(own.len() == others.len(), "{} lines of {name}, not {}", others.len(), own.len());
            for (a, b) in own.iter().zip(others) {
                if a != b {
                    bail!("{name} differ: {b}, not {a}");
                }
            }
        }
        ensure!(self.weights == other.weights, "weights differ");
        ensure!(self.optimizer == other.optimizer, "moments differ");
        Ok(())
    }
}

fn timeless(mut row: Value) -> Value {
    if let Some(row) = row.as_object_mut() {
        row.retain(|key, _| {
            let gone = ["time_ms", "versions"].contains(&&**key);
            let of_sampler = ["seconds_", "logprob_mismatch", "importance_"];
            !gone && !of_sampler.iter().any(|prefix| key.starts_with(prefix))
        });
    }
    row
}

fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let parse =
        |line| serde_json::from_str(line).with_context(|| format!("{}: a damaged line", path.display()));
    text.lines().map(parse).collect()
}
