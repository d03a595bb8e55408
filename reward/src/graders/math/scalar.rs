//! Parses sums, products and powers.

use super::parse::Parser;
use super::rational::integer;
use super::token::{Numeral, Token};
use super::tree::{Function, Tree};
use super::words;

/// More words after a number are no unit.
const MOST_UNIT_WORDS: usize = 6;
/// More marks such as `!` after a value make no sense.
const MOST_MARKS: usize = 4;

impl Parser {
    pub(super) fn sum(&mut self) -> Option<Tree> {
        let mut terms = Vec::new();
        loop {
            let sign = self.sign().filter(|sign| "+-±∓".contains(*sign));
            if sign.is_none() && !terms.is_empty() {
                return Some(Tree::one_or(terms, Tree::Sum));
            }
            self.at += usize::from(sign.is_some());
            let term = self.deeper(Self::product)?;
            terms.push(match sign {
                Some('-') => term.negative(),
                Some('±') => Tree::Either { upper: true, value: Box::new(term) },
                Some('∓') => Tree::Either { upper: false, value: Box::new(term) },
                _ => term,
            });
        }
    }

    /// Factors joined by signs, with the unit after them. Factors side by side bind tighter: `1/2x` is `1/(2x)`.
    fn product(&mut self) -> Option<Tree> {
        let (mut above, mut below) = (vec![self.signed(true)?], Vec::new());
        loop {
            let divides = match self.sign() {
                Some('*') => false,
                Some('/') => true,
                Some(':') if !self.bar_ends => true,
                _ => break,
            };
            if matches!(self.tokens.get(self.at + 1).map(|next| &next.token), Some(Token::Word(_))) {
                break;
            }
            self.at += 1;
            let factor = self.signed(true)?;
            if divides { below.push(factor) } else { above.push(factor) }
        }
        let above = Tree::one_or(above, Tree::Product);
        self.with_unit(match below.is_empty() {
            true => above,
            false => Tree::Quotient(Box::new(above), Box::new(Tree::one_or(below, Tree::Product))),
        })
    }

    /// Factors side by side, after signs that may stand there, as in `2 · −3`.
    fn signed(&mut self, functions: bool) -> Option<Tree> {
        let mut negative = false;
        while let Some('+' | '-') = self.sign() {
            negative ^= self.takes('-') || !self.takes('+');
        }
        if self.takes('±') {
            let value = self.deeper(|parser| parser.signed(functions))?;
            return Some(Tree::Either { upper: true, value: Box::new(value) });
        }
        let value = self.juxtaposed(functions)?;
        Some(if negative { value.negative() } else { value })
    }

    /// Factors side by side; without functions it is what a function takes without brackets, as in `sin 2x cos x`.
    fn juxtaposed(&mut self, functions: bool) -> Option<Tree> {
        let mut factors = vec![self.deeper(Self::power)?];
        while self.starts_factor(functions) {
            // Two numbers side by side are no product.
            if matches!(self.peek(), Some(Token::Number(_)))
                && !matches!(self.last_sign(), Some('}' | ')' | '!'))
            {
                return None;
            }
            factors.push(self.deeper(Self::power)?);
        }
        Some(Tree::one_or(factors, Tree::Product))
    }

    fn last_sign(&self) -> Option<char> {
        match self.tokens.get(self.at.checked_sub(1)?)?.token {
            Token::Sign(sign) => Some(sign),
            Token::Symbol(_) => Some('}'),
            _ => None,
        }
    }

    fn starts_factor(&self, functions: bool) -> bool {
        match self.peek() {
            Some(Token::Number(_) | Token::Symbol(_) | Token::Begin(_)) => true,
            Some(Token::Function(_)) => functions,
            Some(Token::Command(name)) => ["frac", "sqrt", "binom"].contains(name),
            Some(Token::Sign('|')) => !self.bar_ends,
            Some(Token::Sign(sign)) => "([{«π∞⟨⌊⌈".contains(*sign),
            _ => false,
        }
    }

