//! Exact rationals within bounds on their size.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

/// Longer numbers, in decimal digits, are not read.
pub(super) const MOST_DIGITS: usize = 1_000;
/// Longer numbers, in bits, are not computed.
const MOST_BITS: u64 = 8_192;
/// The largest n of n! and of binomials.
const LARGEST_FACTORIAL: u32 = 500;
/// Trial division goes this far.
const LARGEST_TRIAL: u32 = 10_000;

pub(super) fn integer(value: i64) -> BigRational {
    BigRational::from_integer(BigInt::from(value))
}

/// Digits with at most one point; `None` where there are none, or too many.
pub(super) fn from_digits(text: &str) -> Option<BigRational> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = part.trim_end_matches('0');
    let all = format!("{whole}{part}");
    if all.len() > MOST_DIGITS || text.bytes().all(|b| b == b'.') {
        return None;
    }
    let numerator = if all.is_empty() { BigInt::zero() } else { all.parse().ok()? };
    Some(BigRational::new(numerator, BigInt::from(10).pow(u32::try_from(part.len()).ok()?)))
}

/// Within the bound on bits.
pub(super) fn bounded(value: BigRational) -> Option<BigRational> {
    (size(&value) <= MOST_BITS).then_some(value)
}

fn size(value: &BigRational) -> u64 {
    value.numer().bits() + value.denom().bits()
}

/// An integral power; `None` where it is too large, or 0 to a negative power.
pub(super) fn power(base: &BigRational, exponent: &BigInt) -> Option<BigRational> {
    if base.is_one() || (base.is_zero() && exponent.is_positive()) {
        return Some(base.clone());
    }
    let exponent = exponent.to_i32()?;
    let large = size(base).saturating_mul(u64::from(exponent.unsigned_abs())) > 4 * MOST_BITS;
    if large || (base.is_zero() && exponent < 0) {
        return None;
    }
    bounded(Pow::pow(base, exponent))
}

/// The number as an integer, where it is one.
pub(super) fn whole(value: &BigRational) -> Option<&BigInt> {
    value.is_integer().then(|| value.numer())
}

pub(super) fn factorial(value: &BigRational) -> Option<BigRational> {
    let n = whole(value)?.to_u32().filter(|n| *n <= LARGEST_FACTORIAL)?;
    Some(BigRational::from_integer((1..=n).map(BigInt::from).product()))
}

/// n over k, for whole numbers.
pub(super) fn binomial(n: &BigRational, k: &BigRational) -> Option<BigRational> {
    let (n, k) = (whole(n)?.to_u32()?, whole(k)?.to_u32()?);
    if n > LARGEST_FACTORIAL {
        return None;
    }
    let product = (0..k).try_fold(BigInt::one(), |product, i| Some(product * n.checked_sub(i)? / (i + 1)));
    Some(BigRational::from_integer(product.unwrap_or_default()))
}

/// The prime factors of a positive integer, each with its power. What trial division leaves over stands as one factor.
pub(super) fn factors(value: &BigInt) -> Vec<(BigInt, u32)> {
    let mut rest = value.clone();
    let mut found = Vec::new();
    for candidate in (2..LARGEST_TRIAL).filter(|c| *c == 2 || c % 2 == 1) {
        let mut count = 0;
        while (&rest % candidate).is_zero() && !rest.is_zero() {
            rest /= candidate;
            count += 1;
        }
        if count > 0 {
            found.push((BigInt::from(candidate), count));
        }
        if rest < BigInt::from(candidate) * candidate {
            break;
        }
    }
    if rest > BigInt::one() {
        let root = rest.sqrt();
        found.push(if &root * &root == rest { (root, 2) } else { (rest, 1) });
    }
    found
}

/// Whether two numbers are the same to six decimals, and in their first digits too where they are small.
pub(super) fn same_to_six_digits(a: &BigRational, b: &BigRational) -> bool {
    let scale = integer(1_000_000);
    let near = (a * &scale).round() == (b * &scale).round();
    let difference = (a - b).abs() * integer(5_000);
    near && difference <= a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(numerator: i64, denominator: i64) -> BigRational {
        BigRational::new(numerator.into(), denominator.into())
    }

    #[test]
    fn digits() {
        assert_eq!(from_digits("1.250"), Some(ratio(5, 4)));
        assert_eq!(from_digits(".5"), Some(ratio(1, 2)));
        assert_eq!(from_digits("7."), Some(ratio(7, 1)));
        assert_eq!(from_digits("."), None);
        assert_eq!(from_digits(&"9".repeat(1_001)), None);
    }

    #[test]
    fn powers_within_bounds() {
        assert_eq!(power(&ratio(2, 3), &BigInt::from(-3)), Some(ratio(27, 8)));
        assert_eq!(power(&ratio(9, 1), &BigInt::from(387_420_489)), None);
        assert_eq!(power(&ratio(0, 1), &BigInt::from(-1)), None);
        assert_eq!(power(&ratio(1, 1), &BigInt::from(10).pow(30u32)), Some(ratio(1, 1)));
    }

    #[test]
    fn counting() {
        assert_eq!(factorial(&ratio(5, 1)), Some(ratio(120, 1)));
        assert_eq!(factorial(&ratio(1, 2)), None);
        assert_eq!(binomial(&ratio(10, 1), &ratio(3, 1)), Some(ratio(120, 1)));
        assert_eq!(binomial(&ratio(3, 1), &ratio(5, 1)), Some(ratio(0, 1)));
        let expected = [(2, 3), (3, 2), (7, 1)].map(|(p, n)| (BigInt::from(p), n));
        assert_eq!(factors(&BigInt::from(504)), expected);
    }

    #[test]
    fn six_digits() {
        assert!(same_to_six_digits(&ratio(1, 3), &ratio(333_333, 1_000_000)));
        assert!(!same_to_six_digits(&ratio(1, 3), &ratio(33_333, 100_000)));
        assert!(!same_to_six_digits(&ratio(672, 10_000_000), &ratio(673, 10_000_000)));
    }
}
