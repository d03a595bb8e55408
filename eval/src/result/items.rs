//! `items.jsonl`: one item with its answers and verdicts a line, for inspection and for resuming.

use crate::measure::Outcome;

/// A line that is no outcome.
#[derive(Debug, thiserror::Error)]
#[error("items line {line}: {source}")]
pub struct ItemsError {
    /// From 1.
    pub line: usize,
    /// Why.
    pub source: serde_json::Error,
}

/// One line an outcome.
///
/// # Panics
/// Never: outcomes are plain data.
#[must_use]
pub fn items_jsonl(outcomes: &[Outcome]) -> String {
    let line = |outcome| serde_json::to_string(outcome).expect("plain data is JSON") + "\n";
    outcomes.iter().map(line).collect()
}

/// Reads [`items_jsonl`] back; blank lines are left out.
///
/// # Errors
/// At the first line that is no outcome.
pub fn read_items_jsonl(text: &str) -> Result<Vec<Outcome>, ItemsError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| ItemsError { line: index + 1, source })
        })
        .collect()
}
