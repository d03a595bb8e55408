use super::*;
use crate::jobs::{JobContext, JobError, JobSummary};
use crate::preflight::Preflight;
use crate::work_buffer::Group;
use sinternal_proto::pb::{
    self, job_service_client::JobServiceClient, rollout_service_client::RolloutServiceClient,
};
use sinternal_proto::{
    FinishReason, JobEvent, JobId, JobState, JobStatus, Message, PolicyVersion, RolloutTask, SampleIndex,
    Sampling, Segment, TaskId, Trace,
};
use sinternal_service::access::Limits;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;

/// Nothing in these tests waits longer.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("in time")
}

struct Sampler {
    hub: RolloutHub,
}

const SAMPLING: Sampling = Sampling {
    temperature: 1.0,
    top_p: 1.0,
    top_k: 0,
    max_new_tokens: 4,
    seed: 7,
    ignore_eos: false,
    min_p: 0.0,
    stop: Vec::new(),
};

#[async_trait::async_trait]
impl Runner for Sampler {
    fn check(&self, toml: &str, _: &Path, _: &Path) -> Result<Preflight, String> {
        Ok(Preflight::of(JobSummary { name: toml.into(), steps: 1 }))
    }

    async fn run(&self, ctx: JobContext) -> Result<(), JobError> {
        ctx.events.stage("grpo", 1);
        let failed = |e: &dyn std::fmt::Display| JobError::Failed(e.to_string());
        let folder = ctx.run_dir.checkpoints();
        std::fs::write(folder.join("config.json"), "{}").map_err(|e| failed(&e))?;
        self.hub.publish(PolicyVersion(0), &folder).await.map_err(|e| failed(&e))?;
        let session = self.hub.open(ctx.id.clone()).map_err(|e| failed(&e))?;
        let group = |task| Group {
            job: ctx.id.clone(),
            task: TaskId(task),
            messages: vec![Message { role: "user".into(), content: "hello".into() }],
            samples: 2,
            done: Vec::new(),
            sampling: SAMPLING,
            min_version: PolicyVersion(0),
        };
        let mut traces = 0;
        let sampling = session.sample((0..3).map(group).collect(), Duration::from_secs(20), |_| traces += 1);
        tokio::select! {
            sampled = sampling => sampled.map_err(|e| failed(&e))?,
            () = ctx.cancel.cancelled() => return Err(failed(&"stopped")),
        }
        ctx.events.progress(traces, 6);
        Ok(())
    }
}

struct Running {
    addresses: Addresses,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), TrainerError>>,
}

fn config(runs: &Path) -> TrainerConfig {
    let free = "127.0.0.1:0".parse().expect("an address");
    TrainerConfig {
        listen: free,
        metrics_listen: free,
        runs: runs.into(),
        lease: Duration::from_secs(2),
        drain: Duration::from_secs(4),
        ..TrainerConfig::default()
    }
}

async fn start(config: TrainerConfig) -> Running {
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, addresses) = oneshot::channel();
    let ended = tokio::spawn(async move {
        let runner = |hub| Ok(Arc::new(Sampler { hub }) as Arc<dyn Runner>);
        let ready = |addresses| ready.send(addresses).expect("the test waits");
        run(&config, Guard::open(Limits::default()), runner, ready, async { drop(stopped.await) }).await
    });
    Running { addresses: soon(addresses).await.expect("ready"), stop, ended }
}

async fn jobs(addresses: Addresses) -> JobServiceClient<tonic::transport::Channel> {
    soon(JobServiceClient::connect(format!("http://{}", addresses.grpc))).await.unwrap()
}

fn submission(key: &str) -> pb::SubmitJobRequest {
    pb::SubmitJobRequest {
        job_toml: "smoke".into(),
        base_dir: "/jobs".into(),
        idempotency_key: key.into(),
        skip_verifier_gate: false,
        priority: 0,
        dry_run: false,
    }
}

/// Samples whatever there is until its job's groups are done.
async fn work(addresses: Addresses) {
    let mut client = soon(RolloutServiceClient::connect(format!("http://{}", addresses.grpc))).await.unwrap();
    let register =
        pb::RegisterRequest { worker_name: "w".into(), max_sequences: 4, previous_worker_id: String::new() };
    let worker_id = soon(client.register(register)).await.unwrap().into_inner().worker_id;
    let mut delivered = 0;
    while delivered < 6 {
        let request = pb::LeaseRequest { worker_id: worker_id.clone(), max_sequences: 4, wait_ms: 500 };
        let tasks = soon(client.lease(request)).await.unwrap().into_inner().tasks;
        let tasks = tasks.into_iter().map(|t| RolloutTask::try_from(t).unwrap());
        let requests: Vec<_> = tasks
            .flat_map(|task| task.samples.clone().into_iter().map(move |s| trace(&task, s)))
            .map(|t| pb::SubmitTraceRequest {
                worker_id: worker_id.clone(),
                sequence: 1,
                trace: Some(t.into()),
            })
            .collect();
        let mut acks = soon(client.submit_traces(tokio_stream::iter(requests))).await.unwrap().into_inner();
        while let Some(ack) = soon(acks.message()).await.unwrap() {
            assert_eq!(ack.outcome(), pb::TraceOutcome::Accepted);
            delivered += 1;
        }
    }
}

