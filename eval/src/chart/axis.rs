//! Where an axis ends and where its ticks stand.

/// About as many on an axis of values.
const INTERVALS: f64 = 5.0;

/// An axis from `low` to `high` with a tick at every multiple of a round step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    /// Its left or lower end.
    pub low: f64,
    /// Its other end, above `low`.
    pub high: f64,
    step: f64,
}

impl Axis {
    /// Whole steps from the first to the last of `values`, in at most about `intervals`.
    pub fn of_steps(values: impl Iterator<Item = f64>, intervals: u32) -> Self {
        let (low, high) = bounds(values).unwrap_or((0.0, 1.0));
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, step: nice((high - low) / f64::from(intervals.max(1))).max(1.0) }
    }

    /// From 0 to the first tick that no rate exceeds.
    pub(super) fn of_rates(values: impl Iterator<Item = f64>) -> Self {
        let most = bounds(values).map_or(1.0, |(_, high)| high).max(0.01);
        Self::between(0.0, most, INTERVALS)
    }

    /// From the last tick that no value is below to the first that none exceeds; with 0 unless all values lie close together
    /// and far from it. A single value stands in the middle, as do several that differ by less than a thousandth, for their ticks
    /// would be told apart by digits that nobody reads; 0 alone stands at the lower end.
    pub fn of_values(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = bounds(values).unwrap_or((0.0, 1.0));
        let most = low.abs().max(high.abs());
        if most == 0.0 {
            return Self::between(0.0, 1.0, INTERVALS);
        }
        if high - low < most / 1000.0 {
            let middle = f64::midpoint(low, high);
            return Self::between(middle - most / 10.0, middle + most / 10.0, INTERVALS);
        }
        let spread = high - low;
        let low = if low > 0.0 && low <= spread { 0.0 } else { low };
        let high = if high < 0.0 && -high <= spread { 0.0 } else { high };
        Self::between(low, high, INTERVALS)
    }

    fn between(low: f64, high: f64, intervals: f64) -> Self {
        let step = nice((high - low) / intervals);
        Self { low: (low / step + 1e-9).floor() * step, high: (high / step - 1e-9).ceil() * step, step }
    }

    /// Where `value` stands between the ends, as 0–1.
    #[must_use]
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The multiples of the step from end to end, ascending.
    pub fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        let Self { low, high, step } = *self;
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        (first..=last).map(move |i| i as f64 * step)
    }

    /// A tick in words, with the digits that tell it from its neighbours: `0.25`, `1500`, `4e-7`.
    #[must_use]
    pub fn label(&self, tick: f64) -> String {
        let magnitude = |x: f64| x.abs().log10().floor() as i32;
        let most = self.low.abs().max(self.high.abs());
        if tick == 0.0 {
            "0".into()
        } else if most >= 1e5 || self.step < 1e-4 {
            let digits =
                (magnitude(tick * (1.0 + 1e-9)) - magnitude(self.step * (1.0 + 1e-9))).max(0) as usize;
            format!("{tick:.digits$e}")
        } else {
            let digits = (-magnitude(self.step * (1.0 + 1e-9))).max(0) as usize;
            format!("{tick:.digits$}")
        }
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
        let axis = Axis::of_steps([0.0, 40.0].into_iter(), 10);
        assert_eq!(
            ticks(axis),
            ["0.00", "5.00", "10.00", "15.00", "20.00", "25.00", "30.00", "35.00", "40.00"]
        );
        assert_eq!(ticks(Axis::of_steps([1.0, 3.0].into_iter(), 10)), ["1.00", "2.00", "3.00"]);
        assert_eq!(ticks(Axis::of_steps([7.0].into_iter(), 10)), ["7.00", "8.00"]);
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

    fn labels(axis: Axis) -> Vec<String> {
        axis.ticks().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn values_are_framed_by_round_ticks() {
        let of = |values: &[f64]| labels(Axis::of_values(values.iter().copied()));
        // Spread 0.3 above 0.6: too far from 0 to show it. Spread 0.6 above 0.3: near enough.
        assert_eq!(of(&[0.6, 0.9]), ["0.6", "0.7", "0.8", "0.9"]);
        assert_eq!(of(&[0.3, 0.9]), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(of(&[-0.06, 0.05]), ["-0.10", "-0.05", "0", "0.05"]);
        assert_eq!(of(&[0.0, 4e-7]), ["0", "1e-7", "2e-7", "3e-7", "4e-7"]);
        assert_eq!(of(&[1.0e-6, 1.2e-6]), ["1.00e-6", "1.05e-6", "1.10e-6", "1.15e-6", "1.20e-6"]);
        assert_eq!(of(&[0.0, 250_000.0]), ["0", "5e4", "1.0e5", "1.5e5", "2.0e5", "2.5e5"]);
        assert_eq!(of(&[20.0, 24.0]), ["20", "21", "22", "23", "24"]);
    }

    #[test]
    fn one_value_stands_in_the_middle_and_zero_below() {
        let of = |values: &[f64]| labels(Axis::of_values(values.iter().copied()));
        assert_eq!(of(&[24.0, 24.0]), ["21", "22", "23", "24", "25", "26", "27"]);
        assert_eq!(of(&[0.999_98, 1.0]), ["0.85", "0.90", "0.95", "1.00", "1.05", "1.10"]);
        assert_eq!(of(&[0.0]), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(of(&[]), of(&[0.0]));
    }
}
