//! Where an axis ends and where its ticks stand.

/// An axis from `low` to `high` with a tick at every multiple of `step`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    step: f64,
}

impl Axis {
    /// Whole steps from the first to the last of `values`.
    pub(super) fn of_steps(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = bounds(values).unwrap_or((0.0, 1.0));
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, step: nice((high - low) / 10.0).max(1.0) }
    }

    /// From 0 to the first tick that no rate exceeds.
    pub(super) fn of_rates(values: impl Iterator<Item = f64>) -> Self {
        let most = bounds(values).map_or(1.0, |(_, high)| high).max(0.01);
        let step = nice(most / 5.0);
        Self { low: 0.0, high: (most / step - 1e-9).ceil() * step, step }
    }

    /// Where `value` stands between the ends, as 0–1.
    pub(super) fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        let Self { low, high, step } = *self;
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        (first..=last).map(move |i| i as f64 * step)
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |bounds, x| {
        let (low, high) = bounds.unwrap_or((x, x));
        Some((low.min(x), high.max(x)))
    })
}

/// The smallest of 1, 2, 5 × 10ⁿ that is not below `least`.
fn nice(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: Axis) -> Vec<String> {
        axis.ticks().map(|t| format!("{t:.2}")).collect()
    }

    #[test]
    fn steps_tick_at_whole_numbers() {
        let axis = Axis::of_steps([0.0, 40.0].into_iter());
        assert_eq!(
            ticks(axis),
            ["0.00", "5.00", "10.00", "15.00", "20.00", "25.00", "30.00", "35.00", "40.00"]
        );
        assert_eq!(ticks(Axis::of_steps([1.0, 3.0].into_iter())), ["1.00", "2.00", "3.00"]);
        assert_eq!(ticks(Axis::of_steps([7.0].into_iter())), ["7.00", "8.00"]);
        assert_eq!(axis.place(10.0), 0.25);
    }

    #[test]
    fn rates_start_at_zero_and_end_on_a_tick() {
        assert_eq!(
            ticks(Axis::of_rates([0.3, 0.97].into_iter())),
            ["0.00", "0.20", "0.40", "0.60", "0.80", "1.00"]
        );
        assert_eq!(
            ticks(Axis::of_rates([0.09].into_iter())),
            ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]
        );
        assert_eq!(Axis::of_rates([0.0].into_iter()).high, 0.01);
        assert_eq!(Axis::of_rates(std::iter::empty()).high, 1.0);
    }
}
