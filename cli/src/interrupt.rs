//! Ctrl-C between two writes, never within one.

use anyhow::Context;
use sinternal_service::serve::shutdown_signal;
use std::sync::{Arc, Mutex, PoisonError};

/// 128 + SIGINT, as shells have it.
const INTERRUPTED: i32 = 130;

/// Files are written under it, and a signal ends the process under it, so that no file is left half-written.
#[derive(Clone)]
pub(crate) struct Whole(Arc<Mutex<()>>);

impl Whole {
    /// Listens for Ctrl-C and SIGTERM from now on; `farewell` is told when one comes.
    pub(crate) fn listen(farewell: String) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("failed to start the async runtime")?;
        let stop = {
            let _inside = runtime.enter();
            shutdown_signal().context("failed to listen for signals")?
        };
        let whole = Self(Arc::default());
        let writing = whole.clone();
        let wait = move || {
            runtime.block_on(stop);
            writing.write(|| {
                eprintln!("{farewell}");
                end()
            })
        };
        std::thread::Builder::new().name("signals".into()).spawn(wait).context("failed to start a thread")?;
        Ok(whole)
    }

    /// Writes; a signal meanwhile waits.
    pub(crate) fn write<T>(&self, work: impl FnOnce() -> T) -> T {
        let _writing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

/// Ends the process at once: the libraries' own clean-up would take tensors apart under a thread that still computes.
fn end() -> ! {
    #[expect(unsafe_code, reason = "std has no exit without clean-up")]
    // SAFETY: it takes a number and does not return.
    unsafe {
        libc::_exit(INTERRUPTED)
    }
}
