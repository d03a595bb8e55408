//! Which checkpoints of a stage stay.

use super::save::peft;
use super::{SaveError, read_state, stages};
use sinternal_service::atomic::remove_dir_atomic;
use std::path::{Path, PathBuf};

/// How many checkpoints of a stage are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest; 0 keeps all.
    pub last: usize,
    /// Of the others, those with the highest mean reward.
    pub best: usize,
}

/// Removes the checkpoints of a stage that are not to be kept; returns them. The newest always stays.
///
/// # Errors
/// One that cannot be read or removed.
pub fn prune(checkpoints: &Path, stage: &str, keep: Keep) -> Result<Vec<PathBuf>, SaveError> {
    if keep.last == 0 {
        return Ok(Vec::new());
    }
    let mut older = stages(checkpoints, stage)?;
    older.truncate(older.len().saturating_sub(keep.last));
    let mut scored = Vec::new();
    for path in older {
        scored.push((read_state(&path)?.reward.unwrap_or(f64::NEG_INFINITY), path));
    }
    // Of equal ones the newer stays.
    scored.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| y.cmp(x)));
    let removed: Vec<PathBuf> = scored.into_iter().skip(keep.best).map(|(_, path)| path).collect();
    for path in &removed {
        remove_dir_atomic(path)?;
        if peft(path).exists() {
            remove_dir_atomic(&peft(path))?;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(rewards: &[f64]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (i, reward) in rewards.iter().enumerate() {
            let path = dir.path().join(format!("grpo-{:06}", i + 1));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::create_dir_all(peft(&path)).unwrap();
            let state = format!("{{\"stage\":\"grpo\",\"step\":{},\"reward\":{reward}}}", i + 1);
            std::fs::write(path.join("state.json"), state).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("sft-000009")).unwrap();
        dir
    }

    fn left(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.retain(|name| !name.ends_with("-peft"));
        names
    }

    #[test]
    fn the_newest_and_the_best_stay() {
        let rewards = [0.5, 0.9, 0.9, 0.1, 0.2];
        let dir = checkpoints(&rewards);
        assert!(prune(dir.path(), "grpo", Keep { last: 0, best: 0 }).unwrap().is_empty());
        let removed = prune(dir.path(), "grpo", Keep { last: 2, best: 1 }).unwrap();
        assert_eq!(removed.len(), 2);
        assert_eq!(left(dir.path()), ["grpo-000003", "grpo-000004", "grpo-000005", "sft-000009"]);
        assert!(
            !dir.path().join("grpo-000002-peft").exists() && dir.path().join("grpo-000003-peft").exists()
        );
        let dir = checkpoints(&rewards);
        prune(dir.path(), "grpo", Keep { last: 1, best: 0 }).unwrap();
        assert_eq!(left(dir.path()), ["grpo-000005", "sft-000009"]);
        assert!(prune(dir.path(), "grpo", Keep { last: 1, best: 0 }).unwrap().is_empty());
    }
}
