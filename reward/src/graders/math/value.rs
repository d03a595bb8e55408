//! What an expression says: a number, words or a formula.

use super::number::{self, Ratio};

/// An answer in the form in which it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A number; its unit is gone.
    Number(Ratio),
    /// Letters alone, in lower case and without spaces.
    Words(String),
    /// Anything else, without spaces and braces.
    Formula(String),
}

/// Longer expressions are not read.
const LONGEST: usize = 512;

/// Spellings of the same thing. In this order.
const SPELLINGS: [(&str, &str); 32] = [
    ("\u{2212}", "-"),
    ("{,}", ","),
    ("\\!", ""),
    ("\\,", ""),
    ("\\;", " "),
    ("\\:", " "),
    ("\\ ", " "),
    ("~", " "),
    ("\u{a0}", " "),
    ("\\$", "$"),
    ("\\%", "%"),
    ("\\left", ""),
    ("\\right", ""),
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\cfrac", "\\frac"),
    ("\\textbf", " "),
    ("\\textrm", " "),
    ("\\textit", " "),
    ("\\text", " "),
    ("\\mathrm", " "),
    ("\\mathbf", " "),
    ("\\mbox", " "),
    ("^{\\circ}", "°"),
    ("^\\circ", "°"),
    ("^{2}", "²"),
    ("^2", "²"),
    ("^{3}", "³"),
    ("^3", "³"),
    ("**", ""),
    ("\u{ff0c}", ","),
    ("\u{2044}", "/"),
];

/// One spelling for what LaTeX writes in many. Squares and cubes become `²` and `³`.
pub(super) fn normalised(text: &str) -> String {
    SPELLINGS.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

impl Value {
    /// Reads an expression; `None` where there is nothing, or too much.
    pub(super) fn parse(expression: &str) -> Option<Self> {
        if expression.len() > LONGEST {
            return None;
        }
        let text = normalised(undressed(expression));
        let text = result(&text).trim().trim_end_matches('.');
        let text = braced(text);
        match number::leading(text) {
            Some((number, rest)) if is_unit(rest) => Some(Self::Number(number)),
            _ => Self::of_text(text),
        }
    }

    fn of_text(text: &str) -> Option<Self> {
        let bare: String = text.chars().filter(|c| !c.is_whitespace() && !"{}$".contains(*c)).collect();
        if bare.is_empty() {
            None
        } else if bare.chars().all(char::is_alphabetic) {
            Some(Self::Words(bare.to_lowercase()))
        } else {
            Some(Self::Formula(bare))
        }
    }
}

/// The last side of `x = 1 + 1 = 2`; all of an equation such as `2x + y = 0`, which gives no value.
fn result(text: &str) -> &str {
    match text.rsplit_once('=') {
        Some((sides, last)) if sides.split('=').all(names_or_computes) => last,
        _ => text,
    }
}

/// A name (`x`, `f(2)`, `area`), or arithmetic without variables.
fn names_or_computes(side: &str) -> bool {
    let side = side.trim().trim_matches(['{', '}']).trim();
    let letters = side.chars().take_while(|c| c.is_alphabetic()).count();
    let name = (letters == 1 || letters > 2) && !side.contains(['+', '-', '*', '/', '^', '²', '³', '\\']);
    name || !side.is_empty() && !side.contains(|c: char| c.is_alphabetic())
}

/// Without the braces that `\text{…}` leaves around all of it.
fn braced(text: &str) -> &str {
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
    inner.filter(|t| !t.contains(['{', '}'])).map_or(text, str::trim)
}

/// Without the marks of a formula around it.
fn undressed(expression: &str) -> &str {
    let text = expression.trim().trim_end_matches('.');
    [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")]
        .into_iter()
        .find_map(|(open, close)| text.strip_prefix(open)?.strip_suffix(close))
        .unwrap_or(text)
        .trim()
}

/// Units that may stand right at their number.
const ATTACHED: [&str; 22] = [
    "am", "cents", "cm", "dollars", "ft", "g", "hr", "hrs", "hours", "in", "kg", "km", "km/h", "lb", "lbs",
    "mg", "min", "ml", "mm", "mph", "oz", "pm",
];
/// Units of one letter, which else is a variable.
const LETTERS: [&str; 5] = ["g", "h", "l", "m", "s"];
/// Words that change the number, or join it to another.
const NO_UNITS: [&str; 18] = [
    "and", "billion", "divided", "dozen", "half", "hundred", "less", "million", "minus", "mod", "more", "or",
    "over", "pi", "plus", "thousand", "times", "trillion",
];
/// The most words of a unit (`dollars per hour of work`).
const MOST_WORDS: usize = 6;

/// Whether what follows a number only says what it counts.
pub(super) fn is_unit(rest: &str) -> bool {
    let attached = rest.starts_with(char::is_alphabetic);
    let spaced = rest.replace(['{', '}', '%', '$', '°'], " ");
    let words: Vec<&str> = spaced.split_whitespace().take(MOST_WORDS + 1).map(unit_word).collect();
    let known = words.first().is_none_or(|word| !attached || ATTACHED.contains(word));
    known && words.len() <= MOST_WORDS && !rest.starts_with(['²', '³']) && words.iter().all(|w| names(w))
}

/// Without its power and full stop.
fn unit_word(word: &str) -> &str {
    word.trim_end_matches(['²', '³', '.', ','])
}

fn names(word: &str) -> bool {
    let lower = word.to_lowercase();
    let letters = lower.chars().all(|c| c.is_alphabetic() || "/-.".contains(c));
    let long = lower.chars().count() != 1 || LETTERS.contains(&&*lower);
    letters && long && !NO_UNITS.contains(&&*lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_what_is_none() {
        for unit in
            ["", "%", " apples", "{ cm}²", "km", " m²", " km/h", "°", " dollars per day.", " square feet"]
        {
            assert!(is_unit(unit), "{unit}");
        }
        for other in
            ["x", "²", " or 5", "\\pi", " million", "!", " x", "e3", "th", " + 1", "(a)", " a b c d e f g"]
        {
            assert!(!is_unit(other), "{other}");
        }
    }

    #[test]
    fn long_expressions_are_not_read() {
        assert_eq!(Value::parse(&"1+".repeat(300)), None);
        assert_eq!(Value::parse("$ $"), None);
    }
}
