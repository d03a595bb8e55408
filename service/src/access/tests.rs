//! Over real sockets: every role against every method, certificates, tokens, and what each refusal says.

use super::token_file::TokenFile;
use super::*;
use crate::config::{AuthConfig, TlsConfig};
use crate::connect::{Channel, Peer, RpcError, call, channel};
use crate::health::Health;
use crate::serve::{Drained, Guarded, ServeError, bind, serve_grpc, serve_http};
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::client::Grpc;
use tonic::service::Routes;
use tonic::{Code, Request, Status};

/// An authority, a server's certificate for `localhost` and a caller's, as files.
struct Pki {
    dir: TempDir,
}

impl Pki {
    fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs itself");
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).expect("writes");
        for (name, host) in [("server", "localhost"), ("client", "worker")] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
            let certificate = params.signed_by(&key, &ca).expect("signed");
            std::fs::write(dir.path().join(format!("{name}.pem")), certificate.pem()).expect("writes");
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).expect("writes");
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn server(&self) -> TlsConfig {
        let (certificate, key) = (Some(self.path("server.pem")), Some(self.path("server.key")));
        TlsConfig { certificate, key, ..TlsConfig::default() }
    }

    fn caller(&self) -> TlsConfig {
        TlsConfig { ca: Some(self.path("ca.pem")), ..TlsConfig::default() }
    }
}

/// A file with a token of each role, and each token in a file of its own.
fn make_tokens(dir: &Path) -> PathBuf {
    let path = dir.join("tokens.toml");
    for role in Role::ALL {
        make_token(&path, role.as_str(), &[role], None);
    }
    path
}

fn make_token(tokens: &Path, name: &str, roles: &[Role], expires: Option<SystemTime>) {
    let secret = Secret::random();
    let entry = TokenEntry { name: name.into(), roles: roles.into(), sha256: secret.hash(), expires };
    add_token(tokens, entry).expect("added");
    std::fs::write(tokens.with_file_name(format!("{name}.token")), secret.expose()).expect("writes");
}

fn credentials(tls: &TlsConfig, token: Option<PathBuf>) -> Credentials {
    Credentials::load(tls, &AuthConfig { token_file: token, tokens: None }).expect("good files")
}

struct Server {
    address: std::net::SocketAddr,
    _stop: oneshot::Sender<()>,
    _server: JoinHandle<Result<Drained, ServeError>>,
}

impl Server {
    async fn start(guard: Guard) -> Self {
        let listener =
            bind("127.0.0.1:0".parse().expect("address"), "trainer.listen").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let guarded = Guarded::new(listener, guard);
        let serving =
            serve_grpc(guarded, Routes::default(), Health::starting(), shutdown, Duration::from_secs(1));
        Self { address, _stop: stop, _server: tokio::spawn(serving) }
    }

    fn peer(&self, scheme: &str) -> Peer {
        Peer::new("trainer", &format!("{scheme}://localhost:{}", self.address.port()))
    }

    fn channel(&self, scheme: &str, credentials: &Credentials) -> Channel {
        channel(&self.peer(scheme), credentials, Duration::from_secs(5)).expect("an address")
    }

    /// One call, whatever its types: what a refusal says, or that the call got through to a service that is not there.
    async fn try_call(&self, scheme: &str, credentials: &Credentials, path: &'static str) -> RpcError {
        let mut grpc = Grpc::new(self.channel(scheme, credentials));
        grpc.ready().await.expect("a lazy channel");
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
        let answer = grpc.unary(Request::new(()), path, codec);
        let peer = self.peer(scheme);
        let outcome = call(&peer, "test", Duration::from_secs(20), answer).await;
        outcome.err().unwrap_or_else(|| RpcError::Status {
            peer,
            what: "test",
            status: Box::new(Status::unimplemented("answered")),
        })
    }
}

fn code(error: &RpcError) -> Code {
    error.status().expect("a status").code()
}

const LIST: &str = "/sinternal.v1.JobService/ListJobs";

