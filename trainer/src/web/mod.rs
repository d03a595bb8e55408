//! The trainer's web page: what jobs do, how two of them differ, and what their policies wrote.
//!
//! ```text
//! request ─► guard: most at once, deadline, headers
//!              └─► jobs | run | samples | compare | files ─► Web::read, a blocking thread: Jobs, the run's folder ─► HTML
//! page.js ─► fetches the fragment that a page marks as live, every few seconds, as long as the job goes on
//! ```
//!
//! **Invariants.** Pages only read. What a policy, a judge or a job file wrote reaches a page through [`text`] alone, escaped,
//! isolated and with its control characters visible. No page reads a file without a bound, and none reads outside its run's
//! folder. Nothing comes from elsewhere: the policy that each answer carries allows this origin alone, and no inline script.

mod assets;
mod charts;
mod compare;
mod diff;
mod error;
mod files;
mod format;
mod guard;
mod jobs;
mod layout;
mod lines;
mod metrics;
mod panels;
mod report;
mod run;
mod samples;
mod text;

use crate::jobs::{JobFilter, JobManager};
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use error::PageError;
use samples::Indexes;
use sinternal_proto::{JobId, JobStatus, ServiceError};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Pages that read files at the same time; others wait for their turn, within the deadline of a request.
const READERS: usize = 4;
/// Requests at the same time; more are refused.
const REQUESTS: usize = 64;

/// Where the page learns of jobs. Called on threads that may block.
pub trait Jobs: Send + Sync + 'static {
    /// All jobs, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    fn list(&self) -> Result<Vec<JobStatus>, ServiceError>;

    /// One job.
    ///
    /// # Errors
    /// When there is no such job, or it cannot be read.
    fn get(&self, id: &JobId) -> Result<JobStatus, ServiceError>;
}

impl Jobs for JobManager {
    fn list(&self) -> Result<Vec<JobStatus>, ServiceError> {
        let all = JobFilter { size: usize::MAX, ..JobFilter::default() };
        let mut jobs = self.list(&all).jobs;
        jobs.reverse();
        Ok(jobs)
    }

    fn get(&self, id: &JobId) -> Result<JobStatus, ServiceError> {
        self.get(id)
    }
}

/// The page's routes. They ask nobody who they are: whoever serves them beyond this machine puts that in front, as a layer.
pub fn router(jobs: impl Jobs) -> Router {
    let web = Web::new(jobs);
    Router::new()
        .route("/", get(jobs::page))
        .route("/jobs/{id}", get(run::page))
        .route("/jobs/{id}/charts", get(run::fragment))
        .route("/jobs/{id}/samples", get(samples::page))
        .route("/jobs/{id}/file", get(files::download))
        .route("/compare", get(compare::page))
        .route("/page.css", get(assets::css))
        .route("/page.js", get(assets::js))
        .route("/icon.svg", get(assets::icon))
        .fallback(async || PageError::NotFound("there is no such page".into()))
        .layer(from_fn_with_state(web.clone(), guard::guard))
        .with_state(web)
}

/// What all requests share; a cheap handle.
#[derive(Clone)]
struct Web {
    shared: Arc<Shared>,
    readers: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

struct Shared {
    jobs: Box<dyn Jobs>,
    indexes: Indexes,
}

impl Web {
    fn new(jobs: impl Jobs) -> Self {
        Self {
            shared: Arc::new(Shared { jobs: Box::new(jobs), indexes: Indexes::default() }),
            readers: Arc::new(Semaphore::new(READERS)),
            requests: Arc::new(Semaphore::new(REQUESTS)),
        }
    }

    /// Runs what reads jobs and files on a blocking thread. A reader whose request is gone still counts until it ends.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, PageError> + Send + 'static,
    ) -> Result<T, PageError> {
        let failed = |e: &dyn std::fmt::Display| PageError::Internal(format!("failed to make the page: {e}"));
        let turn = self.readers.clone().acquire_owned().await.map_err(|e| failed(&e))?;
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&shared)
        });
        reading.await.map_err(|e| failed(&e))?
    }
}

impl Shared {
    fn job(&self, id: &str) -> Result<JobStatus, PageError> {
        Ok(self.jobs.get(&JobId(id.to_owned()))?)
    }
}

#[cfg(test)]
mod tests;
