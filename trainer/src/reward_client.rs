//! The trainer's side of the reward service: verifiers are uploaded, answers scored, outages bridged.
//!
//! ```text
//! load_verifier, load_beside ─► status ─► upload of the files it lacks ─► remembered, so that a restarted service gets
//!                               them again
//! open ─► ScoreSession: send ─► one stream, opened again after a loss; what is unanswered is sent again ─► next
//! ```
//!
//! **Invariant.** A session answers every request exactly once, or ends with an error that names the service.

mod session;
mod source;
mod upload;

pub use session::{ScoreSender, ScoreSession};
pub use source::VerifierSource;

use sinternal_proto::pb::reward_service_client::RewardServiceClient;
use sinternal_proto::{Invalid, ScoreRequest, ScoreResult, Sha256, VerifierSpec, pb};
use sinternal_service::access::Credentials;
use sinternal_service::connect::{
    BadAddress, Channel, Peer, RetryError, RetryPolicy, RpcError, call, channel, retry,
};
use sinternal_service::serve::MAX_MESSAGE_BYTES;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tonic::Code;

/// Requests of [`RewardClient::score_all`] that are under way at once.
const SCORE_ALL_CAPACITY: usize = 256;

/// Deadlines of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewardOptions {
    /// Of a connection attempt.
    pub connect: Duration,
    /// Of an answer, counted from when it was handed over or the service last answered anything; then it is masked.
    /// Also of a status call.
    pub request: Duration,
    /// Of an upload and the loading that follows it.
    pub load: Duration,
    /// How long the service may be away before a session fails.
    pub outage: Duration,
}

impl Default for RewardOptions {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(5), request: seconds(60), load: seconds(600), outage: seconds(120) }
    }
}

/// Why an answer has no score, or a verifier is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum RewardError {
    /// Not an address.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The service refuses, or does not answer a call in time.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The service was away for too long.
    #[error("{peer}: away for {} s: {last}", after.as_secs_f64())]
    Outage {
        /// The service.
        peer: Peer,
        /// The bound.
        after: Duration,
        /// What the last attempt said.
        last: String,
    },
    /// Loading was tried until its deadline.
    #[error("failed to load the verifier: {0}")]
    Load(String),
    /// The service answers what it should not.
    #[error("{peer}: malformed answer: {invalid}")]
    Malformed {
        /// The service.
        peer: Peer,
        /// What is wrong.
        invalid: Invalid,
    },
    /// A remote judge whose settings are not those that it was loaded with.
    #[error("{peer}: judge `{name}` is {found} now; it was {loaded} when it was loaded")]
    Changed {
        /// The service.
        peer: Peer,
        /// The judge.
        name: String,
        /// Its identity now.
        found: Sha256,
        /// Its identity before.
        loaded: Sha256,
    },
    /// A file of the verifier cannot be read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The caller's mistake: an id that is under way already, or a verifier that was not loaded.
    #[error("score request `{id}`: {problem}")]
    Request {
        /// Of the request.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// The session has ended with an error before.
    #[error("the scoring session has ended")]
    Ended,
}

/// A client; its clones share the connection and the remembered verifiers.
#[derive(Debug, Clone)]
pub struct RewardClient {
    peer: Peer,
    channel: Channel,
    options: RewardOptions,
    /// The first is the one that rewards; the others judge beside it.
    verifiers: Arc<Mutex<Vec<Remembered>>>,
}

/// What is loaded again when the service has lost it.
#[derive(Debug, Clone)]
struct Remembered {
    source: VerifierSource,
    /// Of a remote judge it is known once it is loaded.
    identity: Option<Sha256>,
}

impl RewardClient {
    /// A client of the service at `url`, which need not be there yet.
    ///
    /// # Errors
    /// The address cannot be called with these credentials.
    pub fn new(url: &str, credentials: &Credentials, options: RewardOptions) -> Result<Self, RewardError> {
        let peer = Peer::new("reward service", url);
        let channel = channel(&peer, credentials, options.connect)?;
        Ok(Self { peer, channel, options, verifiers: Arc::default() })
    }

    /// Makes the service judge with this verifier, sending what it lacks, and remembers it; gives its identity. Those
    /// loaded before are forgotten; the service drops them when it next loads a verifier that it does not hold.
    ///
    /// # Errors
    /// The service is away for longer than the outage bound; it refuses the verifier; a file cannot be read.
    pub async fn load_verifier(&self, source: &VerifierSource) -> Result<Sha256, RewardError> {
        *self.lock() = vec![Remembered::new(source)];
        self.load_patiently().await?;
        self.identity_of(source)
    }

    /// Loads another verifier beside those that were loaded through this client; gives its identity.
    ///
    /// # Errors
    /// As [`RewardClient::load_verifier`]; as many as the service holds are loaded already.
    pub async fn load_beside(&self, source: &VerifierSource) -> Result<Sha256, RewardError> {
        let new = !self.lock().iter().any(|known| &known.source == source);
        if new {
            self.lock().push(Remembered::new(source));
        }
        let loaded = self.load_patiently().await;
        if new && loaded.is_err() {
            self.lock().retain(|known| &known.source != source);
        }
        loaded?;
        self.identity_of(source)
    }

