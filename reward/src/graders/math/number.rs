//! Exact rationals, and reading them from text.

/// A reduced fraction; the denominator is positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ratio {
    numerator: i128,
    denominator: i128,
}

/// Digits that fit an `i128` with room for the product of two.
const MOST_DIGITS: usize = 18;

impl Ratio {
    /// `None` where the denominator is 0.
    pub(super) fn new(numerator: i128, denominator: i128) -> Option<Self> {
        let divisor = gcd(numerator.unsigned_abs(), denominator.unsigned_abs());
        let divisor = i128::try_from(divisor).ok().filter(|_| denominator != 0)? * denominator.signum();
        Some(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    fn over(self, other: Self) -> Option<Self> {
        let numerator = self.numerator.checked_mul(other.denominator)?;
        Self::new(numerator, self.denominator.checked_mul(other.numerator)?)
    }

    fn signed(self, negative: bool) -> Self {
        Self { numerator: if negative { -self.numerator } else { self.numerator }, ..self }
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Reads a number at the start of normalised text, and gives what follows: `-1,200.50`, `3/4`, `\frac{3}{4}`, with
/// `$` before or after the sign.
pub(super) fn leading(text: &str) -> Option<(Ratio, &str)> {
    let (negative, text) = sign(text);
    let (number, rest) = fraction(text).or_else(|| decimal(text))?;
    let Some(below) = rest.strip_prefix('/').filter(|r| r.starts_with(|c: char| c.is_ascii_digit())) else {
        return Some((number.signed(negative), rest));
    };
    let (divisor, rest) = decimal(below)?;
    Some((number.over(divisor)?.signed(negative), rest))
}

fn sign(text: &str) -> (bool, &str) {
    let rest = text.trim_start_matches(['$', ' ']);
    let (negative, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix('+').unwrap_or(rest)),
    };
    (negative, rest.trim_start_matches(['$', ' ']))
}

/// `\frac{3}{4}` or `\frac34`.
fn fraction(text: &str) -> Option<(Ratio, &str)> {
    let (above, rest) = argument(text.strip_prefix("\\frac")?.trim_start())?;
    let (below, rest) = argument(rest.trim_start())?;
    Some((above.over(below)?, rest))
}

fn argument(text: &str) -> Option<(Ratio, &str)> {
    if let Some(inner) = text.strip_prefix('{') {
        let (inner, rest) = inner.split_once('}')?;
        let (negative, digits) = sign(inner.trim());
        return match decimal(digits)? {
            (number, "") => Some((number.signed(negative), rest)),
            _ => None,
        };
    }
    let digit = text.chars().next()?.to_digit(10)?;
    Some((Ratio::new(i128::from(digit), 1)?, &text[1..]))
}

/// Digits, in groups of three where there are commas, and a decimal part.
fn decimal(text: &str) -> Option<(Ratio, &str)> {
    let (whole, rest) = grouped(text)?;
    let part = rest.strip_prefix('.').map_or("", digits);
    let rest = if part.is_empty() { rest } else { &rest[1 + part.len()..] };
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let part = part.trim_end_matches('0');
    let all = format!("{whole}{part}");
    let significant = all.trim_start_matches('0');
    if significant.len() > MOST_DIGITS || part.len() > MOST_DIGITS {
        return None;
    }
    let value = if significant.is_empty() { 0 } else { significant.parse().ok()? };
    Some((Ratio::new(value, 10i128.pow(u32::try_from(part.len()).ok()?))?, rest))
}

fn digits(text: &str) -> &str {
    &text[..text.bytes().take_while(u8::is_ascii_digit).count()]
}

/// The whole part without its commas; `None` where commas stand between digits and make no thousands.
fn grouped(text: &str) -> Option<(String, &str)> {
    let first = digits(text);
    let (mut whole, mut rest) = (first.to_owned(), &text[first.len()..]);
    while let Some(after) = rest.strip_prefix(',') {
        let group = digits(after);
        if group.is_empty() {
            break;
        }
        if group.len() != 3 || !(1..=3).contains(&first.len()) || whole.len() > 2 * MOST_DIGITS {
            return None;
        }
        whole.push_str(group);
        rest = &after[3..];
    }
    Some((whole, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(numerator: i128, denominator: i128) -> Ratio {
        Ratio::new(numerator, denominator).unwrap()
    }

    #[test]
    fn fractions_are_reduced_and_signed_above() {
        assert_eq!(ratio(6, -8), Ratio { numerator: -3, denominator: 4 });
        assert_eq!(ratio(0, -5), Ratio { numerator: 0, denominator: 1 });
        assert_eq!((Ratio::new(1, 0), Ratio::new(0, 0)), (None, None));
    }

    #[test]
    fn leading_numbers() {
        for (text, expected) in [
            ("12 rows", Some((ratio(12, 1), " rows"))),
            ("1,234,567.5", Some((ratio(2_469_135, 2), ""))),
            ("-$3.20.", Some((ratio(-16, 5), "."))),
            ("$-3", Some((ratio(-3, 1), ""))),
            (".5", Some((ratio(1, 2), ""))),
            ("3/4", Some((ratio(3, 4), ""))),
            ("-\\frac{3}{-4}x", Some((ratio(3, 4), "x"))),
            ("\\frac35", Some((ratio(3, 5), ""))),
            ("1, 2", Some((ratio(1, 1), ", 2"))),
            ("1,2", None),
            ("1234,567", None),
            ("3/0", None),
            (".", None),
            ("x", None),
            ("1234567890123456789", None), // 19 digits
            ("000000000000000000000001", Some((ratio(1, 1), ""))),
        ] {
            assert_eq!(leading(text), expected, "{text}");
        }
    }
}
