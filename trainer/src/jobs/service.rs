//! gRPC for job clients, over the manager.

use super::manager::{JobManager, Submission};
use sinternal_proto::error::Invalid;
use sinternal_proto::pb::{self, job_service_server};
use sinternal_proto::{JobId, ServiceError};
use std::pin::Pin;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

/// Job files are small; anything longer is a mistake.
const LONGEST_TOML: usize = 1 << 20;
const LONGEST_KEY: usize = 256;

/// The service.
#[derive(Debug, Clone)]
pub struct JobService {
    manager: JobManager,
}

impl JobService {
    /// Serves `manager`.
    #[must_use]
    pub fn new(manager: JobManager) -> Self {
        Self { manager }
    }
}

#[tonic::async_trait]
impl job_service_server::JobService for JobService {
    async fn submit_job(
        &self,
        request: Request<pb::SubmitJobRequest>,
    ) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let (submission, manager) = (submission(request.into_inner())?, self.manager.clone());
        let submitted = tokio::task::spawn_blocking(move || manager.submit(submission))
            .await
            .map_err(|e| ServiceError::Internal(format!("submitting the job failed: {e}")))??;
        let (job_id, existed) = (submitted.id.0, submitted.existed);
        Ok(Response::new(pb::SubmitJobResponse { job_id, existed }))
    }

    async fn get_job(&self, request: Request<pb::GetJobRequest>) -> Result<Response<pb::Job>, Status> {
        Ok(Response::new(self.manager.get(&JobId(request.into_inner().job_id))?.into()))
    }

    async fn list_jobs(
        &self,
        _request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let jobs = self.manager.list().into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListJobsResponse { jobs }))
    }

    type WatchJobStream = Pin<Box<dyn Stream<Item = Result<pb::JobEvent, Status>> + Send>>;

    async fn watch_job(
        &self,
        request: Request<pb::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let request = request.into_inner();
        let events = self.manager.watch(&JobId(request.job_id), request.cursor)?;
        Ok(Response::new(Box::pin(events.map(|event| Ok(event.into())))))
    }

    async fn cancel_job(&self, request: Request<pb::CancelJobRequest>) -> Result<Response<pb::Job>, Status> {
        Ok(Response::new(self.manager.cancel(&JobId(request.into_inner().job_id))?.into()))
    }
}

fn submission(request: pb::SubmitJobRequest) -> Result<Submission, Invalid> {
    bounded(&request.job_toml, LONGEST_TOML, "job_toml")?;
    bounded(&request.idempotency_key, LONGEST_KEY, "idempotency_key")?;
    Ok(Submission {
        toml: request.job_toml,
        base_dir: request.base_dir.into(),
        idempotency_key: request.idempotency_key,
        skip_verifier_gate: request.skip_verifier_gate,
    })
}

fn bounded(text: &str, most: usize, field: &'static str) -> Result<(), Invalid> {
    if text.len() <= most {
        return Ok(());
    }
    Err(Invalid { field, problem: format!("has {} bytes; the bound is {most}", text.len()) })
}
