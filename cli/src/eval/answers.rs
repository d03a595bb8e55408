//! `answers-SUITE.jsonl.part`: what a model has answered so far, so that an interrupted run can go on.
//!
//! The first line says how the answers are made, each further one holds an item's. A line is whole or cut off.

use crate::interrupt::Whole;
use anyhow::{Context, anyhow, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sinternal_eval::{Finish, Suite};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One sample: reasoning and answer as the model wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    pub(super) text: String,
    pub(super) finish: Finish,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    samples: Vec<Sample>,
}

/// The file of one suite.
pub(super) struct Answers {
    path: PathBuf,
    file: File,
    of: HashMap<String, Vec<Sample>>,
}

/// Where a suite's answers are kept.
pub(super) fn path(out: &Path, suite: Suite) -> PathBuf {
    out.join(format!("answers-{suite}.jsonl.part"))
}

impl Answers {
    /// Begins the file with `how`, or goes on with one that begins with the same.
    pub(super) fn open(path: PathBuf, how: &Map<String, Value>, whole: &Whole) -> anyhow::Result<Self> {
        let about = || format!("failed to write {}", path.display());
        let mut file =
            File::options().read(true).append(true).create(true).open(&path).with_context(about)?;
        let bytes = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |last| last + 1);
        file.set_len(end as u64).with_context(about)?;
        if end == 0 {
            whole.write(|| writeln_all(&mut file, how)).with_context(about)?;
        }
        let of = read(&path, &bytes[..end], how)?;
        Ok(Self { path, file, of })
    }

    /// Whether an item is answered.
    pub(super) fn holds(&self, id: &str) -> bool {
        self.of.contains_key(id)
    }

    /// Keeps an item's answers, in memory and on disk.
    pub(super) fn keep(&mut self, id: &str, samples: Vec<Sample>, whole: &Whole) -> anyhow::Result<()> {
        let line = Line { id: id.to_owned(), samples };
        let written = whole.write(|| writeln_all(&mut self.file, &line));
        written.with_context(|| format!("failed to write {}", self.path.display()))?;
        self.of.insert(line.id, line.samples);
        Ok(())
    }

    /// An item's answers, in the order of the samples.
    pub(super) fn take(&mut self, id: &str) -> Option<Vec<Sample>> {
        self.of.remove(id)
    }
}

/// In one call, so that a line is whole unless the machine stops within it.
fn writeln_all(file: &mut File, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)
}

fn read(path: &Path, bytes: &[u8], how: &Map<String, Value>) -> anyhow::Result<HashMap<String, Vec<Sample>>> {
    let mut lines = bytes.split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let wrong = |index: usize, error: serde_json::Error| {
        anyhow!("{}:{}: {error}; delete the file to begin anew", path.display(), index + 1)
    };
    if let Some((index, head)) = lines.next() {
        let there: Map<String, Value> = serde_json::from_slice(head).map_err(|e| wrong(index, e))?;
        expect_same(path, &there, how)?;
    }
    let line = |(index, line)| {
        let line: Line = serde_json::from_slice(line).map_err(|e| wrong(index, e))?;
        Ok((line.id, line.samples))
    };
    lines.map(line).collect()
}

fn expect_same(path: &Path, there: &Map<String, Value>, now: &Map<String, Value>) -> anyhow::Result<()> {
    let keys = now.keys().chain(there.keys());
    for key in keys {
        let (was, is) = (there.get(key).unwrap_or(&Value::Null), now.get(key).unwrap_or(&Value::Null));
        ensure!(
            was == is,
            "{}: its answers were made with {key} {was}, this run has {is}; use the same, or another --out",
            path.display()
        );
    }
    Ok(())
}
