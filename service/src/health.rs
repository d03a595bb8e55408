//! Whether this process is ready for work, as its health endpoints tell it.

use tokio::sync::watch;

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It takes work.
    Ready,
    /// It does not, and this is why: `loading the model`, `draining`.
    NotReady(String),
}

/// A cheap clone that sets and watches one process's readiness.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<Readiness>);

impl Health {
    /// Not ready yet.
    #[must_use]
    pub fn starting() -> Self {
        Self(watch::Sender::new(Readiness::NotReady("starting".into())))
    }

    /// From now on the process takes work.
    pub fn set_ready(&self) {
        self.0.send_replace(Readiness::Ready);
    }

    /// From now on it does not.
    pub fn set_not_ready(&self, why: impl Into<String>) {
        self.0.send_replace(Readiness::NotReady(why.into()));
    }

    /// What it says now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.0.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Readiness> {
        self.0.subscribe()
    }
}
