//! What the service holds: the loaded verifiers, their store, and how it gets new ones.

use crate::cache::ScoreCache;
use crate::handle::Handle;
use crate::remote::RemoteJudge;
use crate::store::{Receiving, Store};
use crate::{Options, RewardError};
use sinternal_proto::{
    Chunk, Invalid, MOST_VERIFIERS, ModelManifest, ScoreRequest, ServiceError, Sha256, VerifierLoad,
    VerifierSpec,
};
use sinternal_service::config::JudgeConfig;
use sinternal_service::health::Health;
use sinternal_service::metrics;
use std::collections::BTreeMap;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use tokio::sync::{Mutex, MutexGuard};

/// Scores that are remembered: a few tens of MB with long critiques.
const MOST_SCORES: usize = 8192;

/// A verifier that answers.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// By which score requests name it.
    pub(crate) identity: Sha256,
    pub(crate) handle: Handle,
}

/// Shared by all calls.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) options: Options,
    pub(crate) health: Health,
    pub(crate) scored: AtomicU64,
    pub(crate) masked: AtomicU64,
    /// [`MOST_VERIFIERS`] at most.
    verifiers: RwLock<Vec<Loaded>>,
    loading: Mutex<()>,
    pub(crate) cache: ScoreCache,
    /// By name.
    judges: BTreeMap<String, RemoteJudge>,
}

/// A verifier that was asked for: loaded, or on its way.
#[derive(Debug)]
pub(crate) enum Asked<'a> {
    /// It answers.
    Held(Sha256),
    /// Its files are to be sent.
    Loading(Box<Loading<'a>>),
}

/// A model on its way; only one is at a time.
#[derive(Debug)]
pub(crate) struct Loading<'a> {
    state: &'a State,
    identity: Sha256,
    keep: Vec<Sha256>,
    verifier: VerifierSpec,
    receiving: Receiving,
    _only: MutexGuard<'a, ()>,
}

impl State {
    pub(crate) fn new(options: Options, health: Health) -> Result<Self, RewardError> {
        let judge = |(name, config): (&String, &JudgeConfig)| {
            let judge = RemoteJudge::new(config);
            let judge = judge.map_err(|source| RewardError::Judge { name: name.clone(), source })?;
            Ok::<_, RewardError>((name.clone(), judge))
        };
        Ok(Self {
            judges: options.judges.iter().map(judge).collect::<Result<_, _>>()?,
            store: Store::open(&options.cache, options.cache_bytes)?,
            options,
            health,
            scored: AtomicU64::new(0),
            masked: AtomicU64::new(0),
            verifiers: RwLock::new(Vec::new()),
            loading: Mutex::new(()),
            cache: ScoreCache::new(MOST_SCORES),
        })
    }

    /// Identities of the verifiers that answer.
    pub(crate) fn held(&self) -> Vec<Sha256> {
        let verifiers = self.verifiers.read().expect("no one panics with this lock");
        verifiers.iter().map(|loaded| loaded.identity.clone()).collect()
    }

    fn find(&self, identity: &Sha256) -> Option<Loaded> {
        let verifiers = self.verifiers.read().expect("no one panics with this lock");
        verifiers.iter().find(|loaded| &loaded.identity == identity).cloned()
    }

    /// The verifier that a request asks for; none for mathematics.
    pub(crate) fn verifier_for(&self, request: &ScoreRequest) -> Result<Option<Loaded>, ServiceError> {
        let Some(asked) = &request.verifier else { return Ok(None) };
        self.find(asked).map(Some).ok_or_else(|| {
            let held: Vec<String> = self.held().iter().map(ToString::to_string).collect();
            let held = if held.is_empty() { "none".into() } else { held.join(", ") };
            ServiceError::Precondition(format!("verifier {asked} is asked for; {held} is loaded"))
        })
    }

    /// Forgets a verifier whose thread is gone, so that it is loaded again.
    pub(crate) fn lost(&self, identity: &Sha256) {
        let mut verifiers = self.verifiers.write().expect("no one panics with this lock");
        let before = verifiers.len();
        verifiers.retain(|loaded| &loaded.identity != identity);
        if verifiers.len() < before {
            tracing::error!(verifier = %identity, "verifier crashed; it must be loaded again");
            self.health.set_not_ready("verifier crashed");
        }
    }

