//! Places at which a test ends the process as `kill -9` would. Only in debug builds.

/// Names the place, and optionally which pass of it: `grpo.learned` or `grpo.learned:3`.
pub const ENV: &str = "SINTERNAL_FAIL_POINT";

/// Ends the process if this is the place that [`ENV`] names.
#[cfg(debug_assertions)]
pub fn pass(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static TARGET: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let text = std::env::var(ENV).ok()?;
        let (name, pass) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), pass.parse().ok()?))
    });
    static PASSES: AtomicU64 = AtomicU64::new(0);
    let Some((target, nth)) = &*TARGET else { return };
    if target == name && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        tracing::warn!(name, "the process ends here, as a test asked for");
        #[expect(unsafe_code, reason = "std cannot send a signal that no handler and no destructor sees")]
        // SAFETY: kill takes two numbers and touches no memory.
        unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn pass(_name: &str) {}
