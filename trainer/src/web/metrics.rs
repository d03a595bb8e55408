//! `metrics.jsonl` as series over steps.

use super::error::PageError;
use super::lines::Lines;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::Path;

/// Read at most: the last this many bytes, some 30,000 steps.
const MOST_BYTES: u64 = 32 << 20;

/// All that a run has measured so far.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Metrics {
    /// In the order in which they began.
    pub(super) stages: Vec<Stage>,
    /// What is missing, one line each.
    pub(super) notes: Vec<String>,
}

/// The series of one stage.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stage {
    pub(super) name: String,
    /// (step, value) by name, in the order of the file.
    pub(super) series: BTreeMap<String, Vec<(f64, f64)>>,
    /// When its last step ended, in milliseconds since the Unix epoch.
    pub(super) last_ms: u64,
}

impl Metrics {
    /// When the newest step of any stage ended.
    pub(super) fn last_ms(&self) -> Option<u64> {
        self.stages.iter().map(|stage| stage.last_ms).max()
    }

    /// The stage of that name.
    pub(super) fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    fn add(&mut self, row: Row) {
        let place = self.stages.iter().position(|stage| stage.name == row.stage).unwrap_or_else(|| {
            self.stages.push(Stage { name: row.stage, ..Stage::default() });
            self.stages.len() - 1
        });
        let stage = &mut self.stages[place];
        stage.last_ms = stage.last_ms.max(row.time_ms);
        for (name, value) in row.values {
            // A value that was not finite is null in the file.
            if let Some(value) = value {
                stage.series.entry(name).or_default().push((row.step as f64, value));
            }
        }
    }
}

#[derive(Deserialize)]
struct Row {
    stage: String,
    step: u64,
    #[serde(default)]
    time_ms: u64,
    #[serde(flatten)]
    values: BTreeMap<String, Option<f64>>,
}

/// Reads the file of a run; without one there is nothing measured yet.
pub(super) fn read(run_dir: &Path) -> Result<Metrics, PageError> {
    let path = run_dir.join("metrics.jsonl");
    match File::open(&path).and_then(|file| of(file, MOST_BYTES)) {
        Ok(metrics) => Ok(metrics),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Metrics::default()),
        Err(e) => Err(PageError::file(&path, &e)),
    }
}

fn of(mut file: File, most: u64) -> io::Result<Metrics> {
    let skipped = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(skipped))?;
    let mut lines = Lines::at(skipped, BufReader::new(file));
    let mut metrics = Metrics::default();
    if skipped > 0 {
        lines.next()?;
        metrics.notes.push(format!("metrics.jsonl is long: what stands before byte {skipped} is not shown"));
    }
    let mut damaged: Option<(u64, String)> = None;
    let mut count = 0u64;
    while let Some(line) = lines.next()? {
        match serde_json::from_slice::<Row>(line.bytes.unwrap_or_default()) {
            Ok(row) => metrics.add(row),
            Err(_) if !line.whole => metrics.notes.push(format!(
                "the last line of metrics.jsonl is not whole ({} bytes): it is being written, or was cut short",
                line.len
            )),
            Err(error) => {
                count += 1;
                damaged.get_or_insert((line.offset, error.to_string()));
            }
        }
    }
    if let Some((offset, error)) = damaged {
        let line = format!(
            "lines of metrics.jsonl that cannot be read: {count}, the first at byte {offset}: {error}"
        );
        metrics.notes.push(line);
    }
    Ok(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    const TWO: &str = "{\"stage\":\"sft\",\"step\":1,\"time_ms\":5,\"loss\":0.5}\n\
                       {\"stage\":\"grpo\",\"step\":1,\"time_ms\":9,\"loss\":null,\"reward\":0.25}\n";

    #[test]
    fn series_by_stage_and_name() {
        let metrics = of(file(TWO), MOST_BYTES).unwrap();
        let names: Vec<&str> = metrics.stages.iter().map(|s| s.name.as_str()).collect();
        assert_eq!((names, metrics.last_ms()), (vec!["sft", "grpo"], Some(9)));
        let grpo = metrics.stage("grpo").unwrap();
        assert_eq!((&grpo.series["reward"][..], grpo.series.get("loss")), (&[(1.0, 0.25)][..], None));
        assert_eq!(metrics.stage("sft").unwrap().series["loss"], [(1.0, 0.5)]);
        assert!(metrics.notes.is_empty());
    }

    #[test]
    fn what_is_damaged_or_left_out_is_said() {
        let metrics = of(file(&format!("{TWO}not json\n{{\"stage\":\"grpo\",\"st")), MOST_BYTES).unwrap();
        assert_eq!(metrics.stages.len(), 2);
        assert_eq!(
            metrics.notes,
            [
                "the last line of metrics.jsonl is not whole (19 bytes): it is being written, or was cut short",
                "lines of metrics.jsonl that cannot be read: 1, the first at byte 112: expected ident at line 1 column 2",
            ]
        );
        let cut = of(file(TWO), 80).unwrap();
        assert_eq!((cut.stages.len(), cut.stages[0].name.as_str()), (1, "grpo"));
        assert_eq!(cut.notes, ["metrics.jsonl is long: what stands before byte 32 is not shown"]);
    }
}
