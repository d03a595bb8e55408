//! The form of a completion: complete, its reasoning closed, and an answer there.

use sinternal_model::think::split_reasoning;

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
}

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
    Ok(answer)
}

/// Whether [`check`] finds nothing wrong.
#[must_use]
pub fn well_formed(completion: &str, truncated: bool) -> bool {
    check(completion, truncated).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named() {
        use Malformed::{EmptyAnswer, MarkersInAnswer, Truncated, UnclosedReasoning};
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
        ] {
            assert_eq!(check(text, truncated), expected, "{text}");
            assert_eq!(well_formed(text, truncated), expected.is_ok());
        }
    }
}
