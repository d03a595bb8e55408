//! gRPC for job clients, over the manager and the runs' folders.

mod files;

use super::list::JobFilter;
use super::manager::{JobManager, Submission, Submitted};
use crate::preflight::{Part, Preflight, RenderedPrompt, RoleMemory};
use sinternal_proto::error::Invalid;
use sinternal_proto::pb::{self, job_service_server};
use sinternal_proto::{JobEvent, JobId, JobState, ServiceError};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

/// Job files are small; anything longer is a mistake.
const LONGEST_TOML: usize = 1 << 20;
const LONGEST_KEY: usize = 256;
/// Streams of events at once. A watcher costs one task and the events that it is being sent.
const MOST_WATCHERS: usize = 256;
/// Files that are sent at once, each from a thread of its own.
const MOST_FETCHES: usize = 16;

/// The service.
#[derive(Debug, Clone)]
pub struct JobService {
    manager: JobManager,
    watchers: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
}

impl JobService {
    /// Serves `manager`.
    #[must_use]
    pub fn new(manager: JobManager) -> Self {
        Self {
            manager,
            watchers: Arc::new(Semaphore::new(MOST_WATCHERS)),
            fetches: Arc::new(Semaphore::new(MOST_FETCHES)),
        }
    }

    /// Work that waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&JobManager) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let manager = self.manager.clone();
        let done = tokio::task::spawn_blocking(move || act(&manager)).await;
        let done = done.map_err(|e| ServiceError::Internal(format!("the call failed: {e}")))?;
        Ok(Response::new(done?))
    }

    fn run_dir(&self, job_id: String) -> Result<PathBuf, ServiceError> {
        Ok(self.manager.get(&JobId(job_id))?.run_dir)
    }
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl job_service_server::JobService for JobService {
    async fn submit_job(
        &self,
        request: Request<pb::SubmitJobRequest>,
    ) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let request = request.into_inner();
        let (dry_run, submission) = (request.dry_run, submission(request)?);
        self.blocking(move |manager| {
            if dry_run {
                return Ok(checked(manager.preflight(&submission)?));
            }
            let Submitted { id, existed, warnings } = manager.submit(submission)?;
            Ok(pb::SubmitJobResponse { job_id: id.0, existed, warnings, preflight: None })
        })
        .await
    }

    async fn get_job(&self, request: Request<pb::GetJobRequest>) -> Result<Response<pb::Job>, Status> {
        Ok(Response::new(self.manager.get(&JobId(request.into_inner().job_id))?.into()))
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let page = self.manager.list(&filter(request.into_inner())?);
        let jobs = page.jobs.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListJobsResponse { jobs, next_page_token: page.next }))
    }

    type WatchJobStream = Streamed<pb::JobEvent>;

    async fn watch_job(
        &self,
        request: Request<pb::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let request = request.into_inner();
        let place = place(&self.watchers, MOST_WATCHERS, "watchers")?;
        let events = self.manager.watch(&JobId(request.job_id), request.cursor)?;
        let held = move |event: JobEvent| {
            let _until_the_stream_ends = &place;
            Ok(event.into())
        };
        Ok(Response::new(Box::pin(events.map(held))))
    }

    async fn cancel_job(&self, request: Request<pb::CancelJobRequest>) -> Result<Response<pb::Job>, Status> {
        let id = JobId(request.into_inner().job_id);
        self.blocking(move |manager| Ok(manager.cancel(&id)?.into())).await
    }

    async fn pause_job(&self, request: Request<pb::PauseJobRequest>) -> Result<Response<pb::Job>, Status> {
        let id = JobId(request.into_inner().job_id);
        self.blocking(move |manager| Ok(manager.pause(&id)?.into())).await
    }

    async fn resume_job(&self, request: Request<pb::ResumeJobRequest>) -> Result<Response<pb::Job>, Status> {
        let pb::ResumeJobRequest { job_id, skip_verifier_gate } = request.into_inner();
        self.blocking(move |manager| Ok(manager.resume(&JobId(job_id), skip_verifier_gate)?.into())).await
    }

    async fn list_samples(
        &self,
        request: Request<pb::ListSamplesRequest>,
    ) -> Result<Response<pb::ListSamplesResponse>, Status> {
        let request = request.into_inner();
        let run = self.run_dir(request.job_id.clone())?;
        self.blocking(move |_| files::samples(&run, &request)).await
    }

    async fn list_metrics(
        &self,
        request: Request<pb::ListMetricsRequest>,
    ) -> Result<Response<pb::ListMetricsResponse>, Status> {
        let request = request.into_inner();
        let run = self.run_dir(request.job_id.clone())?;
        self.blocking(move |_| files::metrics(&run, &request)).await
    }

    async fn list_artifacts(
        &self,
        request: Request<pb::ListArtifactsRequest>,
    ) -> Result<Response<pb::ListArtifactsResponse>, Status> {
        let run = self.run_dir(request.into_inner().job_id)?;
        self.blocking(move |_| files::artifacts(&run)).await
    }

    type FetchArtifactStream = Streamed<pb::ArtifactChunk>;

    async fn fetch_artifact(
        &self,
        request: Request<pb::FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchArtifactStream>, Status> {
        let pb::FetchArtifactRequest { job_id, path, offset } = request.into_inner();
        let place = place(&self.fetches, MOST_FETCHES, "fetches of files")?;
        let run = self.run_dir(job_id)?;
        let chunks = files::fetch(run, path, offset).await?;
        let held = move |chunk: Result<pb::ArtifactChunk, ServiceError>| {
            let _until_the_stream_ends = &place;
            chunk.map_err(Into::into)
        };
        Ok(Response::new(Box::pin(chunks.map(held))))
    }
}

