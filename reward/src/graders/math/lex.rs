//! Splits an answer in one spelling into tokens.

use super::number::{self, Commas};
use super::token::{Lexeme, Token};
use super::tree::Function;
use super::words;

/// Answers of more tokens are not read.
const MOST_TOKENS: usize = 800;
/// Every sign that means something by itself.
const SIGNS: &str = "+-±∓*/^_!%°'()[]{}|,;:&=<>≤≥≠≈∈≡∪∩∖∞π⟨⟩⌊⌋⌈⌉∅";

/// The tokens of normalised text; `None` where there are too many, or a sign that is not known.
pub(super) fn tokens(text: &str, commas: Commas) -> Option<Vec<Lexeme>> {
    let mut lexer = Lexer { commas, found: Vec::new(), spaced: false };
    lexer.read(text, false)?;
    Some(lexer.found)
}

struct Lexer {
    commas: Commas,
    found: Vec<Lexeme>,
    spaced: bool,
}

impl Lexer {
    /// Reads all of a text; in words every letter belongs to one. Words do not nest, so recursion goes one level deep.
    fn read(&mut self, mut rest: &str, words: bool) -> Option<()> {
        while let Some(c) = rest.chars().next() {
            if self.found.len() > MOST_TOKENS {
                return None;
            }
            rest = match c {
                ' ' => {
                    self.spaced = true;
                    &rest[1..]
                }
                '$' => &rest[1..],
                '0'..='9' | '.' => self.number(rest)?,
                '\\' => self.command(rest, words)?,
                _ if c.is_alphabetic() && !"πℝ".contains(c) => self.letters(rest, words),
                _ => self.sign(rest, c)?,
            };
        }
        Some(())
    }

    fn push(&mut self, token: Token) {
        self.found.push(Lexeme { token, spaced: self.spaced });
        self.spaced = false;
    }

