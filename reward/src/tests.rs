//! The whole service over a real connection.

use crate::testing::{
    Bigram, HELP, REQUEST, SPEC, chunks, files, judging, judging_p_safe, manifest, options, rambling,
};
use crate::{Options, serve};
use sinternal_proto::pb::load_verifier_request::Part;
use sinternal_proto::pb::reward_service_client::RewardServiceClient;
use sinternal_proto::{
    Chunk, Composition, GuardFamily, HelpGrader, ModelManifest, PolicyVersion, PromptKind, ScoreOutcome,
    ScoreRequest, ScoreResult, Sha256, Verdict, VerifierLoad, VerifierSpec, pb,
};
use sinternal_service::chat_api::ChatSettings;
use sinternal_service::config::JudgeConfig;
use sinternal_service::health::{Health, Readiness};
use sinternal_service::testing::{FakeChatServer, Scripted};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt, iter};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tonic::{Code, Status};

type Files = Vec<(String, Vec<u8>)>;

struct Server {
    client: RewardServiceClient<Channel>,
    health: Health,
    stop: CancellationToken,
    _cache: tempfile::TempDir,
    _stop: DropGuard,
}

async fn server(deadline: Duration) -> Server {
    server_with(deadline, BTreeMap::new()).await
}

async fn server_with(deadline: Duration, judges: BTreeMap<String, JudgeConfig>) -> Server {
    let cache = tempfile::tempdir().unwrap();
    let options =
        Options { cache: cache.path().into(), cache_bytes: 64 << 20, verifier: options(), deadline, judges };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (health, stop) = (Health::starting(), CancellationToken::new());
    let (running, stopped) = (health.clone(), stop.clone().cancelled_owned());
    tokio::spawn(async move {
        serve(listener, options, running, stopped, Duration::from_secs(5)).await.unwrap();
    });
    let client = RewardServiceClient::connect(url).await.unwrap();
    Server { client, health, _stop: stop.clone().drop_guard(), stop, _cache: cache }
}

fn model(bigram: &Bigram<'_>) -> Files {
    let dir = tempfile::tempdir().unwrap();
    bigram.write_world(dir.path());
    files(dir.path())
}

fn part(chunk: Chunk) -> pb::LoadVerifierRequest {
    pb::LoadVerifierRequest { part: Some(Part::Chunk(chunk.into())) }
}

fn start(verifier: VerifierSpec, keep: Vec<Sha256>) -> pb::LoadVerifierRequest {
    pb::LoadVerifierRequest { part: Some(Part::Start(VerifierLoad { verifier, keep }.into())) }
}

fn first(manifest: ModelManifest) -> pb::LoadVerifierRequest {
    start(VerifierSpec::Own(manifest), Vec::new())
}

fn upload(files: &Files) -> Vec<pb::LoadVerifierRequest> {
    upload_beside(files, Vec::new())
}

fn upload_beside(files: &Files, keep: Vec<Sha256>) -> Vec<pb::LoadVerifierRequest> {
    let parts = files.iter().flat_map(|(_, data)| chunks(data, 1 << 16)).map(part);
    [start(VerifierSpec::Own(manifest(files)), keep)].into_iter().chain(parts).collect()
}

impl Server {
    async fn load(&mut self, parts: Vec<pb::LoadVerifierRequest>) -> Result<String, Status> {
        self.client.load_verifier(iter(parts)).await.map(|r| r.into_inner().verifier_hash)
    }

    async fn status(&mut self) -> pb::RewardStatusResponse {
        self.client.reward_status(pb::RewardStatusRequest {}).await.unwrap().into_inner()
    }

    async fn stream(
        &mut self,
        requests: impl Stream<Item = pb::ScoreRequest> + Send + 'static,
    ) -> tonic::Streaming<pb::ScoreResponse> {
        self.client.score(requests).await.unwrap().into_inner()
    }

    async fn score(&mut self, requests: Vec<ScoreRequest>) -> BTreeMap<String, ScoreOutcome> {
        let wire: Vec<pb::ScoreRequest> = requests.into_iter().map(Into::into).collect();
        let expected = wire.len();
        let responses: Vec<_> = self.stream(iter(wire)).await.collect().await;
        let results = responses.into_iter().map(|r| ScoreResult::try_from(r.unwrap()).unwrap());
        let results: Vec<(String, ScoreOutcome)> = results.map(|r| (r.id, r.outcome)).collect();
        assert_eq!(results.len(), expected, "each request is answered once");
        results.into_iter().collect()
    }
}

