//! When a process should end: signals, and the death of the process that started it.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a process that a second signal ended: 128 + SIGINT.
const ABORTED: i32 = 130;

/// Listens from now on for Ctrl-C and SIGTERM; the future resolves at the first of them. The second ends the
/// process at once, without draining.
///
/// # Errors
/// The signals cannot be listened for.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let name = next(&mut interrupt, &mut terminate).await;
        tracing::info!(signal = name, "stopping; a second signal aborts");
        tokio::spawn(async move {
            next(&mut interrupt, &mut terminate).await;
            std::process::exit(ABORTED);
        });
    })
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// Has the kernel send this process SIGTERM when the process `parent`, which started it, dies: whatever kills
/// a launcher, its children drain and end. To be called first thing in the child. The launcher must start its
/// children from a thread that lives as long as itself, for the kernel watches the starting thread.
///
/// # Errors
/// The system refuses, or the parent has died already.
pub fn exit_with_parent(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let sigterm = libc::c_ulong::try_from(libc::SIGTERM).expect("signal numbers are small and positive");
        #[expect(
            unsafe_code,
            reason = "prctl has no safe wrapper; this option takes a number and no pointer"
        )]
        // SAFETY: PR_SET_PDEATHSIG reads one integer argument and touches no memory of this process.
        let refused = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, sigterm) } != 0;
        if refused {
            return Err(io::Error::last_os_error());
        }
    }
    // It may have died before the call above.
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err(io::Error::other(format!("the launcher, process {parent}, is gone")))
    }
}
