//! The learning rate over the steps of a stage.

use crate::spec::ScheduleKind;

/// Linear warm-up, then a fall to zero at the last step or none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Peak learning rate.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
    /// What follows the warm-up.
    pub kind: ScheduleKind,
    /// The fall ends at this share of the peak.
    pub floor: f64,
}

impl Schedule {
    /// The rate of `step`, counted from 0.
    #[must_use]
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let span = self.total.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / span).min(1.0);
        let left = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => 1.0 - done,
            ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.peak * (self.floor + (1.0 - self.floor) * left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_fall() {
        let schedule = |kind| Schedule { peak: 2.0, warmup: 4, total: 12, kind, floor: 0.0 };
        let linear = schedule(ScheduleKind::Linear);
        assert_eq!([0, 3, 4, 8, 12].map(|s| linear.rate(s)), [0.5, 2.0, 2.0, 1.0, 0.0]);
        assert!((schedule(ScheduleKind::Cosine).rate(8) - 1.0).abs() < 1e-12);
        assert_eq!(schedule(ScheduleKind::Constant).rate(100), 2.0);
        assert_eq!(Schedule { floor: 0.1, ..linear }.rate(12), 0.2);
    }
}
