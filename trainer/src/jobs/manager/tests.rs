use super::*;
use crate::jobs::{JobContext, JobError, LogLevel};
use sinternal_proto::{Event, StepMetrics};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_stream::StreamExt;

const SECOND: Duration = Duration::from_secs(1);

/// Does what the job file says, one word a line.
#[derive(Default)]
struct Script {
    running: tokio::sync::Mutex<()>,
    /// Jobs that went on.
    resumed: AtomicU32,
}

#[async_trait::async_trait]
impl Runner for Script {
    fn check(&self, toml: &str, _base_dir: &Path) -> Result<JobSummary, String> {
        if toml == "wrong" {
            return Err("job.toml: modle: unknown key, did you mean `model`?".into());
        }
        Ok(JobSummary { name: "My job!".into(), steps: 3 })
    }

    async fn run(&self, ctx: JobContext) -> Result<(), JobError> {
        let _alone = self.running.try_lock().expect("one job at a time");
        act(&ctx, &self.resumed).await
    }
}

async fn act(ctx: &JobContext, resumed: &AtomicU32) -> Result<(), JobError> {
    assert!(ctx.run_dir.checkpoints().is_dir());
    resumed.fetch_add(u32::from(ctx.resume), Ordering::SeqCst);
    match ctx.toml.as_str() {
        "succeed" => {
            ctx.events.stage("grpo", 3);
            for step in 1..=3 {
                ctx.events.metrics(StepMetrics {
                    stage: "grpo".into(),
                    step,
                    values: [("r".into(), 0.5)].into(),
                });
                ctx.events.progress(step, 3);
            }
            ctx.events.log(LogLevel::Warn, "done");
            Ok(())
        }
        "fail" => Err(JobError { reason: "the model is missing".into() }),
        "panic" => panic!("index out of bounds"),
        "wait" => {
            ctx.events.stage("sft", 2);
            ctx.cancel.cancelled().await;
            Err(JobError { reason: "stopped".into() })
        }
        "resumable" if ctx.resume => Ok(()),
        "resumable" => {
            ctx.events.stage("sft", 2);
            ctx.cancel.cancelled().await;
            Err(JobError { reason: "stopped".into() })
        }
        "deaf" => std::future::pending().await,
        other => unreachable!("{other}"),
    }
}

fn options(runs: &Path) -> JobsOptions {
    JobsOptions {
        runs: runs.into(),
        max_queued: 3,
        events: 50,
        stop_grace: 5 * SECOND,
        cancel_grace: 60 * SECOND,
    }
}

fn open(runs: &Path) -> JobManager {
    JobManager::open(options(runs), Arc::new(Script::default())).unwrap()
}

fn submission(toml: &str, key: &str) -> Submission {
    Submission {
        toml: toml.into(),
        base_dir: "/jobs".into(),
        idempotency_key: key.into(),
        skip_verifier_gate: false,
    }
}

fn submit(manager: &JobManager, toml: &str) -> JobId {
    manager.submit(submission(toml, "")).unwrap().id
}

/// Waits in paused time until a job is in `state`.
async fn until(manager: &JobManager, id: &JobId, state: JobState) -> JobStatus {
    let reached = async {
        let mut events = manager.watch(id, 0).unwrap();
        while let Some(event) = events.next().await {
            if matches!(&event.event, Event::State(s) if s.state == state) {
                break;
            }
        }
        manager.get(id).unwrap()
    };
    let status = tokio::time::timeout(100 * SECOND, reached).await.expect("in time");
    assert_eq!(status.state, state, "{status:?}");
    status
}

async fn all_events(manager: &JobManager, id: &JobId, cursor: u64) -> Vec<JobEvent> {
    tokio::time::timeout(100 * SECOND, manager.watch(id, cursor).unwrap().collect()).await.expect("in time")
}

fn kinds(events: &[JobEvent]) -> Vec<String> {
    let kind = |e: &JobEvent| match &e.event {
        Event::State(s) => super::super::state::name(s.state).to_owned(),
        Event::Progress { done, total, .. } => format!("{done}/{total}"),
        Event::Metrics(m) => format!("step {}", m.step),
        Event::Log { level, message } => format!("{level}: {message}"),
    };
    events.iter().map(kind).collect()
}

