//! Looking at checkpoints, and taking a model out of them.

use crate::jobs::print;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use serde_json::json;
use sinternal_model::{CausalLm, Device, Kind, ModelConfig, ModelFolder, parameter_count};
use sinternal_proto::ModelManifest;
use sinternal_service::atomic::write_dir_atomic;
use sinternal_trainer::checkpoint;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Show where a run stood, and what the checkpoint holds
    Inspect(OneArgs),
    /// Check every file against the checkpoint's manifest
    Verify(OneArgs),
    /// Copy the model alone, without optimizer and run: a folder that `transformers` loads
    Export(ExportArgs),
    /// Add LoRA adapters in PEFT's layout to the weights of their model
    Merge(MergeArgs),
}

#[derive(Args)]
pub(crate) struct OneArgs {
    /// The checkpoint's folder
    dir: PathBuf,
    /// Machine output on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The checkpoint's folder
    dir: PathBuf,
    /// The new folder
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct MergeArgs {
    /// Folder of the adapters
    adapters: PathBuf,
    /// The model that they change
    #[arg(long)]
    base: PathBuf,
    /// The new folder
    #[arg(long)]
    out: PathBuf,
    /// Element type of the new weights; that of the model otherwise
    #[arg(long, value_parser = ["float32", "bfloat16"])]
    dtype: Option<String>,
}

pub(crate) fn run(command: &CheckpointCommand) -> anyhow::Result<()> {
    match command {
        CheckpointCommand::Inspect(args) => inspect(args),
        CheckpointCommand::Verify(args) => verify(args),
        CheckpointCommand::Export(args) => export(args),
        CheckpointCommand::Merge(args) => merge(args),
    }
}

fn inspect(args: &OneArgs) -> anyhow::Result<()> {
    let state = checkpoint::verify(&args.dir)?;
    let config = ModelConfig::load(&args.dir.join("config.json"))?;
    let files = ModelManifest::of_folder(&args.dir)?.files;
    let (parameters, bytes) = (parameter_count(&config), files.iter().map(|f| f.size_bytes).sum::<u64>());
    let ahead = checkpoint::work::<serde_json::Value>(&args.dir)?.len();
    if args.json {
        let files: Vec<_> = files
            .iter()
            .map(|f| json!({"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256}))
            .collect();
        let line = json!({
            "state": state, "family": format!("{:?}", config.family), "layers": config.layers,
            "hidden": config.hidden, "vocab": config.vocab, "parameters": parameters, "bytes": bytes,
            "samples_ahead": ahead, "files": files,
        });
        print(&line.to_string());
        return Ok(());
    }
    print(&format!("stage {}, after step {}, seed {}", state.stage, state.step, state.seed));
    if let Some(reward) = state.reward {
        print(&format!("mean reward of that step {reward:.4}"));
    }
    if let Some(verifier) = &state.verifier {
        print(&format!("rewarded by verifier {verifier}"));
    }
    if ahead > 0 {
        print(&format!("{ahead} scored samples of steps to come"));
    }
    print(&format!(
        "{:?}, {} layers of width {}, vocabulary {}, {parameters} parameters",
        config.family, config.layers, config.hidden, config.vocab
    ));
    for file in &files {
        print(&format!(
            "{:>12}  {}  {}",
            HumanBytes(file.size_bytes).to_string(),
            &file.sha256.0[..12],
            file.name
        ));
    }
    print(&format!("{} in {} files, all as in manifest.sha256", HumanBytes(bytes), files.len()));
    Ok(())
}

fn verify(args: &OneArgs) -> anyhow::Result<()> {
    let state = checkpoint::verify(&args.dir)?;
    // Hashes tell that the files are those that were written; this, that they are a model.
    ModelFolder::open(&args.dir)?;
    print(&if args.json {
        json!({"ok": true, "stage": state.stage, "step": state.step}).to_string()
    } else {
        format!("{}: whole; stage {}, after step {}", args.dir.display(), state.stage, state.step)
    });
    Ok(())
}

fn export(args: &ExportArgs) -> anyhow::Result<()> {
    checkpoint::verify(&args.dir)?;
    let files = checkpoint::model_files(&args.dir)?.files;
    fresh(&args.out)?;
    write_dir_atomic(&args.out, |to| -> anyhow::Result<()> {
        for file in &files {
            let from = args.dir.join(&file.name);
            fs::copy(&from, to.join(&file.name))
                .with_context(|| format!("failed to copy {}", from.display()))?;
        }
        Ok(())
    })?;
    print(&format!("{} files in {}", files.len(), args.out.display()));
    Ok(())
}

fn merge(args: &MergeArgs) -> anyhow::Result<()> {
    fresh(&args.out)?;
    let folder = ModelFolder::open(&args.base)?;
    // In float32, so that small changes are not lost before they are added.
    let mut lm = CausalLm::load(&folder, Device::Cpu, Kind::Float)?;
    lm.load_adapters(&args.adapters)?;
    let kind = match args.dtype.as_deref() {
        Some("bfloat16") => Kind::BFloat16,
        Some(_) => Kind::Float,
        None => stored_kind(&args.base)?,
    };
    write_dir_atomic(&args.out, |to| -> anyhow::Result<()> {
        folder.copy_side_files(to)?;
        Ok(lm.save_weights(to, kind)?)
    })?;
    print(&format!(
        "{} with the adapters of {} in {}",
        args.base.display(),
        args.adapters.display(),
        args.out.display()
    ));
    Ok(())
}

/// The element type that a model's `config.json` names; float32 where it names none.
fn stored_kind(dir: &Path) -> anyhow::Result<Kind> {
    let path = dir.join("config.json");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let config: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("failed to read {}", path.display()))?;
    let named = config.get("dtype").or(config.get("torch_dtype")).and_then(|t| t.as_str());
    Ok(match named {
        Some("bfloat16") => Kind::BFloat16,
        Some("float16") => Kind::Half,
        _ => Kind::Float,
    })
}

fn fresh(out: &Path) -> anyhow::Result<()> {
    if out.exists() {
        bail!("{}: is there already; choose another folder with --out", out.display());
    }
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("failed to create {}", parent.display()))
}
