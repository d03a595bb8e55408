//! What a suite measures, from the verdicts on its answers.
//!
//! `outcomes → value of each item (reading) → share or mean with its interval, n and what could not be judged`

mod figure;
mod kind;
mod outcome;
mod reading;

pub use figure::{Interval, IntervalMethod, Measure};
pub use kind::{Better, MeasureKind, UnknownMeasure};
pub use outcome::{Answer, Finish, Outcome};
pub(crate) use reading::reading;

use crate::stats::Resampling;
use crate::suite::Suite;

/// Why outcomes cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// There is nothing.
    #[error("{0} has no outcome to measure")]
    Empty(Suite),
    /// Items differ in how often they were answered, so averages over answers would mean nothing.
    #[error(
        "item `{id}` has {found} answers where the first has {expected}; evaluate all with the same number of samples"
    )]
    Answers {
        /// The item.
        id: String,
        /// Its answers.
        found: usize,
        /// Those of the first item.
        expected: usize,
    },
}

/// The measures of a suite, in its order. What was not judged at all has no value and n = 0.
///
/// # Errors
/// No outcome, or items with different numbers of answers.
pub fn measures(suite: Suite, outcomes: &[Outcome], how: Resampling) -> Result<Vec<Measure>, MeasureError> {
    let first = outcomes.first().ok_or(MeasureError::Empty(suite))?;
    let samples = first.answers.len();
    if let Some(odd) = outcomes.iter().find(|o| o.answers.len() != samples || samples == 0) {
        let (id, found, expected) = (odd.item.id.clone(), odd.answers.len(), samples.max(1));
        return Err(MeasureError::Answers { id, found, expected });
    }
    let kinds = MeasureKind::of(suite, u32::try_from(samples).unwrap_or(u32::MAX));
    Ok(kinds.into_iter().map(|kind| figure::measure(kind, outcomes, how)).collect())
}

#[cfg(test)]
pub(crate) mod tests;
