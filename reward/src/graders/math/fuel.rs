//! A bound on the work of one comparison, which unlike a clock gives the same verdict on every machine.

/// Units of work, each of some microseconds at most, that one grade may take.
const TANK: u32 = 60_000;

/// What is left of the work that may be done.
#[derive(Debug)]
pub(super) struct Fuel(u32);

impl Fuel {
    pub(super) fn full() -> Self {
        Self(TANK)
    }

    /// `None` once there is not enough left.
    pub(super) fn spend(&mut self, units: usize) -> Option<()> {
        let left = u32::try_from(units).ok().and_then(|units| self.0.checked_sub(units));
        self.0 = left.unwrap_or(0);
        left.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_tank_stays_empty() {
        let mut fuel = Fuel::full();
        assert_eq!(fuel.spend(59_999), Some(()));
        assert_eq!(fuel.spend(2), None);
        assert_eq!(fuel.spend(1), None);
    }
}
