use super::super::testing::{group, hub, job, model, trace};
use super::*;
use crate::publish::CHUNK_BYTES;
use sinternal_proto::pb::rollout_service_client::RolloutServiceClient;
use sinternal_proto::pb::rollout_service_server::RolloutServiceServer;
use sinternal_proto::{Chunk, Policy, PolicyVersion};
use std::path::Path;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Channel, Server};

type Client = RolloutServiceClient<Channel>;

const LEASE: Duration = Duration::from_secs(2);

/// Nothing in these tests waits longer.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}

async fn serve(dir: &Path) -> (RolloutHub, Client) {
    let hub = hub(dir, 8, LEASE);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = RolloutServiceServer::new(RolloutService::new(hub.clone()));
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let client = soon(RolloutServiceClient::connect(format!("http://{address}"))).await.unwrap();
    (hub, client)
}

async fn register(client: &mut Client, name: &str) -> String {
    let request =
        pb::RegisterRequest { worker_name: name.into(), max_sequences: 8, previous_worker_id: String::new() };
    let answer = soon(client.register(request)).await.unwrap().into_inner();
    assert_eq!((answer.lease_ms, answer.heartbeat_interval_ms), (2000, 200));
    answer.worker_id
}

async fn lease(client: &mut Client, worker_id: &str, wait_ms: u64) -> pb::LeaseResponse {
    let request = pb::LeaseRequest { worker_id: worker_id.into(), max_sequences: 8, wait_ms };
    soon(client.lease(request)).await.unwrap().into_inner()
}

async fn submit(
    client: &mut Client,
    requests: Vec<pb::SubmitTraceRequest>,
) -> Result<Vec<pb::TraceAck>, Status> {
    let mut acks = soon(client.submit_traces(tokio_stream::iter(requests))).await?.into_inner();
    let mut all = Vec::new();
    while let Some(ack) = soon(acks.message()).await? {
        all.push(ack);
    }
    Ok(all)
}

fn request(worker_id: &str, sequence: u64, trace: Trace) -> pb::SubmitTraceRequest {
    pb::SubmitTraceRequest { worker_id: worker_id.into(), sequence, trace: Some(trace.into()) }
}

#[tokio::test]
async fn traces_are_acknowledged_each_by_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, mut client) = serve(dir.path()).await;
    soon(hub.publish(PolicyVersion(0), &model(dir.path(), b"w"))).await.unwrap();
    let session = hub.open(job()).unwrap();
    soon(session.offer(group(1, 2, 0))).await.unwrap();
    let worker = register(&mut client, "w").await;
    let work = lease(&mut client, &worker, 1000).await;
    assert_eq!((work.tasks.len(), work.tasks[0].samples.clone()), (1, vec![0, 1]));
    let mut malformed = request(&worker, 12, trace(1, 1, &[0]));
    malformed.trace.as_mut().unwrap().logprobs.clear();
    let requests = vec![
        request(&worker, 10, trace(1, 0, &[0])),
        request(&worker, 11, trace(1, 0, &[0])),
        malformed,
        request(&worker, 13, trace(9, 0, &[0])),
    ];
    let acks = submit(&mut client, requests).await.unwrap();
    use pb::TraceOutcome::{Accepted, Duplicate, Rejected, Unknown};
    let outcomes: Vec<_> = acks.iter().map(|a| (a.sequence, a.outcome())).collect();
    assert_eq!(outcomes, [(10, Accepted), (11, Duplicate), (12, Rejected), (13, Unknown)]);
    assert_eq!(acks[2].detail, "trace.logprobs: has 0 values for 1 tokens");
    assert_eq!(soon(session.next(LEASE)).await.unwrap(), trace(1, 0, &[0]));
}

#[tokio::test]
async fn a_killed_workers_missing_samples_are_leased_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, mut client) = serve(dir.path()).await;
    soon(hub.publish(PolicyVersion(0), &model(dir.path(), b"w"))).await.unwrap();
    let session = hub.open(job()).unwrap();
    soon(session.offer(group(1, 3, 0))).await.unwrap();
    let lost = register(&mut client, "lost").await;
    assert_eq!(lease(&mut client, &lost, 1000).await.tasks[0].samples, [0, 1, 2]);
    submit(&mut client, vec![request(&lost, 1, trace(1, 1, &[0]))]).await.unwrap();
    let other = register(&mut client, "other").await;
    let tasks = soon(async {
        loop {
            let work = lease(&mut client, &other, 500).await;
            if !work.tasks.is_empty() {
                break work.tasks;
            }
        }
    })
    .await;
    assert_eq!((tasks.len(), tasks[0].samples.clone()), (1, vec![0, 2]));
}

