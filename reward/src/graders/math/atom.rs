//! Parses what powers are made of: numbers, names, roots, functions, brackets and matrices.

use super::parse::Parser;
use super::rational::{from_digits, integer};
use super::scalar::number;
use super::token::{Numeral, Token};
use super::tree::{Function, Tree};
use super::words;
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::ToPrimitive;

/// Larger matrices, in rows and in columns, are not read.
const LARGEST: usize = 12;

impl Parser {
    pub(super) fn base(&mut self) -> Option<Tree> {
        let token = self.peek()?.clone();
        self.at += 1;
        match token {
            Token::Number(numeral) => self.number(&numeral),
            Token::Symbol(name) => self.symbol(name),
            Token::Word(word) => self.text(word),
            Token::Function(function) => self.function(function),
            Token::Command(name) => self.command(name),
            Token::Begin(name) => self.matrix(&name),
            Token::End(_) => None,
            Token::Sign(sign) => self.signed_base(sign),
        }
    }

    fn signed_base(&mut self, sign: char) -> Option<Tree> {
        match sign {
            'π' => Some(Tree::Pi),
            '∞' => Some(Tree::Infinity),
            '∅' => Some(Tree::Set(Vec::new())),
            '«' => self.set(),
            '(' | '[' | '{' | '⟨' => self.bracket(sign),
            '|' => self.between(Function::Abs, '|'),
            '⌊' => self.between(Function::Floor, '⌋'),
            '⌈' => self.between(Function::Ceil, '⌉'),
            _ => None,
        }
    }

    fn between(&mut self, function: Function, close: char) -> Option<Tree> {
        let inside = self.enclosed(close == '|', Self::sum)?;
        self.takes(close).then(|| Tree::Call(function, vec![inside]))
    }

    fn number(&mut self, numeral: &Numeral) -> Option<Tree> {
        if self.sign() == Some('_') {
            self.at += 1;
            let base = match self.script()? {
                Tree::Number(base) => base.to_integer().to_u32()?,
                Tree::Text(base) => words::base(&base)?,
                _ => return None,
            };
            return Some(Tree::Based { digits: numeral.digits.clone(), base });
        }
        match self.fraction_part(numeral) {
            Some((part, length)) => {
                self.at += length;
                Some(Tree::Number(&numeral.value + part))
            }
            None => Some(number(numeral)),
        }
    }

    /// The fraction of a mixed number, and how many tokens it has: `\frac{1}{2}`, or `1/2` after a space.
    fn fraction_part(&self, whole: &Numeral) -> Option<(BigRational, usize)> {
        let after: Vec<&Token> = self.tokens.get(self.at..)?.iter().take(7).map(|l| &l.token).collect();
        let (top, bottom, length) = match after.as_slice() {
            [
                Token::Command("frac"),
                Token::Sign('{'),
                Token::Number(top),
                Token::Sign('}'),
                Token::Sign('{'),
                Token::Number(bottom),
                Token::Sign('}'),
            ] => (&top.digits[..], &bottom.digits[..], 7),
            [Token::Command("frac"), Token::Number(both), ..] if both.digits.len() == 2 => {
                (&both.digits[..1], &both.digits[1..], 2)
            }
            [Token::Number(top), Token::Sign('/'), Token::Number(bottom), ..]
                if self.tokens[self.at].spaced =>
            {
                (&top.digits[..], &bottom.digits[..], 3)
            }
            _ => return None,
        };
        let whole_numbers = !whole.decimal && !top.contains('.') && !bottom.contains('.');
        let bottom = from_digits(bottom).filter(|bottom| *bottom > integer(0) && whole_numbers)?;
        Some((from_digits(top)? / bottom, length))
    }

    /// A group, or the single digit or sign that TeX takes without braces.
    fn argument(&mut self) -> Option<Tree> {
        let Some(Token::Number(numeral)) = self.peek() else { return self.deeper(Self::base) };
        if numeral.decimal || numeral.digits.len() == 1 {
            return self.script();
        }
        let (first, rest) = numeral.digits.split_at(1);
        let (first, value, digits) = (from_digits(first)?, from_digits(rest)?, rest.to_owned());
        let rest = Numeral { value, decimal: false, digits };
        self.tokens.get_mut(self.at)?.token = Token::Number(rest);
        Some(Tree::Number(first))
    }

    fn symbol(&mut self, name: String) -> Option<Tree> {
        let mut name = name;
        while self.takes('\'') {
            name.push('\'');
        }
        if self.takes('_') {
            name = format!("{name}_{}", self.spelled_script()?);
        }
        match name.as_str() {
            "e" => return Some(Tree::E),
            "i" => return Some(Tree::I),
            _ => {}
        }
        if self.sign() == Some('(') && self.has_several_arguments() {
            self.at += 1;
            return match self.bracket('(')? {
                Tree::Tuple(parts) => Some(Tree::Apply(name, parts)),
                _ => None,
            };
        }
        Some(Tree::Symbol(name))
    }

