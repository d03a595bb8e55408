use super::*;
use crate::access::{Credentials, Guard, Limits};
use crate::connect::{Channel, Peer, channel};
use sinternal_proto::pb;
use sinternal_proto::pb::reward_service_client::RewardServiceClient;
use sinternal_proto::pb::reward_service_server::{RewardService, RewardServiceServer};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Answers a status call when it is told to.
#[derive(Default)]
struct Slow {
    begun: Notify,
    finish: Notify,
}

#[tonic::async_trait]
impl RewardService for Slow {
    type ScoreStream = tokio_stream::Empty<Result<pb::ScoreResponse, Status>>;

    async fn load_verifier(
        &self,
        _: Request<Streaming<pb::LoadVerifierRequest>>,
    ) -> Result<Response<pb::LoadVerifierResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn score(
        &self,
        _: Request<Streaming<pb::ScoreRequest>>,
    ) -> Result<Response<Self::ScoreStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn reward_status(
        &self,
        _: Request<pb::RewardStatusRequest>,
    ) -> Result<Response<pb::RewardStatusResponse>, Status> {
        self.begun.notify_one();
        self.finish.notified().await;
        Ok(Response::new(pb::RewardStatusResponse { scored: 42, ..Default::default() }))
    }
}

struct Running {
    slow: Arc<Slow>,
    health: Health,
    channel: Channel,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<Drained, ServeError>>,
}

async fn start(drain: Duration) -> Running {
    start_with(Limits::default(), drain).await
}

async fn start_with(limits: Limits, drain: Duration) -> Running {
    let listener = bind("127.0.0.1:0".parse().expect("address"), "reward.listen").await.expect("free port");
    let address = listener.local_addr().expect("bound");
    let (slow, health, (stop, stopped)) = (Arc::new(Slow::default()), Health::starting(), oneshot::channel());
    let routes = Routes::new(RewardServiceServer::from_arc(Arc::clone(&slow)));
    let listener = Guarded::new(listener, Guard::open(limits));
    let shutdown = async move { stopped.await.expect("the test stops it") };
    let server = tokio::spawn(serve_grpc(listener, routes, health.clone(), shutdown, drain));
    let peer = Peer::new("reward", &format!("http://{address}"));
    let channel = channel(&peer, &Credentials::default(), Duration::from_secs(5)).expect("address");
    Running { slow, health, channel, address, stop, server }
}

type Answer = JoinHandle<Result<Response<pb::RewardStatusResponse>, Status>>;

impl Running {
    /// A call that has reached the server and waits there.
    async fn begin_call(&self) -> Answer {
        let mut client = RewardServiceClient::new(self.channel.clone());
        let answer = tokio::spawn(async move { client.reward_status(pb::RewardStatusRequest {}).await });
        self.slow.begun.notified().await;
        answer
    }

    async fn says(&self) -> i32 {
        let request = HealthCheckRequest { service: String::new() };
        let checked = HealthClient::new(self.channel.clone()).check(request).await;
        checked.expect("health answers").into_inner().status
    }
}

#[tokio::test]
async fn draining_waits_for_the_calls_that_run() {
    let running = start(Duration::from_secs(20)).await;
    let answer = running.begin_call().await;
    let (slow, health, address) = (Arc::clone(&running.slow), running.health.clone(), running.address);
    running.stop.send(()).expect("runs");
    while health.readiness() != Readiness::NotReady("draining".into()) {
        tokio::task::yield_now().await;
    }
    slow.finish.notify_one();
    assert_eq!(answer.await.expect("joins").expect("answered").into_inner().scored, 42);
    assert_eq!(running.server.await.expect("joins").expect("serves"), Drained::Complete);
    tokio::net::TcpListener::bind(address).await.expect("the port is free again");
}

#[tokio::test]
async fn the_drain_deadline_cuts_calls_off() {
    let drain = Duration::from_millis(200);
    let running = start(drain).await;
    let answer = running.begin_call().await;
    let begun = Instant::now();
    running.stop.send(()).expect("runs");
    assert_eq!(running.server.await.expect("joins").expect("serves"), Drained::CutOff);
    let error = answer.await.expect("joins").expect_err("cut off");
    let took = begun.elapsed();
    assert!(took >= drain && took < Duration::from_secs(10), "{took:?}");
    assert!(matches!(error.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{error:?}");
}

#[tokio::test]
async fn health_follows_readiness() {
    const SERVING: i32 = 1;
    const NOT_SERVING: i32 = 2;
    let running = start(Duration::from_secs(5)).await;
    assert_eq!(running.says().await, NOT_SERVING);
    running.health.set_ready();
    let told = async {
        while running.says().await != SERVING {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("told in time");
    running.stop.send(()).expect("runs");
    assert_eq!(running.server.await.expect("joins").expect("serves"), Drained::Complete);
}

#[tokio::test]
async fn a_call_that_takes_too_long_ends_at_the_servers_deadline() {
    let limits = Limits { unary: Duration::from_millis(100), ..Limits::default() };
    let running = start_with(limits, Duration::from_secs(5)).await;
    let error = running.begin_call().await.await.expect("joins").expect_err("too late");
    assert_eq!((error.code(), error.message()), (Code::DeadlineExceeded, "no answer within 0.1 s"));
}

#[tokio::test]
async fn a_callers_own_deadline_is_kept_where_it_is_shorter() {
    let running = start(Duration::from_secs(5)).await;
    let mut client = RewardServiceClient::new(running.channel.clone());
    let mut request = Request::new(pb::RewardStatusRequest {});
    request.metadata_mut().insert("grpc-timeout", "50m".parse().expect("ASCII"));
    let begun = Instant::now();
    let error = client.reward_status(request).await.expect_err("too late");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled), "{error:?}");
}

#[tokio::test]
async fn calls_beyond_the_limit_are_shed_at_once_and_room_comes_back() {
    let running = start_with(Limits { calls: 2, ..Limits::default() }, Duration::from_secs(5)).await;
    let answers = [running.begin_call().await, running.begin_call().await];
    let mut client = RewardServiceClient::new(running.channel.clone());
    let error = client.reward_status(pb::RewardStatusRequest {}).await.expect_err("shed");
    let told = "2 calls are running already; try again in a moment";
    assert_eq!((error.code(), error.message()), (Code::ResourceExhausted, told));
    for answer in answers {
        running.slow.finish.notify_one();
        answer.await.expect("joins").expect("answered");
    }
    running.slow.finish.notify_one();
    running.begin_call().await.await.expect("joins").expect("there is room again");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_turned_away() {
    let running = start_with(Limits { connections: 1, ..Limits::default() }, Duration::from_secs(5)).await;
    running.says().await;
    let mut second = tokio::net::TcpStream::connect(running.address).await.expect("the port listens");
    let mut read = [0; 1];
    let closed = tokio::io::AsyncReadExt::read(&mut second, &mut read);
    let closed = tokio::time::timeout(Duration::from_secs(10), closed).await.expect("at once");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    running.says().await;
}

#[test]
fn reflection_knows_every_service() {
    reflection().expect("the descriptors decode");
}
