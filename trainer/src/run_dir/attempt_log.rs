//! What an attempt said, for people: one file each, so that what went wrong before a restart is still there.

use super::{RunDirError, at};
use sinternal_service::telemetry::utc_now;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// `<run>/logs/attempt-<n>.log`.
#[derive(Debug)]
pub struct AttemptLog {
    path: PathBuf,
    file: File,
}

impl AttemptLog {
    /// Opens the file, and goes on at its end if it is there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(run: &Path, attempt: u32) -> Result<Self, RunDirError> {
        let dir = run.join("logs");
        std::fs::create_dir_all(&dir).map_err(at(&dir))?;
        let path = dir.join(format!("attempt-{attempt}.log"));
        let file = File::options().create(true).append(true).open(&path).map_err(at(&path))?;
        Ok(Self { path, file })
    }

    /// Appends a line; line breaks in it become spaces.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn line(&mut self, level: &str, text: &str) -> Result<(), RunDirError> {
        let text = text.replace(['\n', '\r'], " ");
        let line = format!("{} {:<5} {text}\n", utc_now(), level.to_uppercase());
        self.file.write_all(line.as_bytes()).map_err(at(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_goes_on_at_the_end_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        AttemptLog::open(dir.path(), 3).unwrap().line("info", "one\ntwo").unwrap();
        AttemptLog::open(dir.path(), 3).unwrap().line("warn", "three").unwrap();
        let text = std::fs::read_to_string(dir.path().join("logs/attempt-3.log")).unwrap();
        let rest: Vec<&str> = text.lines().map(|line| line.split_once("Z ").unwrap().1).collect();
        assert_eq!(rest, ["INFO  one two", "WARN  three"]);
    }
}