    /// What a function takes without brackets: `2x` in `sin 2x cos x`.
    pub(super) fn argument_without_brackets(&mut self) -> Option<Tree> {
        self.signed(false)
    }

    fn power(&mut self) -> Option<Tree> {
        let base = self.base()?;
        let base = self.marked(base)?;
        if !self.takes('^') {
            return Some(base);
        }
        let exponent = self.script()?;
        let power = match exponent {
            Tree::Symbol(mark) if mark == "°" => Tree::Degrees(Box::new(base)),
            Tree::Symbol(mark) if mark == "'" => base,
            exponent => Tree::Power(Box::new(base), Box::new(exponent)),
        };
        self.marked(power)
    }

    /// With what may follow a value: factorials, percentages and degrees.
    fn marked(&mut self, mut value: Tree) -> Option<Tree> {
        for _ in 0..MOST_MARKS {
            value = match self.sign() {
                Some('!') => Tree::Call(Function::Factorial, vec![value]),
                Some('%') => Tree::Percent(Box::new(value)),
                Some('°') => Tree::Degrees(Box::new(value)),
                Some('\'') => value,
                _ => return Some(value),
            };
            self.at += 1;
        }
        None
    }

    /// An exponent or subscript: a group, or a single value with its sign.
    pub(super) fn script(&mut self) -> Option<Tree> {
        let marks = [(self.at, 0), (self.at + 1, 1)];
        for (at, braces) in marks {
            let mark = self.tokens.get(at).and_then(|lexeme| match lexeme.token {
                Token::Sign(sign @ ('°' | '\'')) => Some(sign),
                _ => None,
            });
            let Some(mark) = mark.filter(|_| braces == 0 || self.sign() == Some('{')) else { continue };
            self.at = at + 1;
            while self.takes('\'') {}
            return (braces == 0 || self.takes('}')).then(|| Tree::Symbol(mark.to_string()));
        }
        self.deeper(|parser| {
            let negative = parser.takes('-');
            parser.takes('+');
            let value = match parser.peek() {
                Some(Token::Number(numeral)) => {
                    let value = number(&numeral.clone());
                    parser.at += 1;
                    value
                }
                _ => parser.base()?,
            };
            let value = if parser.takes('^') {
                Tree::Power(Box::new(value), Box::new(parser.script()?))
            } else {
                value
            };
            Some(if negative { value.negative() } else { value })
        })
    }

    /// With the unit and other words after it, which leave the value as it is or multiply it.
    fn with_unit(&mut self, value: Tree) -> Option<Tree> {
        let mut value = value;
        let (mut first, mut count) = (None, 0);
        while let Some(word) = self.unit_word() {
            count += 1;
            match words::scale(&word) {
                Some(scale) if count == 1 => {
                    value = Tree::Product(vec![value, Tree::Number(integer(scale))]);
                }
                _ => first = first.or(Some(word)),
            }
        }
        if count > MOST_UNIT_WORDS {
            return None;
        }
        match first.as_deref().and_then(words::unit) {
            Some(unit) if count == 1 => Some(Tree::Quantity(Box::new(value), unit)),
            _ => Some(value),
        }
    }

    /// The next word of a unit, with its power; `/` and `*` join two of them.
    fn unit_word(&mut self) -> Option<String> {
        let joined = usize::from(matches!(self.sign(), Some('/' | '*')));
        let Token::Word(word) = &self.tokens.get(self.at + joined)?.token else { return None };
        let word = word.clone();
        if !words::is_counted(&word) {
            return None;
        }
        self.at += 1 + joined;
        if self.takes('^') {
            self.script()?;
        }
        self.takes('.');
        Some(word)
    }
}

/// A number as it is written.
pub(super) fn number(numeral: &Numeral) -> Tree {
    match numeral.decimal {
        true => Tree::Decimal(numeral.value.clone()),
        false => Tree::Number(numeral.value.clone()),
    }
}