    fn number<'a>(&mut self, rest: &'a str) -> Option<&'a str> {
        let ends = rest[1..].trim_start().is_empty();
        if rest.starts_with('.') && !rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            // A full stop ends the answer; anywhere else it would join two sentences.
            return ends.then_some("").or_else(|| rest.strip_prefix("...").map(|rest| self.dots(rest)));
        }
        let (numeral, rest) = number::read(rest, self.commas)?;
        self.push(Token::Number(numeral));
        Some(rest)
    }

    fn dots<'a>(&mut self, rest: &'a str) -> &'a str {
        self.push(Token::Symbol("…".into()));
        rest
    }

    fn sign<'a>(&mut self, rest: &'a str, c: char) -> Option<&'a str> {
        for (spelling, sign) in [("<=", '≤'), (">=", '≥'), ("!=", '≠')] {
            if let Some(rest) = rest.strip_prefix(spelling) {
                self.push(Token::Sign(sign));
                return Some(rest);
            }
        }
        match c {
            '…' => self.push(Token::Symbol("…".into())),
            'ℝ' => self.push(Token::Symbol("ℝ".into())),
            '?' => {}
            _ if SIGNS.contains(c) => self.push(Token::Sign(c)),
            _ => return None,
        }
        Some(&rest[c.len_utf8()..])
    }

    fn letters<'a>(&mut self, rest: &'a str, words: bool) -> &'a str {
        let inside = |c: char| (c.is_alphabetic() && !"πℝ".contains(c)) || (words && (c == '-' || c == '\''));
        let end = rest.find(|c: char| !inside(c)).unwrap_or(rest.len());
        let end = self.conjunction(&rest[..end]).unwrap_or(end);
        let (letters, after) = rest.split_at(end);
        let lower = letters.to_lowercase();
        match lower.as_str() {
            "and" => self.push(Token::Sign('∧')),
            "or" => self.push(Token::Sign('∨')),
            "percent" | "percentage" | "pct" => self.push(Token::Sign('%')),
            _ if words => self.push(Token::Word(letters.to_owned())),
            "pi" => self.push(Token::Sign('π')),
            "infinity" | "inf" | "infty" | "oo" => self.push(Token::Sign('∞')),
            "degrees" | "degree" | "deg" => self.push(Token::Sign('°')),
            "sqrt" => return self.plain_root(after),
            "binom" => self.push(Token::Command("binom")),
            "u" if self.between_brackets(after) => self.push(Token::Sign('∪')),
            _ => self.variables(letters, &lower),
        }
        after
    }

    /// The length of *or* or *and* where it stands between a number and a name without spaces, as in `x=1orx=2`.
    fn conjunction(&self, letters: &str) -> Option<usize> {
        let number = matches!(self.found.last(), Some(Lexeme { token: Token::Number(_), .. }));
        let word = ["or", "and"].into_iter().find(|word| letters.starts_with(word))?;
        (number && !self.spaced && letters.len() <= word.len() + 1).then_some(word.len())
    }

    /// Whether a letter stands between two intervals, and so for the sign of their union.
    fn between_brackets(&self, after: &str) -> bool {
        let closed = matches!(self.found.last(), Some(Lexeme { token: Token::Sign(')' | ']' | '»'), .. }));
        closed && after.trim_start().starts_with(['(', '[', '\\'])
    }

    /// Letters that are neither text nor a constant: a function, a unit, a word, or a product of variables.
    fn variables(&mut self, letters: &str, lower: &str) {
        let value = |lexeme: &Lexeme| matches!(lexeme.token, Token::Number(_) | Token::Sign(')' | '}'));
        let after_value = self.found.last().is_some_and(value);
        let per = matches!(
            self.found.as_slice(),
            [.., Lexeme { token: Token::Word(_), .. }, Lexeme { token: Token::Sign('/'), .. }]
        );
        let counted = after_value && self.spaced && letters.len() >= 2;
        if let Some(function) = Function::named(lower) {
            self.push(Token::Function(function));
        } else if words::is_word(letters)
            || counted
            || (per && words::unit(letters).is_some())
            || (after_value && words::is_attached_unit(letters))
        {
            self.push(Token::Word(letters.to_owned()));
        } else {
            letters.chars().for_each(|letter| self.push(Token::Symbol(letter.to_string())));
        }
    }

    /// In plain text the digits right after `sqrt` are all under the root.
    fn plain_root<'a>(&mut self, after: &'a str) -> &'a str {
        self.push(Token::Command("sqrt"));
        let after = if after.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
            after.trim_start()
        } else {
            after
        };
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        if end > 0
            && let Some((numeral, _)) = number::read(&after[..end], Commas::Separators)
        {
            self.push(Token::Sign('{'));
            self.push(Token::Number(numeral));
            self.push(Token::Sign('}'));
        }
        &after[end..]
    }

    fn command<'a>(&mut self, rest: &'a str, words: bool) -> Option<&'a str> {
        for (spelling, sign) in [("\\{", '«'), ("\\}", '»'), ("\\\\", '\n')] {
            if let Some(rest) = rest.strip_prefix(spelling) {
                self.push(Token::Sign(sign));
                return Some(rest);
            }
        }
        let end = rest[1..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |end| end + 1);
        let (name, after) = (&rest[1..end], &rest[end..]);
        match name {
            "text" | "font" | "mark" | "vec" | "overline" | "mathbb" | "begin" | "end" | "mathcal" => {
                let (content, after) = group(after)?;
                match name {
                    _ if words && name != "begin" && name != "end" => return None,
                    "text" => self.read(content, true)?,
                    "begin" => self.push(Token::Begin(content.to_owned())),
                    "end" => self.push(Token::End(content.to_owned())),
                    _ => self.styled(name, content)?,
                }
                return Some(after);
            }
            "frac" => self.push(Token::Command("frac")),
            "sqrt" => self.push(Token::Command("sqrt")),
            "binom" => self.push(Token::Command("binom")),
            "choose" => self.push(Token::Command("choose")),
            "over" => self.push(Token::Command("over")),
            _ => match Function::named(name) {
                Some(function) => self.push(Token::Function(function)),
                None => self.push(Token::Symbol(format!("\\{name}"))),
            },
        }
        Some(after)
    }

    /// Letters in a font: a function's name, a unit, a vector, a set of numbers or a plain variable.
    fn styled(&mut self, style: &str, content: &str) -> Option<()> {
        let name: String = content.trim().trim_start_matches("\\mark").replace(['{', '}', ' '], "");
        let single = name.chars().count() == 1;
        match style {
            "font" if single && ["e", "i"].contains(&name.as_str()) => self.push(Token::Symbol(name)),
            "font" if single && matches!(self.found.last(), Some(Lexeme { token: Token::Number(_), .. })) => {
                self.push(Token::Word(name));
            }
            "font" if single => self.push(Token::Symbol(name)),
            "font" => match Function::named(&name) {
                Some(function) => self.push(Token::Function(function)),
                None => self.read(content, true)?,
            },
            "mathbb" if name == "R" => self.push(Token::Symbol("ℝ".into())),
            "mark" | "mathcal" if !["i", "j", "k"].contains(&name.as_str()) => self.read(&name, !single)?,
            _ => self.push(Token::Symbol(format!("\\{style} {name}"))),
        }
        Some(())
    }
}

/// The group, or the single character, that a command takes, and what follows it.
fn group(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    if !text.starts_with('{') {
        let length = text.chars().next()?.len_utf8();
        return Some(text.split_at(length));
    }
    let mut open = 0usize;
    for (index, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some((&text[1..index], &text[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::normalise::normalised;
    use super::*;

    fn spelled(text: &str) -> Option<String> {
        let found = tokens(&normalised(text).unwrap(), Commas::Thousands)?;
        Some(found.iter().map(|lexeme| lexeme.token.spelled()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn tokens_of_answers() {
        for (text, expected) in [
            (r"2\sqrt{3}", Some("2 sqrt { 3 }")),
            (r"5\text{ cm}^2", Some("5 cm ^ 2")),
            (r"5 apples and 6 pears.", Some("5 apples ∧ 6 pears")),
            ("2xy", Some("2 x y")),
            ("10km/h", Some("10 km / h")),
            (r"e^{i\pi}", Some("e ^ { i π }")),
            ("sqrt12", Some("sqrt { 12 }")),
            (r"\{1, 2\}", Some("« 1 , 2 »")),
            (r"x <= 1,000", Some("x ≤ 1000")),
            (r"[0,1] U (2,3)", Some("[ 0 , 1 ] ∪ ( 2 , 3 )")),
            (r"\operatorname{lcm}(2,3)", Some("Lcm ( 2 , 3 )")),
            (r"5 \mathrm{~m}", Some("5 m")),
            ("one. two", None),
            ("a # b", None),
            (r"\text{a", None),
        ] {
            assert_eq!(spelled(text).as_deref(), expected, "{text}");
        }
    }
}
