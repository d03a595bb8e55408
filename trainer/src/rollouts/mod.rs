//! Rollouts: the hub between stages and workers, and its gRPC service.
//!
//! ```text
//! stage ─offer─► work buffer ─Lease─► worker        policy folder ─publish─► blobs ─FetchFile─► worker
//! stage ◄─next── traces ◄─SubmitTraces─ worker
//! ```

mod error;
pub mod hub;
pub mod service;
mod session;
mod state;
mod workers;

pub use error::{RolloutError, UnknownWorker};
pub use hub::{HubOptions, RolloutHub};
pub use session::RolloutSession;

use sinternal_proto::{TraceOutcome, WorkerId};
use sinternal_service::metrics;

fn count(worker: &WorkerId, outcome: &TraceOutcome) {
    let label = match outcome {
        TraceOutcome::Accepted => "accepted",
        TraceOutcome::Duplicate => "duplicate",
        TraceOutcome::Unknown => "unknown",
        TraceOutcome::Rejected(detail) => {
            tracing::warn!(%worker, %detail, "rejected a trace");
            "rejected"
        }
    };
    metrics::rollouts_total(label).increment(1);
}

#[cfg(test)]
mod testing;
