//! Writing a checkpoint in two parts: the learner waits for the first alone.

use super::{MANIFEST, STATE, SaveError, State, WORK, file, stages};
use crate::learner::Learner;
use serde::Serialize;
use sinternal_model::ModelFolder;
use sinternal_proto::{Checkpoint, ModelManifest, Sha256};
use sinternal_service::atomic::StagedDir;
use sinternal_service::fail_point;
use std::path::{Path, PathBuf};

/// A checkpoint whose files are written, under a temporary name. Dropping it removes them.
#[derive(Debug)]
pub struct Staged {
    state: State,
    path: PathBuf,
    whole: StagedDir,
    /// Where only adapters are trained: these alone, in PEFT's layout.
    adapters: Option<StagedDir>,
}

/// A checkpoint that is whole and on disk.
pub type Saved = Checkpoint;

/// Writes the files of `<checkpoints>/<stage>-<step>` as the learner is now, with `work`, the scored samples of steps to come.
/// `None` where it is there already.
///
/// # Errors
/// A file that cannot be written.
pub fn stage<W: Serialize>(
    checkpoints: &Path,
    state: State,
    folder: &ModelFolder,
    learner: &mut Learner,
    work: &[W],
) -> Result<Option<Staged>, SaveError> {
    let path = checkpoints.join(format!("{}-{:06}", state.stage, state.step));
    if path.exists() {
        return Ok(None);
    }
    let adapters = stage_adapters(&path, &state.stage, folder, learner)?;
    let whole = StagedDir::begin(&path)?;
    let dir = whole.dir();
    folder.copy_side_files(dir)?;
    learner.lm().save_weights(dir, learner.lm().kind())?;
    let (optimizer, lm) = learner.optimizer();
    optimizer.save(lm.trained(), dir)?;
    if !work.is_empty() {
        write(&dir.join(WORK), &lines(work).map_err(|e| file(&dir.join(WORK), &e))?)?;
    }
    let text = serde_json::to_string(&state).map_err(|e| file(&dir.join(STATE), &e))?;
    write(&dir.join(STATE), &text)?;
    Ok(Some(Staged { state, path, whole, adapters }))
}

impl Staged {
    /// Hashes and syncs the files, and gives the checkpoint its name. Needs no learner.
    ///
    /// # Errors
    /// A file that cannot be read or synced; nothing is left then.
    pub fn finish(self) -> Result<Saved, SaveError> {
        if let Some(adapters) = self.adapters {
            adapters.publish()?;
        }
        fail_point::pass("checkpoint.staged");
        let dir = self.whole.dir();
        let files = ModelManifest::of_folder(dir)?.files;
        let text: String = files.iter().map(|f| format!("{}  {}\n", f.sha256, f.name)).collect();
        write(&dir.join(MANIFEST), &text)?;
        fail_point::pass("checkpoint.hashed");
        self.whole.publish()?;
        fail_point::pass("checkpoint.published");
        let State { stage, step, .. } = self.state;
        Ok(Saved { stage, step, path: self.path, manifest: Sha256::of(text.as_bytes()) })
    }
}

/// `<checkpoint>-peft`: the adapters alone, in PEFT's layout, over the stage's first weights.
fn stage_adapters(
    checkpoint: &Path,
    stage: &str,
    folder: &ModelFolder,
    learner: &Learner,
) -> Result<Option<StagedDir>, SaveError> {
    let path = peft(checkpoint);
    if learner.lm().trains_weights() || path.exists() {
        return Ok(None);
    }
    let checkpoints = checkpoint.parent().unwrap_or(Path::new("."));
    let before = if stage == "sft" { None } else { stages(checkpoints, "sft")?.pop() };
    let base = before.unwrap_or_else(|| folder.dir.clone());
    let staged = StagedDir::begin(&path)?;
    learner.lm().save_adapters(staged.dir(), &base)?;
    Ok(Some(staged))
}

/// Beside a checkpoint, its adapters alone.
pub(super) fn peft(checkpoint: &Path) -> PathBuf {
    let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
    checkpoint.with_file_name(format!("{name}-peft"))
}

fn lines(rows: &[impl Serialize]) -> serde_json::Result<String> {
    rows.iter().map(|row| serde_json::to_string(row).map(|line| line + "\n")).collect()
}

fn write(path: &Path, text: &str) -> Result<(), SaveError> {
    std::fs::write(path, text).map_err(|e| file(path, &e))
}
