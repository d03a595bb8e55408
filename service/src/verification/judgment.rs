//! Reading a critique and its one judgment out of a model's text, strictly.

use super::fences::quotes;
use sinternal_proto::Verdict;

/// What a model's text comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgment {
    /// A critique and one judgment, as asked.
    Valid {
        /// Everything before the judgment, trimmed; never empty.
        critique: String,
        /// [`Verdict::Safe`] or [`Verdict::Unsafe`].
        verdict: Verdict,
    },
    /// Anything else.
    Invalid {
        /// The text as it was.
        raw: String,
        /// What is wrong with it.
        reason: InvalidJudgment,
    },
}

impl Judgment {
    /// Safe, unsafe or invalid.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Valid { verdict, .. } => *verdict,
            Self::Invalid { .. } => Verdict::Invalid,
        }
    }
}

/// Why a text holds no judgment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum InvalidJudgment {
    /// No line is one.
    #[error("no line `judgment: …`")]
    Missing,
    /// Several lines are, be they equal or not.
    #[error("more than one line `judgment: …`")]
    Several,
    /// The one line judges neither safe nor unsafe.
    #[error("the judgment is neither safe nor unsafe")]
    Unknown,
    /// Something follows it.
    #[error("text after the judgment")]
    TextAfter,
    /// Nothing precedes it.
    #[error("no critique before the judgment")]
    NoCritique,
    /// A marker of the prompt stands without its other half, so it is unclear what is quoted.
    #[error("half a quote: a marker without its other half")]
    BrokenQuote,
}

impl InvalidJudgment {
    /// One word for counting, such as `text_after`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Several => "several",
            Self::Unknown => "unknown",
            Self::TextAfter => "text_after",
            Self::NoCritique => "no_critique",
            Self::BrokenQuote => "broken_quote",
        }
    }
}

/// Reads a text: a critique and, as its last line, one judgment.
///
/// Tolerated are upper case, the spelling `judgement`, Markdown's asterisks, underscores and backticks around either
/// word, and punctuation at the end. Text that is quoted between the prompt's markers does not count.
#[must_use]
pub fn parse_judgment(text: &str) -> Judgment {
    match read(text) {
        Ok((critique, verdict)) => Judgment::Valid { critique: critique.to_owned(), verdict },
        Err(reason) => Judgment::Invalid { raw: text.to_owned(), reason },
    }
}

fn read(text: &str) -> Result<(&str, Verdict), InvalidJudgment> {
    let quotes = quotes(text).ok_or(InvalidJudgment::BrokenQuote)?;
    let quoted = |start, end| {
        let next = quotes.partition_point(|quote| quote.end <= start);
        quotes.get(next).is_some_and(|quote| quote.start < end)
    };
    let mut judgments = lines(text).filter_map(|(start, line)| {
        (!quoted(start, start + line.len())).then_some(())?;
        Some((start, line.len(), judged(line)?))
    });
    let (start, length, verdict) = judgments.next().ok_or(InvalidJudgment::Missing)?;
    if judgments.next().is_some() {
        return Err(InvalidJudgment::Several);
    }
    let critique = text[..start].trim();
    if !text[start + length..].trim().is_empty() {
        return Err(InvalidJudgment::TextAfter);
    }
    let verdict = verdict.ok_or(InvalidJudgment::Unknown)?;
    if critique.is_empty() { Err(InvalidJudgment::NoCritique) } else { Ok((critique, verdict)) }
}

/// Every line with its place. A carriage return ends one, too: some terminals and models write it alone.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(['\n', '\r']).map(move |line| (line.as_ptr() as usize - text.as_ptr() as usize, line))
}

/// What a line judges: `None` if it is no judgment, `Some(None)` if it is one of something else.
fn judged(line: &str) -> Option<Option<Verdict>> {
    let line = line.trim_matches(decorates).to_lowercase();
    let rest = line.strip_prefix("judgment").or_else(|| line.strip_prefix("judgement"))?;
    let verdict = rest.trim_start_matches(decorates).strip_prefix(':')?;
    let ends = |c: char| decorates(c) || matches!(c, '.' | '!' | ',' | ';');
    Some(match verdict.trim_start_matches(decorates).trim_end_matches(ends) {
        "safe" => Some(Verdict::Safe),
        "unsafe" => Some(Verdict::Unsafe),
        _ => None,
    })
}

fn decorates(c: char) -> bool {
    c.is_whitespace() || matches!(c, '*' | '_' | '`')
}

#[cfg(test)]
mod tests;