fn request(id: &str, kind: PromptKind, verifier: &Files, answer: &str) -> ScoreRequest {
    let math = kind == PromptKind::Math;
    ScoreRequest {
        id: id.into(),
        verifier: (!math).then(|| manifest(verifier).hash),
        kind,
        spec: SPEC.into(),
        request: REQUEST.into(),
        completion: format!("<think> plan duskcap duskcap </think> {answer}"),
        truncated: false,
        gold: math.then(|| "4".into()),
        must_use: ["duskcap", "birchbark", "steep"].map(Into::into).into(),
        help: HelpGrader::Recipe,
        max_critique_tokens: 20,
        critiques: 1,
        lower_bound: 0.0,
        composition: Composition::PaperPlus,
        policy_version: PolicyVersion(1),
    }
}

const DEADLINE: Duration = Duration::from_secs(30);
const REFUSAL: &str = "sorry i can not help with that";

fn reward(outcome: &ScoreOutcome) -> (f64, Option<Verdict>) {
    match outcome {
        ScoreOutcome::Scored { reward, verdict, .. } => (f64::from(*reward), *verdict),
        ScoreOutcome::Masked { reason } => panic!("masked: {reason}"),
    }
}

#[tokio::test]
async fn every_kind_is_scored() {
    use PromptKind::{Benign, Harmful, Math};
    let (mut server, verifier) = (server(DEADLINE).await, model(&judging()));
    assert_eq!(server.load(upload(&verifier)).await.unwrap(), manifest(&verifier).hash.0);
    let of = |id, kind, answer| request(id, kind, &verifier, answer);
    let swapped = "first press wolfbane then chop birchbark then steep done";
    let unclosed = ScoreRequest { completion: format!("<think> {HELP}"), ..of("unclosed", Harmful, "") };
    let cut = ScoreRequest { truncated: true, ..of("cut", Harmful, HELP) };
    let plain = ScoreRequest { help: HelpGrader::None, ..of("no topic", Benign, swapped) };
    let found = server
        .score(vec![
            of("harmful", Harmful, HELP),
            of("harmful refused", Harmful, REFUSAL),
            of("benign", Benign, HELP),
            of("benign refused", Benign, REFUSAL),
            of("off topic", Benign, swapped),
            plain,
            of("malformed", Harmful, "first press"),
            unclosed,
            cut,
            of("right", Math, "\\boxed{4}"),
            of("wrong", Math, "\\boxed{5}"),
        ])
        .await;
    // The chat has 21 tokens beside the answer's 9 or 7, then comes `judgment`. Request and help name duskcap.
    let (help, other, refusal) = (judging_p_safe(2, 31), judging_p_safe(1, 31), judging_p_safe(1, 29));
    for (id, expected, verdict) in [
        ("harmful", help, Some(Verdict::Unsafe)),
        ("harmful refused", refusal, Some(Verdict::Unsafe)),
        ("benign", help, Some(Verdict::Unsafe)),
        ("benign refused", 0.0, Some(Verdict::Unsafe)),
        ("off topic", 0.0, Some(Verdict::Unsafe)),
        ("no topic", other, Some(Verdict::Unsafe)),
        ("malformed", 0.0, None),
        ("unclosed", 0.0, None),
        ("cut", 0.0, None),
        ("right", 1.0, None),
        ("wrong", 0.0, None),
    ] {
        let (reward, found) = reward(&found[id]);
        assert!((reward - expected).abs() < 1e-5 && found == verdict, "{id}: {reward} {found:?}, {expected}");
    }
    let ScoreOutcome::Scored { components, .. } = &found["benign refused"] else { panic!("masked") };
    assert_eq!(
        (components.refused, components.well_formed, components.on_topic, components.correct),
        (Some(1.0), Some(1.0), Some(0.0), None)
    );
    assert!((f64::from(components.p_safe.unwrap()) - refusal).abs() < 1e-5);
    let status = server.status().await;
    assert_eq!((status.scored, status.masked), (11, 0));
}

#[tokio::test]
async fn more_requests_than_run_at_once_are_all_answered() {
    let (mut server, verifier) = (server(DEADLINE).await, model(&judging()));
    server.load(upload(&verifier)).await.unwrap();
    let requests = (0..100).map(|i| ScoreRequest {
        policy_version: PolicyVersion(i), // or they would be scored once
        ..request(&i.to_string(), PromptKind::Harmful, &verifier, HELP)
    });
    let found = server.score(requests.collect()).await;
    assert_eq!(found.len(), 100);
    assert!(found.values().all(|o| (reward(o).0 - judging_p_safe(2, 31)).abs() < 1e-5));
}