#[tokio::test]
async fn every_role_may_call_its_own_methods_and_no_others() {
    let pki = Pki::new();
    let auth = AuthConfig { tokens: Some(make_tokens(pki.dir.path())), token_file: None };
    let guard = Guard::load(&pki.server(), &auth, Limits::default()).expect("good files");
    assert!(guard.is_encrypted() && guard.asks_for_tokens());
    let server = Server::start(guard).await;
    let looks =
        ["GetJob", "ListJobs", "WatchJob", "ListSamples", "ListMetrics", "ListArtifacts", "FetchArtifact"]
            .map(|method| format!("JobService/{method}"));
    for role in Role::ALL {
        let may = |path: &str| match role {
            Role::Admin => true,
            Role::Submit => path.contains("JobService"),
            Role::Read => looks.iter().any(|look| path.ends_with(look.as_str())),
            Role::Worker => path.contains("RolloutService"),
            Role::Trainer => path.contains("RewardService"),
        };
        let token = pki.path(&format!("{role}.token"));
        let credentials = credentials(&pki.caller(), Some(token));
        let mut allowed = BTreeSet::new();
        // A health watch would go on; it is open to the same as reflection.
        for method in METHODS.iter().filter(|method| !method.path.ends_with("Health/Watch")) {
            let code = code(&server.try_call("https", &credentials, method.path).await);
            let refused = matches!(code, Code::PermissionDenied | Code::Unauthenticated);
            let expected = may(method.path) || method.path.starts_with("/grpc.");
            assert_eq!(!refused, expected, "{role} {} {code:?}", method.path);
            if !refused && method.path.contains("sinternal") {
                assert_eq!(code, Code::Unimplemented, "{role} {}", method.path);
                allowed.insert(method.path);
            }
        }
        let count = match role {
            Role::Admin => METHODS.iter().filter(|m| m.path.contains("sinternal")).count(),
            Role::Submit => METHODS.iter().filter(|m| m.path.contains("JobService")).count(),
            Role::Read => looks.len(),
            Role::Worker => 6,
            Role::Trainer => 3,
        };
        assert_eq!(allowed.len(), count, "{role}");
        let unknown = server.try_call("https", &credentials, "/sinternal.v1.JobService/NoSuch").await;
        assert_eq!(code(&unknown), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn a_refusal_names_the_way_out_and_never_the_token() {
    let pki = Pki::new();
    let tokens = make_tokens(pki.dir.path());
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // RFC 9110's example
    make_token(&tokens, "old", &[Role::Submit], Some(past));
    std::fs::write(pki.path("wrong.token"), "sinternal_0123").expect("writes");
    let auth = AuthConfig { tokens: Some(tokens), token_file: None };
    let server =
        Server::start(Guard::load(&pki.server(), &auth, Limits::default()).expect("good files")).await;
    let prefix = format!("{}: test: ", server.peer("https"));
    let told = async |token: Option<&str>, path: &'static str| {
        let token = token.map(|name| pki.path(&format!("{name}.token")));
        let error = server.try_call("https", &credentials(&pki.caller(), token), path).await;
        assert!(error.is_refusal() && !error.is_transient(), "{error}");
        error.to_string().strip_prefix(&prefix).expect("names the peer").to_owned()
    };
    assert_eq!(
        told(None, LIST).await,
        "a token is needed: name the file that holds one with --token-file or SINTERNAL_TOKEN_FILE (a trainer or \
         worker: auth.token_file)"
    );
    assert_eq!(
        told(Some("wrong"), LIST).await,
        "the token is not known here: have one made with `sinternal token new` in the service's auth.tokens"
    );
    assert_eq!(
        told(Some("old"), LIST).await,
        "token `old` expired on Sun, 06 Nov 1994 08:49:37 GMT: have another made with `sinternal token new`"
    );
    assert_eq!(
        told(Some("worker"), LIST).await,
        "token `worker` has role worker; ListJobs takes submit, read or admin: use another token, or have one made \
         with `sinternal token new`"
    );
    // Health alone is open.
    let health =
        server.try_call("https", &credentials(&pki.caller(), None), "/grpc.health.v1.Health/Check").await;
    assert_ne!(code(&health), Code::Unauthenticated);
    let watch = told(None, "/grpc.health.v1.Health/Watch").await;
    assert!(watch.starts_with("a token is needed"), "{watch}");
    let reflection = told(None, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").await;
    assert!(reflection.starts_with("a token is needed"), "{reflection}");
}

#[tokio::test]
async fn a_peer_with_too_many_refusals_waits() {
    let pki = Pki::new();
    let tokens = make_tokens(pki.dir.path());
    let auth = AuthConfig { tokens: Some(tokens), token_file: None };
    let server =
        Server::start(Guard::load(&TlsConfig::default(), &auth, Limits::default()).expect("good")).await;
    let nobody = Credentials::default();
    for _ in 0..30 {
        assert_eq!(code(&server.try_call("http", &nobody, LIST).await), Code::Unauthenticated);
    }
    let error = server.try_call("http", &nobody, LIST).await;
    assert_eq!(error.status().expect("a status").code(), Code::ResourceExhausted);
    assert!(
        error.to_string().ends_with("too many refused tokens from 127.0.0.1: try again in a minute"),
        "{error}"
    );
    assert!(error.is_transient());
}

#[tokio::test]
async fn each_mistake_with_tls_is_final_and_says_what_it_is() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server =
        Server::start(Guard::load(&pki.server(), &AuthConfig::default(), Limits::default()).expect("good"));
    let server = server.await;
    let told = async |server: &Server, scheme: &str, tls: &TlsConfig| {
        let error = server.try_call(scheme, &credentials(tls, None), LIST).await;
        assert!(error.is_refusal() && !error.is_transient(), "{error:?}");
        let prefix = format!("{}: test: ", server.peer(scheme));
        error.to_string().strip_prefix(&prefix).expect("names the peer").to_owned()
    };
    assert_eq!(
        code(&server.try_call("https", &credentials(&pki.caller(), None), LIST).await),
        Code::Unimplemented
    );
    assert_eq!(
        told(&server, "https", &other.caller()).await,
        "its certificate is signed by another authority than tls.ca (--tls-ca) names"
    );
    let plain = told(&server, "http", &TlsConfig::default()).await;
    assert!(plain.contains("this port speaks TLS: use https://"), "{plain}");

    let open = Server::start(Guard::open(Limits::default())).await;
    assert_eq!(told(&open, "https", &pki.caller()).await, "it does not speak TLS: use http://");

    let asks = TlsConfig { client_ca: Some(pki.path("ca.pem")), ..pki.server() };
    let mutual =
        Server::start(Guard::load(&asks, &AuthConfig::default(), Limits::default()).expect("good")).await;
    assert_eq!(
        told(&mutual, "https", &pki.caller()).await,
        "it refuses this side's certificate (CertificateRequired): set tls.client_certificate and tls.client_key \
         (--tls-certificate, --tls-key) to one that its tls.client_ca signed"
    );
    let (client_certificate, client_key) = (Some(pki.path("client.pem")), Some(pki.path("client.key")));
    let known = TlsConfig { client_certificate, client_key, ..pki.caller() };
    assert_eq!(code(&mutual.try_call("https", &credentials(&known, None), LIST).await), Code::Unimplemented);

    // By another name than the certificate's.
    let peer = Peer::new("trainer", &format!("https://127.0.0.1:{}", server.address.port()));
    let channel =
        channel(&peer, &credentials(&pki.caller(), None), Duration::from_secs(5)).expect("an address");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let check = health.check(tonic_health::pb::HealthCheckRequest::default());
    let error = call(&peer, "health", Duration::from_secs(20), check).await.expect_err("another name");
    assert!(error.to_string().contains("its certificate is for another host: use the name"), "{error}");
    assert!(error.is_refusal());
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_delays_nobody_and_is_dropped() {
    let pki = Pki::new();
    let limits = Limits { handshake: Duration::from_millis(300), ..Limits::default() };
    let server =
        Server::start(Guard::load(&pki.server(), &AuthConfig::default(), limits).expect("good")).await;
    let mut silent = tokio::net::TcpStream::connect(server.address).await.expect("connects");
    assert_eq!(
        code(&server.try_call("https", &credentials(&pki.caller(), None), LIST).await),
        Code::Unimplemented
    );
    let mut read = [0; 1];
    let closed = tokio::io::AsyncReadExt::read(&mut silent, &mut read);
    let closed =
        tokio::time::timeout(Duration::from_secs(10), closed).await.expect("after the handshake's deadline");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

#[test]
fn files_that_cannot_be_used_are_named_by_their_key() {
    let pki = Pki::new();
    std::fs::write(pki.path("empty.pem"), "").expect("writes");
    std::fs::write(pki.path("two words"), "two words").expect("writes");
    let said = |error: AccessError| error.to_string().replace(&format!("{}/", pki.dir.path().display()), "");
    let server = |certificate: &str, key: &str| {
        let tls = TlsConfig {
            certificate: Some(pki.path(certificate)),
            key: Some(pki.path(key)),
            ..TlsConfig::default()
        };
        said(Guard::load(&tls, &AuthConfig::default(), Limits::default()).expect_err("refused"))
    };
    assert_eq!(
        server("empty.pem", "server.key"),
        "`tls.certificate`: empty.pem: holds no certificate in PEM"
    );
    assert!(server("no.pem", "server.key").starts_with("`tls.certificate`: no.pem: "));
    assert!(server("server.pem", "empty.pem").starts_with("`tls.key`: empty.pem: "));
    assert!(server("server.pem", "client.key").starts_with("`tls.certificate`: "));
    let caller = |token: &str| {
        let auth = AuthConfig { token_file: Some(pki.path(token)), tokens: None };
        said(Credentials::load(&TlsConfig::default(), &auth).expect_err("refused"))
    };
    assert_eq!(caller("empty.pem"), "`auth.token_file`: empty.pem: is empty");
    let form = "is not one token as `sinternal token new` prints it";
    assert_eq!(caller("two words"), format!("`auth.token_file`: two words: {form}"));
    assert!(caller("none").starts_with("`auth.token_file`: none: "));
}

#[test]
fn nothing_shows_a_token() {
    let dir = TempDir::new().expect("a folder");
    let tokens = make_tokens(dir.path());
    let token = std::fs::read_to_string(dir.path().join("admin.token")).expect("a token");
    assert!(token.starts_with("sinternal_") && token.len() == 10 + 64, "{token}");
    let file = std::fs::read_to_string(&tokens).expect("a file");
    let secret = Secret::parse(&format!(" {token}\n")).expect("a token");
    let credentials = credentials(&TlsConfig::default(), Some(dir.path().join("admin.token")));
    let cookie = session_cookie(&secret, true);
    let guard = Guard::load(
        &TlsConfig::default(),
        &AuthConfig { tokens: Some(tokens), token_file: None },
        Limits::default(),
    );
    let shown = format!("{secret:?} {credentials:?} {cookie:?} {:?} {file}", guard.expect("good"));
    assert!(!shown.contains(&token[10..]), "{shown}");
    assert!(file.contains(&secret.hash().0));
    assert_ne!(Secret::random(), Secret::random());
}

#[test]
fn a_token_is_found_wherever_it_stands_and_expires_to_the_second() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let secrets: Vec<Secret> = (0..3).map(|_| Secret::random()).collect();
    let entry = |(i, secret): (usize, &Secret)| TokenEntry {
        name: format!("t{i}"),
        roles: vec![Role::Read],
        sha256: secret.hash(),
        expires: (i == 1).then(|| at(1000)),
    };
    let entries: Vec<TokenEntry> = secrets.iter().enumerate().map(entry).collect();
    for (i, secret) in secrets.iter().enumerate() {
        assert_eq!(authenticate(&entries, secret, at(999)).expect("good").name, format!("t{i}"));
    }
    let expired = "Thu, 01 Jan 1970 00:16:40 GMT".to_owned();
    assert_eq!(
        authenticate(&entries, &secrets[1], at(1000)),
        Err(Refusal::Expired { name: "t1".into(), expired })
    );
    assert_eq!(authenticate(&entries, &Secret::random(), at(0)), Err(Refusal::Unknown));
    assert_eq!(authenticate(&[], &secrets[0], at(0)), Err(Refusal::Unknown));
}

#[test]
fn the_file_of_tokens_is_changed_whole_and_read_strictly() {
    let dir = TempDir::new().expect("a folder");
    let path = make_tokens(dir.path());
    let names = || read_tokens(&path).expect("reads").into_iter().map(|t| t.name).collect::<Vec<_>>();
    assert_eq!(names(), ["admin", "submit", "read", "worker", "trainer"]);
    revoke_token(&path, "submit").expect("revoked");
    assert_eq!(names(), ["admin", "read", "worker", "trainer"]);
    let said = |error: TokenFileError| error.to_string().replace(&format!("{}: ", path.display()), "");
    assert_eq!(
        said(revoke_token(&path, "submit").expect_err("gone")),
        "there is no token `submit`; `sinternal token list` shows them"
    );
    let again = read_tokens(&path).expect("reads").swap_remove(0);
    assert_eq!(
        said(add_token(&path, again).expect_err("taken")),
        "there is a token `admin`; choose another name, or revoke it first"
    );
    let hash = "0".repeat(64);
    for (text, problem) in [
        ("x = 1", "unknown field `x`, expected `token`"),
        (
            &format!("[[token]]\nname = 'a b'\nroles = ['read']\nsha256 = '{hash}'"),
            "a name must be 1 to 64 letters",
        ),
        (
            &format!("[[token]]\nname = 'a'\nroles = []\nsha256 = '{hash}'"),
            "token `a`: roles: must name one of",
        ),
        (&format!("[[token]]\nname = 'a'\nroles = ['root']\nsha256 = '{hash}'"), "unknown variant `root`"),
        ("[[token]]\nname = 'a'\nroles = ['read']\nsha256 = 'ab'", "token `a`: sha256: is not a SHA-256"),
        (
            &format!("[[token]]\nname = 'a'\nroles = ['read']\nsha256 = '{hash}'\nexpires = 'soon'"),
            "`soon` is not a time such as `Sun, 06 Nov 2033 08:49:37 GMT`",
        ),
    ] {
        std::fs::write(&path, text).expect("writes");
        let error = said(read_tokens(&path).expect_err("refused"));
        assert!(error.starts_with(problem), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn a_running_server_sees_new_and_revoked_tokens_and_survives_a_spoilt_file() {
    let dir = TempDir::new().expect("a folder");
    let path = make_tokens(dir.path());
    let (file, start) = (TokenFile::open(&path).expect("opens"), Instant::now());
    let count = |after_s| file.entries(start + Duration::from_secs(after_s)).len();
    assert_eq!(count(2), 5);
    revoke_token(&path, "worker").expect("revoked");
    assert_eq!(count(2), 5, "looked a moment ago");
    assert_eq!(count(4), 4);
    make_token(&path, "ci", &[Role::Submit], None);
    assert_eq!(count(6), 5);
    std::fs::write(&path, "[[token]").expect("writes");
    assert_eq!(count(8), 5, "the ones from before");
    std::fs::write(&path, "").expect("writes");
    assert_eq!(count(10), 0);
}

#[tokio::test]
async fn pages_are_served_over_the_same_tls_to_the_same_tokens() {
    let pki = Pki::new();
    let auth = AuthConfig { tokens: Some(make_tokens(pki.dir.path())), token_file: None };
    let guard = Guard::load(&pki.server(), &auth, Limits::default()).expect("good files");
    let listener = bind("127.0.0.1:0".parse().expect("address"), "trainer.listen").await.expect("free port");
    let url = format!("https://localhost:{}/jobs", listener.local_addr().expect("bound").port());
    let page = axum::Router::new().route("/jobs", get(async || "the jobs\n"));
    let router = protect(page, &guard, &[Role::Read, Role::Submit]);
    let server = tokio::spawn(serve_http(Guarded::new(listener, guard), router, std::future::pending()));

    drop(rustls::crypto::ring::default_provider().install_default());
    let ca = std::fs::read(pki.path("ca.pem")).expect("reads");
    let ca = reqwest::Certificate::from_pem(&ca).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().expect("a client");
    let secret = |name: &str| {
        let text = std::fs::read_to_string(pki.path(&format!("{name}.token"))).expect("a token");
        Secret::parse(&text).expect("a token")
    };
    let ask = async |header: Option<(&str, String)>| {
        let request = client.get(&url).timeout(Duration::from_secs(20));
        let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.send().await.expect("answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let bearer = |name: &str| Some(("authorization", format!("Bearer {}", secret(name).expose())));
    assert_eq!(ask(bearer("read")).await, (200, "the jobs\n".into()));
    assert_eq!(ask(bearer("admin")).await.0, 200);
    let (code, told) = ask(bearer("worker")).await;
    assert!(
        code == 403 && told.starts_with("token `worker` has role worker; jobs takes read, submit or admin"),
        "{told}"
    );
    assert_eq!(ask(None).await.0, 401);
    let cookie = session_cookie(&secret("submit"), true).to_str().expect("ASCII").to_owned();
    let (pair, flags) = cookie.split_once("; ").expect("flags");
    assert_eq!(flags, "Path=/; HttpOnly; SameSite=Strict; Secure");
    assert_eq!(ask(Some(("cookie", format!("theme=dark; {pair}")))).await.0, 200);
    assert_eq!(ask(Some(("cookie", "sinternal_token=no".into()))).await.0, 401);
    server.abort();
}
