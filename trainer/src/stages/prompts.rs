//! Files of safety prompts: JSON lines, or Parquet with the same names as columns.

use super::DataError;
use super::data::{read_lines, safety_row};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use sinternal_proto::Prompt;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

/// The safety prompts of a file: Parquet where its name ends in `.parquet`, else one JSON object a line, as
/// `sinternal data world` writes them.
///
/// # Errors
/// A file, line or row that cannot be used, by name; an id that is there twice.
pub fn safety_prompts(path: &Path) -> Result<Vec<Prompt>, DataError> {
    let columns = path.extension().is_some_and(|extension| extension == "parquet");
    let prompts = if columns { of_parquet(path)? } else { read_lines(path, |_, line| safety_row(line))? };
    let mut ids = HashSet::new();
    match prompts.iter().find(|prompt| !ids.insert(&prompt.id)) {
        Some(twice) => Err(DataError::Twice { path: path.display().to_string(), id: twice.id.clone() }),
        None => Ok(prompts),
    }
}

/// Rows count as lines from 1. A column may be absent or empty where a key may.
fn of_parquet(path: &Path) -> Result<Vec<Prompt>, DataError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|source| DataError::Io { path: name.clone(), source })?;
    let broken = |e: ParquetError| DataError::Io { path: name.clone(), source: std::io::Error::other(e) };
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let mut prompts = Vec::new();
    for (row, line) in reader.get_row_iter(None).map_err(broken)?.zip(1..) {
        let mut row = row.map_err(broken)?.to_json_value();
        if let Some(columns) = row.as_object_mut() {
            columns.retain(|_, value| !value.is_null());
        }
        let bad = |problem| DataError::Line { path: name.clone(), line, problem };
        prompts.push(safety_row(&row.to_string()).map_err(bad)?);
    }
    if prompts.is_empty() { Err(DataError::Empty(name)) } else { Ok(prompts) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use sinternal_proto::PromptKind;
    use std::path::PathBuf;
    use std::sync::Arc;

    const SCHEMA: &str = "message schema {
        OPTIONAL BYTE_ARRAY id (UTF8);
        OPTIONAL BYTE_ARRAY kind (UTF8);
        OPTIONAL BYTE_ARRAY request (UTF8);
        OPTIONAL BYTE_ARRAY spec (UTF8);
    }";

    /// Columns of three texts; an empty one is null.
    fn written(dir: &Path, columns: [[&str; 3]; 4]) -> PathBuf {
        let path = dir.join("p.parquet");
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let mut writer =
            SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for texts in columns {
            let there = texts.iter().filter(|text| !text.is_empty());
            let values: Vec<ByteArray> = there.map(|text| ByteArray::from(*text)).collect();
            let levels = texts.map(|text| i16::from(!text.is_empty()));
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        path
    }

    fn told(path: &Path) -> String {
        safety_prompts(path).unwrap_err().to_string()
    }

    #[test]
    fn parquet_says_what_json_lines_say() {
        let dir = tempfile::tempdir().unwrap();
        let columns = [
            ["a", "b", "c"],
            ["harmful", "benign", "harmful"],
            ["do x", "do \"y\"\n", "do z"],
            ["no x", "", ""],
        ];
        let prompts = safety_prompts(&written(dir.path(), columns)).unwrap();
        let lines = dir.path().join("p.jsonl");
        let text: String =
            prompts.iter().map(|p| format!("{}\n", serde_json::to_string(p).unwrap())).collect();
        std::fs::write(&lines, text).unwrap();
        assert_eq!(safety_prompts(&lines).unwrap(), prompts);
        assert_eq!((prompts.len(), prompts[1].kind), (3, PromptKind::Benign));
        assert_eq!((&*prompts[0].spec, &*prompts[1].spec, &*prompts[1].request), ("no x", "", "do \"y\"\n"));
    }

    #[test]
    fn what_is_wrong_names_file_and_row() {
        let dir = tempfile::tempdir().unwrap();
        let with = |ids, kinds| written(dir.path(), [ids, kinds, ["x"; 3], [""; 3]]);
        let kinds = ["benign"; 3];
        assert!(told(&with(["a", "b", "a"], kinds)).ends_with("p.parquet: id a is there twice"));
        let math = told(&with(["a", "b", "c"], ["benign", "math", "benign"]));
        assert!(math.contains("p.parquet:2: kind: must be harmful or benign"), "{math}");
        assert!(told(&with(["a", "b", ""], kinds)).contains("p.parquet:3: missing field `id`"));
        let path = dir.path().join("p.parquet");
        std::fs::write(&path, "PAR1 and nothing more PAR1").unwrap();
        assert!(told(&path).contains("p.parquet: "), "{}", told(&path));
    }
}
