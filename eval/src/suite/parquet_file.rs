//! Rows of a Parquet file, with the codecs that data sets are published in: none, Snappy, gzip and Zstandard.

use super::row::{Row, RowError};
use super::table::Visit;
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;

/// # Errors
/// What of the file cannot be read, or what `visit` finds wrong.
pub(super) fn read(bytes: &[u8], visit: &mut Visit) -> Result<(), RowError> {
    let file = |e: ParquetError| RowError::File(format!("is not readable Parquet: {e}"));
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(bytes)).map_err(file)?;
    for (index, row) in reader.get_row_iter(None).map_err(file)?.enumerate() {
        let number = index + 1;
        let row = row.map_err(|e| RowError::Row(number, e.to_string()))?;
        let fields = row.get_column_iter().map(|(name, field)| (name.clone(), value(field)));
        visit(Row::new(number, fields)?)?;
    }
    Ok(())
}

/// Texts, whole numbers and lists of them; anything else reads as an empty object, which no column may be.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Str(text) => Value::from(text.as_str()),
        Field::Bool(flag) => Value::from(*flag),
        Field::Byte(n) => Value::from(*n),
        Field::Short(n) => Value::from(*n),
        Field::Int(n) => Value::from(*n),
        Field::Long(n) => Value::from(*n),
        Field::UByte(n) => Value::from(*n),
        Field::UShort(n) => Value::from(*n),
        Field::UInt(n) => Value::from(*n),
        Field::ULong(n) => Value::from(*n),
        Field::Double(x) => Value::from(*x),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        _ => Value::Object(serde_json::Map::new()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use parquet::basic::{Compression, GzipLevel, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use serde_json::json;
    use std::sync::Arc;

    const SCHEMA: &str = "message schema {
        OPTIONAL INT64 ID;
        OPTIONAL BYTE_ARRAY adversarial_prompt (UTF8);
        OPTIONAL GROUP rubric (LIST) { REPEATED GROUP list { OPTIONAL BYTE_ARRAY element (UTF8); } }
        OPTIONAL BYTE_ARRAY benign_prompt (UTF8);
    }";

    /// (ID, adversarial prompt, rubric, benign prompt).
    type Pair<'a> = (i64, &'a str, &'a [&'a str], &'a str);

    /// Values, definition levels, repetition levels.
    type TextColumn<'a> = (Vec<ByteArray>, &'a [i16], Option<&'a [i16]>);

    /// A file of FORTRESS's layout.
    pub(crate) fn fortress(rows: &[Pair], codec: Compression) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let ones = vec![1; rows.len()];
        let mut column = group.next_column().unwrap().unwrap();
        let ids: Vec<i64> = rows.iter().map(|r| r.0).collect();
        column.typed::<Int64Type>().write_batch(&ids, Some(&ones), None).unwrap();
        column.close().unwrap();
        let text = |s: &str| ByteArray::from(s.as_bytes().to_vec());
        let questions: Vec<(usize, &str)> =
            rows.iter().flat_map(|r| r.2.iter().copied().enumerate()).collect();
        // An element that is there has definition level 3; all but the first of a list repeat it.
        let list: (Vec<i16>, Vec<i16>) = questions.iter().map(|q| (3, i16::from(q.0 > 0))).unzip();
        let columns: [TextColumn; 3] = [
            (rows.iter().map(|r| text(r.1)).collect(), &ones, None),
            (questions.iter().map(|q| text(q.1)).collect(), &list.0, Some(&list.1)),
            (rows.iter().map(|r| text(r.3)).collect(), &ones, None),
        ];
        for (values, definitions, repetitions) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(definitions), repetitions).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn every_codec_gives_the_same_rows() {
        let pairs: [Pair; 2] =
            [(7, "grey kite", &["is it red?", "is it big?"], "kite"), (8, "boat", &["?"], "b")];
        let codecs = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::ZSTD(ZstdLevel::default()),
        ];
        for codec in codecs {
            let mut rows = Vec::new();
            read(&fortress(&pairs, codec), &mut |row| {
                rows.push((
                    row.number,
                    row.text("id")?,
                    row.text("adversarial_prompt")?,
                    row.texts("rubric")?,
                ));
                Ok(())
            })
            .unwrap();
            let expected =
                json!([[1, "7", "grey kite", ["is it red?", "is it big?"]], [2, "8", "boat", ["?"]]]);
            assert_eq!(json!(rows), expected, "{codec:?}");
        }
    }

    #[test]
    fn what_is_not_parquet_is_an_error() {
        let whole = fortress(&[(7, "kite", &["?"], "kite")], Compression::SNAPPY);
        for bytes in [&b"PAR1 and nothing more PAR1"[..], &whole[..whole.len() - 9], &[]] {
            let error = read(bytes, &mut |_| Ok(())).unwrap_err();
            assert!(
                matches!(&error, RowError::File(r) if r.starts_with("is not readable Parquet")),
                "{error:?}"
            );
        }
    }
}
