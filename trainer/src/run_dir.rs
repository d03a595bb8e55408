//! What a run leaves behind: one folder with its resolved job, metrics, samples, checkpoints and report.

mod artifacts;
mod attempt_log;
mod read;
mod tensorboard;

pub use artifacts::{Artifact, ArtifactError, list_artifacts, open_artifact};
pub use attempt_log::AttemptLog;
pub use read::{LinesError, Page, page_of_lines};
pub use tensorboard::TensorBoard;

use serde::{Deserialize, Serialize};
use sinternal_proto::{Sample, StepMetrics};
use sinternal_service::atomic::AtomicError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A file or folder of a run could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be replaced.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// A line is not what this program writes.
    #[error("{}:{line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// A run's folder; clones share their open files.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
    metrics: Arc<Lines>,
    samples: Arc<Lines>,
}

/// Where in the run a line was written; every line carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    stage: String,
    step: u64,
}

#[derive(Serialize)]
struct Line<'a, T> {
    stage: &'a str,
    step: u64,
    #[serde(flatten)]
    rest: &'a T,
}

#[derive(Serialize)]
struct Metrics<'a> {
    time_ms: u64,
    #[serde(flatten)]
    values: &'a std::collections::BTreeMap<String, f64>,
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MetricsLine {
    /// The stage.
    pub stage: String,
    /// Its step, from 1.
    pub step: u64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// By name; what is no finite number is `None`.
    #[serde(flatten)]
    pub values: std::collections::BTreeMap<String, Option<f64>>,
}

impl From<MetricsLine> for StepMetrics {
    fn from(line: MetricsLine) -> Self {
        let values = line.values.into_iter().filter_map(|(name, x)| Some((name, x?))).collect();
        Self { stage: line.stage, step: line.step, values }
    }
}

impl RunDir {
    /// Opens the folder of a run, and creates what it lacks.
    ///
    /// # Errors
    /// When the folder or its files cannot be created.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let checkpoints = path.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(at(&checkpoints))?;
        let lines = |name: &str| Lines::open(path.join(name)).map(Arc::new);
        Ok(Self { path: path.into(), metrics: lines("metrics.jsonl")?, samples: lines("samples.jsonl")? })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The job with all its values.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// One line a step.
    #[must_use]
    pub fn metrics(&self) -> &Path {
        &self.metrics.path
    }

    /// Some of the traces.
    #[must_use]
    pub fn samples(&self) -> &Path {
        &self.samples.path
    }

    /// What the verifier gate measured, and its outcome; before the report, which has it too.
    #[must_use]
    pub fn gate(&self) -> PathBuf {
        self.path.join("gate.json")
    }

    /// The report for people.
    #[must_use]
    pub fn report_md(&self) -> PathBuf {
        self.path.join("report.md")
    }

    /// The report for programs.
    #[must_use]
    pub fn report_json(&self) -> PathBuf {
        self.path.join("report.json")
    }

    /// Appends a step's numbers; the line is with the operating system when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append_metrics(&self, step: &StepMetrics, time_ms: u64) -> Result<(), RunDirError> {
        let rest = Metrics { time_ms, values: &step.values };
        self.metrics.append(&Line { stage: &step.stage, step: step.step, rest: &rest })
    }

    /// Appends a sample.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append_sample(&self, sample: &Sample) -> Result<(), RunDirError> {
        self.samples.append(sample)
    }

    /// Drops the lines of metrics and samples that were written after `step` of `stage`, so that a run which goes on from
    /// there writes each once. A last line that a crash cut short goes too.
    ///
    /// # Errors
    /// When a file cannot be rewritten, or a line before the last is not one of ours.
    pub fn truncate_after(&self, stage: &str, step: u64) -> Result<(), RunDirError> {
        self.metrics.truncate_after(stage, step)?;
        self.samples.truncate_after(stage, step)
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
    let path = path.to_owned();
    move |source| RunDirError::Io { path, source }
}

/// A file of JSON lines.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: Mutex<File>,
}

impl Lines {
    fn open(path: PathBuf) -> Result<Self, RunDirError> {
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(at(&path))?;
        Ok(Self { path, file: Mutex::new(file) })
    }

    fn append(&self, line: &impl Serialize) -> Result<(), RunDirError> {
        let mut bytes = serde_json::to_vec(line).map_err(|e| at(&self.path)(e.into()))?;
        bytes.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&bytes).map_err(at(&self.path))
    }

    fn truncate_after(&self, stage: &str, step: u64) -> Result<(), RunDirError> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let text = fs::read_to_string(&self.path).map_err(at(&self.path))?;
        let kept = kept_bytes(&text, stage, step).map_err(|(line, source)| RunDirError::Line {
            path: self.path.clone(),
            line,
            source,
        })?;
        file.set_len(kept as u64).and_then(|()| file.sync_all()).map_err(at(&self.path))
    }
}

/// Bytes of the lines up to `step` of `stage`. Lines are in the order of time: after the last one of that stage up to that
/// step, or, where it has none, from its first one on, everything is later.
fn kept_bytes(text: &str, stage: &str, step: u64) -> Result<usize, (usize, serde_json::Error)> {
    let (mut end, mut last_kept, mut first_of_stage) = (0, None, None);
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if !line.ends_with('\n') {
            break;
        }
        let place: Place = serde_json::from_str(line).map_err(|e| (i + 1, e))?;
        if place.stage == stage {
            first_of_stage.get_or_insert(end);
        }
        end += line.len();
        if place.stage == stage && place.step <= step {
            last_kept = Some(end);
        }
    }
    Ok(last_kept.or(first_of_stage).unwrap_or(end))
}

#[cfg(test)]
mod tests;
