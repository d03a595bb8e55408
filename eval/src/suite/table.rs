//! Reads files of any accepted format row by row, so that a large file never exists as a table in memory.

use super::parquet_file;
use super::row::{Row, RowError};
use serde_json::Value;
use std::path::Path;

/// More rows than any suite's file has (WildJailbreak's training file has 262 thousand).
const MOST_ROWS: usize = 1_000_000;

/// How a file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Tsv,
    Json,
    JsonLines,
    Parquet,
    /// One prompt a line.
    Text,
}

impl Format {
    /// By the ending of the name; `None` for others.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "json" => Some(Self::Json),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            "txt" => Some(Self::Text),
            _ => None,
        }
    }
}

/// What is done with each row.
pub(super) type Visit<'a> = dyn FnMut(Row) -> Result<(), RowError> + 'a;

/// Hands over every row in order and tells how many there were.
///
/// # Errors
/// What of the file cannot be read, more rows than any suite has, or what `visit` finds wrong.
pub(super) fn read(bytes: &[u8], format: Format, visit: &mut Visit) -> Result<usize, RowError> {
    let mut count = 0;
    let mut counted = |row: Row| {
        count = row.number;
        if count > MOST_ROWS {
            return Err(RowError::File(format!("has more than {MOST_ROWS} rows")));
        }
        visit(row)
    };
    match format {
        Format::Csv => separated(bytes, b',', &mut counted)?,
        Format::Tsv => separated(bytes, b'\t', &mut counted)?,
        Format::Json => array(bytes, &mut counted)?,
        Format::JsonLines => lines(bytes, &mut counted, json_line)?,
        Format::Text => lines(bytes, &mut counted, |number, text| {
            Row::new(number, [("prompt".to_owned(), Value::String(text.to_owned()))])
        })?,
        Format::Parquet => parquet_file::read(bytes, &mut counted)?,
    }
    Ok(count)
}

fn separated(bytes: &[u8], delimiter: u8, visit: &mut Visit) -> Result<(), RowError> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(bytes);
    let header = reader.headers().map_err(|e| RowError::File(e.to_string()))?.clone();
    for (index, record) in reader.records().enumerate() {
        let number = index + 1;
        let record = record.map_err(|e| RowError::Row(number, csv_reason(&e)))?;
        let fields = header.iter().zip(&record).map(|(name, text)| (name.to_owned(), Value::from(text)));
        visit(Row::new(number, fields)?)?;
    }
    Ok(())
}

fn csv_reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} columns where the header has {expected_len}")
        }
        _ => error.to_string(),
    }
}

fn array(bytes: &[u8], visit: &mut Visit) -> Result<(), RowError> {
    let rows: Vec<Value> = serde_json::from_slice(bytes)
        .map_err(|e| RowError::File(format!("is not a JSON list of rows: {e}")))?;
    for (index, value) in rows.into_iter().enumerate() {
        visit(json_row(index + 1, value)?)?;
    }
    Ok(())
}

/// Blank lines are left out.
fn lines(
    bytes: &[u8],
    visit: &mut Visit,
    row: impl Fn(usize, &str) -> Result<Row, RowError>,
) -> Result<(), RowError> {
    let text = std::str::from_utf8(bytes).map_err(|e| RowError::File(format!("is not UTF-8: {e}")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().filter(|line| !line.trim().is_empty()).enumerate() {
        visit(row(index + 1, line)?)?;
    }
    Ok(())
}

fn json_line(number: usize, line: &str) -> Result<Row, RowError> {
    let value = serde_json::from_str(line).map_err(|e| RowError::Row(number, format!("is not JSON: {e}")))?;
    json_row(number, value)
}

/// An object, or a bare text as a prompt.
fn json_row(number: usize, value: Value) -> Result<Row, RowError> {
    match value {
        Value::Object(fields) => Row::new(number, fields),
        Value::String(_) => Row::new(number, [("prompt".to_owned(), value)]),
        _ => Err(RowError::Row(number, "is neither an object nor a text".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(text: &str, format: Format) -> Result<Vec<(usize, String)>, RowError> {
        let mut rows = Vec::new();
        let count = read(text.as_bytes(), format, &mut |row| {
            rows.push((row.number, row.text("prompt")?));
            Ok(())
        })?;
        assert_eq!(count, rows.len());
        Ok(rows)
    }

    fn two() -> Vec<(usize, String)> {
        vec![(1, "paint a \"red\",\nboat".into()), (2, "fold a kite".into())]
    }

    #[test]
    fn every_format_of_text_gives_the_same_rows() {
        let csv = "\u{feff}n,prompt\n1,\"paint a \"\"red\"\",\nboat\"\n2,fold a kite\n";
        assert_eq!(prompts(csv, Format::Csv), Ok(two()));
        assert_eq!(
            prompts(&csv[3..].replace("n,p", "n\tp").replace("1,", "1\t").replace("2,", "2\t"), Format::Tsv),
            Ok(two())
        );
        let rows = [r#"{"prompt": "paint a \"red\",\nboat"}"#, r#""fold a kite""#];
        assert_eq!(prompts(&format!("[{}]", rows.join(",")), Format::Json), Ok(two()));
        assert_eq!(prompts(&format!("{}\n\n", rows.join("\n")), Format::JsonLines), Ok(two()));
        assert_eq!(
            prompts("\nfold\r\n \nkite", Format::Text),
            Ok(vec![(1, "fold".into()), (2, "kite".into())])
        );
    }

    #[test]
    fn malformed_files_name_their_row() {
        let row = |n, reason: &str| Err(RowError::Row(n, reason.to_owned()));
        assert_eq!(
            prompts("prompt,b\nx,1\ny\n", Format::Csv),
            row(2, "has 1 columns where the header has 2")
        );
        assert_eq!(prompts("\"a\"\n3\n", Format::JsonLines), row(2, "is neither an object nor a text"));
        let broken = prompts("\"a\"\n{\"prompt\": \n", Format::JsonLines);
        assert!(
            matches!(&broken, Err(RowError::Row(2, reason)) if reason.starts_with("is not JSON: EOF")),
            "{broken:?}"
        );
        let object = prompts("{\"prompt\": \"a\"}", Format::Json);
        assert!(
            matches!(&object, Err(RowError::File(r)) if r.starts_with("is not a JSON list of rows")),
            "{object:?}"
        );
        let bytes = read(b"a\xff", Format::Text, &mut |_| Ok(()));
        assert!(matches!(&bytes, Err(RowError::File(r)) if r.starts_with("is not UTF-8")), "{bytes:?}");
    }

    #[test]
    fn formats_go_by_the_ending() {
        let of = |name: &str| Format::of(Path::new(name));
        assert_eq!(
            (of("a/b.CSV"), of("b.jsonl"), of("b.parquet")),
            (Some(Format::Csv), Some(Format::JsonLines), Some(Format::Parquet))
        );
        assert_eq!((of("b.xlsx"), of("b")), (None, None));
    }
}
