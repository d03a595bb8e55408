//! The whole cluster over TLS with tokens: made with the commands that a user has, and refused where it must be.

use crate::data_path::arithmetic_job;
use crate::support::{Output, PATIENCE, alone, binary, ended, free_address, signal, sinternal, until};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use tempfile::TempDir;

/// `sinternal up` with certificates and tokens in a folder.
struct Secured {
    dir: TempDir,
    trainer: SocketAddr,
    up: Child,
}

impl Drop for Secured {
    fn drop(&mut self) {
        // Its children end with it.
        drop(self.up.kill());
        drop(self.up.wait());
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default());
        }
    }
}

fn token(dir: &Path, name: &str, roles: &str) {
    let tokens = dir.join("tokens.toml").display().to_string();
    let made = sinternal(&["token", "new", "--name", name, "--role", roles, "--tokens", &tokens]).ok();
    fs::write(dir.join(format!("{name}.token")), made).expect("writes");
}

impl Secured {
    fn start() -> Self {
        let dir = TempDir::new().expect("a folder");
        let at = dir.path();
        let certs = at.join("certs").display().to_string();
        sinternal(&["certs", "--out", &certs, "--host", "localhost", "--client"]).ok();
        token(at, "cluster", "worker,trainer");
        token(at, "ci", "submit");
        token(at, "eye", "read");
        let (trainer, reward) = (free_address(), free_address());
        let config = format!(
            "[trainer]\nlisten = \"{trainer}\"\nmetrics_listen = \"127.0.0.1:0\"\nreward = \"https://localhost:{}\"\n\
             data_roots = [\".\"]\n[reward]\nlisten = \"{reward}\"\nmetrics_listen = \"127.0.0.1:0\"\n\
             [rollout_worker]\ntrainer = \"https://localhost:{}\"\nmetrics_listen = \"127.0.0.1:0\"\n\
             [up]\nworkers = 1\n\
             [tls]\ncertificate = \"certs/server.pem\"\nkey = \"certs/server.key\"\nca = \"certs/ca.pem\"\n\
             client_ca = \"certs/ca.pem\"\nclient_certificate = \"certs/client.pem\"\nclient_key = \"certs/client.key\"\n\
             [auth]\ntokens = \"tokens.toml\"\ntoken_file = \"cluster.token\"\n",
            reward.port(),
            trainer.port()
        );
        fs::write(at.join("sinternal.toml"), config).expect("writes");
        let log = File::create(at.join("up.log")).expect("a log");
        let mut up = binary();
        up.args(["up", "--config", "sinternal.toml"]).current_dir(at).stdout(Stdio::null()).stderr(log);
        let up = up.spawn().expect("starts");
        let secured = Self { trainer, up, dir };
        until("a trainer", || TcpStream::connect(trainer).ok());
        secured
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.trainer.port())
    }

    /// A client command with the certificates and somebody's token.
    fn run(&self, who: &str, args: &[&str]) -> Output {
        let path = |name: &str| self.path(name).display().to_string();
        let (ca, certificate, key) =
            (path("certs/ca.pem"), path("certs/client.pem"), path("certs/client.key"));
        let (url, token) = (self.url(), path(&format!("{who}.token")));
        let tls = ["--tls-ca", &ca, "--tls-certificate", &certificate, "--tls-key", &key];
        sinternal(&[args, &["--trainer", &url, "--token-file", &token], &tls].concat())
    }
}

#[test]
fn a_job_runs_over_tls_with_tokens_and_everybody_else_is_refused() {
    let _alone = alone();
    let mut secured = Secured::start();
    let mode = |name: &str| fs::metadata(secured.path(name)).expect("a file").permissions().mode() & 0o777;
    assert_eq!([mode("certs/server.key"), mode("certs/client.key")], [0o600, 0o600]);

    let job = secured.path("job.toml");
    fs::write(&job, arithmetic_job(secured.dir.path(), 2, 0)).expect("writes");
    let job = job.display().to_string();
    let events = secured.run("ci", &["submit", &job, "--watch", "--json"]).rows();
    assert_eq!(events.last().expect("events")["state"]["state"], "succeeded", "{:?}", events.last());

    let peer = format!("error: trainer {}: ", secured.url());
    let listed = secured.run("eye", &["jobs"]).ok();
    assert!(listed.contains("succeeded"), "{listed}");
    assert_eq!(
        secured.run("eye", &["submit", &job]).error(),
        format!(
            "{peer}submit: token `eye` has role read; SubmitJob takes submit or admin: use another token, or have one \
             made with `sinternal token new`"
        )
    );
    let outside = secured.run("ci", &["submit", &job, "--set", "model=/etc"]).error();
    assert_eq!(outside, format!("{peer}submit: job_toml: model: /etc lies outside trainer.data_roots (.)"));
    let plain = sinternal(&["jobs", "--trainer", &format!("http://{}", secured.trainer)]).error();
    assert!(plain.contains("this port speaks TLS: use https://"), "{plain}");
    let bare = sinternal(&["jobs", "--trainer", &secured.url()]).error();
    assert_eq!(
        bare,
        format!("{peer}https:// needs the certificate of the server's authority: set tls.ca (or --tls-ca)")
    );

    // A worker that is refused ends at once, not after the time for which it waits for a lost trainer.
    let mut worker = binary();
    worker.args(["rollout-worker", "--config", "sinternal.toml", "--set", "auth.token_file=ci.token"]);
    let log = File::create(secured.path("refused.log")).expect("a log");
    let mut worker = worker.current_dir(secured.dir.path()).stderr(log).spawn().expect("starts");
    assert_eq!(ended(&mut worker, PATIENCE).code(), Some(1));
    let said = fs::read_to_string(secured.path("refused.log")).expect("a log");
    let line = said.lines().find(|line| line.starts_with("error: ")).expect("an error line");
    assert_eq!(
        line,
        format!(
            "{peer}register: token `ci` has role submit; Register takes worker or admin: use another token, or have \
             one made with `sinternal token new`"
        )
    );

    let tokens = secured.path("tokens.toml").display().to_string();
    sinternal(&["token", "revoke", "eye", "--tokens", &tokens]).ok();
    until("the revoked token's end", || {
        let refused = secured.run("eye", &["jobs"]);
        refused.stderr.contains("the token is not known here").then_some(())
    });
    let names = sinternal(&["token", "list", "--tokens", &tokens]).ok();
    assert_eq!(names, "cluster  worker,trainer  does not expire\nci  submit  does not expire\n");

    signal(&secured.up, "-TERM");
    assert!(ended(&mut secured.up, PATIENCE).success());
    let told = fs::read_to_string(secured.path("up.log")).expect("a log");
    for name in ["cluster", "ci", "eye"] {
        let token = fs::read_to_string(secured.path(&format!("{name}.token"))).expect("a token");
        assert!(
            !told.contains(token.trim()) && !said.contains(token.trim()),
            "the token of {name} was logged"
        );
    }
}
