//! Scores that are known already: asked once, however often and however close together equal requests come.
//!
//! Kept are scores and critiques without a verdict. What was masked for trouble is asked again: it may be over.

use sinternal_proto::{INVALID_CRITIQUE, ScoreOutcome, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

/// Filled once a request has its score; who comes meanwhile waits for it.
type Slot = Arc<OnceCell<ScoreOutcome>>;

/// The scores last used, by what was asked.
#[derive(Debug)]
pub(crate) struct ScoreCache {
    most: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    slots: HashMap<Sha256, (u64, Slot)>,
    /// Least recently used first.
    uses: BTreeMap<u64, Sha256>,
    clock: u64,
}

impl ScoreCache {
    /// Holds `most` scores.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, entries: Mutex::default() }
    }

    /// The score of `key`, by `score` where it is not known yet; and whether it was, or was on its way.
    pub(crate) async fn get_or_score(
        &self,
        key: Sha256,
        score: impl Future<Output = ScoreOutcome>,
    ) -> (ScoreOutcome, bool) {
        let (slot, mut hit) = (self.slot(key), true);
        let scored = slot.get_or_try_init(|| async {
            hit = false;
            match score.await {
                ScoreOutcome::Masked { reason } if reason != INVALID_CRITIQUE => {
                    Err(ScoreOutcome::Masked { reason })
                }
                outcome => Ok(outcome),
            }
        });
        let outcome = scored.await.cloned().unwrap_or_else(|trouble| trouble);
        (outcome, hit)
    }

    fn slot(&self, key: Sha256) -> Slot {
        let mut entries = self.lock();
        entries.clock += 1;
        let now = entries.clock;
        let (last, slot) = entries.slots.entry(key.clone()).or_default();
        let (before, slot) = (std::mem::replace(last, now), Arc::clone(slot));
        entries.uses.remove(&before);
        entries.uses.insert(now, key);
        while entries.slots.len() > self.most {
            let Some((_, oldest)) = entries.uses.pop_first() else { break };
            entries.slots.remove(&oldest);
        }
        slot
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinternal_proto::RewardComponents;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn scored(reward: f32) -> ScoreOutcome {
        let (components, critique) = (RewardComponents::default(), String::new());
        ScoreOutcome::Scored { reward, components, verdict: None, critique }
    }

    fn masked() -> ScoreOutcome {
        ScoreOutcome::Masked { reason: "timeout".into() }
    }

    fn key(n: u8) -> Sha256 {
        Sha256::of(&[n])
    }

    #[tokio::test]
    async fn equal_requests_are_scored_once_even_at_the_same_time() {
        let (cache, asked) = (ScoreCache::new(4), AtomicUsize::new(0));
        let ask = |n| {
            let asked = &asked;
            cache.get_or_score(key(n), async move {
                tokio::task::yield_now().await;
                asked.fetch_add(1, Ordering::Relaxed);
                scored(f32::from(n))
            })
        };
        let (a, b, c) = tokio::join!(ask(1), ask(1), ask(2));
        assert_eq!((a, b, c), ((scored(1.0), false), (scored(1.0), true), (scored(2.0), false)));
        assert_eq!(ask(1).await, (scored(1.0), true));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_was_masked_for_trouble_is_asked_again() {
        let cache = ScoreCache::new(4);
        assert_eq!(cache.get_or_score(key(1), async { masked() }).await, (masked(), false));
        assert_eq!(cache.get_or_score(key(1), async { scored(1.0) }).await, (scored(1.0), false));
        assert_eq!(cache.get_or_score(key(1), async { masked() }).await, (scored(1.0), true));
        let invalid = || ScoreOutcome::Masked { reason: INVALID_CRITIQUE.into() };
        assert_eq!(cache.get_or_score(key(3), async { invalid() }).await, (invalid(), false));
        assert_eq!(cache.get_or_score(key(3), async { scored(1.0) }).await, (invalid(), true));
        // A request that was given up leaves the way free for the next.
        let given_up = cache.get_or_score(key(2), std::future::pending());
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), given_up).await.is_err());
        assert_eq!(cache.get_or_score(key(2), async { scored(0.5) }).await, (scored(0.5), false));
    }

    #[tokio::test]
    async fn the_least_recently_used_goes_first() {
        let cache = ScoreCache::new(2);
        for (n, hit) in [(1, false), (2, false), (1, true), (3, false), (1, true), (2, false)] {
            let found = cache.get_or_score(key(n), async { scored(f32::from(n)) }).await;
            assert_eq!(found, (scored(f32::from(n)), hit), "{n}");
        }
        let entries = cache.lock();
        assert_eq!((entries.slots.len(), entries.uses.len()), (2, 2));
    }
}
