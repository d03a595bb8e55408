//! Files that appear whole or not at all.

use crate::error::WorldError;
use serde::Serialize;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Writes one JSON object a line.
pub(crate) fn write_lines<T: Serialize>(path: &Path, rows: &[T]) -> Result<(), WorldError> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row).expect("rows are plain data");
        text.push(b'\n');
    }
    write(path, &text)
}

/// Writes indented JSON.
pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), WorldError> {
    write(path, format!("{value:#}\n").as_bytes())
}

/// Writes to a file beside it, syncs, then renames; makes missing folders.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), WorldError> {
    let attempt = || {
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let partial = path.with_extension("partial");
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(dir)?.sync_all()
    };
    attempt().map_err(|source| WorldError::Write { path: path.into(), source })
}