fn place(
    places: &Arc<Semaphore>,
    most: usize,
    what: &str,
) -> Result<tokio::sync::OwnedSemaphorePermit, ServiceError> {
    let full = |_| ServiceError::Exhausted(format!("{most} {what} are there already; try later"));
    Arc::clone(places).try_acquire_owned().map_err(full)
}

fn submission(request: pb::SubmitJobRequest) -> Result<Submission, Invalid> {
    bounded(&request.job_toml, LONGEST_TOML, "job_toml")?;
    bounded(&request.idempotency_key, LONGEST_KEY, "idempotency_key")?;
    Ok(Submission {
        toml: request.job_toml,
        base_dir: request.base_dir.into(),
        idempotency_key: request.idempotency_key,
        skip_verifier_gate: request.skip_verifier_gate,
        priority: request.priority,
    })
}

fn checked(found: Preflight) -> pb::SubmitJobResponse {
    let prompt = |p: RenderedPrompt| pb::RenderedPrompt { id: p.id, text: p.text, tokens: p.tokens as u32 };
    let part = |p: Part| pb::MemoryPart { name: p.name.into(), bytes: p.bytes };
    let role = |r: RoleMemory| pb::RoleMemory {
        role: r.role.into(),
        parts: r.parts.into_iter().map(part).collect(),
    };
    let preflight = pb::Preflight {
        resolved_toml: found.resolved,
        prompts: found.prompts.into_iter().map(prompt).collect(),
        memory: found.memory.into_iter().map(role).collect(),
        checkpoint_bytes: found.disk.map_or(0, |d| d.checkpoint_bytes),
        checkpoints: found.disk.map_or(0, |d| d.checkpoints),
        disk_bytes: found.disk.map_or(0, |d| d.total_bytes),
        disk_free_bytes: found.disk.map_or(0, |d| d.free_bytes),
    };
    pb::SubmitJobResponse {
        job_id: String::new(),
        existed: false,
        warnings: found.warnings,
        preflight: Some(preflight),
    }
}

fn filter(request: pb::ListJobsRequest) -> Result<JobFilter, Invalid> {
    let states = request.states().map(JobState::try_from).collect::<Result<_, _>>()?;
    let size = page_size(request.page_size, JobFilter::DEFAULT_SIZE, JobFilter::LARGEST_SIZE)?;
    Ok(JobFilter { states, name: request.name, size, before_ms: JobFilter::before(&request.page_token)? })
}

fn page_size(asked: u32, default: usize, largest: usize) -> Result<usize, Invalid> {
    match asked as usize {
        0 => Ok(default),
        asked if asked <= largest => Ok(asked),
        asked => Err(Invalid { field: "page_size", problem: format!("is {asked}; the bound is {largest}") }),
    }
}

fn bounded(text: &str, most: usize, field: &'static str) -> Result<(), Invalid> {
    if text.len() <= most {
        return Ok(());
    }
    Err(Invalid { field, problem: format!("has {} bytes; the bound is {most}", text.len()) })
}
