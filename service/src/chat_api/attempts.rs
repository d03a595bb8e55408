//! Calling again: exponential waits with full jitter, the server's wishes, one overall deadline.

use super::{ChatProblem, ChatSettings};
use backon::Retryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How often, how long and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempts {
    /// Calls after the first.
    pub(super) retries: u32,
    /// The first wait is drawn from 0 to this.
    pub(super) base: Duration,
    /// The range grows up to this.
    pub(super) cap: Duration,
    /// All calls and waits together.
    pub(super) within: Duration,
}

impl Attempts {
    pub(super) fn of(settings: &ChatSettings) -> Self {
        Self {
            retries: settings.retries,
            base: settings.retry_base,
            cap: settings.retry_cap,
            within: settings.request,
        }
    }

    /// Calls until a call succeeds, fails for good, or there is no time left for another wait. `call` gets the
    /// deadline; `notice` is told every problem that is followed by another call. Returns the calls made, too.
    pub(super) async fn run<T, F: Future<Output = Result<T, ChatProblem>>>(
        self,
        jitter_seed: u64,
        mut call: impl FnMut(Instant) -> F,
        mut notice: impl FnMut(&ChatProblem, Duration),
    ) -> (u32, Result<T, ChatProblem>) {
        let deadline = Instant::now() + self.within;
        let (mut calls, mut last) = (0, String::new());
        let attempt = || {
            calls += 1;
            call(deadline)
        };
        let trying = attempt
            .retry(FullJitter::new(self, jitter_seed))
            .when(ChatProblem::is_transient)
            .adjust(|problem, drawn| {
                let wait = drawn?.max(problem.retry_after().unwrap_or_default());
                (Instant::now() + wait < deadline).then_some(wait)
            })
            .notify(|problem, wait| {
                last = format!("; before: {problem}");
                notice(problem, wait);
            });
        let outcome = timeout_at(deadline, trying).await;
        let late = |_| Err(ChatProblem::Deadline { after: self.within, last });
        (calls, outcome.unwrap_or_else(late))
    }
}

/// Waits drawn evenly from 0 to a range that doubles: callers that failed together do not return together.
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
struct FullJitter {
    left: u32,
    range: Duration,
    cap: Duration,
    random: StdRng,
}

impl FullJitter {
    fn new(policy: Attempts, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { left: policy.retries, range: policy.base.min(policy.cap), cap: policy.cap, random }
    }
}

impl Iterator for FullJitter {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let wait = self.range.mul_f64(self.random.r#gen());
        self.range = self.range.saturating_mul(2).min(self.cap);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const POLICY: Attempts = Attempts {
        retries: 4,
        base: Duration::from_secs(1),
        cap: Duration::from_secs(4),
        within: Duration::from_secs(100),
    };

    fn busy(retry_after: Option<u64>) -> ChatProblem {
        let retry_after = retry_after.map(Duration::from_secs);
        ChatProblem::Busy { status: 500, message: "no".into(), retry_after }
    }

    /// Runs `call` on a paused clock and tells when each call began, in seconds.
    async fn begun(
        policy: Attempts,
        call: impl Fn(usize) -> Result<(), ChatProblem>,
    ) -> (Vec<f64>, u32, Result<(), ChatProblem>) {
        let (start, begun) = (Instant::now(), RefCell::new(Vec::new()));
        let next = |_| {
            begun.borrow_mut().push(start.elapsed().as_secs_f64());
            let result = call(begun.borrow().len());
            async { result }
        };
        let (calls, result) = policy.run(7, next, |_, _| ()).await;
        (begun.into_inner(), calls, result)
    }

    #[test]
    fn waits_fill_a_doubling_range_up_to_the_cap() {
        let (mut sums, seeds) = ([0.0; 4], 0..2000);
        for seed in seeds.clone() {
            let waits: Vec<f64> = FullJitter::new(POLICY, seed).map(|wait| wait.as_secs_f64()).collect();
            assert_eq!(waits.len(), 4);
            for ((sum, wait), range) in sums.iter_mut().zip(&waits).zip([1.0, 2.0, 4.0, 4.0]) {
                assert!((0.0..=range).contains(wait), "{waits:?}");
                *sum += wait / range;
            }
        }
        // An even draw has mean 1/2 and standard deviation 0.289, so 2,000 of them have one of 0.0065.
        for sum in sums {
            assert!((sum / 2000.0 - 0.5).abs() < 0.026, "{sums:?}");
        }
        let twice = || FullJitter::new(POLICY, 7).collect::<Vec<_>>();
        assert_eq!(twice(), twice());
    }

    #[tokio::test(start_paused = true)]
    async fn retries_run_out() {
        let (begun, calls, result) = begun(POLICY, |_| Err(busy(None))).await;
        assert_eq!((begun.len(), calls, result), (5, 5, Err(busy(None))));
        // At most 1 + 2 + 4 + 4 seconds of waits.
        assert!(begun[4] > 0.0 && begun[4] <= 11.01, "{begun:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_not_called_before_it_asked_for() {
        let answers = |call| if call == 3 { Ok(()) } else { Err(busy(Some(20))) };
        let (begun, calls, result) = begun(POLICY, answers).await;
        assert_eq!((calls, result), (3, Ok(())));
        assert!((begun[1] - 20.0).abs() < 0.01 && (begun[2] - 40.0).abs() < 0.01, "{begun:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_the_deadline_is_not_begun() {
        let start = Instant::now();
        let (_, calls, result) = begun(POLICY, |_| Err(busy(Some(100)))).await;
        assert_eq!((calls, result, start.elapsed()), (1, Err(busy(Some(100))), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_change_is_not_tried_again() {
        let problem = ChatProblem::Malformed("not JSON".into());
        let (_, calls, result) = begun(POLICY, |_| Err(ChatProblem::Malformed("not JSON".into()))).await;
        assert_eq!((calls, result), (1, Err(problem)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_cuts_a_hanging_call_and_tells_the_one_before() {
        let start = Instant::now();
        let tries = RefCell::new(0);
        let call = |_| {
            *tries.borrow_mut() += 1;
            let first = *tries.borrow() == 1;
            async move { if first { Err(busy(None)) } else { std::future::pending::<Result<(), _>>().await } }
        };
        let (calls, result) = POLICY.run(7, call, |_, _| ()).await;
        assert_eq!((calls, start.elapsed()), (2, Duration::from_secs(100)));
        let text = result.expect_err("hangs").to_string();
        assert_eq!(text, "no answer within 100 s for the whole request; before: status 500: no");
    }
}
