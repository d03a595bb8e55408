//! Checkpoints: a model folder in Hugging Face layout, the optimizer, where the run stood, and a manifest of hashes.
//!
//! `manifest.sha256` is in the format of `sha256sum`, so `sha256sum --check manifest.sha256` verifies one by hand.

use crate::learner::{CheckpointError, Learner, OPTIMIZER_FILE};
use serde::{Deserialize, Serialize};
use sinternal_model::ModelFolder;
use sinternal_proto::ModelManifest;
use sinternal_service::atomic::{AtomicError, write_dir_atomic};
use std::path::{Path, PathBuf};

const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.sha256";

/// Where a run stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// `sft` or `grpo`.
    pub stage: String,
    /// Steps of it that are done.
    pub step: u64,
}

/// Why a checkpoint could not be written or trusted.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A file operation.
    #[error(transparent)]
    Atomic(#[from] AtomicError),
    /// The model's files.
    #[error(transparent)]
    Model(#[from] sinternal_model::ModelError),
    /// The optimizer's file.
    #[error(transparent)]
    Optimizer(#[from] CheckpointError),
    /// The files to be hashed.
    #[error(transparent)]
    Manifest(#[from] sinternal_proto::ManifestError),
    /// A file that does not hold what it must.
    #[error("{path}: {problem}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Writes `<checkpoints>/<stage>-<step>`, whole or not at all. One that is there already is left as it is.
///
/// # Errors
/// A file that cannot be written.
pub fn save(
    checkpoints: &Path,
    state: &State,
    folder: &ModelFolder,
    learner: &mut Learner,
) -> Result<PathBuf, SaveError> {
    let path = checkpoints.join(format!("{}-{:06}", state.stage, state.step));
    if path.exists() {
        return Ok(path);
    }
    if !learner.lm().trains_weights() {
        save_adapters(checkpoints, state, folder, learner)?;
    }
    write_dir_atomic(&path, |dir| {
        folder.copy_side_files(dir)?;
        learner.lm().save_weights(dir, learner.lm().kind())?;
        let (optimizer, lm) = learner.optimizer();
        optimizer.save(lm.trained(), dir)?;
        let text = serde_json::to_string(state).map_err(|e| file(&dir.join(STATE), &e))?;
        std::fs::write(dir.join(STATE), text).map_err(|e| file(&dir.join(STATE), &e))?;
        let lines = ModelManifest::of_folder(dir)?;
        let lines: String = lines.files.iter().map(|f| format!("{}  {}\n", f.sha256, f.name)).collect();
        std::fs::write(dir.join(MANIFEST), lines).map_err(|e| file(&dir.join(MANIFEST), &e))
    })?;
    Ok(path)
}

/// Writes `<checkpoints>/<stage>-<step>-peft`: the adapters alone, in PEFT's layout, over the stage's first weights.
fn save_adapters(
    checkpoints: &Path,
    state: &State,
    folder: &ModelFolder,
    learner: &Learner,
) -> Result<(), SaveError> {
    let path = checkpoints.join(format!("{}-{:06}-peft", state.stage, state.step));
    if path.exists() {
        return Ok(());
    }
    let before = if state.stage == "sft" { None } else { stages(checkpoints, "sft")?.pop() };
    let base = before.unwrap_or_else(|| folder.dir.clone());
    write_dir_atomic(&path, |dir| Ok::<_, SaveError>(learner.lm().save_adapters(dir, &base)?))
}

/// The files of a checkpoint, or of any model folder, that make it a model: without the optimizer's.
///
/// # Errors
/// A file that cannot be read.
pub fn model_files(dir: &Path) -> Result<ModelManifest, SaveError> {
    let all = ModelManifest::of_folder(dir)?;
    let of_a_model = |name: &str| ![OPTIMIZER_FILE, STATE].contains(&name);
    let files = all.files.into_iter().filter(|f| of_a_model(&f.name)).collect();
    Ok(ModelManifest::new(files).map_err(sinternal_proto::ManifestError::from)?)
}

/// Checks every file against the manifest and reads where the run stood.
///
/// # Errors
/// A file that is missing, changed or not listed, by name.
pub fn verify(dir: &Path) -> Result<State, SaveError> {
    let manifest = dir.join(MANIFEST);
    let listed = std::fs::read_to_string(&manifest).map_err(|e| file(&manifest, &e))?;
    let actual = ModelManifest::of_folder(dir)?;
    for line in listed.lines() {
        let (hash, name) = line.split_once("  ").ok_or_else(|| file(&manifest, &"holds a malformed line"))?;
        match actual.file(name) {
            None => return Err(file(&dir.join(name), &"is missing from the checkpoint")),
            Some(found) if found.sha256.0 != hash => {
                return Err(file(&dir.join(name), &"does not match its hash in manifest.sha256"));
            }
            Some(_) => {}
        }
    }
    if listed.lines().count() != actual.files.len() {
        return Err(file(&manifest, &"does not list every file of the checkpoint"));
    }
    let state = dir.join(STATE);
    let text = std::fs::read_to_string(&state).map_err(|e| file(&state, &e))?;
    serde_json::from_str(&text).map_err(|e| file(&state, &e))
}

/// The newest checkpoint of a stage, verified; `None` where there is none.
///
/// # Errors
/// The folder cannot be read, or the newest checkpoint is damaged: an older one is never taken silently.
pub fn latest(checkpoints: &Path, stage: &str) -> Result<Option<(PathBuf, State)>, SaveError> {
    let newest = stages(checkpoints, stage)?.pop();
    newest.map(|path| verify(&path).map(|state| (path, state))).transpose()
}

/// The checkpoints of a stage, oldest first, unverified.
fn stages(checkpoints: &Path, stage: &str) -> Result<Vec<PathBuf>, SaveError> {
    let prefix = format!("{stage}-");
    let mut found: Vec<PathBuf> = std::fs::read_dir(checkpoints)
        .map_err(|e| file(checkpoints, &e))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            name.strip_prefix(&prefix).is_some_and(|step| step.parse::<u64>().is_ok())
        })
        .collect();
    found.sort();
    Ok(found)
}

fn file(path: &Path, problem: &impl std::fmt::Display) -> SaveError {
    SaveError::File { path: path.into(), problem: problem.to_string() }
}