    async fn load_patiently(&self) -> Result<(), RewardError> {
        let patient = RetryPolicy::within(self.options.outage);
        retry(patient, RpcError::is_transient, || self.status()).await.map_err(|error| match error {
            RetryError::Permanent(error) => error.into(),
            RetryError::Deadline { after, last, .. } => self.outage(after, last.trim_start_matches(": ")),
        })?;
        let patient = RetryPolicy::within(self.options.load);
        retry(patient, RewardError::is_transient, || self.ensure_verifiers()).await.map_err(|error| {
            match error {
                RetryError::Permanent(error) => error,
                deadline @ RetryError::Deadline { .. } => RewardError::Load(deadline.to_string()),
            }
        })
    }

    fn identity_of(&self, source: &VerifierSource) -> Result<Sha256, RewardError> {
        let known = self.lock().iter().find(|known| &known.source == source).and_then(|k| k.identity.clone());
        known.ok_or_else(|| RewardError::Load("it was forgotten while it was loaded".into()))
    }

    /// Opens a session with up to `capacity` requests under way.
    #[must_use]
    pub fn open(&self, capacity: usize) -> ScoreSession {
        ScoreSession::open(self.clone(), capacity.max(1))
    }

    /// Scores all of `requests`, and answers in their order.
    ///
    /// # Errors
    /// As [`ScoreSession::next`].
    pub async fn score_all(&self, requests: Vec<ScoreRequest>) -> Result<Vec<ScoreResult>, RewardError> {
        let place_of: HashMap<String, usize> = requests.iter().map(|r| r.id.clone()).zip(0..).collect();
        let mut results: Vec<Option<ScoreResult>> = vec![None; requests.len()];
        let mut session = self.open(SCORE_ALL_CAPACITY);
        let sender = session.sender();
        let feed = async move {
            for request in requests {
                if sender.send(request).await.is_err() {
                    break; // `collect` gets the cause
                }
            }
        };
        let collect = async {
            for _ in 0..results.len() {
                let result = session.next().await?;
                if let Some(&place) = place_of.get(&result.id) {
                    results[place] = Some(result);
                }
            }
            Ok::<_, RewardError>(())
        };
        tokio::join!(feed, collect).1?;
        results.into_iter().collect::<Option<Vec<_>>>().ok_or(RewardError::Ended)
    }

    /// Forgets the verifiers, so that a later job's sessions do not ask for them.
    pub fn forget_verifiers(&self) {
        self.lock().clear();
    }

    /// The verifier that rewards, if one was loaded through this client.
    #[must_use]
    pub fn verifier(&self) -> Option<Sha256> {
        self.lock().first().and_then(|first| first.identity.clone())
    }

    /// Identities of all verifiers that are loaded through this client.
    fn identities(&self) -> Vec<Sha256> {
        self.lock().iter().filter_map(|known| known.identity.clone()).collect()
    }

    fn others(&self, source: &VerifierSource) -> Vec<Sha256> {
        let known = self.lock();
        known.iter().filter(|k| &k.source != source).filter_map(|k| k.identity.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Remembered>> {
        self.verifiers.lock().expect("no one panics with this lock")
    }

    fn grpc(&self) -> RewardServiceClient<Channel> {
        RewardServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    async fn status(&self) -> Result<pb::RewardStatusResponse, RpcError> {
        let mut grpc = self.grpc();
        call(&self.peer, "status", self.options.request, grpc.reward_status(pb::RewardStatusRequest {})).await
    }

    /// Loads the remembered verifiers that the service has not. What it believed to have and had not is sent in a
    /// second attempt.
    async fn ensure_verifiers(&self) -> Result<(), RewardError> {
        let remembered = self.lock().clone();
        for verifier in remembered {
            let loaded = self.load_unless_loaded(&verifier).await;
            match &loaded {
                Err(RewardError::Rpc(error))
                    if error.status().is_some_and(|s| s.code() == Code::DataLoss) =>
                {
                    self.load_unless_loaded(&verifier).await?;
                }
                _ => loaded?,
            }
        }
        Ok(())
    }

    async fn load_unless_loaded(&self, verifier: &Remembered) -> Result<(), RewardError> {
        let status = self.status().await?;
        let held = |identity: &Sha256| status.verifier_hashes.contains(&identity.0);
        if verifier.identity.as_ref().is_some_and(held) {
            return Ok(());
        }
        let files = status.file_sha256.into_iter().map(Sha256).collect();
        let found = self.upload(&verifier.source, files).await?;
        match (&verifier.identity, &verifier.source.spec) {
            (Some(loaded), VerifierSpec::Judge(name)) if *loaded != found => {
                let (peer, name, loaded) = (self.peer.clone(), name.clone(), loaded.clone());
                Err(RewardError::Changed { peer, name, found, loaded })
            }
            _ => {
                let mut known = self.lock();
                known.iter_mut().filter(|k| k.source == verifier.source).for_each(|k| {
                    k.identity = Some(found.clone());
                });
                Ok(())
            }
        }
    }

    fn outage(&self, after: Duration, last: &str) -> RewardError {
        RewardError::Outage { peer: self.peer.clone(), after, last: last.to_owned() }
    }
}

impl Remembered {
    fn new(source: &VerifierSource) -> Self {
        Self { source: source.clone(), identity: source.spec.identity() }
    }
}

impl RewardError {
    /// The same may succeed later.
    fn is_transient(&self) -> bool {
        matches!(self, Self::Rpc(error) if error.is_transient())
    }
}

#[cfg(test)]
mod tests;
