//! Bounded lines of JSON, each with its number for errors.

use super::{Record, RecordError, at};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// The longest line, its end included. Proto's bound on one text is the same.
pub const MOST_LINE_BYTES: usize = 16 << 20;

/// The lines of a file.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    path: PathBuf,
    most_bytes: usize,
    number: usize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Line {
    /// Its end included.
    pub(super) bytes: Vec<u8>,
    number: usize,
}

impl Line {
    /// Whether it has its end; only the last one of a file may lack it.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.ends_with(b"\n")
    }

    /// Reads the row and checks it.
    pub(super) fn parse<T: Record>(&self, path: &Path) -> Result<T, RecordError> {
        let named = |problem| RecordError::Line { path: path.into(), line: self.number, problem };
        let row: T = serde_json::from_slice(&self.bytes).map_err(|e| named(json_problem(&e)))?;
        row.check().map_err(named)?;
        Ok(row)
    }
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R, path: &Path, most_bytes: usize) -> Self {
        Self { reader, path: path.into(), most_bytes, number: 0 }
    }

    /// `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> Result<Option<Line>, RecordError> {
        let mut bytes = Vec::new();
        let mut bounded = self.reader.by_ref().take(self.most_bytes as u64 + 1);
        bounded.read_until(b'\n', &mut bytes).map_err(at(&self.path))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if bytes.len() > self.most_bytes {
            let problem = format!("is longer than {} bytes", self.most_bytes);
            return Err(RecordError::Line { path: self.path.clone(), line: self.number, problem });
        }
        Ok(Some(Line { bytes, number: self.number }))
    }
}

/// Without `at line 1`, which would be taken for a line of the file.
fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let problem = text.split_once(" at line ").map_or(&*text, |(problem, _)| problem);
    format!("{problem} (column {})", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_counted() {
        let mut lines = Lines::new(&b"ab\ncde\nfghi\n"[..], Path::new("f.jsonl"), 4);
        assert_eq!(lines.next_line().unwrap().unwrap().bytes, b"ab\n");
        assert_eq!(lines.next_line().unwrap().unwrap().bytes, b"cde\n");
        let error = lines.next_line().unwrap_err().to_string();
        assert_eq!(error, "f.jsonl:3: is longer than 4 bytes");
    }

    #[test]
    fn the_last_line_may_be_torn() {
        let mut lines = Lines::new(&b"ab\ncd"[..], Path::new("f.jsonl"), 4);
        assert!(lines.next_line().unwrap().unwrap().is_whole());
        assert!(!lines.next_line().unwrap().unwrap().is_whole());
        assert!(lines.next_line().unwrap().is_none());
    }
}
