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

/// The number that an answer is where its one comma is a decimal point, and points group its thousands.
fn with_decimal_comma(text: &str) -> Option<Tree> {
    let (before, after) = text.split_once(',')?;
    let digits = |text: &str, others: &str| text.chars().all(|c| c.is_ascii_digit() || others.contains(c));
    let mut groups = before.split('.');
    let first = groups.next()?.trim_start_matches(['-', ' ', '$']);
    let thousands = before.contains('.').then(|| (1..=3).contains(&first.len()));
    let grouped = thousands.unwrap_or(true) && groups.all(|group| group.len() == 3);
    let plain = grouped && digits(before, "-. $") && digits(after, " $");
    let text = format!("{},{after}", before.replace('.', ""));
    lex::tokens(&text, Commas::Decimal).filter(|_| plain).and_then(parse::parse)
}

/// Whether a text is two or more numbers in brackets, as in `(1,234)`, in which commas separate.
fn is_pair(text: &str) -> bool {
    let opened = ["(", "[", "\\{"].into_iter().find_map(|open| text.trim().strip_prefix(open));
    let inside =
        opened.and_then(|rest| [")", "]", "\\}"].into_iter().find_map(|close| rest.strip_suffix(close)));
    inside.is_some_and(|inside| {
        inside.contains(',') && inside.chars().all(|c| c.is_ascii_digit() || ",.- ".contains(c))
    })
}

/// The ways to read an answer; commas may mean more than one thing.
#[derive(Debug)]
struct Reading {
    /// The answer as it stands, to compare what cannot be read.
    squashed: String,
    trees: Vec<Tree>,
    /// What it is where its comma is a decimal point, which only counts against a number with a point,
    /// or a quotient.
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
        let choice = words::choice(&text);
        for text in [Some(&text[..]), choice.map(|(_, rest)| rest)].into_iter().flatten() {
            for commas in [Commas::Thousands, Commas::Separators] {
                if let Some(tree) = lex::tokens(text, commas).and_then(parse::parse)
                    && !trees.contains(&tree)
                    && !(commas == Commas::Thousands && is_pair(text))
                {
                    trees.push(tree);
                }
            }
        }
        trees.extend(choice.map(|(letter, _)| Tree::Symbol(letter.to_string())));
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
    let has_point =
        |trees: &[Tree]| trees.iter().any(|tree| matches!(tree, Tree::Decimal(_) | Tree::Quotient(..)));
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
