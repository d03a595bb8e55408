//! gRPC for rollout workers, over the hub.

use super::error::UnknownWorker;
use super::hub::RolloutHub;
use crate::publish::{BlobReader, PublishError};
use sinternal_proto::error::Invalid;
use sinternal_proto::pb::{self, rollout_service_server};
use sinternal_proto::{JobId, ServiceError, Sha256, TaskId, Trace, TraceOutcome, WorkerId};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Acknowledgements or chunks that wait for a slow reader.
const BACKLOG: usize = 4;
const LONGEST_NAME: usize = 64;
const LONGEST_PROBLEM: usize = 1000;
const MOST_SEQUENCES: u32 = 65_536;

/// The service.
#[derive(Debug, Clone)]
pub struct RolloutService {
    hub: RolloutHub,
}

impl RolloutService {
    /// Serves `hub`.
    #[must_use]
    pub fn new(hub: RolloutHub) -> Self {
        Self { hub }
    }
}

impl From<UnknownWorker> for Status {
    fn from(unknown: UnknownWorker) -> Self {
        ServiceError::NotFound(unknown.to_string()).into()
    }
}

impl From<PublishError> for ServiceError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Unknown(_) => Self::Precondition(error.to_string()),
            _ => Self::Internal(error.to_string()),
        }
    }
}

#[tonic::async_trait]
impl rollout_service_server::RolloutService for RolloutService {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let request = request.into_inner();
        check_introduction(&request)?;
        let previous = Some(WorkerId(request.previous_worker_id)).filter(|id| !id.0.is_empty());
        let id = self.hub.register(&request.worker_name, request.max_sequences, previous.as_ref());
        let options = self.hub.options();
        Ok(Response::new(pb::RegisterResponse {
            worker_id: id.0,
            heartbeat_interval_ms: millis(options.heartbeat),
            lease_ms: millis(options.lease),
        }))
    }

    async fn lease(&self, request: Request<pb::LeaseRequest>) -> Result<Response<pb::LeaseResponse>, Status> {
        let request = request.into_inner();
        let (worker, wait) = (WorkerId(request.worker_id), Duration::from_millis(request.wait_ms));
        let work = self.hub.lease(&worker, request.max_sequences, wait).await?;
        Ok(Response::new(pb::LeaseResponse {
            tasks: work.tasks.into_iter().map(Into::into).collect(),
            policy: work.policy.map(Into::into),
        }))
    }

    type SubmitTracesStream = ReceiverStream<Result<pb::TraceAck, Status>>;

    async fn submit_traces(
        &self,
        request: Request<Streaming<pb::SubmitTraceRequest>>,
    ) -> Result<Response<Self::SubmitTracesStream>, Status> {
        let (tx, rx) = mpsc::channel(BACKLOG);
        tokio::spawn(acknowledge(self.hub.clone(), request.into_inner(), tx));
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn reject_task(
        &self,
        request: Request<pb::RejectTaskRequest>,
    ) -> Result<Response<pb::RejectTaskResponse>, Status> {
        let request = request.into_inner();
        let (worker, job) = (WorkerId(request.worker_id), JobId(request.job_id));
        let problem: String =
            request.problem.chars().filter(|c| !c.is_control()).take(LONGEST_PROBLEM).collect();
        self.hub.reject(&worker, &job, TaskId(request.task_id), problem)?;
        Ok(Response::new(pb::RejectTaskResponse {}))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let tasks: Vec<TaskId> = request.task_ids.into_iter().map(TaskId).collect();
        let orders = self.hub.heartbeat(&WorkerId(request.worker_id), &tasks)?;
        Ok(Response::new(pb::HeartbeatResponse {
            policy: orders.policy.map(Into::into),
            cancelled_task_ids: orders.cancelled.into_iter().map(|task| task.0).collect(),
            drain: orders.drain,
        }))
    }

    type FetchFileStream = ReceiverStream<Result<pb::Chunk, Status>>;

    async fn fetch_file(
        &self,
        request: Request<pb::FetchFileRequest>,
    ) -> Result<Response<Self::FetchFileStream>, Status> {
        let request = request.into_inner();
        let hash = Sha256::parse(&request.sha256, "sha256")?;
        self.hub.seen(&WorkerId(request.worker_id))?;
        let blobs = self.hub.blobs();
        let reader = blobs.open(&hash, request.offset).await.map_err(ServiceError::from)?;
        let (tx, rx) = mpsc::channel(BACKLOG);
        tokio::spawn(send_file(reader, tx, self.hub.options().lease));
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

fn check_introduction(request: &pb::RegisterRequest) -> Result<(), Invalid> {
    let name = &request.worker_name;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        let problem = format!("must be 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`");
        return Err(Invalid { field: "worker_name", problem });
    }
    if !(1..=MOST_SEQUENCES).contains(&request.max_sequences) {
        let problem = format!("must lie in 1–{MOST_SEQUENCES}");
        return Err(Invalid { field: "max_sequences", problem });
    }
    Ok(())
}

/// Answers each trace of a stream with what became of it, until the worker or the trainer ends it.
async fn acknowledge(
    hub: RolloutHub,
    mut traces: Streaming<pb::SubmitTraceRequest>,
    acks: mpsc::Sender<Result<pb::TraceAck, Status>>,
) {
    let patience = hub.options().lease;
    let mut worker = None;
    loop {
        let received = tokio::select! {
            received = timeout(patience, traces.message()) => received,
            () = hub.closed() => return,
            () = acks.closed() => return,
        };
        let answer = match received {
            Ok(Ok(Some(request))) => {
                worker = Some(WorkerId(request.worker_id.clone()));
                decide(&hub, request)
            }
            Ok(Ok(None)) => return,
            Ok(Err(broken)) => Err(broken),
            // Nothing finished for a while, which is fine for as long as the worker lives.
            Err(_) => match worker.as_ref().filter(|w| hub.knows(w)) {
                Some(_) => continue,
                None => {
                    Err(Status::not_found("the worker of this stream is not registered here; register again"))
                }
            },
        };
        let over = answer.is_err();
        let sent = timeout(patience, acks.send(answer)).await;
        if over || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

fn decide(hub: &RolloutHub, request: pb::SubmitTraceRequest) -> Result<pb::TraceAck, Status> {
    let worker = WorkerId(request.worker_id);
    let missing = || Invalid { field: "trace", problem: "is missing".into() };
    let outcome = match request.trace.ok_or_else(missing).and_then(Trace::try_from) {
        Ok(trace) => hub.deliver(&worker, trace)?,
        Err(invalid) => {
            hub.seen(&worker)?;
            TraceOutcome::Rejected(invalid.to_string())
        }
    };
    super::count(&worker, &outcome);
    Ok(outcome.ack(request.sequence))
}

async fn send_file(mut reader: BlobReader, tx: mpsc::Sender<Result<pb::Chunk, Status>>, patience: Duration) {
    loop {
        let part = match reader.next().await {
            Ok(None) => return,
            Ok(Some(chunk)) => Ok(chunk.into()),
            Err(error) => Err(ServiceError::from(error).into()),
        };
        let over = part.is_err();
        let sent = timeout(patience, tx.send(part)).await;
        if over || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