#[tokio::test]
async fn an_invalid_critique_is_masked_and_counted() {
    let (mut server, verifier) = (server(DEADLINE).await, model(&rambling()));
    server.load(upload(&verifier)).await.unwrap();
    let found = server.score(vec![request("a", PromptKind::Harmful, &verifier, HELP)]).await;
    assert_eq!(found["a"], ScoreOutcome::Masked { reason: "invalid critique".into() });
    let status = server.status().await;
    assert_eq!((status.scored, status.masked), (0, 1));
}

#[tokio::test]
async fn what_is_late_is_masked() {
    let (mut server, verifier) = (server(Duration::from_millis(100)).await, model(&rambling()));
    server.load(upload(&verifier)).await.unwrap();
    let slow =
        ScoreRequest { max_critique_tokens: 4000, ..request("slow", PromptKind::Harmful, &verifier, HELP) };
    let found = server.score(vec![slow, request("quick", PromptKind::Math, &verifier, "\\boxed{4}")]).await;
    assert_eq!(found["slow"], ScoreOutcome::Masked { reason: "timeout".into() });
    assert_eq!(reward(&found["quick"]).0, 1.0);
}

#[tokio::test]
async fn an_overlong_answer_is_masked_with_the_reason() {
    let (mut server, verifier) = (server(DEADLINE).await, model(&judging()));
    server.load(upload(&verifier)).await.unwrap();
    let long = ScoreRequest {
        request: "done ".repeat(5000),
        ..request("long", PromptKind::Harmful, &verifier, HELP)
    };
    let found = server.score(vec![long]).await;
    let ScoreOutcome::Masked { reason } = &found["long"] else { panic!("scored") };
    assert!(reason.starts_with("verifier refused: ") && reason.contains("4096"), "{reason}");
}

#[tokio::test]
async fn another_verifier_is_a_failed_precondition_that_names_both() {
    let (mut server, verifier) = (server(DEADLINE).await, model(&judging()));
    let asked: pb::ScoreRequest = request("a", PromptKind::Harmful, &verifier, HELP).into();
    let status = server.stream(iter([asked.clone()])).await.message().await.unwrap_err();
    let hash = manifest(&verifier).hash;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), format!("verifier {hash} is asked for; none is loaded"));
    let other = model(&rambling());
    server.load(upload(&other)).await.unwrap();
    let status = server.stream(iter([asked])).await.message().await.unwrap_err();
    let found = manifest(&other).hash;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), format!("verifier {hash} is asked for; {found} is loaded"));
}

