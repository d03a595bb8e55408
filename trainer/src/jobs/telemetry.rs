//! How many jobs are in which state, on the metrics endpoint.

use super::state::name;
use sinternal_proto::JobState;
use sinternal_service::metrics;

/// Counts a job under `state`, and no longer under the one where it was `counted`.
pub(super) fn count(counted: &mut Option<JobState>, state: JobState) {
    if let Some(before) = counted.replace(state) {
        metrics::jobs(name(before)).decrement(1.0);
    }
    metrics::jobs(name(state)).increment(1.0);
}
