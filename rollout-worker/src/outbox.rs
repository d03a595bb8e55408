//! Finished traces until the trainer has acknowledged them.

use sinternal_proto::Trace;
use std::collections::BTreeMap;

/// Traces by the number under which they were sent. Bounded by its owner, who stops reading the generator when it is full.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    kept: BTreeMap<u64, Trace>,
    next: u64,
}

impl Outbox {
    pub(crate) fn push(&mut self, trace: Trace) -> u64 {
        self.next += 1;
        self.kept.insert(self.next, trace);
        self.next
    }

    /// Forgets a trace that needs not be sent again; `None` if it was not there.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> Option<Trace> {
        self.kept.remove(&sequence)
    }

    /// All that must be sent again over a new stream.
    pub(crate) fn unacknowledged(&self) -> Vec<(u64, Trace)> {
        self.kept.iter().map(|(&sequence, trace)| (sequence, trace.clone())).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}
