//! How much a job will write, and whether there is room for it.

use super::memory::gib;
use crate::spec::JobSpec;
use sinternal_model::{Kind, ModelConfig, parameter_count};
use std::path::Path;

/// Published policies that lie on the disk at once: the one that is sampled from, and the next.
const PUBLISHED: u64 = 2;

/// What a job will write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskNeed {
    /// One checkpoint of GRPO or of fine-tuning.
    pub checkpoint_bytes: u64,
    /// How many are kept.
    pub checkpoints: u64,
    /// With the published weights.
    pub total_bytes: u64,
    /// Free where the runs are.
    pub free_bytes: u64,
}

impl DiskNeed {
    /// Of a job that writes to `runs`.
    ///
    /// # Errors
    /// When the folder's file system cannot be asked.
    pub(super) fn of(spec: &JobSpec, model: &ModelConfig, runs: &Path) -> Result<Self, String> {
        let stat = rustix::fs::statvfs(runs).map_err(|e| format!("{}: {e}", runs.display()))?;
        let element = if spec.learner.dtype.kind() == Kind::Float { 4 } else { 2 };
        let all = parameter_count(model);
        let adapters = spec.learner.lora.as_ref().map(|lora| lora.config().parameter_count(model));
        let masters = adapters.is_some() || element < 4;
        let checkpoint = all * element + adapters.unwrap_or(all) * if masters { 12 } else { 8 };
        let checkpoints = u64::from(spec.sft.is_some()) + spec.grpo.map_or(0, |grpo| kept(&grpo));
        Ok(Self {
            checkpoint_bytes: checkpoint,
            checkpoints,
            total_bytes: checkpoints * checkpoint + PUBLISHED * all * element,
            free_bytes: stat.f_bavail * stat.f_frsize,
        })
    }

    /// What stands against it; an error where not even the newest checkpoint fits.
    pub(super) fn judge(&self, runs: &Path) -> Result<Option<String>, String> {
        let (free, at) = (gib(self.free_bytes), runs.display());
        // One is written while the one before is still there.
        let least = 2 * self.checkpoint_bytes;
        if least > self.free_bytes {
            return Err(format!(
                "{at}: a checkpoint takes {}, and {free} are free: make room, or choose another folder with trainer.runs",
                gib(self.checkpoint_bytes)
            ));
        }
        let warning = || {
            format!(
                "{} checkpoints of {} are kept, {} in all, and {free} are free in {at}: set grpo.keep_last",
                self.checkpoints,
                gib(self.checkpoint_bytes),
                gib(self.total_bytes)
            )
        };
        Ok((self.total_bytes > self.free_bytes).then(warning))
    }
}

fn kept(grpo: &crate::spec::GrpoSpec) -> u64 {
    let written = grpo.steps.checked_div(grpo.checkpoint_every).unwrap_or(0).max(1);
    match grpo.keep_last as u64 {
        0 => written,
        // One more while the newest is being written.
        last => written.min(last + grpo.keep_best as u64 + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::GrpoSpec;

    #[test]
    fn kept_checkpoints_are_counted() {
        let grpo = |steps, checkpoint_every, keep_last, keep_best| {
            let base = JobSpec::default().grpo.unwrap();
            kept(&GrpoSpec { steps, checkpoint_every, keep_last, keep_best, ..base })
        };
        assert_eq!([grpo(100, 10, 0, 0), grpo(100, 0, 0, 0), grpo(7, 10, 0, 0)], [10, 1, 1]);
        assert_eq!([grpo(100, 10, 2, 1), grpo(20, 10, 5, 0)], [4, 2]);
    }

    #[test]
    fn a_full_disk_is_refused_and_one_that_will_be_is_a_warning() {
        let need = |total: u64, free: u64| DiskNeed {
            checkpoint_bytes: 1 << 30,
            checkpoints: 9,
            total_bytes: total << 30,
            free_bytes: free << 30,
        };
        let runs = Path::new("runs");
        let refused = need(9, 1).judge(runs).unwrap_err();
        assert_eq!(
            refused,
            "runs: a checkpoint takes 1.0 GiB, and 1.0 GiB are free: make room, or choose another folder with trainer.runs"
        );
        let warned = need(9, 5).judge(runs).unwrap().unwrap();
        assert!(
            warned.starts_with("9 checkpoints of 1.0 GiB are kept, 9.0 GiB in all, and 5.0 GiB are free"),
            "{warned}"
        );
        assert_eq!(need(9, 10).judge(runs).unwrap(), None);
    }
}
