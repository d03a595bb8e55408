//! A job's side of the hub: groups in, traces out.

use super::error::RolloutError;
use super::hub::Inner;
use crate::work_buffer::{Group, OfferRefused};
use sinternal_proto::{JobId, Trace};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A job's side of the hub. Dropping it cancels what the job still has there.
#[derive(Debug)]
pub struct RolloutSession {
    pub(super) inner: Arc<Inner>,
    pub(super) job: JobId,
}

impl RolloutSession {
    /// Queues a group, waiting for room. Room comes from traces that [`next`](Self::next) has handed out, so whoever offers
    /// more than the capacity must read at the same time. Task ids must be unique over the job's life.
    ///
    /// # Errors
    /// When there is no room within `offer_timeout`, or the group is empty, repeated or another job's.
    pub async fn offer(&self, group: Group) -> Result<(), RolloutError> {
        let (start, patience) = (Instant::now(), self.inner.options.offer_timeout);
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let group = Group { job: self.job.clone(), ..group.clone() };
            let Err(refused) = self.inner.change_if(|state| state.buffer.offer(group)) else {
                return Ok(());
            };
            if let Some(rejected) = self.inner.lock().rejection() {
                return Err(rejected);
            }
            let full = matches!(refused, OfferRefused::Full { .. });
            if !full || timeout_at(start + patience, changed.changed()).await.is_err() {
                return Err(RolloutError::Refused { refused, waited: start.elapsed() });
            }
        }
    }

    /// The next finished trace, in the order of arrival.
    ///
    /// # Errors
    /// When none comes within `deadline`, says who is connected and what to do.
    pub async fn next(&self, deadline: Duration) -> Result<Trace, RolloutError> {
        let start = Instant::now();
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Ok(trace) = self.inner.change_if(|state| state.pop().ok_or(())) {
                return Ok(trace);
            }
            if let Some(rejected) = self.inner.lock().rejection() {
                return Err(rejected);
            }
            if timeout_at(start + deadline, changed.changed()).await.is_err() {
                return Err(self.inner.diagnose(&self.job, start.elapsed()));
            }
        }
    }

    /// Offers all groups and hands each of their traces to `each` as it comes, with at most `patience` between two.
    ///
    /// # Errors
    /// As [`offer`](Self::offer) and [`next`](Self::next).
    pub async fn sample(
        &self,
        groups: Vec<Group>,
        patience: Duration,
        mut each: impl FnMut(Trace),
    ) -> Result<(), RolloutError> {
        let expected: u64 = groups.iter().map(|g| u64::from(g.samples) - g.done.len() as u64).sum();
        let offering = async {
            for group in groups {
                self.offer(group).await?;
            }
            Ok(())
        };
        let reading = async {
            for _ in 0..expected {
                each(self.next(patience).await?);
            }
            Ok(())
        };
        tokio::try_join!(offering, reading).map(|((), ())| ())
    }

    /// Connected workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.inner.lock().workers.len()
    }
}

impl Drop for RolloutSession {
    fn drop(&mut self) {
        self.inner.change(|state| {
            state.session = None;
            let groups = state.buffer.cancel(&self.job);
            if groups > 0 {
                tracing::info!(job = %self.job, groups, "cancelled what was left in the work buffer");
            }
        });
    }
}
