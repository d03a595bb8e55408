//! Finds the answer in a completion, and the gold answer in its text.

use super::boxes;
use super::formulas::{Formula, first_of_run, formulas, run};
use super::{plain, words};
use sinternal_model::think::split_reasoning;

/// Bytes at the end of an answer in which its result is looked for.
const TAIL: usize = 16 * 1024;
/// Bytes of the sentence after a final-answer phrase.
const SENTENCE: usize = 600;
/// What announces the result.
const PHRASES: [&str; 8] =
    ["final answer", "answer is", "answer:", "answer =", "answers are", "option is", "choice is", "####"];
/// What announces the result after boxes of results on the way to it.
const LAST_WORD: &str = "final answer is";

/// What a completion gives as its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What may be the answer; the first one that can be read is it.
    pub(super) candidates: Vec<String>,
    /// The parts of the answer, where it is a list of boxes.
    pub(super) boxes: Vec<String>,
    /// What stands in earlier boxes.
    pub(super) earlier: Vec<String>,
}

impl Found {
    fn of(candidates: Vec<String>) -> Self {
        Self { candidates, boxes: Vec::new(), earlier: Vec::new() }
    }
}

/// What may be the gold answer: what is boxed, or all of the text, or its last formula.
pub(super) fn gold(text: &str) -> Vec<String> {
    let text = tail(text);
    let last = text.rsplit("####").next().unwrap_or(text).trim();
    if let Some(sentence) = boxes::sentences(last).last() {
        return vec![sentence.iter().map(|found| found.inner).collect::<Vec<_>>().join(" and ")];
    }
    if let Some((_, open)) = last.rsplit_once("\\boxed{") {
        // A gold answer that was cut off.
        return vec![open.trim_end_matches('$').to_owned()];
    }
    let found = formulas(last);
    let mut candidates = Vec::new();
    if let Some(end) = found.len().checked_sub(1) {
        let first = first_of_run(last, &found, end);
        candidates.push(run(last, &found, first).join(" and "));
        let alone = found.len() == 1 && found[0].start == 0 && found[0].end == last.len();
        if alone {
            return candidates;
        }
    }
    candidates.insert(0, last.replace("\\(", " ").replace("\\)", " "));
    candidates
}

/// What may be the answer; `None` where the completion never closes its reasoning, or its box.
pub(super) fn answer(completion: &str) -> Option<Found> {
    let text = tail(plain::without_coda(split_reasoning(completion).answer?));
    let mut sentences = boxes::sentences(text);
    if let Some(last) = sentences.pop() {
        let inner = |found: &boxes::Boxed| found.inner.to_owned();
        let boxes: Vec<String> = last.iter().map(inner).collect();
        let earlier = sentences.iter().flatten().map(inner).collect();
        if let Some(announced) = last.last().and_then(|last| after_boxes(last.rest(text))) {
            return Some(Found::of(announced));
        }
        return Some(Found { candidates: vec![boxes.join(" and ")], boxes, earlier });
    }
    if text.contains("\\boxed{") {
        return None;
    }
    let text = &plain::without_remarks(text);
    let candidates = after_phrase(text).map_or_else(|| unannounced(text), announced);
    Some(Found::of(candidates))
}

/// The formula that is announced as the final answer after the last box.
fn after_boxes(rest: &str) -> Option<Vec<String>> {
    let start = rest.to_ascii_lowercase().rfind(LAST_WORD)? + LAST_WORD.len();
    let rest = rest[start..].trim_start_matches([' ', ':', '*']);
    let found = formulas(rest);
    found.first().filter(|found| found.start == 0)?;
    Some(vec![run(rest, &found, 0).join(" and ")])
}

fn tail(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(TAIL))..]
}

/// What follows the last phrase that announces the result.
fn after_phrase(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let end = PHRASES.iter().filter_map(|phrase| Some(lower.rfind(phrase)? + phrase.len())).max()?;
    let rest = text[end..].trim_start_matches(|c: char| c.is_whitespace() || ":*#".contains(c));
    let rest = ["is", "are"]
        .iter()
        .find_map(|verb| rest.strip_prefix(verb)?.strip_prefix([' ', ':', '\n']))
        .unwrap_or(rest);
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || ":*#".contains(c));
    let rest = &rest[..rest.floor_char_boundary(SENTENCE)];
    // A phrase without anything that could be a result, such as "the answer: it was hard", announces nothing.
    (!rest.is_empty()).then_some(rest)
}

/// What the announced sentence says that something *is*, or its first formulas, or all of it, or its last number.
fn announced(rest: &str) -> Vec<String> {
    let found = formulas(rest);
    let sentence = plain::sentence(rest);
    let verbs = [" is ", " are ", " is: "].into_iter().flat_map(|verb| sentence.match_indices(verb));
    let mut starts: Vec<usize> = verbs.map(|(index, verb)| index + verb.len()).collect();
    starts.sort_unstable();
    // Formulas that come before the verb are names of what is asked for.
    let begins = |start: &usize| {
        let value = |c: char| c.is_ascii_digit() || "-($\\".contains(c);
        rest[*start..].starts_with(value)
    };
    let start = starts.into_iter().find(begins).unwrap_or(0);
    if let Some(first) = found.iter().position(|found| found.start >= start && found.start <= sentence.len())
        && (start == 0 || found[first].start == start)
    {
        return vec![run_with_scale(rest, &found, first)];
    }
    let sentence = sentence.get(start..).unwrap_or(sentence);
    let mut candidates: Vec<String> = plain::leading_number(sentence).into_iter().collect();
    candidates.extend(plain::beginnings(sentence));
    candidates.extend(plain::last_number(sentence));
    candidates
}

/// The formulas that belong together, and the word after them where it multiplies, as in `$3$ million`.
fn run_with_scale(text: &str, found: &[Formula], first: usize) -> String {
    let formulas = run(text, found, first);
    let after = found.get(first + formulas.len() - 1).map_or("", |last| &text[last.end..]);
    let word = after.split_whitespace().next().unwrap_or_default().trim_end_matches(['.', ',']);
    let scaled = after.starts_with(' ') && words::scale(word).is_some();
    let joined = formulas.join(" and ");
    if scaled { format!("{joined} \\text{{ {word}}}") } else { joined }
}

/// The last formulas or the number after them, or all of the text where it is short.
fn unannounced(text: &str) -> Vec<String> {
    let found = formulas(text);
    let Some(last) = found.last() else {
        let mut candidates: Vec<String> = plain::whole(text).into_iter().collect();
        candidates.extend(plain::last_number(text));
        return candidates;
    };
    match plain::last_number(&text[last.end..]) {
        Some(number) => vec![number],
        None => vec![run_with_scale(text, &found, first_of_run(text, &found, found.len() - 1))],
    }
}
