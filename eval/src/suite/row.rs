//! One row of a file, whatever its format: named values, with errors that name the column.

use serde_json::{Map, Value};

/// What is wrong with a file or one of its rows; the loader adds the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RowError {
    /// The file as a whole.
    File(String),
    /// One row, from 1.
    Row(usize, String),
}

/// A row with its number from 1. Names of columns are compared without regard to case, since AIME and
/// JailbreakBench are published both ways.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) number: usize,
    fields: Map<String, Value>,
}

impl Row {
    /// # Errors
    /// When two columns have the same name.
    pub(super) fn new(
        number: usize,
        fields: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Self, RowError> {
        let mut named = Map::new();
        for (name, value) in fields {
            if named.insert(name.to_lowercase(), value).is_some() {
                return Err(RowError::Row(number, format!("column `{name}` is there twice")));
            }
        }
        Ok(Self { number, fields: named })
    }

    /// An error of this row.
    pub(super) fn error(&self, reason: String) -> RowError {
        RowError::Row(self.number, reason)
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.fields.contains_key(&column.to_lowercase())
    }

    fn value(&self, column: &str) -> Result<&Value, RowError> {
        self.fields.get(&column.to_lowercase()).ok_or_else(|| {
            let there: Vec<&str> = self.fields.keys().map(String::as_str).collect();
            self.error(format!("column `{column}` is missing; there are {}", there.join(", ")))
        })
    }

    /// The text of a column that must be there and not be blank. Whole numbers are texts too.
    pub(super) fn text(&self, column: &str) -> Result<String, RowError> {
        let text = match self.value(column)? {
            Value::String(text) => text.clone(),
            Value::Number(number) if !number.is_f64() => number.to_string(),
            Value::Null => String::new(),
            other => return Err(self.error(format!("column `{column}` is {}, not a text", shape(other)))),
        };
        if text.trim().is_empty() {
            return Err(self.error(format!("column `{column}` is empty")));
        }
        Ok(text)
    }

    /// The text of a column, `None` where there is no such column or nothing in it.
    pub(super) fn optional(&self, column: &str) -> Result<Option<String>, RowError> {
        match self.fields.get(&column.to_lowercase()) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(_) => self.text(column).map(Some),
        }
    }

    /// The texts of a column that holds a list, in CSV as JSON. None of them is blank.
    pub(super) fn texts(&self, column: &str) -> Result<Vec<String>, RowError> {
        let not_a_list = || self.error(format!("column `{column}` is not a list of texts"));
        let parsed = match self.value(column)? {
            Value::Array(elements) => elements.clone(),
            Value::String(text) => serde_json::from_str(text).map_err(|_| not_a_list())?,
            _ => return Err(not_a_list()),
        };
        let text = |value: Value| match value {
            Value::String(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(not_a_list()),
        };
        parsed.into_iter().map(text).collect()
    }
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a fraction",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(fields: Value) -> Row {
        let Value::Object(fields) = fields else { panic!("an object") };
        Row::new(3, fields).unwrap()
    }

    fn reason<T: std::fmt::Debug>(result: Result<T, RowError>) -> String {
        match result.unwrap_err() {
            RowError::Row(3, reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn texts_are_found_whatever_their_case() {
        let row = row(json!({"ID": 7, "Problem": " p ", "note": "", "list": ["a"], "csv": "[\"b\"]"}));
        assert_eq!((row.text("id").unwrap().as_str(), row.text("problem").unwrap().as_str()), ("7", " p "));
        assert_eq!((row.optional("note"), row.optional("none")), (Ok(None), Ok(None)));
        assert_eq!(
            (row.texts("list").unwrap(), row.texts("csv").unwrap()),
            (vec!["a".into()], vec!["b".into()])
        );
    }

    #[test]
    fn what_is_wrong_names_the_column() {
        let row = row(json!({"a": null, "b": 0.5, "c": ["x", 1], "d": "x"}));
        assert_eq!(reason(row.text("z")), "column `z` is missing; there are a, b, c, d");
        assert_eq!(reason(row.text("a")), "column `a` is empty");
        assert_eq!(reason(row.text("b")), "column `b` is a fraction, not a text");
        assert_eq!(reason(row.optional("c")), "column `c` is a list, not a text");
        assert_eq!(reason(row.texts("c")), "column `c` is not a list of texts");
        assert_eq!(reason(row.texts("d")), "column `d` is not a list of texts");
        let twice = Row::new(3, [("a".to_owned(), json!(1)), ("A".to_owned(), json!(2))]);
        assert_eq!(reason(twice), "column `A` is there twice");
    }
}
