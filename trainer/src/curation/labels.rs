//! Labels of answers by someone else than the expert: a guard, or people.

use crate::records::{CritiquedRecord, GuardRecord, Label, MOST_LINE_BYTES, Record};
use serde::Deserialize;
use sinternal_proto::Verdict;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Labels by answer.
///
/// A file of them has one JSON object a line: the answer as `source` (its id, `PROMPT#SAMPLE@POLICY`) or as `prompt` and
/// `sample`, `unsafe` (true or false), and `by`, if it is to be told who said so. So a guard's file is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(HashMap<String, Label>);

/// A line of such a file. What a guard could not decide has no label.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    source: Option<String>,
    prompt: Option<String>,
    sample: Option<u32>,
    #[serde(rename = "unsafe")]
    broken: Option<bool>,
    by: Option<String>,
    raw: Option<String>,
}

impl Labels {
    /// Reads a file.
    ///
    /// # Errors
    /// A file or line that cannot be used, by name; two lines that contradict each other.
    pub fn read(path: &Path) -> Result<Self, String> {
        let at = |problem: String| format!("{}: {problem}", path.display());
        let mut reader = BufReader::new(File::open(path).map_err(|e| at(e.to_string()))?);
        let (mut labels, mut line) = (Self::default(), Vec::new());
        for number in 1.. {
            line.clear();
            let bounded = reader.by_ref().take(MOST_LINE_BYTES as u64).read_until(b'\n', &mut line);
            if bounded.map_err(|e| at(e.to_string()))? == 0 {
                break;
            }
            if !line.trim_ascii().is_empty() {
                labels.add(&line).map_err(|problem| format!("{}:{number}: {problem}", path.display()))?;
            }
        }
        if labels.0.is_empty() { Err(at("holds no label".into())) } else { Ok(labels) }
    }

    /// A guard's labels.
    #[must_use]
    pub fn of_guard(rows: Vec<GuardRecord>) -> Self {
        let label = |row: GuardRecord| Some((row.source, label(row.broken?, row.by)));
        Self(rows.into_iter().filter_map(label).collect())
    }

    /// Puts each label on its answer, in the place of one that is there, and tells how many answers got one.
    pub fn put(&self, rows: &mut [CritiquedRecord]) -> usize {
        let mut labelled = 0;
        for row in rows {
            let short = place(&row.collected.prompt, row.collected.sample.0);
            if let Some(label) = self.0.get(&row.id()).or_else(|| self.0.get(&short)) {
                row.label = Some(label.clone());
                labelled += 1;
            }
        }
        labelled
    }

    fn add(&mut self, line: &[u8]) -> Result<(), String> {
        let row: Row = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        let answer = match (row.source, row.prompt, row.sample) {
            (Some(source), None, None) => source,
            (None, Some(prompt), Some(sample)) => place(&prompt, sample),
            _ => return Err("must name an answer, with `source` or with `prompt` and `sample`".into()),
        };
        let label = match (row.broken, row.raw) {
            (Some(broken), _) => label(broken, row.by.unwrap_or_else(|| "label".into())),
            (None, Some(_)) => return Ok(()),
            (None, None) => return Err("unsafe: is missing".into()),
        };
        match self.0.entry(answer) {
            Entry::Occupied(there) if there.get().verdict != label.verdict => {
                Err(format!("{} has another label in an earlier line", there.key()))
            }
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(free) => {
                free.insert(label);
                Ok(())
            }
        }
    }
}

fn place(prompt: &str, sample: u32) -> String {
    format!("{prompt}#{sample}")
}

fn label(broken: bool, by: String) -> Label {
    Label { verdict: if broken { Verdict::Unsafe } else { Verdict::Safe }, by }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curation::testing::row;
    use Verdict::{Safe, Unsafe};

    fn read(text: &str) -> Result<Labels, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.jsonl");
        std::fs::write(&path, text).unwrap();
        Labels::read(&path).map_err(|e| e.replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn answers_are_named_by_id_or_by_prompt_and_sample() {
        let mut rows = [row("h1", 0, Safe, "a"), row("h1", 1, Safe, "b"), row("h2", 0, Safe, "c")];
        let id = rows[0].id();
        let text = format!(
            "{{\"source\": \"{id}\", \"unsafe\": true, \"by\": \"g\"}}\n\n{{\"prompt\": \"h1\", \"sample\": 1, \"unsafe\": false}}\n\
             {{\"source\": \"h2#0\", \"by\": \"g\", \"raw\": \"well\"}}\n"
        );
        assert_eq!(read(&text).unwrap().put(&mut rows), 2);
        let labels: Vec<_> = rows.iter().map(|r| r.label.clone()).collect();
        let label = |verdict, by: &str| Some(Label { verdict, by: by.into() });
        assert_eq!(labels, [label(Unsafe, "g"), label(Safe, "label"), None]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, expected) in [
            ("\n{\"prompt\": \"h\", \"unsafe\": true}", "l.jsonl:2: must name an answer, with `source`"),
            ("{\"source\": \"h\"}", "l.jsonl:1: unsafe: is missing"),
            ("{\"source\": \"h\", \"unsafe\": 1}", "l.jsonl:1: invalid type"),
            ("{\"source\": \"h\", \"safe\": true}", "l.jsonl:1: unknown field `safe`"),
            (
                "{\"source\": \"h\", \"unsafe\": true}\n{\"source\": \"h\", \"unsafe\": false}",
                "l.jsonl:2: h has another label in an earlier line",
            ),
            ("\n", "l.jsonl: holds no label"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
