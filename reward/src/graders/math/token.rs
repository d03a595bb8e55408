//! What the parser reads.

use super::tree::Function;
use num_rational::BigRational;

/// The smallest part of an answer that means something.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Number(Numeral),
    /// A variable.
    Symbol(String),
    /// A word of text, such as a unit.
    Word(String),
    Function(Function),
    /// `frac`, `sqrt`, `binom`, `choose` or `over`.
    Command(&'static str),
    Begin(String),
    End(String),
    /// An operator, bracket or separator. `«` and `»` are the braces of sets, `∧` and `∨` are *and* and *or*, and a
    /// line feed is `\\`.
    Sign(char),
}

/// A number as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numeral {
    pub(super) value: BigRational,
    /// Whether it has a point.
    pub(super) decimal: bool,
    /// Its digits, without thousands separators.
    pub(super) digits: String,
}

/// A token with what precedes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lexeme {
    pub(super) token: Token,
    /// Whether space precedes it.
    pub(super) spaced: bool,
}

impl Token {
    /// How it is written, for names with subscripts.
    pub(super) fn spelled(&self) -> String {
        match self {
            Self::Number(numeral) => numeral.digits.clone(),
            Self::Symbol(text) | Self::Word(text) | Self::Begin(text) | Self::End(text) => text.clone(),
            Self::Function(function) => format!("{function:?}"),
            Self::Command(name) => (*name).to_owned(),
            Self::Sign(sign) => sign.to_string(),
        }
    }
}
