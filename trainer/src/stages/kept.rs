//! The work buffer's part of a checkpoint: samples of steps to come that have their score already.
//!
//! Their policy versions are kept as lags behind the one that is published with the checkpoint, for versions count anew in each
//! process of the trainer.

use super::batch::ScoredTrace;
use super::gather::{Pending, Place};
use serde::{Deserialize, Serialize};
use sinternal_proto::PolicyVersion;
use std::collections::BTreeMap;

/// A scored sample and where it belongs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) place: Place,
    pub(super) sample: ScoredTrace,
}

/// What is kept of the steps that were begun, when `version` is published.
pub(super) fn keep(pending: &BTreeMap<u64, Pending>, version: PolicyVersion) -> Vec<Kept> {
    let samples = pending.iter().flat_map(|(step, pending)| pending.samples(*step));
    samples
        .map(|(place, sample)| {
            shifted(Kept { place, sample: sample.clone() }, |v| version.0.saturating_sub(v))
        })
        .collect()
}

/// By step, what a checkpoint has kept, when its policy is published as `version`.
pub(super) fn restore(kept: Vec<Kept>, version: PolicyVersion) -> BTreeMap<u64, Vec<Kept>> {
    let mut by_step: BTreeMap<u64, Vec<Kept>> = BTreeMap::new();
    for kept in kept {
        let kept = shifted(kept, |lag| version.0.saturating_sub(lag));
        by_step.entry(kept.place.step).or_default().push(kept);
    }
    by_step
}

fn shifted(mut kept: Kept, shift: impl Fn(u64) -> u64) -> Kept {
    for segment in &mut kept.sample.trace.segments {
        segment.version = PolicyVersion(shift(segment.version.0));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::sample;
    use super::*;
    use sinternal_proto::Segment;

    #[test]
    fn versions_are_those_of_the_process_that_goes_on() {
        let mut scored = sample(Some(0.5), &[1, 2]);
        let segments = |old, new| {
            vec![(old, 1), (new, 1)]
                .into_iter()
                .map(|(v, tokens)| Segment { version: PolicyVersion(v), tokens })
                .collect::<Vec<_>>()
        };
        scored.trace.segments = segments(8, 9);
        let place = Place { step: 4, slot: 1, refill: 0 };
        let kept = shifted(Kept { place, sample: scored.clone() }, |v| 9 - v);
        let line = serde_json::to_string(&kept).unwrap();
        let restored = restore(vec![serde_json::from_str(&line).unwrap()], PolicyVersion(3));
        scored.trace.segments = segments(2, 3);
        assert_eq!(restored[&4], [Kept { place, sample: scored }]);
    }
}
