//! Runs one cell as a job of real processes, and keeps what it measured and trained.

use super::cells::{Cell, Models};
use super::results::{CellResult, Items};
use crate::jobs::{Jobs, override_keys};
use crate::launch::Cluster;
use crate::progress::{Progress, Style};
use anyhow::{Context, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sinternal_proto::{JobState, JobStatus, pb};
use sinternal_trainer::checkpoint;
use std::path::Path;

/// What all cells share.
pub(crate) struct Study<'a> {
    pub(crate) models: Models<'a>,
    pub(crate) set: &'a [String],
    pub(crate) commit: &'a str,
}

impl Study<'_> {
    /// Submits the cell's job and follows it; one that was under way when the study was stopped goes on.
    pub(crate) async fn run(
        &self,
        cell: &Cell,
        cluster: &mut Cluster,
        jobs: &mut Jobs,
    ) -> anyhow::Result<CellResult> {
        let job_toml = toml::to_string(&cell.job(&self.models)?).context("failed to write the job")?;
        let job_toml = override_keys(&job_toml, Path::new(&cell.to_string()), &self.set_of(&job_toml)?)?;
        let hash = format!("{:x}", Sha256::digest(&job_toml));
        let request = pb::SubmitJobRequest {
            job_toml,
            base_dir: self.models.work.display().to_string(),
            idempotency_key: format!("{cell}-{}", &hash[..12]),
            skip_verifier_gate: cell.arm.skips_gate(),
            priority: 0,
            dry_run: false,
        };
        let id = jobs.submit(request).await?.job_id;
        let mut progress = Progress::new(Style::detect());
        let mut show = |event: &_| progress.show(event);
        let status = tokio::select! {
            status = jobs.follow(&id, &mut show) => status?,
            broken = cluster.supervise() => match broken {
                Err(e) => return Err(e),
                Ok(()) => bail!("the processes ended"),
            },
        };
        progress.finish();
        self.conclude(cell, &status)
    }

    /// The keys that are set for this job: those of sections that it has.
    fn set_of(&self, job_toml: &str) -> anyhow::Result<Vec<String>> {
        let job: toml::Table = job_toml.parse().context("failed to read the job")?;
        let has =
            |pair: &&String| pair.split(['.', '=']).next().is_some_and(|section| job.contains_key(section));
        Ok(self.set.iter().filter(has).cloned().collect())
    }

    fn conclude(&self, cell: &Cell, status: &JobStatus) -> anyhow::Result<CellResult> {
        let mut result = CellResult {
            cell: cell.to_string(),
            base: cell.base.to_string(),
            seed: cell.seed,
            arm: cell.arm.to_string(),
            commit: self.commit.to_owned(),
            machine: String::new(),
            set: self.set.to_vec(),
            refused: None,
            row: None,
            gate: None,
            calibration: None,
            curve: Vec::new(),
            seconds: std::collections::BTreeMap::new(),
            items: None,
        };
        match status.state {
            JobState::Succeeded => {}
            // The gate's refusal is a result.
            JobState::Paused if status.reason.contains("verifier") && status.reason.contains("gate") => {
                result.refused = Some(status.reason.clone());
                return Ok(result);
            }
            _ => bail!("cell {cell}: job {} ended as {:?}: {}", status.id, status.state, status.reason),
        }
        let report = read_json(&status.run_dir.join("report.json"))?;
        let row = report["rows"].as_array().and_then(|rows| rows.last()).context("report.json has no row")?;
        let arm = row["arm"].as_str().context("report.json: a row without `arm`")?;
        result.items = Some(Items::read(&status.run_dir.join(format!("findings-{arm}.jsonl")))?);
        result.row = Some(row.clone());
        result.gate = Some(report["gate"].clone()).filter(|g| !g.is_null());
        result.calibration = Some(report["calibration"].clone()).filter(|c| !c.is_null());
        result.curve = serde_json::from_value(report["curve"].clone()).context("report.json: curve")?;
        result.seconds = serde_json::from_value(report["seconds"].clone()).context("report.json: seconds")?;
        result.machine = report["meta"]["machine"].as_str().unwrap_or_default().to_owned();
        self.keep(cell, &status.run_dir)?;
        Ok(result)
    }

    /// Keeps the model that later cells start from or are judged by.
    fn keep(&self, cell: &Cell, run_dir: &Path) -> anyhow::Result<()> {
        let to = self.models.of(cell);
        let found = checkpoint::latest(&run_dir.join("checkpoints"), "sft")?;
        let Some((from, _)) = found.filter(|_| !to.exists()) else { return Ok(()) };
        let copied = sinternal_service::atomic::write_dir_atomic(&to, |dir| -> anyhow::Result<()> {
            for entry in
                std::fs::read_dir(&from).with_context(|| format!("failed to read {}", from.display()))?
            {
                let path = entry.with_context(|| format!("failed to read {}", from.display()))?.path();
                let name = path.file_name().unwrap_or_default();
                std::fs::copy(&path, dir.join(name))
                    .with_context(|| format!("failed to copy {}", path.display()))?;
            }
            Ok(())
        });
        copied.with_context(|| format!("failed to keep {}", to.display()))
    }
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}
