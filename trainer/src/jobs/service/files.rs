//! What a run left behind, as clients read it: pages of samples and metrics, and whole files.

use super::page_size;
use crate::run_dir::{ArtifactError, LinesError, MetricsLine, list_artifacts, open_artifact, page_of_lines};
use sinternal_proto::error::Invalid;
use sinternal_proto::{PromptKind, Sample, SampleVerdict, ServiceError, StepMetrics, pb};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const SAMPLES: (usize, usize) = (50, 500);
const METRICS: (usize, usize) = (500, 5000);
const CHUNK: usize = 256 << 10;

pub(super) fn samples(
    run: &Path,
    request: &pb::ListSamplesRequest,
) -> Result<pb::ListSamplesResponse, ServiceError> {
    let filter = Filter::try_from(request)?;
    let size = page_size(request.page_size, SAMPLES.0, SAMPLES.1)?;
    let page =
        page_of_lines(&run.join("samples.jsonl"), offset(&request.page_token)?, size, |s| filter.takes(s))
            .map_err(unreadable)?;
    let samples = page.lines.into_iter().map(Into::into).collect();
    Ok(pb::ListSamplesResponse { samples, next_page_token: token(page.next) })
}

pub(super) fn metrics(
    run: &Path,
    request: &pb::ListMetricsRequest,
) -> Result<pb::ListMetricsResponse, ServiceError> {
    let size = page_size(request.page_size, METRICS.0, METRICS.1)?;
    let wanted = |line: &MetricsLine| {
        (request.stage.is_empty() || line.stage == request.stage) && line.step >= request.from_step
    };
    let page = page_of_lines(&run.join("metrics.jsonl"), offset(&request.page_token)?, size, wanted)
        .map_err(unreadable)?;
    let metrics = page.lines.into_iter().map(|line| StepMetrics::from(line).into()).collect();
    Ok(pb::ListMetricsResponse { metrics, next_page_token: token(page.next) })
}

pub(super) fn artifacts(run: &Path) -> Result<pb::ListArtifactsResponse, ServiceError> {
    let found = if run.exists() { list_artifacts(run) } else { Ok(Vec::new()) };
    let found = found.map_err(|e| ServiceError::Internal(e.to_string()))?;
    let artifacts = found
        .into_iter()
        .map(|a| pb::Artifact { path: a.path, size_bytes: a.size_bytes, modified_ms: a.modified_ms })
        .collect();
    Ok(pb::ListArtifactsResponse { run_dir: run.to_string_lossy().into_owned(), artifacts })
}

/// The file's bytes from `offset` on. Whoever reads slowly holds two chunks and no more.
pub(super) async fn fetch(
    run: PathBuf,
    path: String,
    offset: u64,
) -> Result<ReceiverStream<Result<pb::ArtifactChunk, ServiceError>>, ServiceError> {
    let name = path.clone();
    let opened = tokio::task::spawn_blocking(move || -> Result<File, ServiceError> {
        let mut file = open_artifact(&run, &name).map_err(refused)?;
        file.seek(SeekFrom::Start(offset)).map_err(|e| ServiceError::Internal(format!("{name}: {e}")))?;
        Ok(file)
    });
    let mut file = opened.await.map_err(|e| ServiceError::Internal(format!("the call failed: {e}")))??;
    let (tx, rx) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let mut offset = offset;
        loop {
            let mut data = vec![0; CHUNK];
            let chunk = match file.read(&mut data) {
                Ok(0) => return,
                Ok(read) => {
                    data.truncate(read);
                    let chunk = pb::ArtifactChunk { offset, data };
                    offset += read as u64;
                    Ok(chunk)
                }
                Err(e) => Err(ServiceError::Internal(format!("{path}: {e}"))),
            };
            let failed = chunk.is_err();
            if tx.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(rx))
}

struct Filter {
    steps: std::ops::RangeInclusive<u64>,
    kind: Option<PromptKind>,
    verdict: Option<SampleVerdict>,
    rewards: Option<(f64, f64)>,
}

impl TryFrom<&pb::ListSamplesRequest> for Filter {
    type Error = Invalid;

    fn try_from(r: &pb::ListSamplesRequest) -> Result<Self, Invalid> {
        let to_step = if r.to_step == 0 { u64::MAX } else { r.to_step };
        let kind = match r.kind() {
            pb::PromptKind::Unspecified => None,
            kind => Some(kind.try_into()?),
        };
        let bounds = (r.min_reward.unwrap_or(f64::NEG_INFINITY), r.max_reward.unwrap_or(f64::INFINITY));
        let any = r.min_reward.is_none() && r.max_reward.is_none();
        Ok(Self {
            steps: r.from_step..=to_step,
            kind,
            verdict: r.verdict().into(),
            rewards: (!any).then_some(bounds),
        })
    }
}

impl Filter {
    fn takes(&self, sample: &Sample) -> bool {
        let reward = sample.score.reward().map(f64::from);
        self.steps.contains(&sample.step)
            && self.kind.is_none_or(|kind| kind == sample.kind)
            && self.verdict.is_none_or(|verdict| verdict == sample.score.verdict())
            && self.rewards.is_none_or(|(low, high)| reward.is_some_and(|r| (low..=high).contains(&r)))
    }
}

/// A page token is the offset in bytes at which the next page begins.
fn offset(token: &str) -> Result<u64, Invalid> {
    if token.is_empty() {
        return Ok(0);
    }
    let problem = || format!("`{token}` is not the next_page_token of an earlier response");
    token.parse().map_err(|_| Invalid { field: "page_token", problem: problem() })
}

fn token(next: Option<u64>) -> String {
    next.map_or_else(String::new, |offset| offset.to_string())
}

fn unreadable(error: LinesError) -> ServiceError {
    match error {
        LinesError::File(e) => ServiceError::Internal(e.to_string()),
        LinesError::Offset { .. } => Invalid { field: "page_token", problem: error.to_string() }.into(),
        LinesError::Line { .. } => ServiceError::DataLoss(error.to_string()),
    }
}

fn refused(error: ArtifactError) -> ServiceError {
    match error {
        ArtifactError::Path(_) => Invalid { field: "path", problem: error.to_string() }.into(),
        ArtifactError::Missing(_) => ServiceError::NotFound(error.to_string()),
        ArtifactError::File(e) => ServiceError::Internal(e.to_string()),
    }
}
