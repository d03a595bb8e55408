//! Checkpoints: a model folder in Hugging Face layout, the optimizer, where the run stood, and a manifest of hashes.
//!
//! ```text
//! learner's thread: stage ─► files under a temporary name ─► another thread: finish ─► hash, sync, rename ─► prune
//! ```
//!
//! Random numbers are functions of (seed, task, sample, position), prompts of (seed, step) and dropout of the update, so the seed
//! and the step are the state of them all. `manifest.sha256` is in the format of `sha256sum`, so
//! `sha256sum --check manifest.sha256` verifies a checkpoint by hand.

mod keep;
mod save;

pub use keep::{Keep, prune};
pub use save::{Saved, Staged, stage};

use crate::learner::{CheckpointError, OPTIMIZER_FILE};
use serde::{Deserialize, Serialize};
use sinternal_proto::{ModelManifest, Sha256};
use sinternal_service::atomic::AtomicError;
use std::path::{Path, PathBuf};

const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.sha256";
/// Scored samples of steps to come, one a line.
const WORK: &str = "work.jsonl";

/// Where a run stood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// `sft` or `grpo`.
    pub stage: String,
    /// Steps of it that are done; also the place in the data.
    pub step: u64,
    /// The stage goes on after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub midway: bool,
    /// Root of every random number.
    #[serde(default)]
    pub seed: u64,
    /// Identity of the frozen verifier that rewarded these steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier: Option<Sha256>,
    /// Mean reward of the step, by which the best checkpoints are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
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

/// The files of a checkpoint, or of any model folder, that make it a model: without the optimizer's and the run's.
///
/// # Errors
/// A file that cannot be read.
pub fn model_files(dir: &Path) -> Result<ModelManifest, SaveError> {
    let all = ModelManifest::of_folder(dir)?;
    let of_a_model = |name: &str| ![OPTIMIZER_FILE, STATE, WORK].contains(&name);
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
    read_state(dir)
}

/// The newest checkpoint of a stage, verified; `None` where there is none.
///
/// # Errors
/// The folder cannot be read, or the newest checkpoint is damaged: an older one is never taken silently.
pub fn latest(checkpoints: &Path, stage: &str) -> Result<Option<(PathBuf, State)>, SaveError> {
    let newest = stages(checkpoints, stage)?.pop();
    newest.map(|path| verify(&path).map(|state| (path, state))).transpose()
}

/// The scored samples that a verified checkpoint holds of steps to come.
///
/// # Errors
/// A file that cannot be read, or a line that is none of ours.
pub fn work<T: serde::de::DeserializeOwned>(dir: &Path) -> Result<Vec<T>, SaveError> {
    let path = dir.join(WORK);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(file(&path, &e)),
    };
    text.lines().map(|line| serde_json::from_str(line).map_err(|e| file(&path, &e))).collect()
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

fn read_state(dir: &Path) -> Result<State, SaveError> {
    let path = dir.join(STATE);
    let text = std::fs::read_to_string(&path).map_err(|e| file(&path, &e))?;
    serde_json::from_str(&text).map_err(|e| file(&path, &e))
}

fn file(path: &Path, problem: &impl std::fmt::Display) -> SaveError {
    SaveError::File { path: path.into(), problem: problem.to_string() }
}