#[tokio::test(start_paused = true)]
async fn a_job_tells_its_story_and_a_watcher_goes_on_from_a_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let id = submit(&manager, "succeed");
    assert!(id.0.starts_with("my-job-") && id.0.len() == 13, "{id}");
    let events = all_events(&manager, &id, 0).await;
    let story = [
        "queued",
        "preparing",
        "running",
        "step 1",
        "1/3",
        "step 2",
        "2/3",
        "step 3",
        "3/3",
        "warn: done",
        "succeeded",
    ];
    assert_eq!(kinds(&events), story);
    assert_eq!(events.iter().map(|e| e.cursor).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
    assert_eq!(all_events(&manager, &id, 9).await, events[8..]);
    let status = manager.get(&id).unwrap();
    assert_eq!((status.step, status.steps, status.stage.as_str()), (3, 3, "grpo"));
    assert_eq!((status.reason.as_str(), status.run_dir), ("all stages are done", dir.path().join(&id.0)));
}

#[tokio::test(start_paused = true)]
async fn failures_and_panics_are_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let (failed, panicked) = (submit(&manager, "fail"), submit(&manager, "panic"));
    assert_eq!(until(&manager, &failed, JobState::Failed).await.reason, "the model is missing");
    assert_eq!(until(&manager, &panicked, JobState::Failed).await.reason, "panicked: index out of bounds");
    assert_eq!(manager.list().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn submissions_are_checked_bounded_and_idempotent() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let wrong = manager.submit(submission("wrong", "")).unwrap_err().to_string();
    assert_eq!(wrong, "job_toml: job.toml: modle: unknown key, did you mean `model`?");
    let relative = Submission { base_dir: "jobs".into(), ..submission("wait", "") };
    assert_eq!(manager.submit(relative).unwrap_err().to_string(), "base_dir: jobs is not an absolute path");
    let first = manager.submit(submission("wait", "key")).unwrap();
    let again = manager.submit(submission("wait", "key")).unwrap();
    assert_eq!(again, Submitted { id: first.id.clone(), existed: true });
    let other = manager.submit(submission("fail", "key")).unwrap_err();
    assert_eq!(other.to_string(), format!("idempotency key key belongs to another job, {}", first.id));
    until(&manager, &first.id, JobState::Running).await;
    (0..3).for_each(|_| drop(submit(&manager, "wait")));
    let full = manager.submit(submission("wait", "")).unwrap_err();
    assert_eq!(full, ServiceError::Exhausted("3 jobs are queued already; cancel one or wait".into()));
    assert_eq!(manager.list().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn jobs_submitted_at_once_run_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let manager =
        JobManager::open(JobsOptions { max_queued: 20, ..options(dir.path()) }, Arc::new(Script::default()))
            .unwrap();
    let mut submitted: Vec<JobId> = (0..19).map(|_| submit(&manager, "succeed")).collect();
    submitted.push(submit(&manager, "wait"));
    assert_eq!(manager.list().into_iter().map(|s| s.id).collect::<Vec<_>>(), submitted);
    // When the last of them runs, all others are over.
    until(&manager, &submitted[19], JobState::Running).await;
    let ended = |id: &JobId| manager.get(id).unwrap().state == JobState::Succeeded;
    assert!(submitted[..19].iter().all(ended));
}

#[tokio::test(start_paused = true)]
async fn jobs_are_cancelled_wherever_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let (running, queued, deaf) =
        (submit(&manager, "wait"), submit(&manager, "succeed"), submit(&manager, "deaf"));
    until(&manager, &running, JobState::Running).await;
    assert_eq!(manager.cancel(&queued).unwrap().state, JobState::Cancelled);
    let asked = manager.cancel(&running).unwrap();
    assert_eq!(
        (asked.state, asked.reason.as_str()),
        (JobState::Running, "asked to stop; ends at its next step")
    );
    assert_eq!(until(&manager, &running, JobState::Cancelled).await.reason, "cancelled on request");
    // A job that does not listen is cut off after the grace.
    until(&manager, &deaf, JobState::Preparing).await;
    let start = tokio::time::Instant::now();
    manager.cancel(&deaf).unwrap();
    until(&manager, &deaf, JobState::Cancelled).await;
    assert_eq!(start.elapsed(), 60 * SECOND);
    assert_eq!(manager.cancel(&deaf).unwrap().state, JobState::Cancelled);
    let done = submit(&manager, "succeed");
    until(&manager, &done, JobState::Succeeded).await;
    let refused = manager.cancel(&done).unwrap_err().to_string();
    assert_eq!(refused, format!("job {done}: a succeeded job cannot be cancelled"));
    let unknown = manager.get(&JobId("x".into())).unwrap_err();
    assert_eq!(unknown, ServiceError::NotFound("no job x on this trainer".into()));
}

