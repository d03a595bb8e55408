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
    fn check(&self, toml: &str, _base_dir: &Path, _runs: &Path) -> Result<Preflight, String> {
        if toml == "wrong" {
            return Err("job.toml: modle: unknown key, did you mean `model`?".into());
        }
        let warnings = if toml == "tight" { vec!["little memory".into()] } else { Vec::new() };
        Ok(Preflight { warnings, ..Preflight::of(JobSummary { name: "My job!".into(), steps: 3 }) })
    }

    async fn run(&self, ctx: JobContext) -> Result<(), JobError> {
        let _alone = self.running.try_lock().expect("one job at a time");
        act(&ctx, &self.resumed).await
    }
}

async fn act(ctx: &JobContext, resumed: &AtomicU32) -> Result<(), JobError> {
    assert!(ctx.run_dir.checkpoints().is_dir());
    resumed.fetch_add(u32::from(ctx.attempt > 1), Ordering::SeqCst);
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
        "talk" => {
            for i in 0..300 {
                ctx.events.log(LogLevel::Info, format!("line {i}"));
                tokio::task::yield_now().await;
            }
            Ok(())
        }
        "fail" => Err(JobError::Failed("the model is missing".into())),
        "panic" => panic!("index out of bounds"),
        "wait" => {
            ctx.events.stage("sft", 2);
            ctx.cancel.cancelled().await;
            Err(JobError::Failed("stopped".into()))
        }
        "resumable" if ctx.attempt > 1 => Ok(()),
        "resumable" => {
            ctx.events.stage("sft", 2);
            ctx.cancel.cancelled().await;
            Err(JobError::Failed("stopped".into()))
        }
        "gated" if ctx.skip_verifier_gate => Ok(()),
        "gated" => {
            ctx.events.stage("verifier gate", 0);
            Err(JobError::Paused("balanced accuracy 0.5 is below its gate".into()))
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
        priority: 0,
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

/// All jobs, oldest first.
fn listed(manager: &JobManager) -> Vec<JobStatus> {
    let mut jobs = manager.list(&JobFilter::default()).jobs;
    jobs.reverse();
    jobs
}

fn kinds(events: &[JobEvent]) -> Vec<String> {
    let kind = |e: &JobEvent| match &e.event {
        Event::State(s) => super::super::state::name(s.state).to_owned(),
        Event::Progress { done, total, .. } => format!("{done}/{total}"),
        Event::Metrics(m) => format!("step {}", m.step),
        Event::Log { level, message } => format!("{level}: {message}"),
        Event::Sample(sample) => format!("sample {}", sample.sample),
        Event::Checkpoint(checkpoint) => format!("checkpoint {}", checkpoint.step),
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
    assert_eq!(listed(&manager).len(), 2);
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
    assert_eq!(again, Submitted { id: first.id.clone(), existed: true, warnings: vec![] });
    let other = manager.submit(submission("fail", "key")).unwrap_err();
    assert_eq!(other.to_string(), format!("idempotency key key belongs to another job, {}", first.id));
    until(&manager, &first.id, JobState::Running).await;
    (0..3).for_each(|_| drop(submit(&manager, "wait")));
    let full = manager.submit(submission("wait", "")).unwrap_err();
    assert_eq!(full, ServiceError::Exhausted("3 jobs are queued already; cancel one or wait".into()));
    assert_eq!(listed(&manager).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn jobs_submitted_at_once_run_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let manager =
        JobManager::open(JobsOptions { max_queued: 20, ..options(dir.path()) }, Arc::new(Script::default()))
            .unwrap();
    let mut submitted: Vec<JobId> = (0..19).map(|_| submit(&manager, "succeed")).collect();
    submitted.push(submit(&manager, "wait"));
    assert_eq!(listed(&manager).into_iter().map(|s| s.id).collect::<Vec<_>>(), submitted);
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
    let states: Vec<_> = listed(&manager).iter().map(|s| (s.id.clone(), s.state)).collect();
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
    // A watcher that goes on misses nothing.
    let rest = all_events(&manager, &first, last + 1).await;
    assert_eq!(kinds(&rest), ["preparing", "running", "succeeded"]);
    let status = manager.get(&first).unwrap();
    assert_eq!(status.attempts, 2);
    assert!(status.started_ms.unwrap() <= status.ended_ms.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_killed_trainer_leaves_its_jobs_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let [running, waiting] = ["resumable", "succeed"].map(|toml| submit(&manager, toml));
    until(&manager, &running, JobState::Running).await;
    // What a kill -9 leaves is what is on disk now.
    let copies = [(); 3].map(|()| copy_of(dir.path()));
    let next = open(copies[0].path());
    assert_eq!(next.get(&running).unwrap().reason, "trainer restarted");
    assert_eq!(until(&next, &running, JobState::Succeeded).await.run_dir, copies[0].path().join(&running.0));
    until(&next, &waiting, JobState::Succeeded).await;

    // What a client asked for before the kill is done by the next process.
    for (copy, asked, state) in
        [(&copies[1], Asked::Cancel, JobState::Cancelled), (&copies[2], Asked::Pause, JobState::Paused)]
    {
        let store = SqliteStore::open(copy.path(), 50).unwrap();
        let mut job = store.jobs().unwrap().into_iter().find(|job| job.status.id == running).unwrap();
        assert_eq!((job.status.state, job.asked), (JobState::Running, None));
        job.asked = Some(asked);
        store.put(&job, vec![]).unwrap();
        drop(store);
        assert_eq!(open(copy.path()).get(&running).unwrap().state, state);
    }
}

fn copy_of(runs: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["jobs.sqlite3", "jobs.sqlite3-wal"] {
        std::fs::copy(runs.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_is_held_and_a_running_one_makes_way_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let (running, held, next) =
        (submit(&manager, "resumable"), submit(&manager, "succeed"), submit(&manager, "succeed"));
    until(&manager, &running, JobState::Running).await;
    assert_eq!(manager.pause(&held).unwrap().state, JobState::Paused);
    let asked = manager.pause(&running).unwrap();
    assert_eq!(
        (asked.state, asked.reason.as_str()),
        (JobState::Running, "asked to pause; holds at its next step")
    );
    assert_eq!(until(&manager, &running, JobState::Paused).await.reason, "paused on request");
    until(&manager, &next, JobState::Succeeded).await;
    assert_eq!(manager.get(&held).unwrap().state, JobState::Paused);
    assert_eq!(manager.pause(&held).unwrap().reason, "paused on request");
    for id in [&running, &held] {
        assert_eq!(manager.resume(id, false).unwrap().state, JobState::Queued);
        until(&manager, id, JobState::Succeeded).await;
    }
    let refused = manager.resume(&held, false).unwrap_err().to_string();
    assert_eq!(refused, format!("job {held}: a succeeded job cannot be resumed"));
    let refused = manager.pause(&held).unwrap_err().to_string();
    assert_eq!(refused, format!("job {held}: a succeeded job cannot be paused"));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_to_be_cancelled_is_not_held() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let (first, second) = (submit(&manager, "wait"), submit(&manager, "wait"));
    until(&manager, &first, JobState::Running).await;
    manager.cancel(&first).unwrap();
    let refused = manager.pause(&first).unwrap_err().to_string();
    assert_eq!(refused, format!("job {first}: a cancelled job cannot be paused"));
    until(&manager, &first, JobState::Cancelled).await;
    until(&manager, &second, JobState::Running).await;
    manager.pause(&second).unwrap();
    manager.cancel(&second).unwrap();
    until(&manager, &second, JobState::Cancelled).await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_holds_a_job_until_somebody_lets_it_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let id = submit(&manager, "gated");
    let why = "balanced accuracy 0.5 is below its gate";
    assert_eq!(until(&manager, &id, JobState::Paused).await.reason, why);
    manager.resume(&id, false).unwrap();
    let again = |status: &JobStatus| status.attempts == 2 && status.state == JobState::Paused;
    while !again(&manager.get(&id).unwrap()) {
        tokio::task::yield_now().await;
    }
    manager.resume(&id, true).unwrap();
    until(&manager, &id, JobState::Succeeded).await;
}

#[tokio::test(start_paused = true)]
async fn jobs_of_higher_priority_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let first = submit(&manager, "wait");
    until(&manager, &first, JobState::Running).await;
    let of = |priority| Submission { priority, ..submission("succeed", "") };
    let ids = [-1, 5, 5].map(|priority| manager.submit(of(priority)).unwrap().id);
    manager.cancel(&first).unwrap();
    until(&manager, &ids[0], JobState::Succeeded).await;
    let ended = ids.each_ref().map(|id| manager.get(id).unwrap());
    assert!(ended.iter().all(|status| status.state == JobState::Succeeded));
    let start = |i: usize| ended[i].started_ms.unwrap();
    assert!(start(1) <= start(2) && start(2) <= start(0));
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

#[tokio::test(start_paused = true)]
async fn a_watcher_that_never_reads_holds_one_batch_of_events() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path()); // 50 events are kept
    let id = submit(&manager, "talk");
    let stalled = manager.watch(&id, 0).unwrap();
    until(&manager, &id, JobState::Succeeded).await;
    let events: Vec<JobEvent> = stalled.collect().await;
    // What it was being sent, then a note of what it missed, then what is still kept: hundreds of lines passed it by.
    let gap = events.windows(2).position(|pair| pair[1].cursor > pair[0].cursor + 1).unwrap();
    assert!(gap < WATCH_BATCH + 2, "it held {} events", gap + 1);
    assert_eq!(events.len() - gap - 1, 51);
    assert!(events.last().unwrap().cursor > 300);
}