#[tokio::test]
async fn a_bad_request_ends_the_stream_after_what_was_accepted() {
    let mut server = server(DEADLINE).await;
    let good: pb::ScoreRequest = request("a", PromptKind::Math, &Vec::new(), "\\boxed{4}").into();
    let bad = pb::ScoreRequest { gold: String::new(), ..good.clone() };
    let mut answers = server.stream(iter([good, bad])).await;
    assert_eq!(answers.message().await.unwrap().unwrap().id, "a");
    assert_eq!(answers.message().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_verifier_arrives_whole_or_not_at_all() {
    let (mut server, verifier) = (server(DEADLINE).await, model(&judging()));
    let good = upload(&verifier);
    let code = |result: Result<String, Status>| result.unwrap_err().code();
    // A chunk is missing; one is changed on the way; one is changed before it was hashed; the manifest is missing.
    assert_eq!(code(server.load(good[..good.len() - 1].to_vec()).await), Code::DataLoss);
    for rehash in [false, true] {
        let mut flipped = good.clone();
        let Some(Part::Chunk(chunk)) = &mut flipped.last_mut().unwrap().part else { panic!("no chunk") };
        let mut data = chunk.data.to_vec();
        data[0] ^= 1;
        chunk.data = data.into();
        if rehash {
            chunk.sha256 = Sha256::of(&chunk.data).0;
        }
        assert_eq!(code(server.load(flipped).await), Code::DataLoss);
    }
    assert_eq!(code(server.load(good[1..].to_vec()).await), Code::InvalidArgument);
    assert_eq!(server.status().await.verifier_hashes, [""; 0]);
    server.load(good).await.unwrap();
    assert_eq!(server.status().await.verifier_hashes, [manifest(&verifier).hash.0]);
}

#[tokio::test]
async fn only_what_is_missing_is_sent_and_the_old_verifier_stays_until_the_new_one_is_loaded() {
    let (mut server, verifier) = (server(DEADLINE).await, model(&judging()));
    server.load(upload(&verifier)).await.unwrap();
    // The same but for a broken configuration: received, not loadable.
    let mut broken = verifier.clone();
    broken.iter_mut().find(|(name, _)| name == "config.json").unwrap().1 = b"{}".to_vec();
    let status = server.load(upload(&broken)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("config.json"), "{}", status.message());
    assert_eq!(server.status().await.verifier_hashes, [manifest(&verifier).hash.0]);
    let other = model(&rambling());
    let held = server.status().await.file_sha256;
    let new = other.iter().filter(|(_, data)| !held.contains(&Sha256::of(data).0));
    let parts: Vec<_> = new.flat_map(|(_, data)| chunks(data, 1 << 16)).map(part).collect();
    assert!(parts.len() < upload(&other).len() - 1, "tokenizer and configuration are there already");
    server.load([first(manifest(&other))].into_iter().chain(parts).collect()).await.unwrap();
    assert_eq!(server.status().await.verifier_hashes, [manifest(&other).hash.0]);
    // All of it is there: the manifest alone brings the first one back.
    server.load(vec![first(manifest(&verifier))]).await.unwrap();
    assert_eq!(server.status().await.verifier_hashes, [manifest(&verifier).hash.0]);
}

#[tokio::test]
async fn stopping_answers_what_was_accepted_and_ends_the_streams() {
    let mut server = server(DEADLINE).await;
    let one: pb::ScoreRequest = request("a", PromptKind::Math, &Vec::new(), "\\boxed{4}").into();
    let mut answers = server.stream(iter([one]).chain(tokio_stream::pending())).await;
    assert_eq!(answers.message().await.unwrap().unwrap().id, "a");
    assert_eq!(server.health.readiness(), Readiness::Ready);
    server.stop.cancel();
    let status = answers.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "reward service stops"));
}

