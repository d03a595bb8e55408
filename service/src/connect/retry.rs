//! Trying again: exponential waits with jitter under one overall deadline.

use backon::{ExponentialBuilder, Retryable};
use std::fmt;
use std::time::Duration;

/// How long and how often to try again: waits double from `first` to `longest`, with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first wait.
    pub first: Duration,
    /// No wait is longer, jitter (up to the wait itself) apart.
    pub longest: Duration,
    /// All attempts and waits together.
    pub deadline: Duration,
}

impl RetryPolicy {
    /// Waits of 0.1 to 5 seconds under an overall deadline.
    #[must_use]
    pub const fn within(deadline: Duration) -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(5), deadline }
    }
}

/// Why trying again ended.
#[derive(Debug, thiserror::Error)]
pub enum RetryError<E: fmt::Display + fmt::Debug> {
    /// An error that trying again would not change.
    #[error("{0}")]
    Permanent(E),
    /// The overall deadline passed.
    #[error("gave up after {} s and {attempts} attempts{last}", after.as_secs_f64())]
    Deadline {
        /// The deadline.
        after: Duration,
        /// Attempts begun.
        attempts: u32,
        /// `: ` and the last error, or empty where the first attempt never ended.
        last: String,
    },
}

/// Runs `operation` until it succeeds, fails for good, or the policy's deadline passes.
///
/// # Errors
/// See [`RetryError`].
pub async fn retry<T, E, F>(
    policy: RetryPolicy,
    is_retryable: impl Fn(&E) -> bool,
    mut operation: impl FnMut() -> F,
) -> Result<T, RetryError<E>>
where
    E: fmt::Display + fmt::Debug,
    F: Future<Output = Result<T, E>>,
{
    let (mut attempts, mut last) = (0, String::new());
    let waits = ExponentialBuilder::default()
        .with_min_delay(policy.first)
        .with_max_delay(policy.longest)
        .with_jitter()
        .without_max_times();
    let attempt = || {
        attempts += 1;
        operation()
    };
    let trying = attempt.retry(waits).when(|error| is_retryable(error)).notify(|error, wait| {
        tracing::info!(%error, wait_s = wait.as_secs_f64(), "will try again");
        last = format!(": {error}");
    });
    match tokio::time::timeout(policy.deadline, trying).await {
        Ok(outcome) => outcome.map_err(RetryError::Permanent),
        Err(_) => Err(RetryError::Deadline { after: policy.deadline, attempts, last }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::time::Instant;

    const POLICY: RetryPolicy = RetryPolicy::within(Duration::from_secs(30));

    #[tokio::test(start_paused = true)]
    async fn retrying_stops_at_the_deadline_and_tells_the_last_error() {
        let (start, tries) = (Instant::now(), Cell::new(0));
        let error = retry(
            POLICY,
            |_: &String| true,
            || {
                tries.set(tries.get() + 1);
                async { Err::<(), _>("trainer http://127.0.0.1:7500: lease: refused".to_owned()) }
            },
        )
        .await
        .expect_err("never succeeds");
        assert_eq!(start.elapsed(), Duration::from_secs(30));
        assert_eq!(
            error.to_string(),
            format!(
                "gave up after 30 s and {} attempts: trainer http://127.0.0.1:7500: lease: refused",
                tries.get()
            )
        );
        // Without jitter: at 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 11.3, 16.3, 21.3 and 26.3 s. Jitter adds up to
        // the wait itself: at most at 0, 0.2, 0.6, 1.4, 3.0, 6.2, 12.6 and 22.6 s.
        assert!((8..=11).contains(&tries.get()), "{} attempts", tries.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_attempt_is_cut_at_the_deadline() {
        let start = Instant::now();
        let hang = || std::future::pending::<Result<(), String>>();
        let error = retry(POLICY, |_| true, hang).await.expect_err("hangs");
        assert_eq!(start.elapsed(), Duration::from_secs(30));
        assert_eq!(error.to_string(), "gave up after 30 s and 1 attempts");
    }

    #[tokio::test(start_paused = true)]
    async fn the_third_attempt_may_succeed_and_a_permanent_error_ends_at_once() {
        let tries = Cell::new(0);
        let third = retry(
            POLICY,
            |_: &u32| true,
            || {
                tries.set(tries.get() + 1);
                let now = tries.get();
                async move { if now == 3 { Ok(now) } else { Err(now) } }
            },
        );
        assert_eq!(third.await.expect("succeeds"), 3);
        let start = Instant::now();
        let refused = retry(POLICY, |_| false, || async { Err::<(), _>("refused") }).await;
        assert!(matches!(refused, Err(RetryError::Permanent("refused"))));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
