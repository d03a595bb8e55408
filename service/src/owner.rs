//! One OS thread owns a value that must not be shared, such as a model's tensors, and runs closures on it.
//!
//! ```text
//! handle.call(closure) ──bounded channel──► thread: closure(&mut value) ──oneshot──► answer
//! ```
//!
//! The thread ends when the last handle is dropped, or when a closure panics: the value may then be broken,
//! so it is dropped, and every later call says why.

use std::any::Any;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};

type Job<T> = Box<dyn FnOnce(&mut T) -> ControlFlow<()> + Send>;

/// A cheap clone that speaks to the owning thread.
pub struct OwnerHandle<T> {
    name: Arc<str>,
    jobs: mpsc::Sender<Job<T>>,
    ended: Arc<OnceLock<String>>,
}

/// The thread has ended, so the call was not (or not wholly) carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("thread `{name}` has ended: {cause}")]
pub struct OwnerGone {
    name: Arc<str>,
    cause: String,
}

/// The value could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError<E: fmt::Debug + fmt::Display> {
    /// The system gave no thread.
    #[error("failed to start a thread: {0}")]
    Thread(std::io::Error),
    /// `init` failed.
    #[error("{0}")]
    Init(E),
    /// `init` panicked.
    #[error("initialisation panicked: {0}")]
    Panicked(String),
}

/// Starts a thread that makes its value with `init` and then serves at most `queue` waiting calls. Returns
/// when the value is made.
///
/// # Errors
/// See [`SpawnError`].
pub async fn spawn_owner<T, E>(
    name: &str,
    queue: usize,
    init: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<OwnerHandle<T>, SpawnError<E>>
where
    T: 'static,
    E: fmt::Debug + fmt::Display + Send + 'static,
{
    let (jobs, inbox) = mpsc::channel(queue);
    let (made, is_made) = oneshot::channel();
    let handle = OwnerHandle { name: name.into(), jobs, ended: Arc::new(OnceLock::new()) };
    let body = move || match catch_unwind(AssertUnwindSafe(init)) {
        // Whoever asked has gone: so does the thread.
        Ok(Ok(value)) => made.send(Ok(())).map_or((), |()| run(value, inbox)),
        Ok(Err(error)) => drop(made.send(Err(SpawnError::Init(error)))),
        Err(panic) => drop(made.send(Err(SpawnError::Panicked(panic_text(&*panic))))),
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(SpawnError::Thread)?;
    is_made.await.unwrap_or_else(|_| Err(SpawnError::Panicked("its thread is gone".into())))?;
    Ok(handle)
}

fn run<T>(mut value: T, mut inbox: mpsc::Receiver<Job<T>>) {
    while let Some(job) = inbox.blocking_recv() {
        if job(&mut value).is_break() {
            break;
        }
    }
}

impl<T: 'static> OwnerHandle<T> {
    /// Runs `f` on the value and waits for its result. If the waiting future is dropped, `f` still runs.
    ///
    /// # Errors
    /// `f` panicked, or the thread had ended before.
    pub async fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, OwnerGone> {
        let (job, answer) = self.package(f);
        self.jobs.send(job).await.map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())
    }

    /// As [`Self::call`], for code outside an async runtime.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn blocking_call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, OwnerGone> {
        let (job, answer) = self.package(f);
        self.jobs.blocking_send(job).map_err(|_| self.gone())?;
        answer.blocking_recv().map_err(|_| self.gone())
    }

    fn package<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> (Job<T>, oneshot::Receiver<R>) {
        let (reply, answer) = oneshot::channel();
        let ended = Arc::clone(&self.ended);
        let job = move |value: &mut T| match catch_unwind(AssertUnwindSafe(|| f(value))) {
            Ok(result) => {
                // Nobody may wait for it any more.
                drop(reply.send(result));
                ControlFlow::Continue(())
            }
            Err(panic) => {
                // Set before `reply` is dropped, so that whoever finds it dropped finds the cause too.
                ended.get_or_init(|| format!("panicked: {}", panic_text(&*panic)));
                drop(reply);
                ControlFlow::Break(())
            }
        };
        (Box::new(job), answer)
    }

    fn gone(&self) -> OwnerGone {
        let cause = self.ended.get().cloned().unwrap_or_else(|| "it was stopped".into());
        OwnerGone { name: Arc::clone(&self.name), cause }
    }
}

