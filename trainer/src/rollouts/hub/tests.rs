use super::super::testing::{group, hub, job, model, trace};
use super::*;
use sinternal_proto::{RolloutTask, SampleIndex};
use tokio::time::{sleep, timeout};

const LEASE: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::ZERO;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn samples(tasks: &[RolloutTask]) -> Vec<(u64, Vec<u32>)> {
    tasks.iter().map(|t| (t.task.0, t.samples.iter().map(|SampleIndex(s)| *s).collect())).collect()
}

#[tokio::test(start_paused = true)]
async fn groups_go_out_and_traces_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 4, LEASE);
    let worker = hub.register("w", 8, None);
    let session = hub.open(job()).unwrap();
    session.offer(group(1, 2, 0)).await.unwrap();
    // No policy, no work.
    assert_eq!(hub.lease(&worker, 8, NOW).await.unwrap(), Work { tasks: vec![], policy: None });
    let policy = hub.publish(PolicyVersion(0), &model(dir.path(), b"w0")).await.unwrap();
    let work = hub.lease(&worker, 8, NOW).await.unwrap();
    assert_eq!(samples(&work.tasks), [(1, vec![0, 1])]);
    assert_eq!((work.policy, work.tasks[0].lease), (Some(policy), LEASE));
    for sample in [1, 0] {
        assert_eq!(hub.deliver(&worker, trace(1, sample, &[0])).unwrap(), TraceOutcome::Accepted);
    }
    assert_eq!(hub.deliver(&worker, trace(1, 1, &[0])).unwrap(), TraceOutcome::Duplicate);
    assert_eq!(session.next(seconds(1)).await.unwrap(), trace(1, 1, &[0]));
    assert_eq!(session.next(seconds(1)).await.unwrap(), trace(1, 0, &[0]));
    assert_eq!(hub.deliver(&worker, trace(1, 1, &[0])).unwrap(), TraceOutcome::Unknown);
    assert_eq!((hub.stats(), session.workers()), (BufferStats::default(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_lost_workers_missing_samples_go_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 4, LEASE);
    hub.publish(PolicyVersion(0), &model(dir.path(), b"w0")).await.unwrap();
    let session = hub.open(job()).unwrap();
    session.offer(group(1, 4, 0)).await.unwrap();
    let (lost, other) = (hub.register("lost", 4, None), hub.register("other", 4, None));
    assert_eq!(samples(&hub.lease(&lost, 4, NOW).await.unwrap().tasks), [(1, vec![0, 1, 2, 3])]);
    hub.deliver(&lost, trace(1, 2, &[0])).unwrap();
    let start = Instant::now();
    let work = loop {
        // Asking for work is a sign of life.
        let work = hub.lease(&other, 4, seconds(5)).await.unwrap();
        if !work.tasks.is_empty() {
            break work;
        }
    };
    assert_eq!(samples(&work.tasks), [(1, vec![0, 1, 3])]);
    // The background looks eight times a lease.
    assert!(start.elapsed() >= LEASE && start.elapsed() <= LEASE + LEASE / 8, "{:?}", start.elapsed());
    assert_eq!(hub.workers(), 1);
    assert_eq!(hub.heartbeat(&lost, &[]), Err(UnknownWorker(lost.clone())));
    assert_eq!(hub.deliver(&lost, trace(1, 0, &[0])), Err(UnknownWorker(lost)));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_leases() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 4, LEASE);
    hub.publish(PolicyVersion(0), &model(dir.path(), b"w0")).await.unwrap();
    let session = hub.open(job()).unwrap();
    session.offer(group(1, 1, 0)).await.unwrap();
    let worker = hub.register("w", 4, None);
    hub.lease(&worker, 4, NOW).await.unwrap();
    for _ in 0..5 {
        sleep(seconds(6)).await;
        let orders = hub.heartbeat(&worker, &[TaskId(1)]).unwrap();
        assert_eq!((orders.cancelled, orders.drain), (vec![], false));
    }
    assert_eq!(hub.stats().leased, 1);
    hub.dismiss_workers();
    assert!(hub.heartbeat(&worker, &[]).unwrap().drain);
}

