//! Who is connected: ids, signs of life, eviction. Clock-free.

use sinternal_proto::WorkerId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The connected workers.
#[derive(Debug)]
pub(super) struct Workers {
    silence: Duration,
    last_seen: BTreeMap<WorkerId, Instant>,
    dismissed: bool,
}

impl Workers {
    /// A worker that is silent for `silence` is evicted.
    pub(super) fn new(silence: Duration) -> Self {
        Self { silence, last_seen: BTreeMap::new(), dismissed: false }
    }

    /// A new worker; its id is unique over restarts of the trainer, so that an old one is never mistaken for it.
    pub(super) fn add(&mut self, name: &str, now: Instant) -> WorkerId {
        let tail = uuid::Uuid::new_v4().simple().to_string();
        let id = WorkerId(format!("{name}-{}", &tail[..12]));
        self.last_seen.insert(id.clone(), now);
        id
    }

    /// Forgets a worker that has come back under another id.
    pub(super) fn remove(&mut self, id: &WorkerId) {
        self.last_seen.remove(id);
    }

    /// A sign of life. False where the worker is not known.
    pub(super) fn seen(&mut self, id: &WorkerId, now: Instant) -> bool {
        self.last_seen.get_mut(id).map(|seen| *seen = now).is_some()
    }

    pub(super) fn knows(&self, id: &WorkerId) -> bool {
        self.last_seen.contains_key(id)
    }

    /// Forgets and returns those that were silent for too long.
    pub(super) fn evict(&mut self, now: Instant) -> Vec<WorkerId> {
        let silence = self.silence;
        let is_gone = |seen: &Instant| now.saturating_duration_since(*seen) >= silence;
        let gone =
            self.last_seen.iter().filter(|(_, seen)| is_gone(seen)).map(|(id, _)| id.clone()).collect();
        self.last_seen.retain(|_, seen| !is_gone(seen));
        gone
    }

    pub(super) fn len(&self) -> usize {
        self.last_seen.len()
    }

    pub(super) fn dismiss(&mut self) {
        self.dismissed = true;
    }

    pub(super) fn dismissed(&self) -> bool {
        self.dismissed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_evicts() {
        let (mut workers, start) = (Workers::new(Duration::from_secs(10)), Instant::now());
        let (a, b) = (workers.add("w", start), workers.add("w", start));
        assert_ne!(a, b);
        assert!(workers.seen(&a, start + Duration::from_secs(5)));
        assert_eq!(workers.evict(start + Duration::from_secs(10)), std::slice::from_ref(&b));
        assert!(!workers.seen(&b, start + Duration::from_secs(10)));
        assert_eq!(workers.evict(start + Duration::from_secs(15)), [a]);
        assert_eq!(workers.len(), 0);
    }
}
