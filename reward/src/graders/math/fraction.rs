//! Quotients of polynomials.

use super::fuel::Fuel;
use super::polynomial::{AtomId, Polynomial, Rule};
use num_rational::BigRational;
use num_traits::One;

/// `top / bottom`; the leading coefficient of the bottom is 1. Common factors may remain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Fraction {
    pub(super) top: Polynomial,
    pub(super) bottom: Polynomial,
}

impl Fraction {
    /// `None` where the bottom is 0.
    pub(super) fn new(top: Polynomial, bottom: Polynomial) -> Option<Self> {
        if bottom.is_zero() {
            return None;
        }
        let scale = bottom.leading().recip();
        Some(Self { top: top.scaled(&scale)?, bottom: bottom.scaled(&scale)? })
    }

    pub(super) fn constant(value: BigRational) -> Self {
        Self { top: Polynomial::constant(value), bottom: Polynomial::constant(BigRational::one()) }
    }

    pub(super) fn atom(id: AtomId) -> Self {
        Self { top: Polynomial::atom(id), bottom: Polynomial::constant(BigRational::one()) }
    }

    /// Its value, where it has no atoms.
    pub(super) fn as_constant(&self) -> Option<BigRational> {
        self.bottom.as_constant().filter(One::is_one)?;
        self.top.as_constant()
    }

    pub(super) fn plus(&self, other: &Self, rules: &[Rule], fuel: &mut Fuel) -> Option<Self> {
        if self.bottom == other.bottom {
            return Self::new(self.top.clone().plus(&other.top, fuel)?, self.bottom.clone());
        }
        let left = self.top.times(&other.bottom, rules, fuel)?;
        let right = other.top.times(&self.bottom, rules, fuel)?;
        Self::new(left.plus(&right, fuel)?, self.bottom.times(&other.bottom, rules, fuel)?)
    }

    pub(super) fn times(&self, other: &Self, rules: &[Rule], fuel: &mut Fuel) -> Option<Self> {
        let top = self.top.times(&other.top, rules, fuel)?;
        Self::new(top, self.bottom.times(&other.bottom, rules, fuel)?)
    }

    /// `None` where the fraction is 0.
    pub(super) fn inverse(self) -> Option<Self> {
        Self::new(self.bottom, self.top)
    }

    pub(super) fn power(&self, exponent: u32, rules: &[Rule], fuel: &mut Fuel) -> Option<Self> {
        let mut product = Self::constant(BigRational::one());
        for _ in 0..exponent {
            product = product.times(self, rules, fuel)?;
        }
        Some(product)
    }

    /// The numerator of the difference, which is 0 just where the two are equal.
    pub(super) fn difference(&self, other: &Self, rules: &[Rule], fuel: &mut Fuel) -> Option<Polynomial> {
        let left = self.top.times(&other.bottom, rules, fuel)?;
        let right = other.top.times(&self.bottom, rules, fuel)?;
        left.minus(&right, fuel)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rational::integer;
    use super::*;

    #[test]
    fn sums_powers_and_inverses() {
        let fuel = &mut Fuel::full();
        let x = Fraction::atom(0);
        let one = Fraction::constant(integer(1));
        let inverse = x.clone().inverse().unwrap();
        let sum = inverse.plus(&one, &[], fuel).unwrap(); // 1/x + 1 = (1 + x)/x
        let expected = Fraction::new(one.plus(&x, &[], fuel).unwrap().top, x.top.clone()).unwrap();
        assert!(sum.difference(&expected, &[], fuel).unwrap().is_zero());
        assert_eq!(x.power(0, &[], fuel), Some(one));
        assert_eq!(Fraction::constant(integer(0)).inverse(), None);
    }
}
