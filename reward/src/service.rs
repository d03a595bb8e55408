//! The gRPC face of the service.

use crate::session::Session;
use crate::state::{Asked, Loading, State, blocking};
use sinternal_proto::pb::load_verifier_request::Part;
use sinternal_proto::pb::reward_service_server::RewardService;
use sinternal_proto::{Chunk, Invalid, ServiceError, Sha256, VerifierLoad, pb};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Answers of a stream that wait to be sent.
const WAITING_ANSWERS: usize = 16;

/// Serves [`State`] until `stop`, which ends the streams that are open.
#[derive(Debug)]
pub(crate) struct Grpc {
    pub(crate) state: Arc<State>,
    pub(crate) stop: CancellationToken,
}

#[async_trait::async_trait]
impl RewardService for Grpc {
    type ScoreStream = ReceiverStream<Result<pb::ScoreResponse, Status>>;

    async fn load_verifier(
        &self,
        request: Request<Streaming<pb::LoadVerifierRequest>>,
    ) -> Result<Response<pb::LoadVerifierResponse>, Status> {
        let mut parts = request.into_inner();
        let load = match self.next(&mut parts).await? {
            Some(Part::Start(start)) => VerifierLoad::try_from(start).map_err(ServiceError::from)?,
            _ => return Err(misplaced("the first part must say what is to be loaded").into()),
        };
        let identity = match self.state.begin_loading(load).await? {
            Asked::Held(identity) => identity,
            Asked::Loading(loading) => self.receive(*loading, &mut parts).await?,
        };
        Ok(Response::new(pb::LoadVerifierResponse { verifier_hash: identity.0 }))
    }

    async fn score(
        &self,
        request: Request<Streaming<pb::ScoreRequest>>,
    ) -> Result<Response<Self::ScoreStream>, Status> {
        let (answers, outgoing) = mpsc::channel(WAITING_ANSWERS);
        let session = Session::new(Arc::clone(&self.state), answers);
        tokio::spawn(session.run(request.into_inner(), self.stop.clone()));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn reward_status(
        &self,
        _: Request<pb::RewardStatusRequest>,
    ) -> Result<Response<pb::RewardStatusResponse>, Status> {
        let store = self.state.store.clone();
        let held = blocking(move || store.held()).await?;
        Ok(Response::new(pb::RewardStatusResponse {
            verifier_hashes: self.state.held().into_iter().map(|identity| identity.0).collect(),
            file_sha256: held.into_iter().map(|hash| hash.0).collect(),
            scored: self.state.scored.load(Ordering::Relaxed),
            masked: self.state.masked.load(Ordering::Relaxed),
        }))
    }
}

impl Grpc {
    async fn receive(
        &self,
        mut loading: Loading<'_>,
        parts: &mut Streaming<pb::LoadVerifierRequest>,
    ) -> Result<Sha256, Status> {
        while let Some(part) = self.next(parts).await? {
            let Part::Chunk(chunk) = part else {
                return Err(misplaced("there is one start, and it comes first").into());
            };
            loading = loading.write(Chunk::try_from(chunk).map_err(changed_on_the_way)?).await?;
        }
        Ok(loading.finish().await?)
    }

    /// The next part of an upload; a sender that falls silent is given up.
    async fn next(&self, parts: &mut Streaming<pb::LoadVerifierRequest>) -> Result<Option<Part>, Status> {
        let deadline = self.state.options.deadline;
        let silent = |_| ServiceError::Unavailable(format!("no chunk came for {} s", deadline.as_secs_f64()));
        match tokio::time::timeout(deadline, parts.message()).await.map_err(silent)?? {
            None => Ok(None),
            Some(pb::LoadVerifierRequest { part: Some(part) }) => Ok(Some(part)),
            Some(_) => Err(misplaced("a part is empty").into()),
        }
    }
}

fn misplaced(problem: &str) -> ServiceError {
    Invalid { field: "part", problem: problem.into() }.into()
}

fn changed_on_the_way(invalid: Invalid) -> ServiceError {
    if invalid.field == "chunk.sha256" { ServiceError::DataLoss(invalid.to_string()) } else { invalid.into() }
}
