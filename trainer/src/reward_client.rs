//! The trainer's side of the reward service: verifiers are uploaded, answers scored, outages bridged.
//!
//! ```text
//! load_verifier ─► status ─► upload of the files it lacks ─► remembered, so that a restarted service gets it again
//! open ─► ScoreSession: send ─► one stream, opened again after a loss; what is unanswered is sent again ─► next
//! ```
//!
//! **Invariant.** A session answers every request exactly once, or ends with an error that names the service.

mod session;
mod upload;

pub use session::{ScoreSender, ScoreSession};

use sinternal_proto::pb::reward_service_client::RewardServiceClient;
use sinternal_proto::{Invalid, ModelManifest, ScoreRequest, ScoreResult, Sha256, pb};
use sinternal_service::connect::{BadAddress, Peer, RetryError, RetryPolicy, RpcError, call, channel, retry};
use sinternal_service::serve::MAX_MESSAGE_BYTES;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

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
    /// A file of the verifier cannot be read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The caller's mistake: an id that is under way already, or another verifier than the loaded one.
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

/// A client; its clones share the connection and the remembered verifier.
#[derive(Debug, Clone)]
pub struct RewardClient {
    peer: Peer,
    channel: Channel,
    options: RewardOptions,
    verifier: Arc<Mutex<Option<Verifier>>>,
}

/// What is loaded again when the service has lost it.
#[derive(Debug, Clone)]
struct Verifier {
    manifest: ModelManifest,
    dir: PathBuf,
}

impl RewardClient {
    /// A client of the service at `url`, which need not be there yet.
    ///
    /// # Errors
    /// The address is not `http://host:port`.
    pub fn new(url: &str, options: RewardOptions) -> Result<Self, RewardError> {
        let peer = Peer::new("reward service", url);
        let channel = channel(&peer, options.connect)?;
        Ok(Self { peer, channel, options, verifier: Arc::default() })
    }

    /// Makes the service judge with the model in `dir`, sending what it lacks, and remembers it.
    ///
    /// # Errors
    /// The service is away for longer than the outage bound; it refuses the model; a file cannot be read.
    pub async fn load_verifier(&self, manifest: &ModelManifest, dir: &Path) -> Result<(), RewardError> {
        let verifier = Verifier { manifest: manifest.clone(), dir: dir.to_owned() };
        *self.verifier.lock().expect("no one panics with this lock") = Some(verifier);
        let patient = RetryPolicy::within(self.options.outage);
        retry(patient, RpcError::is_transient, || self.status()).await.map_err(|error| match error {
            RetryError::Permanent(error) => error.into(),
            RetryError::Deadline { after, last, .. } => self.outage(after, last.trim_start_matches(": ")),
        })?;
        let patient = RetryPolicy::within(self.options.load);
        retry(patient, RewardError::is_transient, || self.ensure_verifier()).await.map_err(
            |error| match error {
                RetryError::Permanent(error) => error,
                deadline @ RetryError::Deadline { .. } => RewardError::Load(deadline.to_string()),
            },
        )
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

    /// Forgets the verifier, so that a later job's sessions do not ask for it.
    pub fn forget_verifier(&self) {
        *self.verifier.lock().expect("no one panics with this lock") = None;
    }

    /// The verifier that sessions judge with, if one was loaded through this client.
    #[must_use]
    pub fn verifier(&self) -> Option<Sha256> {
        self.remembered().map(|verifier| verifier.manifest.hash)
    }

    fn remembered(&self) -> Option<Verifier> {
        self.verifier.lock().expect("no one panics with this lock").clone()
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

    /// Loads the remembered verifier, unless the service has it. What the service believed to have and had not
    /// is sent in a second attempt.
    async fn ensure_verifier(&self) -> Result<(), RewardError> {
        let Some(verifier) = self.remembered() else { return Ok(()) };
        let loaded = self.load_unless_loaded(&verifier).await;
        match &loaded {
            Err(RewardError::Rpc(error)) if error.status().is_some_and(|s| s.code() == Code::DataLoss) => {
                self.load_unless_loaded(&verifier).await
            }
            _ => loaded,
        }
    }

    async fn load_unless_loaded(&self, verifier: &Verifier) -> Result<(), RewardError> {
        let status = self.status().await?;
        if status.verifier_hash == verifier.manifest.hash.0 {
            return Ok(());
        }
        let held = status.file_sha256.into_iter().map(Sha256).collect();
        self.upload(verifier, held).await
    }

    fn outage(&self, after: Duration, last: &str) -> RewardError {
        RewardError::Outage { peer: self.peer.clone(), after, last: last.to_owned() }
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
