//! A Prometheus of a test's own, with the configuration of `deploy/` pointed at the test's processes.

use crate::support::{Cluster, ended, free_address, http_get, until};
use serde_json::Value;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where the repository's files for Prometheus lie.
pub(crate) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus")
}

/// A program of Prometheus: in the folder that SINTERNAL_TEST_PROMETHEUS names, on the path, or where set-up fetched it.
fn program(name: &str) -> PathBuf {
    let given = std::env::var_os("SINTERNAL_TEST_PROMETHEUS").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fetched = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/prometheus");
    let mut folders = given.into_iter().chain(std::env::split_paths(&path)).chain([fetched]);
    folders.find(|dir| dir.join(name).is_file()).map(|dir| dir.join(name)).unwrap_or_else(|| {
        panic!(
            "no {name} was found: `cargo xtask test` fetches it, or install it (apt-get install prometheus)"
        )
    })
}

/// Runs promtool among the files of `deploy/` and gives what it says; it must succeed.
pub(crate) fn promtool(args: &[&str]) -> String {
    let dir = tempfile::TempDir::new().expect("a folder");
    let out = dir.path().join("out");
    let file = File::create(&out).expect("a file");
    let mut command = Command::new(program("promtool"));
    command.args(args).current_dir(deploy()).stdin(Stdio::null());
    let mut child =
        command.stderr(file.try_clone().expect("a handle")).stdout(file).spawn().expect("promtool starts");
    let status = ended(&mut child, Duration::from_secs(60));
    let said = fs::read_to_string(&out).expect("text");
    assert!(status.success(), "promtool {}: {said}", args.join(" "));
    said
}

/// A server that scrapes a cluster every second.
pub(crate) struct Prometheus {
    address: SocketAddr,
    server: Child,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

impl Prometheus {
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let (dir, address) = (cluster.path().join("prometheus"), free_address());
        fs::create_dir(&dir).expect("a folder");
        fs::copy(deploy().join("alerts.yml"), dir.join("alerts.yml")).expect("copies");
        let config = dir.join("prometheus.yml");
        fs::write(&config, configuration(cluster)).expect("writes");
        let log = File::create(cluster.path().join("logs/prometheus.log")).expect("a log");
        let server = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        let prometheus = Self { address, server };
        until("Prometheus", || TcpStream::connect(address).ok());
        until("ready", || http_get(address, "/-/ready").contains("Ready").then_some(()));
        prometheus
    }

    /// The series of an expression now: labels and value. An expression that it does not parse is an error.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"))?;
        Ok(match answer["resultType"].as_str() {
            Some("vector") => answer["result"].as_array().expect("a list").clone(),
            other => panic!("{expression} gives {other:?}"),
        })
    }

    /// The rules that it has read.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules").expect("rules");
        let groups = answer["groups"].as_array().expect("groups");
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let body = http_get(self.address, path);
        let mut answer: Value = serde_json::from_str(&body).map_err(|e| format!("{e}: {body}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(answer["error"].to_string()),
        }
    }
}

/// The deployed configuration with other addresses and shorter intervals.
fn configuration(cluster: &Cluster) -> String {
    let mut text = fs::read_to_string(deploy().join("prometheus.yml")).expect("text");
    let workers: Vec<String> = cluster.worker_metrics.iter().map(|a| format!("\"{a}\"")).collect();
    let by_name = "    dns_sd_configs:\n      - names: [\"rollout-worker\"]\n        type: A\n        port: 7582\n        \
                   refresh_interval: 5s\n";
    let by_address = format!("    static_configs:\n      - targets: [{}]\n", workers.join(", "));
    for (deployed, here) in [
        ("\"trainer:7580\"", format!("\"{}\"", cluster.metrics)),
        ("\"reward:7581\"", format!("\"{}\"", cluster.reward_metrics)),
        (by_name, by_address),
        ("scrape_interval: 5s", "scrape_interval: 1s".into()),
        ("scrape_timeout: 4s", "scrape_timeout: 1s".into()),
        ("evaluation_interval: 15s", "evaluation_interval: 1s".into()),
    ] {
        assert_eq!(text.matches(deployed).count(), 1, "{deployed}");
        text = text.replace(deployed, &here);
    }
    text
}
