//! Brings a scalar tree to a quotient of polynomials; what is not one becomes an atom.

use super::fraction::Fraction;
use super::fuel::Fuel;
use super::polynomial::Rule;
use super::rational::{self, integer};
use super::tree::{Function, Tree};
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::collections::HashMap;

/// More different atoms are not computed with.
const MOST_ATOMS: usize = 200;
/// Sums to higher powers stay as they are.
const HIGHEST_POWER: u32 = 40;
/// Roots of larger numbers, in bits, stay as they are, since they must be factored.
const LARGEST_RADICAND: u64 = 256;
/// Higher roots stay as they are.
const HIGHEST_ROOT: u32 = 24;

/// What polynomials are made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Atom {
    Symbol(String),
    I,
    Pi,
    E,
    Infinity,
    /// The positive root of a number that has no such root.
    Root {
        radicand: BigInt,
        index: u32,
    },
    Power(Fraction, Fraction),
    Call(Function, Vec<Fraction>),
    /// A function that is not known.
    Apply(String, Vec<Fraction>),
}

/// The atoms that occur, each once. An atom comes after those that it is made of.
#[derive(Debug)]
pub(super) struct Algebra<'a> {
    pub(super) atoms: Vec<Atom>,
    ids: HashMap<Atom, u32>,
    pub(super) rules: Vec<Rule>,
    pub(super) fuel: &'a mut Fuel,
}

impl<'a> Algebra<'a> {
    pub(super) fn new(fuel: &'a mut Fuel) -> Self {
        Self { atoms: Vec::new(), ids: HashMap::new(), rules: Vec::new(), fuel }
    }

    /// `None` for what is no scalar, for a division by 0 and for what is too large.
    pub(super) fn fraction(&mut self, tree: &Tree) -> Option<Fraction> {
        self.fuel.spend(1)?;
        match tree {
            Tree::Number(n) | Tree::Decimal(n) => Some(Fraction::constant(n.clone())),
            Tree::Percent(t) => self.product(&[(**t).clone(), Tree::Number(integer(100).recip())]),
            Tree::Degrees(t) | Tree::Quantity(t, _) => self.fraction(t),
            Tree::Based { digits, base } => based(digits, *base).map(Fraction::constant),
            Tree::Pi => self.atom(Atom::Pi),
            Tree::E => self.atom(Atom::E),
            Tree::I => self.atom(Atom::I),
            Tree::Infinity => self.atom(Atom::Infinity),
            Tree::Symbol(name) => self.atom(Atom::Symbol(name.clone())),
            Tree::Text(name) => self.atom(Atom::Symbol(name.to_lowercase())),
            Tree::Sum(parts) => self.sum(parts),
            Tree::Product(parts) => self.product(parts),
            Tree::Quotient(a, b) => {
                let (a, b) = (self.fraction(a)?, self.fraction(b)?.inverse()?);
                a.times(&b, &self.rules, self.fuel)
            }
            Tree::Negative(t) => self.product(&[(**t).clone(), Tree::Number(integer(-1))]),
            Tree::Power(base, exponent) => self.power(base, exponent),
            Tree::Call(function, parts) => self.call(*function, parts),
            Tree::Apply(name, parts) => {
                let parts = self.all(parts)?;
                self.atom(Atom::Apply(name.clone(), parts))
            }
            _ => None,
        }
    }

    fn all(&mut self, parts: &[Tree]) -> Option<Vec<Fraction>> {
        parts.iter().map(|part| self.fraction(part)).collect()
    }

    fn atom(&mut self, atom: Atom) -> Option<Fraction> {
        if let Some(id) = self.ids.get(&atom) {
            return Some(Fraction::atom(*id));
        }
        let id = u32::try_from(self.atoms.len()).ok().filter(|_| self.atoms.len() < MOST_ATOMS)?;
        self.rules.push(match &atom {
            Atom::I => Some((2, BigInt::from(-1))),
            Atom::Root { radicand, index } => Some((*index, radicand.clone())),
            _ => None,
        });
        self.atoms.push(atom.clone());
        self.ids.insert(atom, id);
        Some(Fraction::atom(id))
    }

    fn sum(&mut self, parts: &[Tree]) -> Option<Fraction> {
        parts.iter().try_fold(Fraction::constant(BigRational::zero()), |sum, part| {
            let part = self.fraction(part)?;
            sum.plus(&part, &self.rules, self.fuel)
        })
    }

    fn product(&mut self, parts: &[Tree]) -> Option<Fraction> {
        parts.iter().try_fold(Fraction::constant(BigRational::one()), |product, part| {
            let part = self.fraction(part)?;
            product.times(&part, &self.rules, self.fuel)
        })
    }

    fn power(&mut self, base: &Tree, exponent: &Tree) -> Option<Fraction> {
        let (base, exponent) = (self.fraction(base)?, self.fraction(exponent)?);
        let Some(constant) = exponent.as_constant() else { return self.atom(Atom::Power(base, exponent)) };
        let computed = match rational::whole(&constant) {
            Some(whole) => self.integral_power(&base, whole)?,
            None => base.as_constant().and_then(|base| self.root_power(&base, &constant)),
        };
        computed.map_or_else(|| self.atom(Atom::Power(base, exponent)), Some)
    }

