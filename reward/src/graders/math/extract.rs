//! Finds the answer in a completion, and the value in a gold answer.

use super::number;
use super::value::{Value, is_unit, normalised};
use sinternal_model::think::split_reasoning;

/// Bytes at the end of an answer in which its result is looked for.
const TAIL: usize = 16 * 1024;
/// Bytes of the sentence after a final-answer phrase.
const SENTENCE: usize = 512;
/// What announces the result.
const PHRASES: [&str; 5] = ["final answer", "answer is", "answer:", "answer =", "####"];

/// The value of a gold answer.
pub(super) fn gold(text: &str) -> Option<Value> {
    let text = tail(text);
    let last = text.rsplit("####").next().unwrap_or(text);
    match last_boxed(last) {
        Some(inner) => Value::parse(inner),
        None => Value::parse(last),
    }
}

/// The value that a completion gives: its last box, else the formula or number of its final-answer phrase, else its
/// last number. `None` where it never closes its reasoning or gives none.
pub(super) fn answer(completion: &str) -> Option<Value> {
    let text = tail(split_reasoning(completion).answer?);
    if let Some(inner) = last_boxed(text) {
        return Value::parse(inner);
    }
    if text.contains("\\boxed{") {
        return None;
    }
    // An announced formula that cannot be read must not give way to some number elsewhere.
    match after_phrase(text).filter(|sentence| sentence.contains(|c: char| c.is_ascii_digit())) {
        Some(sentence) => last_formula(sentence).or_else(|| last_number(sentence)),
        None => last_number(text),
    }
}

fn tail(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(TAIL))..]
}

/// What stands in the last `\boxed{…}` whose braces match, or after the last `\boxed ` where none has braces.
fn last_boxed(text: &str) -> Option<&str> {
    let mut open: Vec<(usize, bool)> = Vec::new();
    let mut last: Option<(usize, usize)> = None;
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if !escaped => {
                let before = text[..index].trim_end();
                open.push((index + 1, before.ends_with("\\boxed") || before.ends_with("\\fbox")));
            }
            b'}' if !escaped => {
                if let Some((start, true)) = open.pop()
                    && last.is_none_or(|(latest, _)| start > latest)
                {
                    last = Some((start, index));
                }
            }
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    let bare = || text.rsplit_once("\\boxed ").and_then(|(_, after)| after.split_whitespace().next());
    last.map(|(start, end)| &text[start..end]).or_else(|| bare().filter(|word| !word.starts_with('{')))
}

/// The rest of the sentence after the last phrase that announces the result.
fn after_phrase(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let end = PHRASES.iter().filter_map(|phrase| Some(lower.rfind(phrase)? + phrase.len())).max()?;
    let rest = text[end..].trim_start_matches(|c: char| c.is_whitespace() || ":*#".contains(c));
    let rest = &rest[..rest.floor_char_boundary(SENTENCE)];
    let stops = [". ", ".\n", "\n", "! ", "? "];
    Some(&rest[..stops.iter().filter_map(|stop| rest.find(stop)).min().unwrap_or(rest.len())])
}

/// The number that the last `$…$` or `\(…\)` comes to; `None` where it is none, such as the text between two prices.
fn last_formula(sentence: &str) -> Option<Value> {
    let dollars = || {
        let (before, _) = sentence.rsplit_once('$')?;
        Some(before.rsplit_once('$')?.1)
    };
    let parenthesis = || Some(sentence.rsplit_once("\\(")?.1.split_once("\\)")?.0);
    let value = Value::parse(parenthesis().or_else(dollars)?)?;
    matches!(value, Value::Number(_)).then_some(value)
}

/// The last number of a text, unless it is part of something else (`2^10`, `x + 1`, `3 million`).
fn last_number(text: &str) -> Option<Value> {
    let text = normalised(text);
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = fraction_start(&text, end).unwrap_or_else(|| number_start(&text, end));
    let (number, rest) = number::leading(&text[start..])?;
    let whole = text.len() - rest.len() >= end;
    let alone = stands_alone(&text[..start]) && !is_equation(&text[..start]);
    (whole && alone && ends_well(rest)).then_some(Value::Number(number))
}

/// The start of a `\frac` whose last digit is before `end`.
fn fraction_start(text: &str, end: usize) -> Option<usize> {
    let start = text[..end].rfind("\\frac")?;
    let (_, rest) = number::leading(&text[start..])?;
    let sign = usize::from(text[..start].ends_with('-'));
    (text.len() - rest.len() >= end).then_some(start - sign)
}

