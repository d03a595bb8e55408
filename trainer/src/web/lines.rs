//! Lines of a file that may be long and may still grow, one at a time.

use std::io::{self, BufRead};

/// Longest line that is kept.
pub(super) const LONGEST_LINE: usize = 16 << 20;

/// Reads line by line and knows where each stands.
pub(super) struct Lines<R> {
    reader: R,
    next: u64,
    bytes: Vec<u8>,
}

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Bytes with its end.
    pub(super) len: u64,
    /// `None` where it is longer than [`LONGEST_LINE`].
    pub(super) bytes: Option<&'a [u8]>,
    /// It ends with a line feed; the last line of a file may not, yet.
    pub(super) whole: bool,
}

impl<R: BufRead> Lines<R> {
    /// Of a reader that stands at `offset` of its file.
    pub(super) fn at(offset: u64, reader: R) -> Self {
        Self { reader, next: offset, bytes: Vec::new() }
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.bytes.clear();
        let (mut len, mut whole) = (0u64, false);
        while !whole {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let end = buffer.iter().position(|&b| b == b'\n');
            whole = end.is_some();
            let (content, used) = end.map_or((buffer, buffer.len()), |at| (&buffer[..at], at + 1));
            // One byte beyond the bound tells that there was more.
            let room = (LONGEST_LINE + 1).saturating_sub(self.bytes.len()).min(content.len());
            self.bytes.extend_from_slice(&content[..room]);
            len += used as u64;
            self.reader.consume(used);
        }
        if len == 0 {
            return Ok(None);
        }
        let offset = self.next;
        self.next += len;
        let bytes = (self.bytes.len() <= LONGEST_LINE).then_some(self.bytes.as_slice());
        Ok(Some(Line { offset, len, bytes, whole }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_where_they_stand() {
        // A buffer smaller than the lines.
        let mut lines = Lines::at(100, io::BufReader::with_capacity(3, &b"first\n\nlast"[..]));
        let line = |offset, len, bytes, whole| Line { offset, len, bytes: Some(bytes), whole };
        assert_eq!(lines.next().unwrap(), Some(line(100, 6, &b"first"[..], true)));
        assert_eq!(lines.next().unwrap(), Some(line(106, 1, &b""[..], true)));
        assert_eq!(lines.next().unwrap(), Some(line(107, 4, &b"last"[..], false)));
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn a_line_beyond_the_bound_is_passed_over() {
        let mut file = vec![b'x'; LONGEST_LINE + 7];
        file.extend(b"\nnext\n");
        let mut lines = Lines::at(0, io::BufReader::new(&file[..]));
        let long = lines.next().unwrap().unwrap();
        assert_eq!((long.len, long.bytes, long.whole), (LONGEST_LINE as u64 + 8, None, true));
        assert_eq!(lines.next().unwrap().unwrap().bytes, Some(&b"next"[..]));
    }
}