    /// The inner `None` stands for a power that is too large, the outer one for 0 to a negative power.
    #[expect(clippy::option_option, reason = "the two kinds of absence lead to different results")]
    fn integral_power(&mut self, base: &Fraction, exponent: &BigInt) -> Option<Option<Fraction>> {
        if let Some(base) = base.as_constant() {
            if base.is_zero() && exponent.is_negative() {
                return None;
            }
            return Some(rational::power(&base, exponent).map(Fraction::constant));
        }
        let Some(count) = exponent.abs().to_u32().filter(|count| *count <= HIGHEST_POWER) else {
            return Some(None);
        };
        let base = if exponent.is_negative() { base.clone().inverse()? } else { base.clone() };
        base.power(count, &self.rules, self.fuel).map(Some)
    }

    /// A number to a fractional power; `None` where that stays as it is.
    fn root_power(&mut self, base: &BigRational, exponent: &BigRational) -> Option<Fraction> {
        let index = exponent.denom().to_u32().filter(|index| *index <= HIGHEST_ROOT)?;
        let power = exponent.numer().abs().to_u32()?;
        let root = self.root(base, index)?;
        let root = if exponent.is_negative() { root.inverse()? } else { root };
        if let Some(root) = root.as_constant() {
            return rational::power(&root, &power.into()).map(Fraction::constant);
        }
        if power > HIGHEST_POWER {
            return None;
        }
        root.power(power, &self.rules, self.fuel)
    }

    /// The real root where there is one, so −2 for ∛−8, and else the principal square root.
    fn root(&mut self, value: &BigRational, index: u32) -> Option<Fraction> {
        let positive = value.abs();
        let scale = rational::power(&BigRational::from_integer(positive.denom().clone()), &index.into())?;
        let radicand = (&positive * scale).to_integer();
        if radicand.bits() > LARGEST_RADICAND {
            return None;
        }
        self.fuel.spend(500)?;
        let sign = match (value.is_negative(), index) {
            (false, _) => Fraction::constant(integer(1)),
            (true, 2) => self.atom(Atom::I)?,
            (true, _) if index.is_odd() => Fraction::constant(integer(-1)),
            (true, _) => return None,
        };
        let below = BigRational::from_integer(positive.denom().clone()).recip();
        let root = self.integer_root(&radicand, index)?;
        let root = root.times(&Fraction::constant(below), &self.rules, self.fuel)?;
        root.times(&sign, &self.rules, self.fuel)
    }

    fn integer_root(&mut self, radicand: &BigInt, index: u32) -> Option<Fraction> {
        if radicand.is_zero() {
            return Some(Fraction::constant(BigRational::zero()));
        }
        let mut product = Fraction::constant(BigRational::one());
        for (prime, count) in rational::factors(radicand) {
            let out = BigRational::from_integer(prime.pow(count / index));
            product = product.times(&Fraction::constant(out), &self.rules, self.fuel)?;
            let (left, common) = (count % index, (count % index).gcd(&index));
            if left > 0 {
                let atom = self.atom(Atom::Root { radicand: prime, index: index / common })?;
                let inside = atom.power(left / common, &self.rules, self.fuel)?;
                product = product.times(&inside, &self.rules, self.fuel)?;
            }
        }
        Some(product)
    }

    fn call(&mut self, function: Function, parts: &[Tree]) -> Option<Fraction> {
        if function == Function::Exp {
            return self.power(&Tree::E, parts.first()?);
        }
        let parts = match parts {
            [Tree::Degrees(angle)] if function.takes_angle() => {
                vec![self.product(&[(**angle).clone(), Tree::Pi, Tree::Number(integer(180).recip())])?]
            }
            _ => self.all(parts)?,
        };
        let constants: Option<Vec<BigRational>> = parts.iter().map(Fraction::as_constant).collect();
        match constants.and_then(|constants| exactly(function, &constants)) {
            Some(value) => Some(Fraction::constant(rational::bounded(value)?)),
            None => self.atom(Atom::Call(function, parts)),
        }
    }
}

/// The value of a function of rationals, where that is rational and known.
fn exactly(function: Function, parts: &[BigRational]) -> Option<BigRational> {
    let integers = || parts.iter().map(|part| rational::whole(part).cloned()).collect::<Option<Vec<_>>>();
    match (function, parts) {
        (Function::Abs, [x]) => Some(x.abs()),
        (Function::Floor, [x]) => Some(x.floor()),
        (Function::Ceil, [x]) => Some(x.ceil()),
        (Function::Factorial, [x]) => rational::factorial(x),
        (Function::Binomial, [n, k]) => rational::binomial(n, k),
        (Function::Min, _) => parts.iter().min().cloned(),
        (Function::Max, _) => parts.iter().max().cloned(),
        (Function::Gcd, _) => integers()?.into_iter().reduce(|a, b| a.gcd(&b)).map(BigRational::from_integer),
        (Function::Lcm, _) => integers()?.into_iter().reduce(|a, b| a.lcm(&b)).map(BigRational::from_integer),
        _ => None,
    }
}

/// The value of digits in a base; `None` where a digit does not belong to it.
pub(super) fn based(digits: &str, base: u32) -> Option<BigRational> {
    if !(2..=36).contains(&base) {
        return None;
    }
    BigInt::parse_bytes(digits.as_bytes(), base).map(BigRational::from_integer)
}