#[tokio::test]
async fn a_stranger_is_told_to_register() {
    let dir = tempfile::tempdir().unwrap();
    let (_hub, mut client) = serve(dir.path()).await;
    let worker_id = "gone".to_owned();
    let told = "worker gone is not registered here; register again";
    let asked = pb::LeaseRequest { worker_id: worker_id.clone(), max_sequences: 1, wait_ms: 9000 };
    let beat = pb::HeartbeatRequest { worker_id: worker_id.clone(), ..Default::default() };
    let fetch = pb::FetchFileRequest { worker_id, sha256: Sha256::of(b"x").0, offset: 0 };
    for status in [
        soon(client.lease(asked)).await.unwrap_err(),
        soon(client.heartbeat(beat)).await.unwrap_err(),
        soon(client.fetch_file(fetch)).await.unwrap_err(),
        submit(&mut client, vec![request("gone", 1, trace(1, 0, &[0]))]).await.unwrap_err(),
    ] {
        assert_eq!((status.code(), status.message()), (Code::NotFound, told));
    }
    for (worker_name, max_sequences, field) in
        [("a b", 1, "worker_name"), ("", 1, "worker_name"), ("w", 0, "max_seq")]
    {
        let request = pb::RegisterRequest {
            worker_name: worker_name.into(),
            max_sequences,
            previous_worker_id: String::new(),
        };
        let status = soon(client.register(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{status}");
    }
}

#[tokio::test]
async fn heartbeats_tell_of_policies_and_cancelled_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, mut client) = serve(dir.path()).await;
    let worker = register(&mut client, "w").await;
    let beat = pb::HeartbeatRequest { worker_id: worker, task_ids: vec![5], ..Default::default() };
    let before = soon(client.heartbeat(beat.clone())).await.unwrap().into_inner();
    assert_eq!((before.policy, before.cancelled_task_ids, before.drain), (None, vec![5], false));
    let policy = soon(hub.publish(PolicyVersion(7), &model(dir.path(), b"w"))).await.unwrap();
    let after = soon(client.heartbeat(beat)).await.unwrap().into_inner();
    assert_eq!(Policy::try_from(after.policy.unwrap()).unwrap(), policy);
}

#[tokio::test]
async fn files_are_fetched_in_hashed_chunks_from_an_offset() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, mut client) = serve(dir.path()).await;
    let weights: Vec<u8> = (0..2 * CHUNK_BYTES + 100).map(|i| (i % 251) as u8).collect();
    let policy = soon(hub.publish(PolicyVersion(0), &model(dir.path(), &weights))).await.unwrap();
    let sha256 = policy.manifest.file("model.safetensors").unwrap().sha256.0.clone();
    let worker_id = register(&mut client, "w").await;
    let offset = CHUNK_BYTES as u64 - 7;
    let request = pb::FetchFileRequest { worker_id: worker_id.clone(), sha256, offset };
    let mut stream = soon(client.fetch_file(request)).await.unwrap().into_inner();
    let mut fetched = Vec::new();
    while let Some(wire) = soon(stream.message()).await.unwrap() {
        let chunk = Chunk::try_from(wire).unwrap();
        assert_eq!(chunk.offset, offset + fetched.len() as u64);
        fetched.extend_from_slice(&chunk.data);
    }
    assert!(fetched == weights[CHUNK_BYTES - 7..]);
    let unknown = pb::FetchFileRequest { worker_id, sha256: Sha256::of(b"x").0, offset: 0 };
    assert_eq!(soon(client.fetch_file(unknown)).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn closing_ends_polls_and_streams() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, mut client) = serve(dir.path()).await;
    let worker = register(&mut client, "w").await;
    let mut second = client.clone();
    let (tx, rx) = mpsc::channel(1);
    tx.send(request(&worker, 1, trace(1, 0, &[0]))).await.unwrap();
    let mut acks = soon(client.submit_traces(ReceiverStream::new(rx))).await.unwrap().into_inner();
    assert_eq!(soon(acks.message()).await.unwrap().unwrap().outcome(), pb::TraceOutcome::Unknown);
    let start = std::time::Instant::now();
    let (work, ()) = tokio::join!(lease(&mut second, &worker, 60_000), async { hub.close() });
    assert_eq!(work.tasks, []);
    assert_eq!(soon(acks.message()).await.unwrap(), None);
    assert!(start.elapsed() < LEASE / 2, "{:?}", start.elapsed());
}
