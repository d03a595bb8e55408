//! Finds the answers in boxes.

/// A box: where its command starts, what stands in it, and where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Boxed<'a> {
    start: usize,
    pub(super) inner: &'a str,
    end: usize,
}

impl Boxed<'_> {
    /// What follows the box in its text.
    pub(super) fn rest<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.end..).unwrap_or_default()
    }
}

/// Boxes with more words between them do not belong together.
const MOST_WORDS: usize = 4;

/// Boxes of one sentence, in order.
pub(super) type Sentence<'a> = Vec<Boxed<'a>>;

/// The outermost boxes whose braces match, by sentences.
pub(super) fn sentences(text: &str) -> Vec<Sentence<'_>> {
    let mut sentences: Vec<Sentence> = Vec::new();
    for found in boxes(text) {
        match sentences.last_mut() {
            Some(sentence) if sentence.last().is_some_and(|last| continues(&text[last.end..found.start])) => {
                sentence.push(found);
            }
            _ => sentences.push(vec![found]),
        }
    }
    sentences
}

/// Whether two boxes with this between them belong together: in one sentence, with no more than some words.
fn continues(between: &str) -> bool {
    let text = between.replace("\\text", " ");
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).count();
    let ends = [". ", ".\n", "! ", "!\n", "? ", "?\n", "\n\n"];
    words == 0 && !between.contains(['.', '!', '?'])
        || words <= MOST_WORDS && !ends.iter().any(|end| between.contains(end))
}

fn boxes(text: &str) -> Vec<Boxed<'_>> {
    let mut found: Vec<Boxed> = Vec::new();
    let mut open: Vec<(usize, Option<usize>)> = Vec::new();
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if !escaped => open.push((index + 1, command(&text[..index]))),
            b'}' if !escaped => {
                if let Some((inside, Some(start))) = open.pop() {
                    // A box around this one closes later, and takes its place.
                    found.push(Boxed { start, inner: &text[inside..index], end: index + 1 });
                }
            }
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    found.sort_by_key(|found| found.start);
    let mut outermost: Vec<Boxed> = Vec::new();
    for found in found {
        if outermost.last().is_none_or(|last| found.start >= last.end) {
            outermost.push(found);
        }
    }
    if outermost.is_empty() { bare(text).into_iter().collect() } else { outermost }
}

/// Where the command of a box starts that ends here.
fn command(before: &str) -> Option<usize> {
    let before = before.trim_end();
    ["\\boxed", "\\fbox"].iter().find_map(|name| before.strip_suffix(name)).map(str::len)
}

/// What follows the last `\boxed ` that has no brace.
fn bare(text: &str) -> Option<Boxed<'_>> {
    let start = text.rfind("\\boxed ")?;
    let inside = start + "\\boxed ".len();
    let word = text[inside..].split_whitespace().next().filter(|word| !word.starts_with('{'))?;
    let offset = inside + text[inside..].find(word)?;
    let inner = word.trim_end_matches('$');
    Some(Boxed { start, inner, end: offset + word.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_by_sentences() {
        for (text, expected) in [
            (r"\boxed{1} \boxed{2}", vec![vec!["1", "2"]]),
            (r"$\boxed{1}$, and also $\boxed{2}$.", vec![vec!["1", "2"]]),
            (r"First \boxed{1}. Then \boxed{2}.", vec![vec!["1"], vec!["2"]]),
            (r"\boxed{1} is wrong and the answer is \boxed{2}", vec![vec!["1"], vec!["2"]]),
            (r"\boxed{\frac{1}{2}} is it", vec![vec![r"\frac{1}{2}"]]),
            (r"\boxed{a \boxed{b} c}", vec![vec![r"a \boxed{b} c"]]),
            (r"\boxed {3}", vec![vec!["3"]]),
            (r"\boxed{\{1, 2\}}", vec![vec![r"\{1, 2\}"]]),
            (r"\boxed{1} \boxed{2", vec![vec!["1"]]),
            (r"} \boxed{1}", vec![vec!["1"]]),
            (r"\boxed 7 it is", vec![vec!["7"]]),
            ("none", vec![]),
        ] {
            let found: Vec<Vec<&str>> =
                sentences(text).iter().map(|s| s.iter().map(|found| found.inner).collect()).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
