//! Whether an answer equals the gold answer of a problem.
//!
//! completion ─► extract ─► normalise ─► lex ─► parse ─► tree ─► equality ─► verdict
//!
//! What cannot be told is `Unparsed`, which is never a guess: a reward counts it as not correct, a report counts it on
//! its own. Lengths, depths, digits, exponents and the work of a comparison are bounded, so no answer is slow or fatal.

mod algebra;
mod atom;
mod boxes;
mod equality;
mod evaluate;
mod extract;
mod formulas;
mod fraction;
mod fuel;
mod lex;
mod matrices;
mod normalise;
mod number;
mod parse;
mod plain;
mod polynomial;
mod rational;
mod relations;
mod scalar;
mod scalars;
mod sets;
mod spelling;
mod token;
mod tree;
mod words;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

use fuel::Fuel;
use number::Commas;
use serde::{Deserialize, Serialize};
use tree::Tree;

/// What grading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Equal to the gold answer.
    Correct,
    /// Another value.
    Wrong,
    /// No value was found in the answer or in the gold answer, or they cannot be compared.
    Unparsed,
}

/// Grades a completion, or the answer that follows its reasoning. The gold answer is bare, in `$…$`, boxed, or
/// follows `####` as in GSM8K.
#[must_use]
pub fn grade(gold: &str, completion: &str) -> Verdict {
    let fuel = &mut Fuel::full();
    let bare = !gold.contains(['$', '\\']);
    let Some(mut gold) = first_readable(&extract::gold(gold)) else { return Verdict::Unparsed };
    // In a formula a comma separates.
    gold.with_decimal_comma = gold.with_decimal_comma.filter(|_| bare);
    let Some(found) = extract::answer(completion) else { return Verdict::Unparsed };
    let Some(answer) = first_readable(&found.candidates) else { return Verdict::Unparsed };
    let verdict = judge(&gold, &answer, &found.boxes, fuel);
    let conflicts = |inner: &String| match Reading::of(inner) {
        Some(earlier) => compare(&answer, &earlier, fuel) == Verdict::Wrong,
        None => false,
    };
    match verdict {
        Verdict::Correct if found.earlier.iter().any(conflicts) => Verdict::Wrong,
        verdict => verdict,
    }
}

/// Boxes in one sentence that all say the same are one answer; else they are a list.
fn judge(gold: &Reading, answer: &Reading, boxes: &[String], fuel: &mut Fuel) -> Verdict {
    let mut equal = |inner: &String| {
        Reading::of(inner).is_some_and(|answer| compare(gold, &answer, fuel) == Verdict::Correct)
    };
    if boxes.len() > 1 && boxes.iter().all(&mut equal) {
        return Verdict::Correct;
    }
    compare(gold, answer, fuel)
}

/// The number that an answer is where its one comma is a decimal point.
fn with_decimal_comma(text: &str) -> Option<Tree> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || "-, $".contains(c));
    let one = text.matches(',').count() == 1;
    lex::tokens(text, Commas::Decimal).filter(|_| plain && one).and_then(parse::parse)
}

/// The ways to read an answer; commas may mean more than one thing.
#[derive(Debug)]
struct Reading {
    /// The answer as it stands, to compare what cannot be read.
    squashed: String,
    trees: Vec<Tree>,
    /// What it is where its comma is a decimal point, which only counts against a number with a point.
    with_decimal_comma: Option<Tree>,
}

impl Reading {
    fn of(text: &str) -> Option<Self> {
        let text = normalise::normalised(text.trim())?;
        let squashed = normalise::squashed(&text);
        if squashed.is_empty() {
            return None;
        }
        let mut trees: Vec<Tree> = Vec::new();
        for commas in [Commas::Thousands, Commas::Separators] {
            if let Some(tree) = lex::tokens(&text, commas).and_then(parse::parse)
                && !trees.contains(&tree)
            {
                trees.push(tree);
            }
        }
        Some(Self { squashed, trees, with_decimal_comma: with_decimal_comma(&text) })
    }
}

fn first_readable(candidates: &[String]) -> Option<Reading> {
    let readings: Vec<Reading> = candidates.iter().filter_map(|text| Reading::of(text)).collect();
    let readable = readings.iter().position(|reading| !reading.trees.is_empty()).unwrap_or(0);
    readings.into_iter().nth(readable)
}

fn compare(gold: &Reading, answer: &Reading, fuel: &mut Fuel) -> Verdict {
    if gold.squashed == answer.squashed {
        return Verdict::Correct;
    }
    let mut told = Verdict::Unparsed;
    let has_point = |trees: &[Tree]| trees.iter().any(|tree| matches!(tree, Tree::Decimal(_)));
    let comma = |reading: &Reading, other: &Reading| {
        reading.with_decimal_comma.clone().filter(|_| has_point(&other.trees))
    };
    for gold_tree in gold.trees.iter().cloned().chain(comma(gold, answer)) {
        for answer_tree in answer.trees.iter().cloned().chain(comma(answer, gold)) {
            match equality::same(&gold_tree, &answer_tree, fuel) {
                Some(true) => return Verdict::Correct,
                Some(false) => told = Verdict::Wrong,
                None => {}
            }
        }
    }
    told
}
