//! What the service holds: the loaded verifier, its store, and how it gets a new one.

use crate::store::{Receiving, Store};
use crate::thread::VerifierHandle;
use crate::verifier::{SelfVerifier, VerifierOptions};
use crate::{Options, RewardError};
use sinternal_proto::{Chunk, Invalid, ModelManifest, ScoreRequest, ServiceError, Sha256};
use sinternal_service::health::Health;
use sinternal_service::metrics::VERIFIER_LOADS_TOTAL;
use std::path::PathBuf;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use tokio::sync::{Mutex, MutexGuard};

/// A verifier that answers.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) hash: Sha256,
    pub(crate) handle: VerifierHandle,
}

/// Shared by all calls.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) options: Options,
    pub(crate) health: Health,
    pub(crate) scored: AtomicU64,
    pub(crate) masked: AtomicU64,
    verifier: RwLock<Option<Loaded>>,
    loading: Mutex<()>,
}

/// A model on its way; only one is at a time.
#[derive(Debug)]
pub(crate) struct Loading<'a> {
    state: &'a State,
    hash: Sha256,
    receiving: Receiving,
    _only: MutexGuard<'a, ()>,
}

impl State {
    pub(crate) fn new(options: Options, health: Health) -> Result<Self, RewardError> {
        Ok(Self {
            store: Store::open(&options.cache, options.cache_bytes)?,
            options,
            health,
            scored: AtomicU64::new(0),
            masked: AtomicU64::new(0),
            verifier: RwLock::new(None),
            loading: Mutex::new(()),
        })
    }

    pub(crate) fn loaded(&self) -> Option<Loaded> {
        self.verifier.read().expect("no one panics with this lock").clone()
    }

    /// The verifier that a request asks for; none for mathematics.
    pub(crate) fn verifier_for(&self, request: &ScoreRequest) -> Result<Option<Loaded>, ServiceError> {
        let Some(asked) = &request.verifier else { return Ok(None) };
        match self.loaded() {
            Some(loaded) if &loaded.hash == asked => Ok(Some(loaded)),
            other => {
                let found = other.map_or("none".into(), |loaded| loaded.hash.to_string());
                Err(ServiceError::Precondition(format!("verifier {asked} is asked for; {found} is loaded")))
            }
        }
    }

    /// Forgets a verifier whose thread is gone, so that it is loaded again.
    pub(crate) fn lost(&self, hash: &Sha256) {
        let mut verifier = self.verifier.write().expect("no one panics with this lock");
        if verifier.as_ref().is_some_and(|loaded| &loaded.hash == hash) {
            tracing::error!(verifier = %hash, "verifier crashed; it must be loaded again");
            *verifier = None;
            self.health.set_not_ready("verifier crashed");
        }
    }

    /// Begins to load a model, unless it is loaded already.
    pub(crate) async fn begin_loading(
        &self,
        manifest: ModelManifest,
    ) -> Result<Option<Loading<'_>>, ServiceError> {
        let busy = |_| ServiceError::Unavailable("another verifier is being loaded; try again".into());
        let only = self.loading.try_lock().map_err(busy)?;
        let hash = manifest.hash.clone();
        if self.loaded().is_some_and(|loaded| loaded.hash == hash) {
            return Ok(None);
        }
        let store = self.store.clone();
        let receiving = blocking(move || store.receive(manifest)).await?;
        Ok(Some(Loading { state: self, hash, receiving, _only: only }))
    }

    pub(crate) fn install(&self, loaded: Loaded) {
        tracing::info!(verifier = %loaded.hash, template = ?loaded.handle.template(), "verifier loaded");
        *self.verifier.write().expect("no one panics with this lock") = Some(loaded);
        self.health.set_ready();
    }
}

impl Loading<'_> {
    pub(crate) async fn write(mut self, chunk: Chunk) -> Result<Self, ServiceError> {
        let mut receiving = self.receiving;
        self.receiving = blocking(move || receiving.write(&chunk).map(|()| receiving)).await?;
        Ok(self)
    }

    /// Loads what was received; only then does it replace the verifier before it.
    pub(crate) async fn finish(self) -> Result<Sha256, ServiceError> {
        let receiving = self.receiving;
        let folder = blocking(move || receiving.finish()).await?;
        let started = start(folder, self.state.options.verifier).await;
        let outcome = if started.is_ok() { "loaded" } else { "refused" };
        metrics::counter!(VERIFIER_LOADS_TOTAL, "outcome" => outcome).increment(1);
        let handle = started.map_err(unloadable)?;
        self.state.install(Loaded { hash: self.hash.clone(), handle });
        Ok(self.hash)
    }
}

async fn start(folder: PathBuf, options: VerifierOptions) -> Result<VerifierHandle, RewardError> {
    VerifierHandle::spawn(options.max_sequences, move || SelfVerifier::load(&folder, options)).await
}

fn unloadable(error: RewardError) -> ServiceError {
    match error {
        RewardError::Crashed => ServiceError::Internal("verifier crashed while it was loaded".into()),
        other => Invalid { field: "manifest", problem: other.to_string() }.into(),
    }
}

/// Runs work that blocks, off the threads that serve calls.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ServiceError> {
    let panicked = |error| ServiceError::Internal(format!("{error}"));
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}
