//! Reads a number, with its thousands separators, decimal point or comma, repeating digits and power of ten.

use super::rational::{self, from_digits, integer};
use super::token::Numeral;
use num_bigint::BigInt;
use num_rational::BigRational;

/// What a comma between digits means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commas {
    /// Thousands, where the digits come in threes, and else separation.
    Thousands,
    Separators,
    /// A decimal point.
    Decimal,
}

/// Reads the number at the start, and gives what follows.
pub(super) fn read(text: &str, commas: Commas) -> Option<(Numeral, &str)> {
    let (mut digits, mut rest) = whole(text, commas);
    if let Some(after) = part(rest, commas) {
        let count = after.bytes().take_while(u8::is_ascii_digit).count();
        digits.push('.');
        digits.push_str(&after[..count]);
        rest = &after[count..];
    }
    if let Some((value, rest)) = repeating(&digits, rest) {
        return Some((Numeral { value, decimal: false, digits }, rest));
    }
    let mut value = from_digits(&digits)?;
    if let Some((exponent, after)) = power_of_ten(rest) {
        value *= rational::power(&integer(10), &BigInt::from(exponent))?;
        rest = after;
    }
    Some((Numeral { value, decimal: digits.contains('.'), digits }, rest))
}

/// The digits before the point.
fn whole(text: &str, commas: Commas) -> (String, &str) {
    let first = text.bytes().take_while(u8::is_ascii_digit).count();
    let (mut digits, mut rest) = (text[..first].to_owned(), &text[first..]);
    if !(1..=3).contains(&first) || digits.starts_with('0') {
        return (digits, rest);
    }
    let separator = rest.chars().next().filter(|c| *c == ' ' || *c == ',' && commas == Commas::Thousands);
    while let Some(group) = separator.and_then(|separator| rest.strip_prefix(separator)).and_then(group) {
        digits.push_str(group);
        rest = &rest[4..];
    }
    (digits, rest)
}

/// Three digits that no digit follows, and no fraction, as in `1 125/1000`.
fn group(text: &str) -> Option<&str> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    (count == 3 && !text[3..].trim_start().starts_with('/')).then(|| &text[..3])
}

/// What follows the point.
fn part(rest: &str, commas: Commas) -> Option<&str> {
    let comma = || rest.strip_prefix(',').filter(|_| commas == Commas::Decimal);
    let after = rest.strip_prefix('.').or_else(comma)?;
    let starts = after.starts_with(|c: char| c.is_ascii_digit()) || after.starts_with("\\overline");
    starts.then_some(after)
}

/// The value of `0.1\overline{6}`, of which the digits are `0.1`.
fn repeating<'a>(digits: &str, rest: &'a str) -> Option<(BigRational, &'a str)> {
    let (_, part) = digits.split_once('.')?;
    let group = rest.strip_prefix("\\overline")?.trim_start();
    let (again, rest) = match group.strip_prefix('{') {
        Some(group) => group.split_once('}')?,
        None => group.split_at_checked(1)?,
    };
    let again = again.trim();
    if again.is_empty() || !again.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nines = from_digits(&"9".repeat(again.len()))?;
    let below = from_digits(&format!("1{}", "0".repeat(part.len())))?;
    Some((from_digits(digits)? + from_digits(again)? / (nines * below), rest))
}

/// The exponent of `e-3`.
fn power_of_ten(rest: &str) -> Option<(i32, &str)> {
    let after = rest.strip_prefix(['e', 'E'])?;
    let sign = usize::from(after.starts_with(['-', '+']));
    let count = after[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let exponent = after[..sign + count].parse().ok().filter(|_| (1..=3).contains(&count))?;
    Some((exponent, &after[sign + count..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Commas::{Decimal, Separators, Thousands};

    #[test]
    fn numbers() {
        let ratio = |a: i64, b: i64| BigRational::new(a.into(), b.into());
        for (text, commas, value, rest) in [
            ("1,234,567.5x", Thousands, ratio(2_469_135, 2), "x"),
            ("1,234", Separators, ratio(1, 1), ",234"),
            ("1,5", Decimal, ratio(3, 2), ""),
            ("1,5", Thousands, ratio(1, 1), ",5"),
            ("0,125", Thousands, ratio(0, 1), ",125"),
            ("12 345 678", Thousands, ratio(12_345_678, 1), ""),
            ("1 125/1000", Thousands, ratio(1, 1), " 125/1000"),
            ("5. Then", Thousands, ratio(5, 1), ". Then"),
            ("0.1\\overline {6}", Thousands, ratio(1, 6), ""),
            ("0.\\overline 3", Thousands, ratio(1, 3), ""),
            ("2.5e-3", Thousands, ratio(1, 400), ""),
            ("2e", Thousands, ratio(2, 1), "e"),
        ] {
            let (numeral, left) = read(text, commas).unwrap();
            assert_eq!((numeral.value, left), (value, rest), "{text}");
        }
    }
}
