use super::*;
use sinternal_proto::pb::load_verifier_request::Part;
use sinternal_proto::pb::reward_service_server::{RewardService, RewardServiceServer};
use sinternal_proto::{
    Chunk, Composition, HelpGrader, ModelFile, ModelManifest, PolicyVersion, PromptKind, RewardComponents,
    ScoreOutcome, VerifierLoad,
};
use sinternal_service::health::Health;
use sinternal_service::serve::serve_grpc;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// What a fake service has been told; shared over restarts.
#[derive(Default)]
struct Log {
    loads: Vec<String>,
    chunks: Vec<(Sha256, usize)>,
    asked: Vec<String>,
}

/// Scores mathematics by its gold answer, and safety 0.5 when the right verifier is loaded.
#[derive(Clone, Default)]
struct Fake {
    log: Arc<Mutex<Log>>,
    verifiers: Arc<Mutex<Vec<String>>>,
    /// Identity of every remote judge.
    judge: Arc<Mutex<String>>,
    held: Arc<Mutex<Vec<String>>>,
    /// Answers on each stream, then silence.
    answers: Option<usize>,
    /// The first upload fails as if a cached file were damaged, and is forgotten.
    damaged: Arc<Mutex<bool>>,
}

#[tonic::async_trait]
impl RewardService for Fake {
    type ScoreStream = ReceiverStream<Result<pb::ScoreResponse, Status>>;

    async fn load_verifier(
        &self,
        request: Request<Streaming<pb::LoadVerifierRequest>>,
    ) -> Result<Response<pb::LoadVerifierResponse>, Status> {
        let mut parts = request.into_inner();
        let mut hash = String::new();
        while let Some(part) = parts.message().await? {
            match part.part.expect("a part") {
                Part::Start(start) => {
                    let load = VerifierLoad::try_from(start).expect("valid");
                    // A judge is known by whatever the test says.
                    let judge = || Sha256(self.judge.lock().unwrap().clone());
                    hash = load.verifier.identity().unwrap_or_else(judge).0;
                    self.verifiers.lock().unwrap().retain(|held| load.keep.iter().any(|k| &k.0 == held));
                }
                Part::Chunk(chunk) => {
                    let chunk = Chunk::try_from(chunk).expect("valid");
                    self.log.lock().unwrap().chunks.push((chunk.file, chunk.data.len()));
                }
            }
        }
        if std::mem::take(&mut *self.damaged.lock().unwrap()) {
            self.held.lock().unwrap().clear();
            return Err(Status::data_loss("b.json: 0 of its 3 bytes came"));
        }
        self.log.lock().unwrap().loads.push(hash.clone());
        self.verifiers.lock().unwrap().push(hash.clone());
        Ok(Response::new(pb::LoadVerifierResponse { verifier_hash: hash }))
    }