/// The start of the decimal, or plain fraction, that ends at `end`, with its sign.
fn number_start(text: &str, end: usize) -> usize {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut start = end - 1;
    let mut slashes = 0;
    while start > 0 {
        let joined = match bytes[start - 1] {
            b'0'..=b'9' => true,
            b'.' => digit(start) && (start < 2 || !bytes[start - 2].is_ascii_alphabetic()),
            b',' => digit(start) && start >= 2 && digit(start - 2),
            b'/' if slashes == 0 && start >= 2 && digit(start - 2) => {
                slashes = 1;
                true
            }
            _ => false,
        };
        if !joined {
            break;
        }
        start -= 1;
    }
    let before = text[..start].trim_end_matches('$');
    match before.strip_suffix('-') {
        Some(outer) if outer.is_empty() || outer.ends_with([' ', '\n', '(', '$', ':', '=', '*']) => {
            before.len() - 1
        }
        _ => start,
    }
}

/// Nothing before a number makes it part of a larger expression.
fn stands_alone(before: &str) -> bool {
    let trimmed = before.trim_end_matches([' ', '$']);
    let operator = trimmed.ends_with(['+', '*', '/', '^', '_', '-', '×', '÷', '·', '<', '>', '≤', '≥'])
        || ["\\times", "\\cdot", "\\div"].iter().any(|op| trimmed.ends_with(op));
    let bullet = trimmed.strip_suffix(['-', '*']).is_some_and(|t| t.is_empty() || t.ends_with('\n'));
    let argument =
        trimmed.strip_suffix(['{', '(', '[']).is_some_and(|t| t.ends_with(|c: char| c.is_alphanumeric()));
    let attached = before.ends_with(|c: char| c.is_alphabetic() || c == '\\' || c == '.');
    (!operator || bullet) && !argument && !attached
}

/// Whether text that ends in `… =` is an equation with a coefficient, such as `2x + y =`, whose right side is no value.
fn is_equation(before: &str) -> bool {
    let Some(side) = before.trim_end_matches([' ', '$']).strip_suffix('=') else { return false };
    let side = side.rsplit(['=', '\n', '$', ':']).next().unwrap_or_default();
    let chars: Vec<char> = side.chars().chain([' ']).collect();
    chars.windows(3).any(|w| w[0].is_ascii_digit() && w[1].is_alphabetic() && !w[2].is_alphabetic())
}

/// What follows the last number, up to the next stop, is a unit, or words that do not change it.
fn ends_well(rest: &str) -> bool {
    let first = rest
        .split([' ', '\n', '.', ',', ';', ':', '!', '?', ')', ']', '}', '"', '\''])
        .next()
        .unwrap_or_default();
    let next = rest.split_whitespace().next().unwrap_or_default();
    let next = next.trim_matches(|c: char| c.is_ascii_punctuation() && !"+*/^\\".contains(c));
    let formula_end = rest.starts_with("\\)") || rest.starts_with("\\]");
    formula_end || is_unit(first) && !next.starts_with(['+', '*', '/', '^', '×', '\\']) && is_counted(next)
}

/// Not a word that multiplies.
fn is_counted(word: &str) -> bool {
    let scales = ["hundred", "thousand", "million", "billion", "trillion", "dozen"];
    !scales.contains(&&*word.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes() {
        for (text, expected) in [
            (r"\boxed{1} \boxed{2}", Some("2")),
            (r"\boxed{\frac{1}{2}} is it", Some(r"\frac{1}{2}")),
            (r"\boxed{a \boxed{b} c}", Some("b")),
            (r"\boxed {3}", Some("3")),
            (r"\boxed{\{1, 2\}}", Some(r"\{1, 2\}")),
            (r"\boxed{1} \boxed{2", Some("1")),
            (r"} \boxed{1}", Some("1")),
            (r"\boxed 7 it is", Some("7")),
            ("none", None),
        ] {
            assert_eq!(last_boxed(text), expected, "{text}");
        }
    }

    #[test]
    fn sentences_after_phrases() {
        for (text, expected) in [
            ("The answer is 5. Or 6.", Some("5")),
            ("Answer: 5\nThanks 6", Some("5")),
            ("the answer is 3.14 now. 7", Some("3.14 now")),
            ("**Final Answer**\n\n42", Some("42")),
            ("no phrase", None),
        ] {
            assert_eq!(after_phrase(text), expected, "{text}");
        }
    }

    #[test]
    fn the_last_number_must_stand_alone() {
        let number = |text: &str| Value::parse(text);
        for (text, expected) in [
            ("3 apples and 5 pears", number("5")),
            ("it costs $1,234.50.", number("1234.5")),
            ("- 12 in all", number("12")),
            ("(7)", number("7")),
            ("a = 1/2", number("0.5")),
            ("from 1, 2, 3", number("3")),
            ("at -\\frac{1}{4}", number("-0.25")),
            ("5-3", None),
            ("f(3)", None),
            ("\\sqrt{16}", None),
            ("the 5th", None),
            ("x2", None),
            ("2 \\times 3", None),
            ("1/2/3", None),
            ("so 2x + y = 0", None),
            ("so 2 rows of 3 = 6", number("6")),
        ] {
            assert_eq!(last_number(text), expected, "{text}");
        }
    }
}
