//! Pages of a file of JSON lines that may be large, and may be growing.

use super::RunDirError;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes that are looked through for one page, at most.
const SCAN: u64 = 32 << 20;
/// The longest line that is read.
const LONGEST_LINE: u64 = 16 << 20;

/// Lines that were wanted, and where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the file's order; may be fewer than asked for, or none, though more follow.
    pub lines: Vec<T>,
    /// Offset in bytes; `None` at the end of the file.
    pub next: Option<u64>,
}

/// A page cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// The file.
    #[error(transparent)]
    File(#[from] RunDirError),
    /// The offset is not where a line begins.
    #[error("{}: no line begins at byte {offset}", path.display())]
    Offset {
        /// The file.
        path: PathBuf,
        /// As asked.
        offset: u64,
    },
    /// A line that cannot be read.
    #[error("{}: the line at byte {offset}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
}

/// At most `most` lines from byte `offset` on that `wanted` takes. A last line that is just being written is left for later; a
/// file that is not there has no lines.
///
/// # Errors
/// When the file cannot be read, or a line is not a `T`.
pub fn page_of_lines<T: DeserializeOwned>(
    path: &Path,
    offset: u64,
    most: usize,
    wanted: impl Fn(&T) -> bool,
) -> Result<Page<T>, LinesError> {
    let at = |source| RunDirError::Io { path: path.into(), source };
    let bad = |offset, problem: String| LinesError::Line { path: path.into(), offset, problem };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Page { lines: Vec::new(), next: None });
        }
        Err(source) => return Err(at(source).into()),
    };
    seek_to_line(&mut file, offset).map_err(at)?.ok_or(LinesError::Offset { path: path.into(), offset })?;
    let (mut reader, mut end, mut lines) = (BufReader::new(file), offset, Vec::new());
    let mut line = Vec::new();
    while lines.len() < most && end - offset < SCAN {
        line.clear();
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(at)? as u64;
        if read == LONGEST_LINE && line.last() != Some(&b'\n') {
            return Err(bad(end, format!("is longer than {LONGEST_LINE} bytes")));
        }
        if line.last() != Some(&b'\n') {
            return Ok(Page { lines, next: None });
        }
        let parsed: T = serde_json::from_slice(&line).map_err(|e| bad(end, e.to_string()))?;
        end += read;
        if wanted(&parsed) {
            lines.push(parsed);
        }
    }
    let more = !reader.fill_buf().map_err(at)?.is_empty();
    Ok(Page { lines, next: more.then_some(end) })
}

/// `None` where no line begins at `offset`.
fn seek_to_line(file: &mut File, offset: u64) -> std::io::Result<Option<()>> {
    if offset == 0 {
        return Ok(Some(()));
    }
    if offset > file.metadata()?.len() {
        return Ok(None);
    }
    let mut before = [0];
    file.seek(SeekFrom::Start(offset - 1))?;
    file.read_exact(&mut before)?;
    Ok((before == *b"\n").then_some(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Row {
        x: u32,
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn xs(page: &Page<Row>) -> Vec<u32> {
        page.lines.iter().map(|row| row.x).collect()
    }

    #[test]
    fn pages_follow_each_other_and_a_half_line_waits() {
        let (_dir, path) = file("{\"x\":1}\n{\"x\":2}\n{\"x\":3}\n{\"x\":4}\n{\"x\":5");
        let odd = |row: &Row| row.x % 2 == 1;
        let first = page_of_lines(&path, 0, 1, odd).unwrap();
        assert_eq!((xs(&first), first.next), (vec![1], Some(8)));
        let second = page_of_lines(&path, 8, 1, odd).unwrap();
        assert_eq!((xs(&second), second.next), (vec![3], Some(24)));
        let third = page_of_lines(&path, 24, 1, odd).unwrap();
        assert_eq!((xs(&third), third.next), (vec![], None));
        let all = page_of_lines(&path, 0, 9, |_: &Row| true).unwrap();
        assert_eq!((xs(&all), all.next), (vec![1, 2, 3, 4], None));
        // A page that ends with the file has none after it.
        let (_dir, path) = file("{\"x\":1}\n");
        assert_eq!(page_of_lines(&path, 0, 1, odd).unwrap(), Page { lines: vec![Row { x: 1 }], next: None });
    }

    #[test]
    fn a_file_that_is_not_there_is_empty_and_wrong_places_are_named() {
        let (_dir, path) = file("{\"x\":1}\nnonsense\n");
        let none = page_of_lines::<Row>(&path.with_extension("gone"), 0, 9, |_| true).unwrap();
        assert_eq!(none, Page { lines: vec![], next: None });
        let problem = |offset| page_of_lines::<Row>(&path, offset, 9, |_| true).unwrap_err().to_string();
        assert_eq!(problem(3), format!("{}: no line begins at byte 3", path.display()));
        assert_eq!(problem(99), format!("{}: no line begins at byte 99", path.display()));
        assert!(problem(0).starts_with(&format!("{}: the line at byte 8: expected", path.display())));
    }
}