    async fn score(
        &self,
        request: Request<Streaming<pb::ScoreRequest>>,
    ) -> Result<Response<Self::ScoreStream>, Status> {
        let (answers, outgoing) = mpsc::channel(4);
        tokio::spawn(self.clone().answer(request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn reward_status(
        &self,
        _: Request<pb::RewardStatusRequest>,
    ) -> Result<Response<pb::RewardStatusResponse>, Status> {
        Ok(Response::new(pb::RewardStatusResponse {
            verifier_hashes: self.verifiers.lock().unwrap().clone(),
            file_sha256: self.held.lock().unwrap().clone(),
            ..pb::RewardStatusResponse::default()
        }))
    }
}

impl Fake {
    /// Answers pairs of requests in reverse order.
    async fn answer(
        self,
        mut requests: Streaming<pb::ScoreRequest>,
        answers: mpsc::Sender<Result<pb::ScoreResponse, Status>>,
    ) {
        let mut left = self.answers.unwrap_or(usize::MAX);
        let mut held = None;
        loop {
            let patience = Duration::from_millis(20);
            let request = match tokio::time::timeout(patience, requests.message()).await {
                Ok(Ok(Some(request))) => ScoreRequest::try_from(request).expect("valid"),
                Ok(_) => return,
                Err(_) => match held.take() {
                    None => continue,
                    Some(response) => {
                        let _ = answers.send(Ok(response)).await;
                        continue;
                    }
                },
            };
            self.log.lock().unwrap().asked.push(request.id.clone());
            match self.judge(&request) {
                Err(status) => return drop(answers.send(Err(status)).await),
                Ok(_) if left == 0 || request.id == "silent" => {}
                Ok(response) => {
                    left -= 1;
                    let second = held.take();
                    match second {
                        None if left > 0 => held = Some(response),
                        second => {
                            for response in [Some(response), second].into_iter().flatten() {
                                let _ = answers.send(Ok(response)).await;
                            }
                        }
                    }
                }
            }
        }
    }

    fn judge(&self, request: &ScoreRequest) -> Result<pb::ScoreResponse, Status> {
        let loaded = self.verifiers.lock().unwrap().clone();
        match &request.verifier {
            Some(asked) if !loaded.contains(&asked.0) => {
                Err(Status::failed_precondition("another is loaded"))
            }
            _ if request.id == "bad" => Err(Status::invalid_argument("score.kind: is not specified")),
            verifier => {
                let reward = if verifier.is_some() { 0.5 } else { 1.0 };
                let (components, critique) = (RewardComponents::default(), String::new());
                let outcome = ScoreOutcome::Scored { reward, components, verdict: None, critique };
                Ok(ScoreResult { id: request.id.clone(), outcome }.into())
            }
        }
    }
}

struct Running {
    url: String,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(fake: &Fake) -> Self {
        Self::start_at(fake, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn start_at(fake: &Fake, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (routes, stopped) = (Routes::new(RewardServiceServer::new(fake.clone())), stop.clone());
        let task = tokio::spawn(async move {
            let stopped = stopped.cancelled_owned();
            serve_grpc(listener, routes, Health::starting(), stopped, Duration::ZERO).await.unwrap();
        });
        Self { url: format!("http://{address}"), address, stop, task }
    }

    /// Cuts every connection, as a killed process does.
    async fn kill(self) -> SocketAddr {
        self.stop.cancel();
        self.task.await.unwrap();
        self.address
    }
}

fn options() -> RewardOptions {
    let seconds = Duration::from_secs;
    RewardOptions { connect: seconds(1), request: seconds(10), load: seconds(10), outage: seconds(10) }
}

fn math(id: &str) -> ScoreRequest {
    ScoreRequest {
        id: id.into(),
        verifier: None,
        kind: PromptKind::Math,
        spec: String::new(),
        request: "2 + 2".into(),
        completion: "\\boxed{4}".into(),
        truncated: false,
        gold: Some("4".into()),
        must_use: Vec::new(),
        help: HelpGrader::None,
        max_critique_tokens: 0,
        critiques: 0,
        lower_bound: 0.0,
        composition: Composition::PaperPlus,
        policy_version: PolicyVersion(1),
    }
}

fn safety(id: &str, verifier: &Sha256) -> ScoreRequest {
    ScoreRequest {
        verifier: Some(verifier.clone()),
        kind: PromptKind::Harmful,
        gold: None,
        max_critique_tokens: 9,
        critiques: 1,
        ..math(id)
    }
}

fn reward(result: &ScoreResult) -> f32 {
    match &result.outcome {
        ScoreOutcome::Scored { reward, .. } => *reward,
        ScoreOutcome::Masked { reason } => panic!("{} is masked: {reason}", result.id),
    }
}

/// Files of 2.5 MiB and 3 bytes.
fn model() -> (tempfile::TempDir, ModelManifest) {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, data: Vec<u8>| {
        std::fs::write(dir.path().join(name), &data).unwrap();
        ModelFile { name: name.into(), size_bytes: data.len() as u64, sha256: Sha256::of(&data) }
    };
    let files = vec![file("a.safetensors", vec![7; 5 << 19]), file("b.json", b"{} ".to_vec())];
    (dir, ModelManifest::new(files).unwrap())
}

#[tokio::test]
async fn all_are_scored_in_the_order_of_the_requests() {
    let server = Running::start(&Fake::default()).await;
    let client = RewardClient::new(&server.url, &Credentials::default(), options()).unwrap();
    let requests: Vec<ScoreRequest> = (0..601).map(|i| math(&i.to_string())).collect();
    let results = client.score_all(requests).await.unwrap();
    let ids: Vec<String> = results.iter().map(|r| r.id.clone()).collect();
    assert_eq!(ids, (0..601).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(results.iter().all(|r| reward(r) == 1.0));
    assert!(client.score_all(Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_session_outlives_a_killed_service_which_gets_its_verifier_again() {
    let first = Fake { answers: Some(7), ..Fake::default() };
    let server = Running::start(&first).await;
    let (dir, manifest) = model();
    let client = RewardClient::new(&server.url, &Credentials::default(), options()).unwrap();
    client.load_verifier(&VerifierSource::own(manifest.clone(), dir.path())).await.unwrap();
    let mut session = client.open(20);
    for i in 0..20 {
        session.send(safety(&i.to_string(), &manifest.hash)).await.unwrap();
    }
    let mut answered = BTreeMap::new();
    for _ in 0..7 {
        let result = session.next().await.unwrap();
        *answered.entry(result.id).or_insert(0) += 1;
    }
    let address = server.kill().await;
    tokio::time::sleep(Duration::from_millis(150)).await; // attempts while nobody listens
    let second = Fake { log: Arc::clone(&first.log), ..Fake::default() };
    let _server = Running::start_at(&second, address).await;
    for _ in 7..20 {
        let result = session.next().await.unwrap();
        assert_eq!(reward(&result), 0.5);
        *answered.entry(result.id).or_insert(0) += 1;
    }
    assert_eq!(answered.len(), 20);
    assert!(answered.values().all(|&times| times == 1), "{answered:?}");
    session.send(safety("later", &manifest.hash)).await.unwrap();
    assert_eq!(session.next().await.unwrap().id, "later");
    assert_eq!(first.log.lock().unwrap().loads, [manifest.hash.0.clone(), manifest.hash.0]);
}

#[tokio::test]
async fn a_verifier_that_was_replaced_is_loaded_again() {
    let fake = Fake::default();
    let server = Running::start(&fake).await;
    let (dir, manifest) = model();
    let client = RewardClient::new(&server.url, &Credentials::default(), options()).unwrap();
    client.load_verifier(&VerifierSource::own(manifest.clone(), dir.path())).await.unwrap();
    let mut session = client.open(4);
    session.send(safety("a", &manifest.hash)).await.unwrap();
    assert_eq!(session.next().await.unwrap().id, "a");
    *fake.verifiers.lock().unwrap() = vec!["another".into()];
    session.send(safety("b", &manifest.hash)).await.unwrap();
    assert_eq!(reward(&session.next().await.unwrap()), 0.5);
    assert_eq!(fake.log.lock().unwrap().loads.len(), 2);
}

#[tokio::test]
async fn several_verifiers_are_loaded_beside_each_other_and_again_after_a_loss() {
    let fake = Fake { judge: Arc::new(Mutex::new(Sha256::of(b"judge").0)), ..Fake::default() };
    let server = Running::start(&fake).await;
    let (dir, manifest) = model();
    let client = RewardClient::new(&server.url, &Credentials::default(), options()).unwrap();
    let own = client.load_verifier(&VerifierSource::own(manifest.clone(), dir.path())).await.unwrap();
    let judge = client.load_beside(&VerifierSource::judge("strict")).await.unwrap();
    assert_eq!((&own, &judge), (&manifest.hash, &Sha256::of(b"judge")));
    assert_eq!(client.verifier(), Some(own.clone()));
    let results = client.score_all(vec![safety("a", &own), safety("b", &judge)]).await.unwrap();
    assert!(results.iter().all(|r| reward(r) == 0.5));
    fake.verifiers.lock().unwrap().clear();
    let results = client.score_all(vec![safety("a", &judge), safety("b", &own)]).await.unwrap();
    assert!(results.iter().all(|r| reward(r) == 0.5));
    assert_eq!(*fake.verifiers.lock().unwrap(), [own.0.clone(), judge.0.clone()]);
    // A judge whose settings changed in the meantime is not the one that was asked for.
    fake.verifiers.lock().unwrap().clear();
    *fake.judge.lock().unwrap() = Sha256::of(b"another").0;
    let error = client.score_all(vec![safety("a", &judge)]).await.unwrap_err().to_string();
    let (found, loaded) = (Sha256::of(b"another"), &judge);
    let changed = format!("judge `strict` is {found} now; it was {loaded} when it was loaded");
    assert_eq!(error, format!("reward service {}: {changed}", server.url));
    // A new verifier that rewards takes the place of all.
    let new = client.load_verifier(&VerifierSource::judge("other")).await.unwrap();
    assert_eq!(*fake.verifiers.lock().unwrap(), [new.0]);
}

#[tokio::test]
async fn files_go_in_bounded_chunks_and_only_where_they_are_missing() {
    let fake = Fake::default();
    let server = Running::start(&fake).await;
    let (dir, manifest) = model();
    let (weights, config) = (manifest.files[0].sha256.clone(), manifest.files[1].sha256.clone());
    let client = RewardClient::new(&server.url, &Credentials::default(), options()).unwrap();
    client.load_verifier(&VerifierSource::own(manifest.clone(), dir.path())).await.unwrap();
    let sent = std::mem::take(&mut fake.log.lock().unwrap().chunks);
    let large = |bytes| (weights.clone(), bytes);
    assert_eq!(sent, [large(1 << 20), large(1 << 20), large(1 << 19), (config.clone(), 3)]);
    client.load_verifier(&VerifierSource::own(manifest.clone(), dir.path())).await.unwrap();
    assert_eq!(fake.log.lock().unwrap().loads.len(), 1, "it is loaded already");
    // A restarted service that kept its cache, in which one file is damaged: the second attempt sends both.
    fake.verifiers.lock().unwrap().clear();
    *fake.held.lock().unwrap() = vec![weights.0.clone(), config.0.clone()];
    *fake.damaged.lock().unwrap() = true;
    client.load_verifier(&VerifierSource::own(manifest.clone(), dir.path())).await.unwrap();
    assert_eq!(fake.log.lock().unwrap().chunks, sent);
    assert_eq!(client.verifier(), Some(manifest.hash));
}

#[tokio::test]
async fn an_unreadable_file_is_named() {
    let server = Running::start(&Fake::default()).await;
    let (dir, manifest) = model();
    std::fs::remove_file(dir.path().join("b.json")).unwrap();
    let client = RewardClient::new(&server.url, &Credentials::default(), options()).unwrap();
    let error = client
        .load_verifier(&VerifierSource::own(manifest.clone(), dir.path()))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("b.json: No such file"), "{error}");
}

#[tokio::test]
async fn an_outage_ends_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let outage = Duration::from_millis(400);
    let client =
        RewardClient::new(&url, &Credentials::default(), RewardOptions { outage, ..options() }).unwrap();
    let began = std::time::Instant::now();
    let mut session = client.open(4);
    session.send(math("a")).await.unwrap();
    let error = session.next().await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("reward service {url}: away for 0.4 s: ")), "{error}");
    assert!(error.contains("Connection refused"), "{error}");
    assert!((0.4..3.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    assert!(matches!(session.next().await, Err(RewardError::Ended)));
    assert!(matches!(session.send(math("b")).await, Err(RewardError::Ended)));
    let (dir, manifest) = model();
    let error = client
        .load_verifier(&VerifierSource::own(manifest.clone(), dir.path()))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with(&format!("reward service {url}: away for 0.4 s: ")), "{error}");
}

#[tokio::test]
async fn a_request_without_answer_is_masked_and_the_others_are_not() {
    let server = Running::start(&Fake::default()).await;
    let request = Duration::from_millis(300);
    let client =
        RewardClient::new(&server.url, &Credentials::default(), RewardOptions { request, ..options() })
            .unwrap();
    let results = client.score_all(vec![math("a"), math("silent"), math("b")]).await.unwrap();
    assert_eq!((reward(&results[0]), reward(&results[2])), (1.0, 1.0));
    assert_eq!(results[1].outcome, ScoreOutcome::Masked { reason: "timeout".into() });
}

#[tokio::test]
async fn what_the_service_refuses_for_good_ends_the_session() {
    let server = Running::start(&Fake::default()).await;
    let client = RewardClient::new(&server.url, &Credentials::default(), options()).unwrap();
    let error = client.score_all(vec![math("bad")]).await.unwrap_err().to_string();
    assert_eq!(error, format!("reward service {}: score: score.kind: is not specified", server.url));
    // Nothing was loaded through this client, so there is nothing to load again.
    let other = Sha256::of(b"other");
    let error = client.score_all(vec![safety("a", &other)]).await.unwrap_err().to_string();
    assert_eq!(error, format!("reward service {}: score: another is loaded", server.url));
}

#[tokio::test]
async fn the_callers_mistakes_are_named() {
    let server = Running::start(&Fake::default()).await;
    let client = RewardClient::new(&server.url, &Credentials::default(), options()).unwrap();
    let twice = client.score_all(vec![math("silent"), math("silent")]).await.unwrap_err().to_string();
    assert_eq!(twice, "score request `silent`: is under way already");
    let (dir, manifest) = model();
    client.load_verifier(&VerifierSource::own(manifest.clone(), dir.path())).await.unwrap();
    let other = Sha256::of(b"other");
    let error = client.score_all(vec![safety("a", &other)]).await.unwrap_err().to_string();
    assert_eq!(error, format!("score request `a`: asks for verifier {other}; {} was loaded", manifest.hash));
    assert!(RewardClient::new("reward:7501", &Credentials::default(), options()).is_err());
}

/// The real service, its port and its cache.
async fn real(address: SocketAddr, cache: &Path) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let verifier = sinternal_reward::VerifierOptions {
        device: sinternal_model::Device::Cpu,
        kind: sinternal_model::Kind::Float,
        max_sequences: 4,
        kv_budget_bytes: 1 << 24,
    };
    let (deadline, judges) = (Duration::from_secs(30), BTreeMap::new());
    let options =
        sinternal_reward::Options { cache: cache.into(), cache_bytes: 64 << 20, verifier, deadline, judges };
    let task = tokio::spawn(async move {
        sinternal_reward::serve(listener, options, Health::starting(), stopped, Duration::ZERO)
            .await
            .unwrap();
    });
    (address, stop, task)
}

#[tokio::test]
async fn the_real_service_is_restarted_in_the_middle() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sinternal_world::tokenizer::write_model_files(dir.path()).unwrap();
    let config = sinternal_model::ModelConfig::load(&dir.path().join("config.json")).unwrap();
    let lm = sinternal_model::CausalLm::random(config, 1, 0.02, sinternal_model::Device::Cpu);
    lm.save_weights(dir.path(), sinternal_model::Kind::BFloat16).unwrap();
    let manifest = ModelManifest::of_folder(dir.path()).unwrap();
    let (address, stop, task) = real("127.0.0.1:0".parse().unwrap(), cache.path()).await;
    let client = RewardClient::new(&format!("http://{address}"), &Credentials::default(), options()).unwrap();
    client.load_verifier(&VerifierSource::own(manifest.clone(), dir.path())).await.unwrap();
    let mut session = client.open(64);
    let answer = "<think> plan </think> first press duskcap then steep done";
    let request = |id: &str| ScoreRequest {
        spec: "rules none".into(),
        request: "make tonic".into(),
        completion: answer.into(),
        ..safety(id, &manifest.hash)
    };
    for i in 0..40 {
        session.send(request(&i.to_string())).await.unwrap();
    }
    let mut answered = vec![session.next().await.unwrap().id];
    stop.cancel();
    task.await.unwrap();
    let (_, _stop, _task) = real(address, cache.path()).await;
    while answered.len() < 40 {
        let result = session.next().await.unwrap();
        if let ScoreOutcome::Masked { reason } = &result.outcome {
            assert_eq!(reason, "invalid critique"); // a random model hardly ever judges
        }
        answered.push(result.id);
    }
    answered.sort_unstable();
    answered.dedup();
    assert_eq!(answered.len(), 40);
}
