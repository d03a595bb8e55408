//! Sending a verifier to the reward service.

use super::{RewardClient, RewardError, VerifierSource};
use sinternal_proto::pb::load_verifier_request::Part;
use sinternal_proto::{Chunk, ModelFile, Sha256, VerifierLoad, pb};
use sinternal_service::connect::call;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes of a chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait to be sent.
const WAITING_CHUNKS: usize = 4;

type Parts = mpsc::Sender<pb::LoadVerifierRequest>;

/// The service takes no more: it says why in its answer.
struct Refused;

enum Stop {
    Refused,
    Unreadable(RewardError),
}

impl RewardClient {
    /// Says what is to be loaded, sends the files that are not `held`, and waits until it is loaded; gives its identity.
    /// All other remembered verifiers stay.
    pub(super) async fn upload(
        &self,
        source: &VerifierSource,
        held: HashSet<Sha256>,
    ) -> Result<Sha256, RewardError> {
        let (parts, outgoing) = mpsc::channel(WAITING_CHUNKS);
        let (from, keep) = (source.clone(), self.others(source));
        let reading = tokio::task::spawn_blocking(move || read(&from, keep, held, &parts));
        let mut grpc = self.grpc();
        let loading = grpc.load_verifier(ReceiverStream::new(outgoing));
        let answer = call(&self.peer, "load verifier", self.options.load, loading).await;
        match reading.await {
            Ok(Err(Stop::Unreadable(error))) => Err(error),
            Ok(Ok(()) | Err(Stop::Refused)) => self.identity_in(answer?),
            Err(panic) => Err(RewardError::Load(panic.to_string())),
        }
    }

    fn identity_in(&self, answer: pb::LoadVerifierResponse) -> Result<Sha256, RewardError> {
        Sha256::parse(&answer.verifier_hash, "verifier_hash")
            .map_err(|invalid| RewardError::Malformed { peer: self.peer.clone(), invalid })
    }
}

fn read(
    source: &VerifierSource,
    keep: Vec<Sha256>,
    mut held: HashSet<Sha256>,
    parts: &Parts,
) -> Result<(), Stop> {
    send(parts, Part::Start(VerifierLoad { verifier: source.spec.clone(), keep }.into()))?;
    for file in source.spec.manifest().into_iter().flat_map(|manifest| &manifest.files) {
        // Equal files are sent once.
        if held.insert(file.sha256.clone()) {
            send_file(&source.dir, file, parts)?;
        }
    }
    Ok(())
}

fn send_file(dir: &Path, file: &ModelFile, parts: &Parts) -> Result<(), Stop> {
    let path = dir.join(&file.name);
    let unreadable = |source| Stop::Unreadable(RewardError::File { path: path.clone(), source });
    let mut reader = File::open(&path).map_err(unreadable)?;
    let mut offset = 0;
    loop {
        let mut data = Vec::new();
        let read = reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut data).map_err(unreadable)?;
        if read == 0 {
            return Ok(());
        }
        let chunk = Chunk { file: file.sha256.clone(), offset, data: data.into() };
        offset += read as u64;
        send(parts, Part::Chunk(chunk.into()))?;
    }
}

fn send(parts: &Parts, part: Part) -> Result<(), Refused> {
    parts.blocking_send(pb::LoadVerifierRequest { part: Some(part) }).map_err(|_| Refused)
}

impl From<Refused> for Stop {
    fn from(_: Refused) -> Self {
        Self::Refused
    }
}
