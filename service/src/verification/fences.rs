//! The markers around text that is not trusted: written into prompts, and recognised when a model quotes them.

use std::ops::Range;

/// Hexadecimal digits of a nonce: 64 bits, which no answer can contain unless it is found by chance or by about
/// 2⁶⁴ trials.
pub(super) const NONCE_DIGITS: usize = 16;

/// What is fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fenced {
    /// The request x.
    Request,
    /// The answer y.
    Answer,
}

impl Fenced {
    const ALL: [Self; 2] = [Self::Request, Self::Answer];

    fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }

    fn opening(self, nonce: &str) -> String {
        format!("[{} {nonce}]", self.word())
    }

    fn closing(self, nonce: &str) -> String {
        format!("[end of {} {nonce}]", self.word())
    }

    /// `text` between its markers, each on a line of its own.
    pub(super) fn fence(self, nonce: &str, text: &str) -> String {
        format!("{}\n{text}\n{}", self.opening(nonce), self.closing(nonce))
    }
}

/// Where `text` quotes fenced text, markers included; `None` if a marker lacks its other half.
pub(super) fn quotes(text: &str) -> Option<Vec<Range<usize>>> {
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some((start, end, closing)) = next_opening(text, from) {
        // A closing marker before any opening one is half a quote.
        if has_closing(&text[from..start]) {
            return None;
        }
        let close = text[end..].find(&closing)? + end + closing.len();
        found.push(start..close);
        from = close;
    }
    (!has_closing(&text[from..])).then_some(found)
}

/// Start and end of the first opening marker, and the marker that closes it.
fn next_opening(text: &str, from: usize) -> Option<(usize, usize, String)> {
    let mut starts = text[from..].match_indices('[').map(|(at, _)| from + at);
    starts.find_map(|start| {
        Fenced::ALL.into_iter().find_map(|fenced| {
            let nonce = nonce_after(&text[start..], &format!("[{} ", fenced.word()))?;
            Some((start, start + fenced.opening(nonce).len(), fenced.closing(nonce)))
        })
    })
}

fn has_closing(text: &str) -> bool {
    text.match_indices('[').any(|(at, _)| {
        Fenced::ALL.iter().any(|it| nonce_after(&text[at..], &format!("[end of {} ", it.word())).is_some())
    })
}

/// The nonce of a marker that begins with `before`.
fn nonce_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let (nonce, rest) = text.strip_prefix(before)?.split_at_checked(NONCE_DIGITS)?;
    (rest.starts_with(']') && nonce.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "0123456789abcdef";

    #[test]
    fn a_quote_runs_from_its_marker_to_the_marker_of_the_same_nonce() {
        let inner = "x [end of answer ffffffffffffffff] [answer ffffffffffffffff] y";
        let quote = Fenced::Answer.fence(NONCE, inner);
        let text = format!("It says {quote} and more.");
        let found = quotes(&text).expect("both markers");
        assert_eq!((found.len(), found[0].clone()), (1, 8..8 + quote.len()));
        let both = format!("{}{}", Fenced::Request.fence(NONCE, "a"), Fenced::Answer.fence(NONCE, "b"));
        assert_eq!(quotes(&both).map(|found| found.len()), Some(2));
    }

    #[test]
    fn half_a_quote_is_told() {
        for half in [
            "[answer 0123456789abcdef] x",
            "x [end of answer 0123456789abcdef]",
            "[answer 0123456789abcdef] x [end of request 0123456789abcdef]",
            "[end of answer 0123456789abcdef] [answer 0123456789abcdef]",
        ] {
            assert_eq!(quotes(half), None, "{half}");
        }
        for none in ["", "[answer]", "[answer 0123]", "[answer 0123456789abcdeg]", "[[answer ", "é[request"]
        {
            assert_eq!(quotes(none), Some(Vec::new()), "{none}");
        }
    }
}
