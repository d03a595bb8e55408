//! One measure with its interval, as result files have it.

use super::kind::MeasureKind;
use super::outcome::Outcome;
use super::reading::{Reading, reading};
use crate::stats::{Rate, Resampling, bootstrap_interval};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How an interval was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IntervalMethod {
    /// Wilson's score interval of a share, one answer an item.
    Wilson,
    /// Percentile bootstrap over items.
    Bootstrap,
}

/// A 95 % interval, in 0–1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How it was computed.
    pub method: IntervalMethod,
}

/// One measure of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// What is measured.
    pub measure: MeasureKind,
    /// In 0–1: the mean over items of the mean over their judged answers. `None` where nothing was judged.
    pub value: Option<f64>,
    /// Around the value; `None` with it.
    pub interval: Option<Interval>,
    /// Items with a judged answer.
    pub n: u64,
    /// Judged answers.
    pub answers: u64,
    /// Answers that a judge or grader was asked about and said nothing readable of. Judges' are left out of the value;
    /// a final answer that the grader cannot read counts as wrong.
    pub unparsed: u64,
}

/// The measure of these outcomes.
pub(super) fn measure(kind: MeasureKind, outcomes: &[Outcome], how: Resampling) -> Measure {
    let readings: Vec<Reading> = outcomes.iter().filter_map(|outcome| reading(kind, outcome)).collect();
    let values: Vec<f64> = readings.iter().filter_map(|r| r.value).collect();
    let sum_of = |count: fn(&Reading) -> u64| readings.iter().map(count).sum();
    let (n, answers) = (values.len() as u64, sum_of(|r| r.judged));
    let interval = if n == answers && values.iter().all(|v| *v == 0.0 || *v == 1.0) && is_share(kind) {
        wilson(&values)
    } else {
        bootstrap_interval(&values, how).map(|(low, high)| Interval {
            low,
            high,
            method: IntervalMethod::Bootstrap,
        })
    };
    let value = (n > 0).then(|| values.iter().sum::<f64>() / n as f64);
    Measure { measure: kind, value, interval, n, answers, unparsed: sum_of(|r| r.unparsed) }
}

/// Whether a single answer is a hit or none.
fn is_share(kind: MeasureKind) -> bool {
    kind != MeasureKind::RubricScore
}

fn wilson(values: &[f64]) -> Option<Interval> {
    let rate: Rate = values.iter().map(|v| *v == 1.0).collect();
    let (low, high) = rate.interval();
    (rate.n > 0).then_some(Interval { low, high, method: IntervalMethod::Wilson })
}

/// In percent: `3.1 % [2.0, 4.7]`; `–` where nothing was judged.
impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value, self.interval) {
            (Some(value), Some(Interval { low, high, .. })) => {
                f.pad(&format!("{:.1} % [{:.1}, {:.1}]", 100.0 * value, 100.0 * low, 100.0 * high))
            }
            _ => f.pad("–"),
        }
    }
}
