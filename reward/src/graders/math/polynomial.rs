//! Polynomials over the rationals in atoms, some of which have a power that is a number (i² = −1, √2² = 2).

use super::fuel::Fuel;
use super::rational::{bounded, power};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Zero};
use std::collections::BTreeMap;

/// Names an atom of an `Algebra`.
pub(super) type AtomId = u32;

/// Longer polynomials are not computed.
const MOST_TERMS: usize = 1_500;
/// Higher powers of one atom are not computed.
const HIGHEST_POWER: u32 = 400;

/// A product of powers of atoms, by rising name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Monomial(pub(super) Vec<(AtomId, u32)>);

/// A sum of monomials with coefficients that are not 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Polynomial(pub(super) BTreeMap<Monomial, BigRational>);

/// The power of an atom that is a number, and that number.
pub(super) type Rule = Option<(u32, BigInt)>;

impl Polynomial {
    pub(super) fn constant(value: BigRational) -> Self {
        let terms = [(Monomial::default(), value)];
        Self(terms.into_iter().filter(|(_, value)| !value.is_zero()).collect())
    }

    pub(super) fn atom(id: AtomId) -> Self {
        Self(BTreeMap::from([(Monomial(vec![(id, 1)]), BigRational::one())]))
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Its value, where it has no atoms.
    pub(super) fn as_constant(&self) -> Option<BigRational> {
        match self.0.iter().next() {
            None => Some(BigRational::zero()),
            Some((monomial, value)) if self.0.len() == 1 && monomial.0.is_empty() => Some(value.clone()),
            _ => None,
        }
    }

    /// The coefficient of the last monomial; of 0 it is 0.
    pub(super) fn leading(&self) -> BigRational {
        self.0.values().next_back().cloned().unwrap_or_default()
    }

    pub(super) fn atoms(&self) -> impl Iterator<Item = AtomId> {
        self.0.keys().flat_map(|monomial| monomial.0.iter().map(|(id, _)| *id))
    }

    pub(super) fn scaled(&self, factor: &BigRational) -> Option<Self> {
        if factor.is_zero() {
            return Some(Self::default());
        }
        let scale = |(m, c): (&Monomial, &BigRational)| Some((m.clone(), bounded(c * factor)?));
        self.0.iter().map(scale).collect::<Option<_>>().map(Self)
    }

    pub(super) fn plus(mut self, other: &Self, fuel: &mut Fuel) -> Option<Self> {
        fuel.spend(other.0.len())?;
        for (monomial, value) in &other.0 {
            self.add(monomial.clone(), value.clone())?;
        }
        Some(self)
    }

    pub(super) fn minus(self, other: &Self, fuel: &mut Fuel) -> Option<Self> {
        self.plus(&other.scaled(&-BigRational::one())?, fuel)
    }

    pub(super) fn times(&self, other: &Self, rules: &[Rule], fuel: &mut Fuel) -> Option<Self> {
        let mut product = Self::default();
        for (a, x) in &self.0 {
            for (b, y) in &other.0 {
                fuel.spend(1 + a.0.len() + b.0.len())?;
                let (monomial, factor) = a.times(b, rules)?;
                product.add(monomial, bounded(x * y * factor)?)?;
            }
        }
        Some(product)
    }

    fn add(&mut self, monomial: Monomial, value: BigRational) -> Option<()> {
        let sum = match self.0.get(&monomial) {
            Some(there) => bounded(there + value)?,
            None => value,
        };
        if sum.is_zero() {
            self.0.remove(&monomial);
        } else {
            self.0.insert(monomial, sum);
        }
        (self.0.len() <= MOST_TERMS).then_some(())
    }
}

impl Monomial {
    /// The product, and the number that comes out of it by the rules.
    fn times(&self, other: &Self, rules: &[Rule]) -> Option<(Self, BigRational)> {
        let mut powers: BTreeMap<AtomId, u32> = self.0.iter().copied().collect();
        for (id, power) in &other.0 {
            *powers.entry(*id).or_default() += power;
        }
        let mut factor = BigRational::one();
        for (id, count) in &mut powers {
            if let Some(Some((index, value))) = rules.get(usize::try_from(*id).ok()?) {
                let out = BigInt::from(*count / index);
                factor *= power(&BigRational::from_integer(value.clone()), &out)?;
                *count %= index;
            }
            if *count > HIGHEST_POWER {
                return None;
            }
        }
        Some((Self(powers.into_iter().filter(|(_, count)| *count > 0).collect()), factor))
    }
}

#[cfg(test)]
mod tests {
    use super::super::rational::integer;
    use super::*;

    #[test]
    fn the_difference_of_squares_and_the_imaginary_unit() {
        let fuel = &mut Fuel::full();
        let rules: Vec<Rule> = vec![None, Some((2, BigInt::from(-1)))];
        let (x, i) = (Polynomial::atom(0), Polynomial::atom(1));
        let plus = x.clone().plus(&i, fuel).unwrap();
        let minus = x.clone().minus(&i, fuel).unwrap();
        let product = plus.times(&minus, &rules, fuel).unwrap(); // (x + i)(x − i) = x² + 1
        let square = x.times(&x, &rules, fuel).unwrap();
        assert_eq!(product, square.plus(&Polynomial::constant(integer(1)), fuel).unwrap());
        assert_eq!(product.as_constant(), None);
    }

    #[test]
    fn zero_has_no_terms() {
        let fuel = &mut Fuel::full();
        let x = Polynomial::atom(0);
        let zero = x.clone().minus(&x, fuel).unwrap();
        assert!(zero.is_zero());
        assert_eq!(zero.as_constant(), Some(integer(0)));
        assert_eq!(zero.leading(), integer(0));
    }
}
