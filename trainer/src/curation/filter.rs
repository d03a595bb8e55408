//! What can be said of a row alone: is it an answer that an expert judged and nobody contradicts?

use super::report::{DropReason, Tally};
use crate::records::{CritiquedRecord, Record};
use sinternal_proto::{PromptKind, Verdict};

/// A row that may be learned from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) row: &'a CritiquedRecord,
    pub(super) refused: bool,
}

/// The usable rows by id, whatever order they come in.
pub(super) fn usable<'a>(
    rows: &'a [CritiquedRecord],
    refuses: &dyn Fn(&str) -> bool,
    tally: &mut Tally,
) -> Vec<Candidate<'a>> {
    let mut named: Vec<(String, &CritiquedRecord)> = rows.iter().map(|row| (row.id(), row)).collect();
    // Only rows of one id are compared by content.
    named.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| content(x).cmp(&content(y))));
    let mut candidates = Vec::new();
    let mut last: Option<&str> = None;
    for (id, row) in &named {
        tally.enter(row);
        let repeated = (last == Some(id)).then_some(DropReason::RepeatedId);
        match repeated.or_else(|| problem(row)) {
            Some(reason) => tally.reject(row, reason),
            None => candidates.push(Candidate { row, refused: refuses(&row.collected.answer) }),
        }
        last = Some(id);
    }
    candidates
}

fn content(row: &CritiquedRecord) -> String {
    serde_json::to_string(row).expect("rows are plain data")
}

fn problem(row: &CritiquedRecord) -> Option<DropReason> {
    let answer = &row.collected;
    let label = row.label.as_ref().map(|label| label.verdict);
    let problems = [
        (answer.kind == PromptKind::Math, DropReason::Mathematics),
        (answer.truncated, DropReason::Truncated),
        (!answer.reasoning_closed, DropReason::ReasoningNotClosed),
        (answer.answer.trim().is_empty(), DropReason::EmptyAnswer),
        (row.judgment == Verdict::Invalid, DropReason::Invalid),
        (label.is_some_and(|label| label != row.judgment), DropReason::Disagrees),
    ];
    problems.into_iter().find_map(|(applies, reason)| applies.then_some(reason))
}