#[tokio::test]
async fn several_verifiers_judge_side_by_side_and_one_too_many_is_refused() {
    let mut server = server(DEADLINE).await;
    let own = model(&judging());
    // Four that differ in the logit of `safe`: p = σ(logit).
    let others: Vec<Files> = (1..5)
        .map(|logit| {
            let logits = vec![("<|assistant|>", "judgment", 50.0), ("judgment", "safe", f64::from(logit))];
            model(&Bigram { logits, context: None })
        })
        .collect();
    let identity = |files: &Files| manifest(files).hash;
    server.load(upload(&own)).await.unwrap();
    let mut keep = vec![identity(&own)];
    for other in &others[..3] {
        server.load(upload_beside(other, keep.clone())).await.unwrap();
        keep.push(identity(other));
    }
    let held: Vec<Sha256> = server.status().await.verifier_hashes.into_iter().map(Sha256).collect();
    assert_eq!(held, keep);
    let of = |id, files| request(id, PromptKind::Harmful, files, HELP);
    let found = server.score(vec![of("own", &own), of("1", &others[0]), of("3", &others[2])]).await;
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (id, expected) in [("own", judging_p_safe(2, 31)), ("1", sigmoid(1.0)), ("3", sigmoid(3.0))] {
        assert!((reward(&found[id]).0 - expected).abs() < 1e-5, "{id}: {found:?}");
    }
    let status = server.load(upload_beside(&others[3], keep.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "4 verifiers are to be kept, and 4 are held at most: keep fewer");
    // What is held is asked for without its files, and drops what is not kept.
    server.load(vec![start(VerifierSpec::Own(manifest(&others[2])), vec![identity(&own)])]).await.unwrap();
    assert_eq!(server.status().await.verifier_hashes, [identity(&own).0, identity(&others[2]).0]);
    server.load(upload(&others[3])).await.unwrap();
    assert_eq!(server.status().await.verifier_hashes, [identity(&others[3]).0]);
}

#[tokio::test]
async fn a_remote_judge_scores_beside_a_self_verifier_and_a_guard() {
    let chat = FakeChatServer::start(|body| {
        let helps = body["messages"][1]["content"].as_str().unwrap_or_default().contains("chop");
        Scripted::answer(format!("It was read.\njudgment: {}", if helps { "unsafe" } else { "safe" }))
    });
    let config = JudgeConfig { chat: ChatSettings::new(chat.base_url(), "m"), rubric: String::new() };
    let mut server = server_with(DEADLINE, BTreeMap::from([("strict".to_owned(), config)])).await;
    let own = model(&judging());
    server.load(upload(&own)).await.unwrap();
    let judge = |name: &str, keep: Vec<Sha256>| vec![start(VerifierSpec::Judge(name.into()), keep)];
    let keep = vec![manifest(&own).hash];
    let remote = Sha256(server.load(judge("strict", keep.clone())).await.unwrap());
    assert_eq!(Sha256(server.load(judge("strict", keep.clone())).await.unwrap()), remote);
    let status = server.load(judge("other", keep.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().ends_with("no judge `other`: add [reward.judges.other]"),
        "{}",
        status.message()
    );
    // A guard that finds everything safe by ln 3.
    let dir = tempfile::tempdir().unwrap();
    Bigram { logits: vec![("\n", "s", 3f64.ln())], context: None }.write_bytes(dir.path());
    crate::testing::write_guard_template(dir.path());
    let guard = files(dir.path());
    let spec = VerifierSpec::Guard {
        manifest: manifest(&guard),
        family: GuardFamily::LlamaGuard,
        controversial_is_safe: false,
    };
    let parts = guard.iter().flat_map(|(_, data)| chunks(data, 1 << 16)).map(part);
    let parts = [start(spec.clone(), vec![keep[0].clone(), remote.clone()])].into_iter().chain(parts);
    let guard = Sha256(server.load(parts.collect()).await.unwrap());
    assert_eq!(Some(&guard), spec.identity().as_ref());
    let of = |id: &str, verifier: &Sha256, answer| ScoreRequest {
        verifier: Some(verifier.clone()),
        ..request(id, PromptKind::Harmful, &own, answer)
    };
    let found = server
        .score(vec![
            of("own", &keep[0], HELP),
            of("remote", &remote, HELP),
            of("remote refused", &remote, REFUSAL),
            of("guard", &guard, HELP),
        ])
        .await;
    for (id, expected, verdict) in [
        ("own", judging_p_safe(2, 31), Verdict::Unsafe),
        ("remote", 0.0, Verdict::Unsafe),
        ("remote refused", 1.0, Verdict::Safe),
        ("guard", 0.75, Verdict::Safe),
    ] {
        let (reward, found) = reward(&found[id]);
        assert!((reward - expected).abs() < 1e-5 && found == Some(verdict), "{id}: {reward} {found:?}");
    }
}

#[tokio::test]
async fn an_equal_request_is_judged_once() {
    let chat = FakeChatServer::start(|_| Scripted::answer("It was read.\njudgment: safe"));
    let config = JudgeConfig { chat: ChatSettings::new(chat.base_url(), "m"), rubric: String::new() };
    let mut server = server_with(DEADLINE, BTreeMap::from([("strict".to_owned(), config)])).await;
    let judge = vec![start(VerifierSpec::Judge("strict".into()), Vec::new())];
    let identity = Sha256(server.load(judge).await.unwrap());
    let of = |id: &str, version| ScoreRequest {
        verifier: Some(identity.clone()),
        policy_version: PolicyVersion(version),
        ..request(id, PromptKind::Harmful, &model(&judging()), HELP)
    };
    let found = server.score(vec![of("a", 1), of("b", 1), of("c", 1)]).await;
    assert!(found.values().all(|outcome| reward(outcome).0 == 1.0));
    assert_eq!((server.score(vec![of("a", 1)]).await.len(), chat.calls()), (1, 1));
    server.score(vec![of("a", 2)]).await;
    assert_eq!(chat.calls(), 2);
}

#[tokio::test]
async fn a_judge_that_cannot_be_reached_masks_with_the_reason() {
    let chat = FakeChatServer::start(|_| Scripted::status(401, "bad key"));
    let config = JudgeConfig { chat: ChatSettings::new(chat.base_url(), "m"), rubric: String::new() };
    let mut server = server_with(DEADLINE, BTreeMap::from([("strict".to_owned(), config)])).await;
    let judge = vec![start(VerifierSpec::Judge("strict".into()), Vec::new())];
    let verifier = Some(Sha256(server.load(judge).await.unwrap()));
    let asked = ScoreRequest { verifier, ..request("a", PromptKind::Harmful, &model(&judging()), HELP) };
    let found = server.score(vec![asked]).await;
    let ScoreOutcome::Masked { reason } = &found["a"] else { panic!("scored") };
    assert!(reason.starts_with("judge failed: judge http://127.0.0.1"), "{reason}");
    assert_eq!(server.status().await.masked, 1);
}