#[tokio::test(start_paused = true)]
async fn a_missing_worker_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 4, LEASE);
    let session = hub.open(job()).unwrap();
    let error = session.next(seconds(3)).await.unwrap_err().to_string();
    assert_eq!(error, "job j waits for traces but has no group in the work buffer");
    session.offer(group(1, 2, 0)).await.unwrap();
    let error = session.next(seconds(3)).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "no rollout worker is connected to 127.0.0.1:7500; start one with `sinternal rollout-worker` (waited 3s)"
    );
    hub.register("w", 4, None);
    let error = session.next(seconds(3)).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "no trace came within 3s from 1 rollout workers at 127.0.0.1:7500 (2 samples wait, 0 are leased): \
         read the workers' logs, or allow more time with trainer.trace_s"
    );
}

#[tokio::test(start_paused = true)]
async fn traces_of_wrong_policies_and_jobs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 4, LEASE);
    let worker = hub.register("w", 4, None);
    assert_eq!(hub.deliver(&worker, trace(1, 0, &[0])).unwrap(), TraceOutcome::Unknown);
    let session = hub.open(job()).unwrap();
    session.offer(group(1, 1, 3)).await.unwrap();
    let rejected = |text: &str| TraceOutcome::Rejected(text.into());
    let never = rejected("trace.segments: policy 3 was never published here");
    assert_eq!(hub.deliver(&worker, trace(1, 0, &[3])).unwrap(), never);
    hub.publish(PolicyVersion(4), &model(dir.path(), b"w4")).await.unwrap();
    let stale = rejected("trace.segments: older than policy 3");
    assert_eq!(hub.deliver(&worker, trace(1, 0, &[2, 4])).unwrap(), stale);
    let ahead = rejected("trace.segments: policy 5 was never published here");
    assert_eq!(hub.deliver(&worker, trace(1, 0, &[3, 5])).unwrap(), ahead);
    let foreign = Trace { job: JobId("other".into()), ..trace(1, 0, &[3]) };
    assert_eq!(hub.deliver(&worker, foreign).unwrap(), TraceOutcome::Unknown);
    assert_eq!(hub.deliver(&worker, trace(1, 0, &[3, 4])).unwrap(), TraceOutcome::Accepted);
}

#[tokio::test(start_paused = true)]
async fn long_polls_end_with_work_or_at_their_bound() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 4, LEASE);
    hub.publish(PolicyVersion(0), &model(dir.path(), b"w0")).await.unwrap();
    let (worker, session) = (hub.register("w", 4, None), hub.open(job()).unwrap());
    let start = Instant::now();
    assert_eq!(hub.lease(&worker, 4, seconds(2)).await.unwrap().tasks, []);
    assert_eq!(start.elapsed(), seconds(2));
    // The hub's own bound, half a lease, is shorter than an hour.
    assert_eq!(hub.lease(&worker, 4, seconds(3600)).await.unwrap().tasks, []);
    assert_eq!(start.elapsed(), seconds(7));
    let (work, ()) = tokio::join!(hub.lease(&worker, 4, seconds(4)), async {
        sleep(seconds(1)).await;
        session.offer(group(1, 1, 0)).await.unwrap();
    });
    assert_eq!((work.unwrap().tasks.len(), start.elapsed()), (1, seconds(8)));
    hub.close();
    assert_eq!(hub.lease(&worker, 4, seconds(4)).await.unwrap().tasks, []);
    assert_eq!(start.elapsed(), seconds(8));
    timeout(seconds(1), hub.closed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_session_cancels_its_work() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 4, LEASE);
    hub.publish(PolicyVersion(0), &model(dir.path(), b"w0")).await.unwrap();
    let (worker, session) = (hub.register("w", 4, None), hub.open(job()).unwrap());
    let busy = hub.open(JobId("k".into())).unwrap_err().to_string();
    assert_eq!(busy, "job j samples already; one job at a time");
    session.offer(group(1, 1, 0)).await.unwrap();
    hub.lease(&worker, 4, NOW).await.unwrap();
    drop(session);
    assert_eq!(hub.heartbeat(&worker, &[TaskId(1)]).unwrap().cancelled, [TaskId(1)]);
    assert_eq!(hub.deliver(&worker, trace(1, 0, &[0])).unwrap(), TraceOutcome::Unknown);
    hub.open(JobId("k".into())).unwrap();
}

