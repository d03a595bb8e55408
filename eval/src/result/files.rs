//! Writes the files of a report, each whole or not at all. The only place of this crate that writes.

use super::{Evaluation, bar_chart, items_jsonl, markdown};
use crate::chart::ChartError;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a report was not written. Files that were written before the error are whole.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The operating system refused.
    #[error("failed to write {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The chart could not be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// Two evaluations would have the same files.
    #[error("two evaluations are of {suite} by `{model}`; give the models different names")]
    Twice {
        /// The suite.
        suite: String,
        /// The model's name.
        model: String,
    },
}

/// Writes `report.md`, `chart.svg`, `chart.png` and, for each evaluation, `SUITE.json` and `SUITE.items.jsonl` (with the
/// model's name in front where there are several models) into `dir`, which is made if need be.
///
/// # Errors
/// See [`WriteError`].
pub fn write_report(dir: &Path, title: &str, evaluations: &[Evaluation]) -> Result<(), WriteError> {
    let names = file_names(evaluations)?;
    fs::create_dir_all(dir).map_err(|source| WriteError::Io { path: dir.into(), source })?;
    for (name, evaluation) in names.iter().zip(evaluations) {
        write_atomic(&dir.join(format!("{name}.json")), evaluation.to_json().as_bytes())?;
        write_atomic(&dir.join(format!("{name}.items.jsonl")), items_jsonl(&evaluation.items).as_bytes())?;
    }
    let chart = bar_chart(title, evaluations);
    write_atomic(&dir.join("chart.svg"), chart.svg().as_bytes())?;
    write_atomic(&dir.join("chart.png"), &chart.png()?)?;
    write_atomic(&dir.join("report.md"), markdown(title, evaluations, "chart.svg").as_bytes())
}

fn file_names(evaluations: &[Evaluation]) -> Result<Vec<String>, WriteError> {
    let models = || evaluations.iter().map(|e| &e.about.model.name);
    let several = models().any(|name| Some(name) != models().next());
    let mut names: Vec<String> = Vec::with_capacity(evaluations.len());
    for Evaluation { about, .. } in evaluations {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_+.".contains(c) { c } else { '_' };
        let model: String = about.model.name.chars().map(plain).collect();
        let name = if several { format!("{model}.{}", about.suite) } else { about.suite.to_string() };
        if names.contains(&name) {
            let (suite, model) = (about.suite.to_string(), about.model.name.clone());
            return Err(WriteError::Twice { suite, model });
        }
        names.push(name);
    }
    Ok(names)
}

/// Under a temporary name beside `path`, synced, then renamed.
fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".tmp-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // The error at hand is the one to tell.
        drop(fs::remove_file(&temporary));
        WriteError::Io { path: path.into(), source }
    })
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
