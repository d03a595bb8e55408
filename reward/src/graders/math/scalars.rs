//! Whether two scalars are the same: exactly, as rationals, as polynomials, then by value at random points.

use super::algebra::{Algebra, Atom};
use super::evaluate;
use super::fraction::Fraction;
use super::fuel::Fuel;
use super::polynomial::Polynomial;
use super::rational::same_to_six_digits;
use super::tree::Tree;
use num_rational::BigRational;
use num_traits::{FromPrimitive, Signed, Zero};
use std::collections::{HashMap, HashSet};

/// `None` where that cannot be told.
pub(super) fn same(a: &Tree, b: &Tree, fuel: &mut Fuel) -> Option<bool> {
    if a == b {
        return Some(true);
    }
    let rounded = has_decimal(a) || has_decimal(b);
    let mut algebra = Algebra::new(fuel);
    let (a, b) = (algebra.fraction(a)?, algebra.fraction(b)?);
    if let (Some(a), Some(b)) = (a.as_constant(), b.as_constant()) {
        return Some(a == b || (rounded && same_to_six_digits(&a, &b)));
    }
    let difference = a.difference(&b, &algebra.rules, algebra.fuel)?;
    if difference.is_zero() {
        return Some(true);
    }
    if rounded && let Some((constant, other)) = one_constant(&a, &b) {
        let value = evaluate::constant(other, &algebra.atoms).filter(|value| value.im == 0.0);
        let value = value.and_then(|value| BigRational::from_f64(value.re));
        return Some(value.is_some_and(|value| same_to_six_digits(&constant, &value)));
    }
    vanishes(&difference, &algebra)
}

/// The one of two fractions that is a rational number, and the other one.
fn one_constant<'f>(a: &'f Fraction, b: &'f Fraction) -> Option<(BigRational, &'f Fraction)> {
    a.as_constant().map(|constant| (constant, b)).or_else(|| b.as_constant().map(|constant| (constant, a)))
}

/// Whether a polynomial that is not 0 as it stands is 0 by what its atoms mean.
fn vanishes(polynomial: &Polynomial, algebra: &Algebra) -> Option<bool> {
    if polynomial.is_zero() {
        return Some(true);
    }
    if is_independent(polynomial, &algebra.atoms) {
        Some(false)
    } else {
        evaluate::is_zero(polynomial, &algebra.atoms)
    }
}

/// Whether the atoms fulfil no equation, so that only the polynomial without terms is 0. That is so for symbols, i,
/// one of π and e, and roots of different primes (Besicovitch 1940).
fn is_independent(polynomial: &Polynomial, atoms: &[Atom]) -> bool {
    let (mut transcendental, mut roots) = (HashSet::new(), HashMap::new());
    let mut ids = polynomial.atoms();
    ids.all(|id| match usize::try_from(id).ok().and_then(|id| atoms.get(id)) {
        Some(Atom::Symbol(_) | Atom::I | Atom::Infinity) => true,
        Some(atom @ (Atom::Pi | Atom::E)) => {
            transcendental.insert(atom);
            transcendental.len() == 1
        }
        Some(Atom::Root { radicand, index }) => *roots.entry(radicand).or_insert(index) == index,
        _ => false,
    })
}

/// How one equation stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Multiple {
    Positive,
    /// By a negative number, or with another denominator.
    Other,
    /// A multiple with other zeros, or none.
    No,
}

/// Whether `a = 0` is a multiple of `b = 0` by a number.
pub(super) fn multiple(a: &Tree, b: &Tree, fuel: &mut Fuel) -> Option<Multiple> {
    let mut algebra = Algebra::new(fuel);
    let (a, b) = (algebra.fraction(a)?, algebra.fraction(b)?);
    let (lead_a, lead_b) = (a.top.leading(), b.top.leading());
    if lead_a.is_zero() || lead_b.is_zero() {
        return Some(if lead_a == lead_b { Multiple::Positive } else { Multiple::No });
    }
    let difference = a.top.scaled(&lead_b)?.minus(&b.top.scaled(&lead_a)?, algebra.fuel)?;
    let bottoms = a.bottom == b.bottom;
    Some(match vanishes(&difference, &algebra)? {
        false => Multiple::No,
        true if (lead_a / lead_b).is_negative() => Multiple::Other,
        true if bottoms => Multiple::Positive,
        true => Multiple::Other,
    })
}

/// The value of a real constant; infinite for ±∞.
pub(super) fn value(tree: &Tree, fuel: &mut Fuel) -> Option<f64> {
    match tree {
        Tree::Infinity => return Some(f64::INFINITY),
        Tree::Negative(inner) if **inner == Tree::Infinity => return Some(f64::NEG_INFINITY),
        _ if tree.has_symbol() => return None,
        _ => {}
    }
    let mut algebra = Algebra::new(fuel);
    let fraction = algebra.fraction(tree)?;
    evaluate::constant(&fraction, &algebra.atoms).filter(|value| value.im == 0.0).map(|value| value.re)
}

fn has_decimal(tree: &Tree) -> bool {
    let mut found = matches!(tree, Tree::Decimal(_));
    tree.with_parts(&mut |part| {
        found = found || has_decimal(part);
        Tree::Pi
    });
    found
}
