//! Splitting a completion into reasoning and answer.

/// A completion in two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split<'a> {
    /// What stands in the think markers; `None` where there was no reasoning.
    pub reasoning: Option<&'a str>,
    /// What follows the reasoning; `None` where the reasoning never closed, or opened only after other text.
    pub answer: Option<&'a str>,
}

/// Splits at `<think>` … `</think>` (DeepSeek-R1, Qwen3). Templates that open `<think>` in the prompt leave only the
/// closing marker in the completion; the first closing marker ends the reasoning.
#[must_use]
pub fn split_reasoning(completion: &str) -> Split<'_> {
    let text = completion.trim_start();
    let (opened, body) = match text.strip_prefix("<think>") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    match body.split_once("</think>") {
        // What stands before a late opening marker would be hidden from whoever judges the answer.
        Some((reasoning, _)) if reasoning.contains("<think>") => {
            Split { reasoning: Some(reasoning.trim()), answer: None }
        }
        Some((reasoning, answer)) => Split { reasoning: Some(reasoning.trim()), answer: Some(answer.trim()) },
        None if opened => Split { reasoning: Some(body.trim()), answer: None },
        None => Split { reasoning: None, answer: Some(body.trim()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_shapes() {
        let split = |t| (split_reasoning(t).reasoning, split_reasoning(t).answer);
        assert_eq!(split("<think> a </think> b"), (Some("a"), Some("b")));
        assert_eq!(split("a </think> b"), (Some("a"), Some("b")));
        assert_eq!(split("<think> a"), (Some("a"), None));
        assert_eq!(split(" b "), (None, Some("b")));
        assert_eq!(split("hidden <think> a </think> b"), (Some("hidden <think> a"), None));
        assert_eq!(split("<think> a </think> b </think> c"), (Some("a"), Some("b </think> c")));
    }
}
