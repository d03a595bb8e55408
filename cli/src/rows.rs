//! JSON lines in, JSON lines out: what the batch commands share.

use crate::jobs::print;
use anyhow::{Context, anyhow, ensure};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sinternal_model::device::parse_device;
use sinternal_model::{CausalLm, Device, Kind, ModelFolder, set_threads};
use sinternal_proto::{ModelManifest, Sha256};
use std::path::{Path, PathBuf};

/// Where rows come from, and how results are shown.
#[derive(Args)]
pub(crate) struct RowArgs {
    /// Input file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Machine output on stdout: one JSON object a line, in the order of the input
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which weights a command computes with.
#[derive(Args)]
pub(crate) struct WeightArgs {
    /// Model folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Adapters in PEFT's layout, added to the weights
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
}

impl WeightArgs {
    /// Hash of the folder's manifest; with adapters, of both manifests' hashes together.
    pub(crate) fn hash(&self) -> anyhow::Result<Sha256> {
        let model = ModelManifest::of_folder(&self.model)?.hash;
        let Some(adapter) = &self.adapter else { return Ok(model) };
        let adapter = ModelManifest::of_folder(adapter)?.hash;
        Ok(Sha256::of(format!("{model}\n{adapter}\n").as_bytes()))
    }

    /// Loads what [`ModelFolder::open`] found in the folder.
    pub(crate) fn load(&self, folder: &ModelFolder, device: Device, kind: Kind) -> anyhow::Result<CausalLm> {
        let mut lm = CausalLm::load(folder, device, kind)?;
        if let Some(adapter) = &self.adapter {
            lm.load_adapters(adapter)?;
            lm.merge_adapters();
        }
        lm.parameters().set_requires_grad(false);
        Ok(lm)
    }
}

/// Where and in what type a model computes.
#[derive(Args, Clone)]
pub(crate) struct ComputeArgs {
    /// `cpu`, `cuda` or `cuda:<index>`
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Element type of weights and activations
    #[arg(long, default_value = "float32", value_parser = ["float32", "bfloat16"])]
    dtype: String,
    /// Threads of tensor operations; all cores unless given
    #[arg(long)]
    threads: Option<usize>,
}

impl ComputeArgs {
    /// The element type's name.
    pub(crate) fn dtype(&self) -> &'static str {
        if self.dtype == "bfloat16" { "bfloat16" } else { "float32" }
    }

    /// Applies the threads; finds the device.
    pub(crate) fn prepare(&self) -> anyhow::Result<(Device, Kind)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        set_threads(self.threads.unwrap_or(cores));
        let kind = if self.dtype == "bfloat16" { Kind::BFloat16 } else { Kind::Float };
        Ok((parse_device(&self.device)?, kind))
    }
}

/// Reads every line; empty ones are skipped.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows: Vec<T> = lines
        .map(|(i, line)| serde_json::from_str(line).map_err(|e| anyhow!("{}:{}: {e}", path.display(), i + 1)))
        .collect::<Result<_, _>>()?;
    ensure!(!rows.is_empty(), "{}: holds no row", path.display());
    Ok(rows)
}

/// Prints a result as JSON, or as people read it.
pub(crate) fn show<T: Serialize>(json: bool, row: &T, words: impl FnOnce() -> String) -> anyhow::Result<()> {
    print(&if json { serde_json::to_string(row)? } else { words() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_a_bad_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, "[1]\n\n[2, 3]\n").unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), [vec![1], vec![2, 3]]);
        std::fs::write(&path, "[1]\n\n[2, \n").unwrap();
        let error = read::<Vec<u32>>(&path).unwrap_err().to_string();
        assert!(error.contains("rows.jsonl:3: "), "{error}");
        std::fs::write(&path, "\n").unwrap();
        assert!(read::<Vec<u32>>(&path).unwrap_err().to_string().ends_with("holds no row"));
    }
}
