//! Two results of the same suite, item by item: does the second differ from the first by more than chance?

use crate::measure::{Interval, IntervalMethod, MeasureKind, Outcome, reading};
use crate::result::Evaluation;
use crate::stats::{McNemar, McNemarMethod, Resampling, bootstrap_interval};
use crate::suite::Suite;
use crate::table::{aligned, put, table_lines};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Why two results cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// They are of different suites.
    #[error("the first result is of {first}, the second of {second}; compare results of one suite")]
    Suites {
        /// Of the first.
        first: Suite,
        /// Of the second.
        second: Suite,
    },
    /// Their data differ.
    #[error(
        "the results are of different data, SHA-256 {first} and {second}; evaluate both on the same file"
    )]
    Data {
        /// Of the first.
        first: String,
        /// Of the second.
        second: String,
    },
    /// An item is in one alone.
    #[error("item `{id}` is in the {side} result alone; evaluate both with the same limits")]
    Items {
        /// The item.
        id: String,
        /// `first` or `second`.
        side: &'static str,
    },
    /// An item is in one of them twice, so there are no pairs.
    #[error("item `{id}` is in the {side} result twice")]
    Twice {
        /// The item.
        id: String,
        /// `first` or `second`.
        side: &'static str,
    },
}

/// One measure of both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// What is measured.
    pub measure: MeasureKind,
    /// Items judged in both.
    pub pairs: u64,
    /// Items that count for the measure and were not judged in both, so that they are left out.
    pub left_out: u64,
    /// The first's mean over the pairs; `None` without pairs.
    pub first: Option<f64>,
    /// The second's.
    pub second: Option<f64>,
    /// Second minus first, −1–1.
    pub difference: Option<f64>,
    /// Around the difference, by bootstrap over pairs.
    pub interval: Option<Interval>,
    /// For measures that are hit or not for every item of both.
    pub mcnemar: Option<McNemar>,
}

/// All measures that both have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Of both.
    pub suite: Suite,
    /// The first's model.
    pub first: String,
    /// The second's.
    pub second: String,
    /// How intervals were drawn.
    pub resampling: Resampling,
    /// In the suite's order.
    pub differences: Vec<Difference>,
}

/// Compares two results of one suite, paired by the items' ids.
///
/// # Errors
/// See [`CompareError`]: suites, data or items differ.
pub fn compare(first: &Evaluation, second: &Evaluation, how: Resampling) -> Result<Comparison, CompareError> {
    let (a, b) = (&first.about, &second.about);
    if a.suite != b.suite {
        return Err(CompareError::Suites { first: a.suite, second: b.suite });
    }
    if a.data.sha256 != b.data.sha256 {
        let (first, second) = (a.data.sha256.clone(), b.data.sha256.clone());
        return Err(CompareError::Data { first, second });
    }
    let pairs = pairs(&first.items, &second.items)?;
    let shared = first.measures.iter().filter(|m| second.measures.iter().any(|o| o.measure == m.measure));
    Ok(Comparison {
        suite: a.suite,
        first: a.model.name.clone(),
        second: b.model.name.clone(),
        resampling: how,
        differences: shared.map(|m| difference(m.measure, &pairs, how)).collect(),
    })
}

type Pair<'a> = (&'a Outcome, &'a Outcome);

/// In the first's order.
fn pairs<'a>(first: &'a [Outcome], second: &'a [Outcome]) -> Result<Vec<Pair<'a>>, CompareError> {
    let by_id = |items: &'a [Outcome], side| {
        let mut found: HashMap<&str, &Outcome> = HashMap::with_capacity(items.len());
        for outcome in items {
            if found.insert(&outcome.item.id, outcome).is_some() {
                return Err(CompareError::Twice { id: outcome.item.id.clone(), side });
            }
        }
        Ok(found)
    };
    let (firsts, seconds) = (by_id(first, "first")?, by_id(second, "second")?);
    let alone = |outcome: &Outcome, side| CompareError::Items { id: outcome.item.id.clone(), side };
    if let Some(extra) = second.iter().find(|o| !firsts.contains_key(o.item.id.as_str())) {
        return Err(alone(extra, "second"));
    }
    let pair = |a: &'a Outcome| match seconds.get(a.item.id.as_str()) {
        Some(b) => Ok((a, *b)),
        None => Err(alone(a, "first")),
    };
    first.iter().map(pair).collect()
}