    /// Begins to load a verifier, unless it is loaded already, or needs no files.
    pub(crate) async fn begin_loading(&self, load: VerifierLoad) -> Result<Asked<'_>, ServiceError> {
        let busy = |_| ServiceError::Unavailable("another verifier is being loaded; try again".into());
        let only = self.loading.try_lock().map_err(busy)?;
        let VerifierLoad { verifier, keep } = load;
        let (identity, manifest) = match (&verifier, verifier.identity(), verifier.manifest()) {
            (VerifierSpec::Judge(name), ..) => return self.take_judge(name, &keep),
            (_, Some(identity), Some(manifest)) => (identity, manifest.clone()),
            _ => return Err(ServiceError::Internal("a verifier without files or judge".into())),
        };
        self.make_room(&identity, &keep)?;
        if self.find(&identity).is_some() {
            self.drop_all_but(&identity, &keep);
            return Ok(Asked::Held(identity));
        }
        let receiving = self.receive(manifest).await?;
        let loading = Loading { state: self, identity, keep, verifier, receiving, _only: only };
        Ok(Asked::Loading(Box::new(loading)))
    }

    fn take_judge(&self, name: &str, keep: &[Sha256]) -> Result<Asked<'_>, ServiceError> {
        let unknown = || {
            let problem = format!("the reward service has no judge `{name}`: add [reward.judges.{name}]");
            ServiceError::Invalid(Invalid { field: "verifier.judge", problem })
        };
        let judge = self.judges.get(name).ok_or_else(unknown)?.clone();
        let identity = judge.identity().clone();
        self.make_room(&identity, keep)?;
        match self.find(&identity) {
            Some(_) => self.drop_all_but(&identity, keep),
            None => self.install(Loaded { identity: identity.clone(), handle: Handle::Remote(judge) }, keep),
        }
        Ok(Asked::Held(identity))
    }

    async fn receive(&self, manifest: ModelManifest) -> Result<Receiving, ServiceError> {
        let store = self.store.clone();
        blocking(move || store.receive(manifest)).await
    }

    /// Nothing that is to be kept makes way: one too many is refused.
    fn make_room(&self, new: &Sha256, keep: &[Sha256]) -> Result<(), ServiceError> {
        let stay = self.held().iter().filter(|held| *held != new && keep.contains(held)).count();
        if stay < MOST_VERIFIERS {
            return Ok(());
        }
        Err(ServiceError::Exhausted(format!(
            "{stay} verifiers are to be kept, and {MOST_VERIFIERS} are held at most: keep fewer"
        )))
    }

    fn drop_all_but(&self, new: &Sha256, keep: &[Sha256]) {
        let mut verifiers = self.verifiers.write().expect("no one panics with this lock");
        verifiers.retain(|loaded| &loaded.identity == new || keep.contains(&loaded.identity));
    }

    /// Takes a verifier into service; of the others those in `keep` stay.
    pub(crate) fn install(&self, loaded: Loaded, keep: &[Sha256]) {
        let (kind, template) = (loaded.handle.kind(), loaded.handle.template());
        tracing::info!(verifier = %loaded.identity, kind, ?template, "verifier loaded");
        self.drop_all_but(&loaded.identity, keep);
        self.verifiers.write().expect("no one panics with this lock").push(loaded);
        self.health.set_ready();
    }
}

impl Loading<'_> {
    pub(crate) async fn write(mut self, chunk: Chunk) -> Result<Self, ServiceError> {
        let mut receiving = self.receiving;
        self.receiving = blocking(move || receiving.write(&chunk).map(|()| receiving)).await?;
        Ok(self)
    }

    /// Loads what was received; only then do others make way.
    pub(crate) async fn finish(self) -> Result<Sha256, ServiceError> {
        let receiving = self.receiving;
        let folder = blocking(move || receiving.finish()).await?;
        let started = Handle::load(&self.verifier, folder, self.state.options.verifier).await;
        let outcome = if started.is_ok() { "loaded" } else { "refused" };
        metrics::verifier_loads_total(outcome).increment(1);
        let handle = started.map_err(unloadable)?;
        self.state.install(Loaded { identity: self.identity.clone(), handle }, &self.keep);
        Ok(self.identity)
    }
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