    /// Whether the bracket that is next has a comma of its own.
    fn has_several_arguments(&self) -> bool {
        let mut open = 0usize;
        for lexeme in &self.tokens[self.at..] {
            match lexeme.token {
                Token::Sign('(' | '[' | '{' | '«') => open += 1,
                Token::Sign(')' | ']' | '}' | '»') => open = open.saturating_sub(1),
                Token::Sign(',') if open == 1 => return true,
                _ => {}
            }
            if open == 0 {
                break;
            }
        }
        false
    }

    /// A subscript as it is written, without its braces.
    fn spelled_script(&mut self) -> Option<String> {
        if !self.takes('{') {
            let spelled = self.peek()?.spelled();
            self.at += 1;
            return Some(spelled);
        }
        let mut spelled = String::new();
        while !self.takes('}') {
            spelled.push_str(&self.peek()?.spelled());
            self.at += 1;
        }
        Some(spelled)
    }

    /// Words in a row: a text answer, or the name on the left of an equation.
    fn text(&mut self, word: String) -> Option<Tree> {
        let mut text = word;
        while let Some(Token::Word(word)) = self.peek() {
            text = format!("{text} {word}");
            self.at += 1;
        }
        Some(Tree::Text(text))
    }

    fn command(&mut self, name: &str) -> Option<Tree> {
        match name {
            "frac" => Some(Tree::Quotient(Box::new(self.argument()?), Box::new(self.argument()?))),
            "binom" => Some(Tree::Call(Function::Binomial, vec![self.argument()?, self.argument()?])),
            "sqrt" => {
                let index = if self.takes('[') { self.bracket('[')? } else { Tree::Number(integer(2)) };
                let one = Box::new(Tree::Number(integer(1)));
                let exponent = Tree::Quotient(one, Box::new(index));
                Some(Tree::Power(Box::new(self.argument()?), Box::new(exponent)))
            }
            _ => None,
        }
    }

    /// A function with its power, base and arguments.
    fn function(&mut self, function: Function) -> Option<Tree> {
        if matches!(function, Function::Min | Function::Max) && self.sign() == Some('=') {
            return Some(Tree::Symbol(format!("{function:?}")));
        }
        let mut function = function;
        let (mut exponent, mut base) = (None, None);
        for _ in 0..2 {
            if exponent.is_none() && self.takes('^') {
                exponent = Some(self.script()?);
            } else if base.is_none() && self.takes('_') {
                base = Some(self.function_base()?);
            }
        }
        if exponent == Some(Tree::Number(integer(-1))) {
            (function, exponent) = (function.inverse()?, None);
        }
        let mut parts = self.arguments()?;
        if function == Function::Log && parts.len() == 1 {
            parts
                .insert(0, base.unwrap_or_else(|| Tree::Number(BigRational::from_integer(BigInt::from(10)))));
        }
        let call = Tree::Call(function, parts);
        Some(match exponent {
            Some(exponent) => Tree::Power(Box::new(call), Box::new(exponent)),
            None => call,
        })
    }

    /// The base of a logarithm. In TeX it is one digit: `\log_28` is `\log_2 8`. In `log_10 5` it is all.
    fn function_base(&mut self) -> Option<Tree> {
        let ends = match self.tokens.get(self.at + 1) {
            None => true,
            Some(lexeme) => {
                !lexeme.spaced && matches!(lexeme.token, Token::Sign(sign) if !"([{|«π".contains(sign))
            }
        };
        if ends { self.argument() } else { self.script() }
    }

    fn arguments(&mut self) -> Option<Vec<Tree>> {
        if let Some(open @ ('(' | '{' | '[')) = self.sign() {
            self.at += 1;
            return match self.bracket(open)? {
                Tree::Tuple(parts) | Tree::List(parts) => Some(parts),
                part => Some(vec![part]),
            };
        }
        self.deeper(|parser| parser.argument_without_brackets()).map(|part| vec![part])
    }

    fn matrix(&mut self, name: &str) -> Option<Tree> {
        let name = name.trim_end_matches('*');
        if !["matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array", "vmatrix"].contains(&name) {
            return None;
        }
        if name == "array" && self.takes('{') {
            while !self.takes('}') {
                self.peek()?;
                self.at += 1;
            }
        }
        let mut rows = self.enclosed(false, Self::rows)?;
        if name == "vmatrix" {
            // Marks it as a determinant, which is no matrix.
            rows.push(vec![Tree::Text("determinant".into())]);
        }
        Some(Tree::Matrix(rows))
    }

    fn rows(&mut self) -> Option<Vec<Vec<Tree>>> {
        let mut rows = vec![Vec::new()];
        loop {
            let cell = self.sum()?;
            rows.last_mut()?.push(cell);
            let full = rows.len() > LARGEST || rows.last()?.len() > LARGEST;
            let next_row = self.takes('\n');
            if matches!(self.peek(), Some(Token::End(_))) {
                self.at += 1;
                return Some(rows);
            }
            if full || (!next_row && !self.takes('&')) {
                return None;
            }
            if next_row {
                rows.push(Vec::new());
            }
        }
    }
}
