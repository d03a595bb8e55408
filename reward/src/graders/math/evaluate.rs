//! Whether a polynomial in atoms is 0, by its value at random points.

use super::algebra::Atom;
use super::fraction::Fraction;
use super::polynomial::Polynomial;
use super::tree::Function;
use num_complex::Complex64;
use num_rational::BigRational;
use num_traits::ToPrimitive;

/// Points at which formulas with symbols are compared.
const POINTS: u64 = 8;
/// Formulas that have no value at most of them are not compared.
const FEWEST_POINTS: u64 = 4;
/// The error of a sum, as a share of its terms, that is put down to rounding.
const TOLERANCE: f64 = 1e-11;
/// Constants of which the rounding error may be larger than this are not compared.
const LARGEST_ERROR: f64 = 1e-3;
const SEED: u64 = 0x5eed_0fa9_ade5;

/// Whether the polynomial is 0 wherever it has a value; `None` where it has too few values to tell.
pub(super) fn is_zero(polynomial: &Polynomial, atoms: &[Atom]) -> Option<bool> {
    let symbols = atoms.iter().any(|atom| matches!(atom, Atom::Symbol(_) | Atom::Apply(..)));
    let (points, needed) = if symbols { (POINTS, FEWEST_POINTS) } else { (1, 1) };
    let mut valued = 0;
    for point in 0..points {
        let values = values(atoms, point);
        let (value, scale) = sum(polynomial, &values);
        if !(value.is_finite() && scale.is_finite()) {
            continue;
        }
        if value.norm() > TOLERANCE * scale {
            return Some(false);
        }
        let unit = polynomial.leading().to_f64().map_or(f64::NAN, f64::abs);
        if !symbols && TOLERANCE * scale > LARGEST_ERROR * unit {
            return None;
        }
        valued += 1;
    }
    (valued >= needed).then_some(true)
}

/// The value of a fraction without symbols.
pub(super) fn constant(fraction: &Fraction, atoms: &[Atom]) -> Option<Complex64> {
    let value = quotient(fraction, &values(atoms, 0));
    value.is_finite().then_some(value)
}

fn values(atoms: &[Atom], point: u64) -> Vec<Complex64> {
    let mut values = Vec::with_capacity(atoms.len());
    for (index, atom) in atoms.iter().enumerate() {
        let value = value(atom, &values, SEED ^ (point << 32) ^ index as u64);
        values.push(value);
    }
    values
}

fn value(atom: &Atom, values: &[Complex64], seed: u64) -> Complex64 {
    match atom {
        Atom::Symbol(_) | Atom::Apply(..) => Complex64::from(random(seed)),
        Atom::I => Complex64::I,
        Atom::Pi => Complex64::from(std::f64::consts::PI),
        Atom::E => Complex64::from(std::f64::consts::E),
        Atom::Infinity => Complex64::from(f64::NAN),
        Atom::Root { radicand, index } => {
            Complex64::from(radicand.to_f64().unwrap_or(f64::NAN).powf(1.0 / f64::from(*index)))
        }
        Atom::Power(base, exponent) => power(quotient(base, values), quotient(exponent, values)),
        Atom::Call(function, parts) => {
            let parts: Vec<Complex64> = parts.iter().map(|part| quotient(part, values)).collect();
            apply(*function, &parts).unwrap_or(Complex64::from(f64::NAN))
        }
    }
}

/// A number from −3 to 3, by the mixing function of SplitMix64 (Steele, Lea and Flood 2014).
fn random(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64 * 6.0 - 3.0
}

fn power(base: Complex64, exponent: Complex64) -> Complex64 {
    match (base.im == 0.0 && base.re >= 0.0, exponent.im == 0.0) {
        (true, true) => Complex64::from(base.re.powf(exponent.re)),
        _ => base.powc(exponent),
    }
}

fn quotient(fraction: &Fraction, values: &[Complex64]) -> Complex64 {
    sum(&fraction.top, values).0 / sum(&fraction.bottom, values).0
}

/// The value, and the sum of the magnitudes of its terms.
fn sum(polynomial: &Polynomial, values: &[Complex64]) -> (Complex64, f64) {
    let mut total = (Complex64::from(0.0), 0.0);
    for (monomial, coefficient) in &polynomial.0 {
        let term = monomial.0.iter().fold(float(coefficient), |term, (id, count)| {
            let atom = usize::try_from(*id).ok().and_then(|id| values.get(id)).copied();
            term * atom.unwrap_or(Complex64::from(f64::NAN)).powu(*count)
        });
        total = (total.0 + term, total.1 + term.norm());
    }
    total
}

fn float(value: &BigRational) -> Complex64 {
    Complex64::from(value.to_f64().unwrap_or(f64::NAN))
}

fn apply(function: Function, parts: &[Complex64]) -> Option<Complex64> {
    let real = |f: fn(f64) -> f64| parts.first().filter(|x| x.im == 0.0).map(|x| Complex64::from(f(x.re)));
    let reals = |f: fn(f64, f64) -> f64| {
        let all = parts.iter().all(|x| x.im == 0.0);
        parts.iter().map(|x| x.re).reduce(f).filter(|_| all).map(Complex64::from)
    };
    let x = *parts.first()?;
    match function {
        Function::Sin => Some(x.sin()),
        Function::Cos => Some(x.cos()),
        Function::Tan => Some(x.tan()),
        Function::Cot => Some(x.tan().inv()),
        Function::Sec => Some(x.cos().inv()),
        Function::Csc => Some(x.sin().inv()),
        Function::Arcsin => Some(x.asin()),
        Function::Arccos => Some(x.acos()),
        Function::Arctan => Some(x.atan()),
        Function::Sinh => Some(x.sinh()),
        Function::Cosh => Some(x.cosh()),
        Function::Tanh => Some(x.tanh()),
        Function::Exp => Some(x.exp()),
        Function::Ln => Some(x.ln()),
        Function::Log => Some(parts.get(1)?.ln() / x.ln()),
        Function::Abs => Some(Complex64::from(x.norm())),
        Function::Floor => real(f64::floor),
        Function::Ceil => real(f64::ceil),
        Function::Min => reals(f64::min),
        Function::Max => reals(f64::max),
        Function::Factorial | Function::Binomial | Function::Gcd | Function::Lcm => None,
    }
}
