//! Two operations modulo 10, left to right, with a boxed answer: stands for reasoning.

use crate::cell::{self, Cell};
use crate::recipe::{THINK_CLOSE, THINK_OPEN, split_reasoning};
use rand::Rng;
use rand::seq::SliceRandom;

/// An operation on digits, modulo 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Addition.
    Plus,
    /// Subtraction.
    Minus,
    /// Multiplication.
    Times,
}

impl Operator {
    /// Every operation.
    pub const ALL: [Self; 3] = [Self::Plus, Self::Minus, Self::Times];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Plus => "plus",
            Self::Minus => "minus",
            Self::Times => "times",
        }
    }

    fn apply(self, left: u8, right: u8) -> u8 {
        match self {
            Self::Plus => (left + right) % 10,
            Self::Minus => (10 + left - right) % 10,
            Self::Times => left * right % 10,
        }
    }
}

/// A problem such as `compute 3 plus 4 times 2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// Digits.
    pub operands: [u8; 3],
    /// Between them, applied left to right.
    pub operators: [Operator; 2],
}

impl Problem {
    /// Draws one uniformly.
    pub fn draw(rng: &mut impl Rng) -> Self {
        let mut operator = || *Operator::ALL.choose(rng).expect("three operators");
        let operators = [operator(), operator()];
        Self { operands: std::array::from_fn(|_| rng.gen_range(0..10)), operators }
    }

    /// The request in words.
    #[must_use]
    pub fn request(&self) -> String {
        let ([a, b, c], [f, g]) = (self.operands, self.operators.map(Operator::word));
        format!("compute {a} {f} {b} {g} {c}")
    }

    /// The right answer, a digit.
    #[must_use]
    pub fn gold(&self) -> u8 {
        self.operators[1].apply(self.first(), self.operands[2])
    }

    /// Reasoning and boxed answer.
    #[must_use]
    pub fn completion(&self) -> String {
        let ([a, b, c], [f, g]) = (self.operands, self.operators.map(Operator::word));
        let (first, gold) = (self.first(), self.gold());
        format!(
            "{THINK_OPEN} {a} {f} {b} is {first} {first} {g} {c} is {gold} {THINK_CLOSE} \\boxed{{{gold}}}"
        )
    }

    /// Where it belongs.
    #[must_use]
    pub fn cell(&self) -> Cell {
        cell::of_arithmetic(&self.request())
    }

    fn first(&self) -> u8 {
        self.operators[0].apply(self.operands[0], self.operands[1])
    }
}

/// The digit of a completion whose answer is one boxed digit and nothing else; `None` is malformed.
#[must_use]
pub fn boxed_digit(completion: &str) -> Option<u8> {
    let (_, answer) = split_reasoning(completion)?;
    let digit = answer.strip_prefix("\\boxed{")?.strip_suffix('}')?;
    digit.parse().ok().filter(|_| digit.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_go_left_to_right_modulo_ten() {
        let problem = Problem { operands: [3, 4, 2], operators: [Operator::Plus, Operator::Times] };
        assert_eq!(problem.request(), "compute 3 plus 4 times 2");
        assert_eq!(problem.completion(), "<think> 3 plus 4 is 7 7 times 2 is 4 </think> \\boxed{4}");
        let problem = Problem { operands: [3, 8, 7], operators: [Operator::Minus, Operator::Times] };
        assert_eq!(problem.completion(), "<think> 3 minus 8 is 5 5 times 7 is 5 </think> \\boxed{5}");
    }

    #[test]
    fn only_one_boxed_digit_is_well_formed() {
        assert_eq!(boxed_digit("<think> a </think> \\boxed{4}"), Some(4));
        for text in
            ["\\boxed{4}", "<think> a </think> 4", "<think> a </think> \\boxed{14}", "<think> \\boxed{4}"]
        {
            assert_eq!(boxed_digit(text), None, "{text}");
        }
    }
}