#[tokio::test(start_paused = true)]
async fn a_drained_job_goes_on_in_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let (first, second) = (submit(&manager, "resumable"), submit(&manager, "succeed"));
    until(&manager, &first, JobState::Running).await;
    let watcher = manager.watch(&first, 0).unwrap();
    manager.drain().await;
    let states: Vec<_> = manager.list().iter().map(|s| (s.id.clone(), s.state)).collect();
    assert_eq!(states, [(first.clone(), JobState::Queued), (second.clone(), JobState::Queued)]);
    assert_eq!(manager.get(&first).unwrap().reason, "trainer stopped");
    let late = manager.submit(submission("wait", "")).unwrap_err();
    assert_eq!(late, ServiceError::Unavailable("the trainer is shutting down".into()));
    let seen: Vec<JobEvent> = watcher.collect().await;
    let last = seen.last().unwrap().cursor;

    let script = Arc::new(Script::default());
    let manager = JobManager::open(options(dir.path()), script.clone()).unwrap();
    until(&manager, &first, JobState::Succeeded).await;
    until(&manager, &second, JobState::Succeeded).await;
    // The second job had not been started before.
    assert_eq!(script.resumed.load(Ordering::SeqCst), 1);
    // A watcher that goes on is told of the break and misses nothing of what follows.
    let rest = all_events(&manager, &first, last + 1).await;
    let gap = format!("warn: events {} to 100000 are no longer kept; metrics.jsonl has every step", last + 1);
    assert_eq!(kinds(&rest), [gap.as_str(), "queued", "preparing", "running", "succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn a_killed_trainer_leaves_its_jobs_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let (running, cancelled) = (submit(&manager, "resumable"), submit(&manager, "deaf"));
    until(&manager, &running, JobState::Running).await;
    // What a kill -9 leaves is what is on disk now.
    let copy = tempfile::tempdir().unwrap();
    for id in [&running, &cancelled] {
        std::fs::create_dir(copy.path().join(&id.0)).unwrap();
        let file = |runs: &Path| runs.join(&id.0).join("job.json");
        std::fs::copy(file(dir.path()), file(copy.path())).unwrap();
    }
    let path = copy.path().join(&cancelled.0).join("job.json");
    let mut stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    stored["status"]["state"] = "preparing".into();
    stored["cancel_requested"] = true.into();
    std::fs::write(&path, stored.to_string()).unwrap();

    let next = open(copy.path());
    assert_eq!(next.get(&running).unwrap().reason, "trainer restarted");
    assert_eq!(next.get(&cancelled).unwrap().state, JobState::Cancelled);
    assert_eq!(until(&next, &running, JobState::Succeeded).await.run_dir, copy.path().join(&running.0));
    next.drain().await;

    std::fs::write(&path, "{").unwrap();
    let damaged =
        JobManager::open(options(copy.path()), Arc::new(Script::default())).unwrap_err().to_string();
    assert!(damaged.starts_with(&format!("{}:1: ", path.display())), "{damaged}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_does_not_stop_is_cut_off_when_draining() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let id = submit(&manager, "deaf");
    until(&manager, &id, JobState::Preparing).await;
    let start = tokio::time::Instant::now();
    manager.drain().await;
    assert_eq!(start.elapsed(), 5 * SECOND);
    let status = manager.get(&id).unwrap();
    assert_eq!(
        (status.state, status.reason.as_str()),
        (JobState::Queued, "trainer stopped before the job did")
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_is_told_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let small = JobsOptions { events: 4, ..options(dir.path()) };
    let manager = JobManager::open(small, Arc::new(Script::default())).unwrap();
    let id = submit(&manager, "succeed");
    until(&manager, &id, JobState::Succeeded).await;
    let events = all_events(&manager, &id, 2).await;
    let gap = "warn: events 2 to 7 are no longer kept; metrics.jsonl has every step";
    assert_eq!(kinds(&events), [gap, "step 3", "3/3", "warn: done", "succeeded"]);
}