fn trace(task: &RolloutTask, sample: SampleIndex) -> Trace {
    Trace {
        job: task.job.clone(),
        task: task.task,
        sample,
        prompt_tokens: vec![1],
        tokens: vec![2],
        logprobs: vec![-0.5],
        segments: vec![Segment { version: PolicyVersion(0), tokens: 1 }],
        text: "x".into(),
        finish: FinishReason::Stop,
        generate: Duration::from_millis(1),
    }
}

async fn watch(addresses: Addresses, job_id: &str, cursor: u64) -> Vec<JobEvent> {
    let request = pb::WatchJobRequest { job_id: job_id.into(), cursor };
    let mut stream = soon(jobs(addresses).await.watch_job(request)).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(event) = soon(stream.message()).await.unwrap() {
        events.push(JobEvent::try_from(event).unwrap());
    }
    events
}

#[tokio::test]
async fn a_job_runs_over_grpc_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let trainer = start(config(dir.path())).await;
    let mut client = jobs(trainer.addresses).await;
    let submitted = soon(client.submit_job(submission("key"))).await.unwrap().into_inner();
    let again = soon(client.submit_job(submission("key"))).await.unwrap().into_inner();
    assert_eq!(
        (again.job_id.clone(), submitted.existed, again.existed),
        (submitted.job_id.clone(), false, true)
    );
    // Without a worker the job waits; the drain stops it, and it goes on in the next process.
    let id = JobId(submitted.job_id.clone());
    let next = start(config(&dir.path().join("other"))).await;
    next.stop.send(()).unwrap();
    soon(next.ended).await.unwrap().unwrap();
    trainer.stop.send(()).unwrap();
    soon(trainer.ended).await.unwrap().unwrap();

    let trainer = start(config(dir.path())).await;
    soon(work(trainer.addresses)).await;
    let events = watch(trainer.addresses, &id.0, 0).await;
    let sinternal_proto::Event::State(last) = &events.last().unwrap().event else { panic!("{events:?}") };
    assert_eq!((last.state, last.reason.as_str()), (JobState::Succeeded, "all stages are done"));
    let progress = sinternal_proto::Event::Progress { stage: "grpo".into(), done: 6, total: 6 };
    assert!(events.iter().any(|e| e.event == progress));
    let tail = watch(trainer.addresses, &id.0, events[events.len() - 2].cursor).await;
    assert_eq!(tail, events[events.len() - 2..]);
    let mut client = jobs(trainer.addresses).await;
    let listed = soon(client.list_jobs(pb::ListJobsRequest::default())).await.unwrap().into_inner().jobs;
    assert_eq!(
        listed.into_iter().map(|j| JobStatus::try_from(j).unwrap()).collect::<Vec<_>>(),
        std::slice::from_ref(last)
    );
    let cancel = pb::CancelJobRequest { job_id: id.0 };
    assert_eq!(soon(client.cancel_job(cancel)).await.unwrap_err().code(), Code::FailedPrecondition);
    trainer.stop.send(()).unwrap();
    soon(trainer.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_running_job_is_cancelled_over_grpc() {
    let dir = tempfile::tempdir().unwrap();
    let trainer = start(config(dir.path())).await;
    let mut client = jobs(trainer.addresses).await;
    let job_id = soon(client.submit_job(submission(""))).await.unwrap().into_inner().job_id;
    soon(client.cancel_job(pb::CancelJobRequest { job_id: job_id.clone() })).await.unwrap();
    watch(trainer.addresses, &job_id, 0).await;
    let job = soon(client.get_job(pb::GetJobRequest { job_id })).await.unwrap().into_inner();
    assert_eq!(job.state(), pb::JobState::Cancelled);
    let unknown = soon(client.get_job(pb::GetJobRequest { job_id: "x".into() })).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "no job x on this trainer"));
    trainer.stop.send(()).unwrap();
    soon(trainer.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn watchers_are_bounded_and_their_places_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let trainer = start(config(dir.path())).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(jobs(trainer.addresses).await);
    }
    let job_id = soon(clients[0].submit_job(submission(""))).await.unwrap().into_inner().job_id;
    let request = || pb::WatchJobRequest { job_id: job_id.clone(), cursor: 0 };
    let mut streams = Vec::new();
    for i in 0..256 {
        streams.push(soon(clients[i / 128].watch_job(request())).await.unwrap());
    }
    let refused = soon(clients[2].watch_job(request())).await.unwrap_err();
    let told = "256 watchers are there already; try later";
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, told));
    drop(streams);
    let again = async {
        while clients[2].watch_job(request()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
    trainer.stop.send(()).unwrap();
    soon(trainer.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn two_trainers_do_not_share_their_runs() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(config(dir.path())).await;
    let runner = |hub| Ok(Arc::new(Sampler { hub }) as Arc<dyn Runner>);
    let config = config(dir.path());
    let error = soon(run(&config, Guard::open(Limits::default()), runner, |_| {}, std::future::pending()))
        .await
        .unwrap_err()
        .to_string();
    let text = "stop it, or choose another folder with --set trainer.runs=…";
    assert_eq!(error, format!("another trainer uses {}; {text}", dir.path().display()));
    first.stop.send(()).unwrap();
    soon(first.ended).await.unwrap().unwrap();
}
