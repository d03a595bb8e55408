//! Reading a file of rows, once it matches its manifest.

use super::lines::{Lines, MOST_LINE_BYTES};
use super::manifest::{Manifest, Provenance, hash_and_lines};
use super::{Record, RecordError, at, bad_file};
use std::fs::File;
use std::io::BufReader;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// The rows of a verified file, one at a time.
#[derive(Debug)]
pub struct Records<T> {
    path: PathBuf,
    lines: Lines<BufReader<File>>,
    manifest: Manifest,
    row: PhantomData<fn() -> T>,
}

impl<T> Records<T> {
    /// What the file is made of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl<T: Record> Iterator for Records<T> {
    type Item = Result<T, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next_line().transpose()?;
        Some(line.and_then(|line| line.parse(&self.path)))
    }
}

/// Checks a file against its manifest, without keeping it in memory, and opens it.
///
/// # Errors
/// The file or its manifest is missing, holds another stage's rows, or was changed after it was written.
pub fn open<T: Record>(path: &Path) -> Result<Records<T>, RecordError> {
    let manifest = Manifest::read(path)?;
    if manifest.stage != T::STAGE {
        return Err(bad_file(path, format!("holds {}, not {}", manifest.stage, T::STAGE)));
    }
    let mut file = File::open(path).map_err(at(path))?;
    let (sha256, rows) = hash_and_lines(&mut file).map_err(at(path))?;
    if rows != manifest.rows {
        return Err(bad_file(path, format!("holds {rows} rows; its manifest says {}", manifest.rows)));
    }
    if sha256 != manifest.sha256 {
        return Err(bad_file(path, "does not match the hash in its manifest: it was changed since"));
    }
    let lines = Lines::new(BufReader::new(file), path, MOST_LINE_BYTES);
    Ok(Records { path: path.into(), lines, manifest, row: PhantomData })
}

/// All rows of a file, with its manifest.
///
/// # Errors
/// As [`open`]; a line that is not a row, by its number.
pub fn read_all<T: Record>(path: &Path) -> Result<(Vec<T>, Manifest), RecordError> {
    let mut records = open(path)?;
    let rows = records.by_ref().collect::<Result<_, _>>()?;
    Ok((rows, records.manifest))
}

/// The manifest of a file that a stage need not make again; `None` where there is no such file.
///
/// # Errors
/// As [`open`]; the file was made of something else, which a stage must not overwrite unasked.
pub fn finished<T: Record>(path: &Path, made_of: &Provenance) -> Result<Option<Manifest>, RecordError> {
    if !path.try_exists().map_err(at(path))? {
        return Ok(None);
    }
    let manifest = open::<T>(path)?.manifest;
    if manifest.made_of_sha256 == made_of.hash(T::STAGE) {
        return Ok(Some(manifest));
    }
    Err(bad_file(path, "was made with other inputs, settings or seed; move it away to make it anew"))
}
