//! The form of a completion: complete, its reasoning closed, an answer there, and not caught in a loop.

use sinternal_model::think::split_reasoning;
use std::collections::HashSet;

/// Why a completion is not well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ended at its length limit.
    #[error("cut at its length limit")]
    Truncated,
    /// `<think>` without `</think>`.
    #[error("reasoning never closes")]
    UnclosedReasoning,
    /// Nothing follows the reasoning.
    #[error("answer is empty")]
    EmptyAnswer,
    /// Think markers inside the answer.
    #[error("think markers in the answer")]
    MarkersInAnswer,
    /// The same words again and again.
    #[error("text repeats itself")]
    Degenerate,
}

/// Bytes of one n-gram: some four words.
const GRAM: usize = 24;
/// Texts are looked at in windows of so many bytes, each half over the last.
const WINDOW: usize = 1024;
/// Shorter texts hold too few n-grams to tell.
const SHORTEST: usize = 128;
/// A window is a loop where fewer of its n-grams are distinct; ordinary prose, code and sums have above 0.7.
const LEAST_DISTINCT: f64 = 0.25;

/// The answer of a well-formed completion.
///
/// # Errors
/// Why it is not.
pub fn check(completion: &str, truncated: bool) -> Result<&str, Malformed> {
    if truncated {
        return Err(Malformed::Truncated);
    }
    let answer = split_reasoning(completion).answer.ok_or(Malformed::UnclosedReasoning)?;
    if answer.is_empty() {
        return Err(Malformed::EmptyAnswer);
    }
    if answer.contains("<think>") || answer.contains("</think>") {
        return Err(Malformed::MarkersInAnswer);
    }
    if is_degenerate(completion) { Err(Malformed::Degenerate) } else { Ok(answer) }
}

/// Whether [`check`] finds nothing wrong.
#[must_use]
pub fn well_formed(completion: &str, truncated: bool) -> bool {
    check(completion, truncated).is_ok()
}

/// Whether some stretch of the text says the same over and over.
#[must_use]
pub fn is_degenerate(text: &str) -> bool {
    let bytes = text.trim().as_bytes();
    let starts = (0..bytes.len()).step_by(WINDOW / 2);
    starts.map(|start| &bytes[start..bytes.len().min(start + WINDOW)]).any(loops)
}

fn loops(window: &[u8]) -> bool {
    if window.len() < SHORTEST {
        return false;
    }
    let distinct: HashSet<&[u8]> = window.windows(GRAM).collect();
    (distinct.len() as f64) < LEAST_DISTINCT * (window.len() - GRAM + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROSE: &str = "First add the two sides of the garden, which gives nine metres. A fence on both long sides \
        then takes eighteen metres of wire, and the gate needs one more. Nineteen metres at four coins each cost \
        seventy-six coins, so with a hundred coins in the purse twenty-four are left for seeds.";

    #[test]
    fn every_fault_is_named() {
        use Malformed::{Degenerate, EmptyAnswer, MarkersInAnswer, Truncated, UnclosedReasoning};
        let looping = format!("<think> plan </think> {}", "and so on ".repeat(30));
        for (text, truncated, expected) in [
            ("<think> plan </think> go", false, Ok("go")),
            ("plan </think> go", false, Ok("go")), // the template opened the reasoning
            ("go", false, Ok("go")),
            ("<think> plan </think> go", true, Err(Truncated)),
            ("<think> plan go", false, Err(UnclosedReasoning)),
            ("<think> plan </think>  \n", false, Err(EmptyAnswer)),
            ("", false, Err(EmptyAnswer)),
            ("<think> a </think> b </think> c", false, Err(MarkersInAnswer)),
            ("<think> a </think> b <think> c", false, Err(MarkersInAnswer)),
            (looping.as_str(), false, Err(Degenerate)),
        ] {
            assert_eq!(check(text, truncated), expected, "{text}");
            assert_eq!(well_formed(text, truncated), expected.is_ok());
        }
    }

    #[test]
    fn loops_are_found_wherever_they_are() {
        assert!(is_degenerate(&"no ".repeat(60)));
        assert!(is_degenerate(&"a".repeat(200)));
        assert!(is_degenerate(&"\u{1f642}".repeat(60)));
        assert!(is_degenerate(&format!("{PROSE}{}", "Wait, let me check that again. ".repeat(60))));
        assert!(is_degenerate(&format!("{}{PROSE}{PROSE}", "Hmm. ".repeat(400))));
    }

    #[test]
    fn prose_tables_and_short_texts_are_none() {
        let table: String = (1..40).map(|i| format!("| {i} | {} | {} |\n", i * i, i * i * i)).collect();
        let sums: String = (1..60).map(|i| format!("{i} + {} = {}\n", i + 3, 2 * i + 3)).collect();
        let ruled = format!("{PROSE}\n{}\n{PROSE}", "-".repeat(80));
        for text in [PROSE, &table, &sums, &ruled, &"ha ".repeat(20), &[PROSE, PROSE].concat()] {
            assert!(!is_degenerate(text), "{text}");
        }
    }

    #[test]
    fn cost_is_linear() {
        // 4 MB: quadratic work would take hours.
        let text: String = (0..500_000u32).map(|i| format!("{i:07} ")).collect();
        assert!(!is_degenerate(&text));
    }
}