fn difference(measure: MeasureKind, pairs: &[Pair], how: Resampling) -> Difference {
    let counted: Vec<_> =
        pairs.iter().filter_map(|(a, b)| reading(measure, a).zip(reading(measure, b))).collect();
    let judged: Vec<_> = counted.iter().filter(|(a, b)| a.value.is_some() && b.value.is_some()).collect();
    let values: Vec<(f64, f64)> = judged.iter().filter_map(|(a, b)| a.value.zip(b.value)).collect();
    let n = values.len();
    let mean = |of: fn(&(f64, f64)) -> f64| (n > 0).then(|| values.iter().map(of).sum::<f64>() / n as f64);
    let differences: Vec<f64> = values.iter().map(|(a, b)| b - a).collect();
    let interval = bootstrap_interval(&differences, how);
    let single = judged.iter().all(|(a, b)| a.judged == 1 && b.judged == 1);
    Difference {
        measure,
        pairs: n as u64,
        left_out: (counted.len() - n) as u64,
        first: mean(|v| v.0),
        second: mean(|v| v.1),
        difference: (n > 0).then(|| differences.iter().sum::<f64>() / n as f64),
        interval: interval.map(|(low, high)| Interval { low, high, method: IntervalMethod::Bootstrap }),
        mcnemar: (single && n > 0 && measure != MeasureKind::RubricScore).then(|| mcnemar(&values)),
    }
}

fn mcnemar(values: &[(f64, f64)]) -> McNemar {
    let count = |of: (f64, f64)| values.iter().filter(|v| **v == of).count() as u64;
    McNemar::of(count((1.0, 0.0)), count((0.0, 1.0)))
}

impl Comparison {
    fn cells(&self) -> Vec<Vec<String>> {
        let header = ["", "pairs", "left out", &self.first, &self.second, "difference", "McNemar"];
        let body = self.differences.iter().map(|d| {
            let percent = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{:.1} %", 100.0 * x));
            let interval = |i: Interval| format!(" [{:+.1}, {:+.1}]", 100.0 * i.low, 100.0 * i.high);
            let points = |x: f64| format!("{:+.1}{}", 100.0 * x, d.interval.map_or(String::new(), interval));
            vec![
                d.measure.label(),
                d.pairs.to_string(),
                d.left_out.to_string(),
                percent(d.first),
                percent(d.second),
                d.difference.map_or("–".to_owned(), points),
                d.mcnemar.map_or("–".to_owned(), in_words),
            ]
        });
        [header.map(str::to_owned).to_vec()].into_iter().chain(body).collect()
    }

    /// The table for a terminal, without colours.
    #[must_use]
    pub fn to_terminal(&self) -> String {
        format!("{}\n\n{}\n{FOOT}\n", self.suite, aligned(&self.cells(), 1..3))
    }

    /// The same as Markdown.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# {}: {} against {}\n\n", self.suite, self.second, self.first);
        table_lines(&mut text, &self.cells(), 1..3);
        put(&mut text, &format!("\n{FOOT}, seed {}.", self.resampling.seed));
        text
    }
}

const FOOT: &str = "difference in points, second minus first; [ ] 95 % intervals by bootstrap over pairs";

fn in_words(test: McNemar) -> String {
    let method = match test.method {
        McNemarMethod::Exact => "exact",
        McNemarMethod::ContinuityCorrected => "χ² corrected",
    };
    let p = if test.p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {:.3}", test.p) };
    format!("{p} ({method}; {} against {})", test.only_first, test.only_second)
}

#[cfg(test)]
mod tests;
