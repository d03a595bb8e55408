//! Which phase bounds a step, and what would shorten it.

use std::collections::BTreeMap;

/// Shares of the time of steps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Phases {
    rollout: f64,
    update: f64,
    publish: f64,
    step: f64,
}

impl Phases {
    /// Adds a step's times, in seconds.
    pub(crate) fn add(&mut self, values: &BTreeMap<String, f64>) {
        let value = |name: &str| values.get(name).copied().unwrap_or(0.0);
        self.rollout += value("seconds_rollout");
        self.update += value("seconds_update");
        self.publish += value("seconds_publish");
        self.step += value("seconds_step");
    }

    /// The phase that takes most of the time, and the advice that follows; `None` where no phase does.
    pub(crate) fn bound(&self) -> Option<String> {
        let phases = [
            ("rollout-bound", self.rollout, 0.5, "add workers, or let them run ahead with grpo.staleness"),
            (
                "update-bound",
                self.update,
                0.5,
                "learner.dtype = \"bfloat16\", fewer grpo.epochs, or a faster device",
            ),
            ("publish-bound", self.publish, 0.3, "a faster disk for trainer.runs, or fewer and larger steps"),
        ];
        let (name, seconds, _, advice) = phases
            .into_iter()
            .filter(|(_, seconds, least, _)| self.step > 0.0 && seconds / self.step >= *least)
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(format!("{name} ({:.0} % of the time): {advice}", 100.0 * seconds / self.step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(rollout: f64, update: f64, publish: f64) -> Phases {
        let step = rollout + update + publish;
        let values = [("rollout", rollout), ("update", update), ("publish", publish), ("step", step)];
        let mut phases = Phases::default();
        phases.add(&values.map(|(name, x)| (format!("seconds_{name}"), x)).into());
        phases
    }

    #[test]
    fn the_phase_that_takes_most_of_the_time_is_named_with_a_way_out() {
        assert_eq!(
            phases(8.0, 1.5, 0.5).bound().unwrap(),
            "rollout-bound (80 % of the time): add workers, or let them run ahead with grpo.staleness"
        );
        assert!(phases(2.0, 6.0, 2.0).bound().unwrap().starts_with("update-bound (60 %"));
        assert!(phases(3.0, 3.0, 4.0).bound().unwrap().starts_with("publish-bound (40 %"));
        assert_eq!(phases(4.5, 4.5, 1.0).bound(), None);
        assert_eq!(Phases::default().bound(), None);
        let mut both = phases(9.0, 1.0, 0.0);
        both.add(&BTreeMap::from([("seconds_update".into(), 30.0), ("seconds_step".into(), 30.0)]));
        assert!(both.bound().unwrap().starts_with("update-bound (78 %"));
    }
}
