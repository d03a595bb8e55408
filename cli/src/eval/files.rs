//! What is read before anything is computed, and the folder that is written.

use anyhow::{Context, anyhow, bail, ensure};
use sinternal_eval::{DataSet, Limits, Suite};
use std::path::Path;

/// A suite and the file that it came from, as the user named it.
pub(super) struct Loaded {
    pub(super) path: String,
    pub(super) data: DataSet,
}

/// Loads every `NAME=PATH`. All that is wrong is told, one line each; the last of it is the error.
pub(super) fn load(named: &[String], limits: &Limits) -> anyhow::Result<Vec<Loaded>> {
    let (mut loaded, mut wrong) = (Vec::<Loaded>::new(), Vec::new());
    for text in named {
        match one(text, limits) {
            Ok(new) if loaded.iter().any(|l| l.data.suite == new.data.suite) => {
                wrong.push(anyhow!("--suite {text}: {} is there twice", new.data.suite));
            }
            Ok(new) => loaded.push(new),
            Err(error) => wrong.push(error),
        }
    }
    let Some(last) = wrong.pop() else { return Ok(loaded) };
    wrong.iter().for_each(|error| eprintln!("error: {error}"));
    Err(last)
}

fn one(text: &str, limits: &Limits) -> anyhow::Result<Loaded> {
    let (name, path) = text.split_once('=').with_context(|| format!("--suite {text}: is not NAME=PATH"))?;
    let suite: Suite = name.parse().map_err(|error| anyhow!("--suite {text}: {error}"))?;
    Ok(Loaded { path: path.to_owned(), data: suite.load(Path::new(path), limits)? })
}

/// The folder must be empty or absent.
pub(super) fn expect_empty(dir: &Path, way_out: &str) -> anyhow::Result<()> {
    match dir.read_dir() {
        Ok(mut entries) => {
            ensure!(entries.next().is_none(), "{}: is not empty; {way_out}", dir.display());
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => bail!("{}: {error}", dir.display()),
    }
}

/// The folder of a run that goes on: it may hold answers, but no finished report alone.
pub(super) fn expect_unfinished(dir: &Path, suites: &[Loaded]) -> anyhow::Result<()> {
    let kept = suites.iter().any(|s| super::answers::path(dir, s.data.suite).exists());
    let finished = dir.join("report.md").exists() && !kept;
    ensure!(!finished, "{}: holds a finished report; there is nothing to resume", dir.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_empty_absent_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(expect_empty(dir.path(), "w").is_ok() && expect_empty(&dir.path().join("new"), "w").is_ok());
        std::fs::write(dir.path().join("x"), "").unwrap();
        let error = expect_empty(dir.path(), "choose another").unwrap_err().to_string();
        assert!(error.ends_with(": is not empty; choose another"), "{error}");
    }
}