impl<T> Clone for OwnerHandle<T> {
    fn clone(&self) -> Self {
        Self { name: Arc::clone(&self.name), jobs: self.jobs.clone(), ended: Arc::clone(&self.ended) }
    }
}

impl<T> fmt::Debug for OwnerHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerHandle").field("name", &self.name).finish_non_exhaustive()
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Neither `Send` nor `Sync`; counts its drops.
    struct Tensor(Rc<u32>, Arc<AtomicUsize>);

    impl Drop for Tensor {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn owner(queue: usize, drops: &Arc<AtomicUsize>) -> OwnerHandle<Tensor> {
        let drops = Arc::clone(drops);
        let init = move || Ok::<_, Infallible>(Tensor(Rc::new(7), drops));
        spawn_owner("model", queue, init).await.expect("starts")
    }

    async fn eventually(drops: &AtomicUsize, count: usize) {
        let counted = async {
            while drops.load(Ordering::SeqCst) != count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), counted).await.expect("dropped in time");
    }

    #[tokio::test]
    async fn calls_run_in_order_on_one_value_and_the_last_handle_ends_it() {
        let drops = Arc::new(AtomicUsize::new(0));
        let handle = owner(1, &drops).await;
        for expected in 8..=10 {
            let got = handle.call(|t| {
                t.0 = Rc::new(*t.0 + 1);
                *t.0
            });
            assert_eq!(got.await.expect("alive"), expected);
        }
        let second = handle.clone();
        drop(handle);
        let got = tokio::task::spawn_blocking(move || second.blocking_call(|t| *t.0)).await.expect("joins");
        assert_eq!(got.expect("alive"), 10);
        eventually(&drops, 1).await;
    }

    #[tokio::test]
    async fn a_panic_reaches_its_caller_and_every_later_one() {
        let drops = Arc::new(AtomicUsize::new(0));
        let handle = owner(4, &drops).await;
        let error =
            handle.call(|_| -> u32 { panic!("index {} out of bounds", 9) }).await.expect_err("panics");
        assert_eq!(error.to_string(), "thread `model` has ended: panicked: index 9 out of bounds");
        assert_eq!(handle.call(|t| *t.0).await.expect_err("ended"), error);
        eventually(&drops, 1).await;
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let drops = Arc::new(AtomicUsize::new(0));
        let handle = owner(1, &drops).await;
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let busy = tokio::spawn({
            let handle = handle.clone();
            async move { handle.call(move |_| wait.recv().expect("released")).await }
        });
        let queued = async {
            while handle.jobs.try_reserve().is_ok() {
                // Until the busy call has left the queue, its one place is free for this one.
                let (job, _) = handle.package(|_| ());
                drop(handle.jobs.try_send(job));
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), queued).await.expect("fills");
        let third = tokio::time::timeout(Duration::from_millis(50), handle.call(|t| *t.0));
        assert!(third.await.is_err(), "waits for room");
        go.send(()).expect("busy");
        busy.await.expect("joins").expect("alive");
        assert_eq!(handle.call(|t| *t.0).await.expect("room again"), 7);
    }

    #[tokio::test]
    async fn a_failed_or_panicking_init_is_an_error() {
        let failed = spawn_owner::<u32, String>("model", 1, || Err("no such folder".into())).await;
        assert_eq!(failed.expect_err("fails").to_string(), "no such folder");
        let panicked = spawn_owner::<u32, String>("model", 1, || panic!("boom")).await;
        assert_eq!(panicked.expect_err("panics").to_string(), "initialisation panicked: boom");
    }
}
