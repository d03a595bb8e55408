//! The files of a run's folder, by names that cannot leave it.

use super::RunDirError;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Most files that are listed.
const MOST: usize = 10_000;
/// Folders below the run's own.
const DEEPEST: usize = 8;

/// A file of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Relative to the run's folder, with `/` between names.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was changed last, in milliseconds since the Unix epoch.
    pub modified_ms: u64,
}

/// A file cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The path is none that the list could have named.
    #[error(
        "`{0}` is not the path of a file in the run's folder, such as checkpoints/grpo-000040/config.json"
    )]
    Path(String),
    /// There is no such file.
    #[error("no file {0} in the run's folder")]
    Missing(String),
    /// The operating system refuses.
    #[error(transparent)]
    File(#[from] RunDirError),
}

/// All files, sorted by path. Links, and what is just being written, are not among them.
///
/// # Errors
/// When a folder cannot be read.
pub fn list_artifacts(run: &Path) -> Result<Vec<Artifact>, RunDirError> {
    let mut found = Vec::new();
    collect(run, "", 0, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(dir: &Path, prefix: &str, depth: usize, found: &mut Vec<Artifact>) -> Result<(), RunDirError> {
    let at = |source| RunDirError::Io { path: dir.into(), source };
    for entry in std::fs::read_dir(dir).map_err(at)? {
        let entry = entry.map_err(at)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A file may be gone by now: a checkpoint that was not to be kept.
        let Ok(meta) = entry.metadata() else { continue };
        if name.contains(".tmp-") || found.len() >= MOST {
            continue;
        }
        let path = format!("{prefix}{name}");
        if meta.is_dir() && depth < DEEPEST {
            collect(&entry.path(), &format!("{path}/"), depth + 1, found)?;
        } else if meta.is_file() {
            let modified = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            let modified_ms = modified.map_or(0, |d| d.as_millis() as u64);
            found.push(Artifact { path, size_bytes: meta.len(), modified_ms });
        }
    }
    Ok(())
}

/// Opens one of them.
///
/// # Errors
/// When the path leads out of the run's folder, also over links, or there is no such file.
pub fn open_artifact(run: &Path, path: &str) -> Result<File, ArtifactError> {
    let relative = PathBuf::from(path);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || path.contains('\0') || !plain {
        return Err(ArtifactError::Path(path.into()));
    }
    let at = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            ArtifactError::Missing(path.into())
        }
        std::io::ErrorKind::InvalidFilename => ArtifactError::Path(path.into()),
        _ => RunDirError::Io { path: run.join(path), source }.into(),
    };
    let inside = run.canonicalize().map_err(at)?;
    let real = inside.join(&relative).canonicalize().map_err(at)?;
    if !real.starts_with(&inside) {
        return Err(ArtifactError::Path(path.into()));
    }
    let file = File::open(&real).map_err(at)?;
    if !file.metadata().map_err(at)?.is_file() {
        return Err(ArtifactError::Missing(path.into()));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn run() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir_all(run.join("checkpoints/grpo-000001")).unwrap();
        std::fs::create_dir_all(run.join("checkpoints/grpo-000002.tmp-9-0")).unwrap();
        std::fs::write(run.join("report.md"), "# report").unwrap();
        std::fs::write(run.join("checkpoints/grpo-000001/config.json"), "{}").unwrap();
        std::fs::write(run.join("checkpoints/grpo-000002.tmp-9-0/config.json"), "{}").unwrap();
        std::os::unix::fs::symlink("../secret", run.join("link")).unwrap();
        dir
    }

    #[test]
    fn files_are_listed_without_links_and_unfinished_ones() {
        let dir = run();
        let listed = list_artifacts(&dir.path().join("run")).unwrap();
        let of = |a: &Artifact| (a.path.clone(), a.size_bytes, a.modified_ms > 0);
        let expected = [("checkpoints/grpo-000001/config.json", 2), ("report.md", 8)];
        assert_eq!(listed.iter().map(of).collect::<Vec<_>>(), expected.map(|(p, n)| (p.to_owned(), n, true)));
    }

    #[test]
    fn only_files_inside_are_opened() {
        let dir = run();
        let run = dir.path().join("run");
        let mut text = String::new();
        open_artifact(&run, "report.md").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "# report");
        let absolute = dir.path().join("secret").display().to_string();
        let long = "x".repeat(5000);
        for path in
            ["", "../secret", "checkpoints/../../secret", "link", "./report.md", "a\0b", &absolute, &long]
        {
            let error = open_artifact(&run, path).unwrap_err();
            assert!(matches!(error, ArtifactError::Path(_)), "{path}: {error}");
        }
        for path in ["nothing", "checkpoints", "report.md/x"] {
            let error = open_artifact(&run, path).unwrap_err().to_string();
            assert_eq!(error, format!("no file {path} in the run's folder"));
        }
    }
}