#[tokio::test(start_paused = true)]
async fn offers_wait_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 1, LEASE);
    hub.publish(PolicyVersion(0), &model(dir.path(), b"w0")).await.unwrap();
    let session = hub.open(job()).unwrap();
    session.offer(group(1, 1, 0)).await.unwrap();
    let start = Instant::now();
    let error = session.offer(group(2, 1, 0)).await.unwrap_err().to_string();
    assert_eq!(error, "the work buffer is full (1 groups) (waited 20s)");
    assert_eq!(start.elapsed(), seconds(20));
    let worker = hub.register("w", 1, None);
    hub.deliver(&worker, trace(1, 0, &[0])).unwrap();
    let (offered, read) = tokio::join!(session.offer(group(2, 1, 0)), session.next(seconds(1)));
    offered.unwrap();
    assert_eq!(read.unwrap(), trace(1, 0, &[0]));
}

#[tokio::test(start_paused = true)]
async fn more_groups_than_fit_are_sampled_in_one_go() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 2, LEASE);
    hub.publish(PolicyVersion(0), &model(dir.path(), b"w0")).await.unwrap();
    let (worker, session) = (hub.register("w", 4, None), hub.open(job()).unwrap());
    let mut texts = Vec::new();
    let sampled =
        session.sample((0..5).map(|t| group(t, 2, 0)).collect(), seconds(9), |t| texts.push(t.text));
    let working = async {
        loop {
            for task in hub.lease(&worker, 4, seconds(1)).await.unwrap().tasks {
                for sample in task.samples {
                    hub.deliver(&worker, trace(task.task.0, sample.0, &[0])).unwrap();
                }
            }
        }
    };
    tokio::select! {
        done = sampled => done.unwrap(),
        () = working => {}
    }
    texts.sort();
    assert_eq!(texts, ["0/0", "0/1", "1/0", "1/1", "2/0", "2/1", "3/0", "3/1", "4/0", "4/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_back_keeps_its_leases() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 4, LEASE);
    hub.publish(PolicyVersion(0), &model(dir.path(), b"w0")).await.unwrap();
    let session = hub.open(job()).unwrap();
    session.offer(group(1, 2, 0)).await.unwrap();
    let before = hub.register("w", 2, None);
    assert_eq!(samples(&hub.lease(&before, 2, NOW).await.unwrap().tasks), [(1, vec![0, 1])]);
    let after = hub.register("w", 2, Some(&before));
    assert_eq!((hub.workers(), hub.knows(&before)), (1, false));
    assert_eq!(hub.heartbeat(&after, &[TaskId(1)]).unwrap().cancelled, []);
    assert_eq!(hub.deliver(&after, trace(1, 0, &[0])).unwrap(), TraceOutcome::Accepted);
    // A name that nobody has is no claim to anything.
    let other = hub.register("o", 2, Some(&WorkerId("stranger".into())));
    assert_eq!(hub.heartbeat(&other, &[TaskId(1)]).unwrap().cancelled, [TaskId(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_be_sampled_fails_its_job_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(dir.path(), 4, LEASE);
    hub.publish(PolicyVersion(0), &model(dir.path(), b"w0")).await.unwrap();
    let session = hub.open(job()).unwrap();
    session.offer(group(1, 2, 0)).await.unwrap();
    let worker = hub.register("w", 2, None);
    hub.reject(&worker, &JobId("another".into()), TaskId(1), "too long".into()).unwrap();
    assert!(matches!(session.next(seconds(1)).await, Err(RolloutError::Silent { .. })));
    hub.reject(&worker, &job(), TaskId(1), "too long".into()).unwrap();
    let told = "task 1 cannot be sampled: too long";
    assert_eq!(session.next(seconds(1)).await.unwrap_err().to_string(), told);
    assert_eq!(session.offer(group(1, 2, 0)).await.unwrap_err().to_string(), told);
}
