//! What was dropped, by class and reason. Counts add up: what goes in comes out or has a reason.

use super::render;
use crate::records::{CritiquedRecord, kind_word, verdict_word};
use serde::{Deserialize, Serialize};
use sinternal_proto::{PromptKind, Verdict};
use std::collections::BTreeMap;
use std::fmt;

/// Why a row is not learned from, in the order in which reasons are looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DropReason {
    /// A row of the same id came before it.
    RepeatedId,
    /// Its prompt is a mathematical problem.
    Mathematics,
    /// It ended at its length limit.
    Truncated,
    /// Its reasoning never ended.
    ReasoningNotClosed,
    /// It has no answer.
    EmptyAnswer,
    /// The expert gave no valid judgment.
    Invalid,
    /// The independent label contradicts the expert.
    Disagrees,
    /// Its request shares a run of words with a prompt of the named evaluation set.
    Contaminated(String),
    /// Its harmful prompt has no safe or no unsafe answer.
    NoContrast,
    /// Its harmful prompt has no two answers of similar length.
    NoLengthMatch,
    /// An unsafe answer to a benign prompt.
    BenignUnsafe,
    /// Its request nearly repeats another one.
    NearDuplicate,
    /// Another answer of its prompt was taken.
    NotChosen,
    /// Its benign prompt has only refusals, and there are enough of them.
    RefusalShare,
    /// Its class was too large.
    Balance,
}

const CONTAMINATED: &str = "contaminated: ";

const PLAIN: [(DropReason, &str); 14] = [
    (DropReason::RepeatedId, "repeated id"),
    (DropReason::Mathematics, "mathematics"),
    (DropReason::Truncated, "truncated"),
    (DropReason::ReasoningNotClosed, "reasoning not closed"),
    (DropReason::EmptyAnswer, "empty answer"),
    (DropReason::Invalid, "invalid"),
    (DropReason::Disagrees, "disagrees"),
    (DropReason::NoContrast, "no contrast"),
    (DropReason::NoLengthMatch, "no length match"),
    (DropReason::BenignUnsafe, "benign unsafe"),
    (DropReason::NearDuplicate, "near duplicate"),
    (DropReason::NotChosen, "not chosen"),
    (DropReason::RefusalShare, "refusal share"),
    (DropReason::Balance, "balance"),
];

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contaminated(set) => write!(f, "{CONTAMINATED}{set}"),
            plain => {
                f.write_str(PLAIN.iter().find(|(reason, _)| reason == plain).map_or("", |(_, text)| text))
            }
        }
    }
}

impl From<DropReason> for String {
    fn from(reason: DropReason) -> Self {
        reason.to_string()
    }
}

impl TryFrom<String> for DropReason {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(set) = text.strip_prefix(CONTAMINATED) {
            return Ok(Self::Contaminated(set.into()));
        }
        let known = PLAIN.iter().find(|(_, plain)| *plain == text);
        known.map(|(reason, _)| reason.clone()).ok_or(format!("`{text}` is no reason to drop a row"))
    }
}

/// What curation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropReport {
    /// Of its choices.
    pub seed: u64,
    /// Classes that had rows, in order.
    pub classes: Vec<ClassReport>,
    /// See [`NearDuplicates::full_buckets`](super::NearDuplicates::full_buckets); 0 where none were searched for.
    pub full_buckets: usize,
}

/// Rows of one class: kind of prompt and the expert's judgment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassReport {
    /// Kind of the prompt.
    pub kind: PromptKind,
    /// The expert's judgment.
    pub judgment: Verdict,
    /// That came in.
    pub rows_in: usize,
    /// That are learned from.
    pub rows_out: usize,
    /// Of those that are learned from: answers that refuse.
    pub refused_out: usize,
    /// That are not, by reason.
    pub dropped: BTreeMap<DropReason, usize>,
}

impl ClassReport {
    /// `harmful safe` and the like.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", kind_word(self.kind), verdict_word(self.judgment))
    }
}

impl DropReport {
    /// Rows that came in.
    #[must_use]
    pub fn rows_in(&self) -> usize {
        self.classes.iter().map(|class| class.rows_in).sum()
    }

    /// Rows that are learned from.
    #[must_use]
    pub fn rows_out(&self) -> usize {
        self.classes.iter().map(|class| class.rows_out).sum()
    }

    /// Dropped rows of all classes, by reason.
    #[must_use]
    pub fn dropped(&self) -> BTreeMap<DropReason, usize> {
        let mut all = BTreeMap::new();
        for (reason, rows) in self.classes.iter().flat_map(|class| &class.dropped) {
            *all.entry(reason.clone()).or_default() += rows;
        }
        all
    }

    /// A table: one line a reason, one column a class.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        render::markdown(self)
    }

    /// One paragraph on one line.
    #[must_use]
    pub fn to_text(&self) -> String {
        render::text(self)
    }
}

/// The report as it grows.
#[derive(Debug, Default)]
pub(super) struct Tally {
    classes: BTreeMap<(PromptKind, &'static str), ClassReport>,
}

impl Tally {
    pub(super) fn enter(&mut self, row: &CritiquedRecord) {
        self.class(row).rows_in += 1;
    }

    pub(super) fn reject(&mut self, row: &CritiquedRecord, reason: DropReason) {
        *self.class(row).dropped.entry(reason).or_default() += 1;
    }

    pub(super) fn keep(&mut self, row: &CritiquedRecord, refused: bool) {
        let class = self.class(row);
        class.rows_out += 1;
        class.refused_out += usize::from(refused);
    }

    pub(super) fn report(self, seed: u64, full_buckets: usize) -> DropReport {
        DropReport { seed, classes: self.classes.into_values().collect(), full_buckets }
    }

    fn class(&mut self, row: &CritiquedRecord) -> &mut ClassReport {
        let (kind, judgment) = (row.collected.kind, row.judgment);
        let new = || ClassReport {
            kind,
            judgment,
            rows_in: 0,
            rows_out: 0,
            refused_out: 0,
            dropped: BTreeMap::new(),
        };
        self.classes.entry((kind, verdict_word(judgment))).or_insert_with(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_back_as_they_are_written() {
        let set = DropReason::Contaminated("set: one".into());
        for reason in PLAIN.map(|(reason, _)| reason).into_iter().chain([set]) {
            assert_eq!(DropReason::try_from(reason.to_string()), Ok(reason.clone()), "{reason}");
        }
        assert_eq!(
            DropReason::try_from("bored".to_owned()),
            Err("`bored` is no reason to drop a row".into())
        );
    }
}
