//! Roles as child processes of a test, with their own folder, ports and logs.

use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing that a test waits for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);

/// What a command that has ended left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Standard output of a command that succeeded.
    pub(crate) fn ok(self) -> String {
        assert!(self.status.success(), "{}: {}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// Its lines as JSON.
    pub(crate) fn rows(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// The error line of a command that failed with exit code 1.
    pub(crate) fn error(self) -> String {
        assert_eq!(self.status.code(), Some(1), "{}{}", self.stdout, self.stderr);
        let line = self.stderr.lines().find(|l| l.starts_with("error: "));
        line.unwrap_or_else(|| panic!("no error line in: {}", self.stderr)).to_owned()
    }
}

/// The binary under test.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sinternal"));
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn sinternal(args: &[&str]) -> Output {
    let dir = TempDir::new().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let file = |name: &str| File::create(path(name)).expect("a file");
    let mut child = binary().args(args).stdout(file("out")).stderr(file("err")).spawn().expect("starts");
    let status = ended(&mut child, PATIENCE);
    let text = |name: &str| fs::read_to_string(path(name)).expect("text");
    Output { status, stdout: text("out"), stderr: text("err") }
}

/// Waits for a process; kills it and panics when it takes too long.
pub(crate) fn ended(child: &mut Child, within: Duration) -> ExitStatus {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().expect("waits") {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().expect("kills");
            child.wait().expect("waits");
            panic!("still running after {within:?}");
        }
        std::thread::sleep(POLL);
    }
}

/// Waits until `found` gives something.
pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(POLL);
    }
}

/// Sends a signal to a process that this test started and has not waited for.
pub(crate) fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

/// The world's base policy as a model folder.
pub(crate) fn base_model(dir: &Path) -> PathBuf {
    let path = dir.join("base");
    fs::create_dir_all(&path).expect("a folder");
    sinternal_world::base_model::write(&path).expect("writes");
    path
}

/// A random model of one narrow layer with the world's tokenizer.
pub(crate) fn random_model(dir: &Path, family: &str) -> PathBuf {
    let path = dir.join(format!("random-{family}"));
    fs::create_dir_all(&path).expect("a folder");
    sinternal_world::tokenizer::write_model_files(&path).expect("writes");
    let vocab = sinternal_world::tokenizer::vocabulary().len();
    let config = json!({
        "architectures": [format!("{family}ForCausalLM")],
        "model_type": family.to_lowercase(),
        "vocab_size": vocab,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": false,
        "eos_token_id": 1,
    });
    let file = path.join("config.json");
    fs::write(&file, config.to_string()).expect("writes");
    let config = sinternal_model::ModelConfig::load(&file).expect("a valid configuration");
    let lm = sinternal_model::CausalLm::random(config, 3, 0.2, sinternal_model::Device::Cpu);
    lm.save_weights(&path, sinternal_model::Kind::Float).expect("writes");
    path
}

/// Arithmetic in GSM8K's file layout.
pub(crate) fn gsm8k(dir: &Path) -> PathBuf {
    let path = dir.join("gsm8k.jsonl");
    let rows = (0..20)
        .map(|i| format!("{{\"question\": \"compute {i} plus 1\", \"answer\": \"#### {}\"}}\n", i + 1));
    fs::write(&path, rows.collect::<String>()).expect("writes");
    path
}

/// Arithmetic as a file of prompts, in the words that the base policy knows.
pub(crate) fn arithmetic(dir: &Path) -> PathBuf {
    let path = dir.join("arithmetic.jsonl");
    let spec = sinternal_world::Specification::default().to_string();
    let rows = (0..60u32).map(|i| {
        let (a, b, c) = (i % 10, (i / 3) % 10, (i / 7) % 10);
        let (request, gold) = (format!("compute {a} plus {b} times {c}"), ((a + b) * c) % 10);
        let id = format!("arithmetic-{i}");
        let row =
            json!({"id": id, "kind": "math", "spec": spec, "request": request, "gold": gold.to_string()});
        format!("{row}\n")
    });
    fs::write(&path, rows.collect::<String>()).expect("writes");
    path
}

/// Trainer, reward service and workers of one test.
pub(crate) struct Cluster {
    pub(crate) trainer: SocketAddr,
    pub(crate) reward: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) reward_metrics: SocketAddr,
    /// In the order in which they were started.
    pub(crate) worker_metrics: Vec<SocketAddr>,
    dir: TempDir,
    roles: Vec<(String, Child)>,
    set: Vec<String>,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

/// Held by whoever runs a cluster. A test that failed leaves nothing that the next one could mistake.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, child) in &mut self.roles {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            for entry in fs::read_dir(self.dir.path().join("logs")).into_iter().flatten().flatten() {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                eprintln!("--- {}\n{text}", entry.path().display());
            }
        }
    }
}

impl Cluster {
    /// Trainer, reward service and `workers` workers.
    pub(crate) fn start(workers: usize) -> Self {
        Self::with(workers, &[])
    }

    /// The same with some configuration.
    pub(crate) fn with(workers: usize, set: &[&str]) -> Self {
        let alone = alone();
        let dir = TempDir::new().expect("a folder");
        fs::create_dir(dir.path().join("logs")).expect("a folder");
        let (trainer, reward, metrics) = (free_address(), free_address(), free_address());
        let mut cluster = Self {
            trainer,
            reward,
            metrics,
            reward_metrics: free_address(),
            worker_metrics: Vec::new(),
            dir,
            roles: Vec::new(),
            set: set.iter().map(|&s| s.to_owned()).collect(),
            _alone: alone,
        };
        cluster.start_reward();
        cluster.start_trainer();
        for i in 1..=workers {
            cluster.start_worker(&i.to_string());
        }
        cluster
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.path().join("runs")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.trainer)
    }

    pub(crate) fn start_trainer(&mut self) {
        self.start_trainer_until("");
    }

    /// A trainer that ends as by `kill -9` where it passes a point of `sinternal_service::fail_point`; none for an empty name.
    pub(crate) fn start_trainer_until(&mut self, fail_point: &str) {
        let own = [
            format!("trainer.listen={}", self.trainer),
            format!("trainer.metrics_listen={}", self.metrics),
            format!("trainer.reward=http://{}", self.reward),
            format!("trainer.runs={}", self.runs().display()),
        ];
        self.spawn("trainer", "trainer", &own, fail_point);
        self.wait_for_port("trainer", self.trainer);
    }

    pub(crate) fn start_reward(&mut self) {
        let own = [
            format!("reward.listen={}", self.reward),
            format!("reward.metrics_listen={}", self.reward_metrics),
            format!("reward.cache={}", self.path().join("cache-reward").display()),
        ];
        self.spawn("reward", "reward", &own, "");
        self.wait_for_port("reward", self.reward);
    }

    pub(crate) fn start_worker(&mut self, name: &str) {
        let metrics = free_address();
        self.worker_metrics.push(metrics);
        let own = [
            format!("rollout_worker.trainer={}", self.url()),
            format!("rollout_worker.metrics_listen={metrics}"),
            format!("rollout_worker.name=worker-{name}"),
            format!("rollout_worker.cache={}", self.path().join(format!("cache-{name}")).display()),
        ];
        self.spawn(&format!("worker-{name}"), "rollout-worker", &own, "");
    }

    fn spawn(&mut self, name: &str, role: &str, own: &[String], fail_point: &str) {
        let log = self.log_path(name);
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = binary();
        command.arg(role).stdout(Stdio::null()).stderr(log).current_dir(self.path());
        if !fail_point.is_empty() {
            command.env(sinternal_service::fail_point::ENV, fail_point);
        }
        for set in own.iter().chain(&self.set) {
            command.arg("--set").arg(set);
        }
        self.roles.push((name.into(), command.spawn().expect("starts")));
    }

    fn wait_for_port(&mut self, name: &str, address: SocketAddr) {
        until(&format!("{name} on {address}"), || TcpStream::connect(address).ok());
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.path().join("logs").join(format!("{name}.log"))
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).expect("a log")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, name: &str) {
        let i = self.roles.iter().position(|(n, _)| n == name).expect("a running role");
        let (_, mut child) = self.roles.remove(i);
        child.kill().expect("kills");
        child.wait().expect("waits");
    }

    /// Waits until a role has ended by itself.
    pub(crate) fn wait_for_end(&mut self, name: &str) -> ExitStatus {
        let i = self.roles.iter().position(|(n, _)| n == name).expect("a running role");
        let (_, mut child) = self.roles.remove(i);
        ended(&mut child, PATIENCE)
    }

    /// A command of a job client, with the trainer's address.
    pub(crate) fn client(&self, args: &[&str]) -> Output {
        sinternal(&[args, &["--trainer", &self.url()]].concat())
    }

    /// Waits until a job is in `state`.
    pub(crate) fn wait_for_state(&self, id: &str, state: &str) {
        until(&format!("{state} {id}"), || {
            let jobs = self.client(&["jobs", "--json", "--state", state]).rows();
            jobs.iter().any(|job| job["id"] == id).then_some(())
        });
    }

    /// SIGTERM, and the exit status.
    pub(crate) fn terminate(&mut self, name: &str) -> ExitStatus {
        let i = self.roles.iter().position(|(n, _)| n == name).expect("a running role");
        let (_, mut child) = self.roles.remove(i);
        signal(&child, "-TERM");
        ended(&mut child, PATIENCE)
    }

    /// Submits a job and returns its id.
    pub(crate) fn submit(&self, job: &str, flags: &[&str]) -> String {
        let output = self.try_submit(job, flags);
        output.ok().trim().to_owned()
    }

    pub(crate) fn try_submit(&self, job: &str, flags: &[&str]) -> Output {
        let file = self.path().join("job.toml");
        fs::write(&file, job).expect("writes");
        let (file, url) = (file.display().to_string(), self.url());
        sinternal(&[&["submit", &file, "--trainer", &url], flags].concat())
    }

    /// Follows a job to its end: the command's outcome.
    pub(crate) fn watch(&self, id: &str) -> Output {
        sinternal(&["watch", id, "--trainer", &self.url(), "--json"])
    }

    /// Lines of `metrics.jsonl` so far.
    pub(crate) fn metrics(&self, id: &str) -> Vec<Value> {
        lines(&self.runs().join(id).join("metrics.jsonl"))
    }

    /// Waits until `step` of GRPO is on disk.
    pub(crate) fn wait_for_step(&self, id: &str, step: u64) {
        until(&format!("step {step} of {id}"), || {
            self.metrics(id).iter().any(|m| m["stage"] == "grpo" && m["step"] == step).then_some(())
        });
    }

    /// The value of a sample of the trainer's metrics endpoint, named without the label that all have.
    pub(crate) fn scraped(&self, sample: &str) -> Option<f64> {
        let text = http_get(self.metrics, "/metrics");
        let text = text.replace("{role=\"trainer\"}", "").replace("{role=\"trainer\",", "{");
        let line = text.lines().find(|l| l.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

/// Whole JSON lines of a file that may still grow.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The body of a page.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("sets");
    // The older version has no chunks: the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("asks");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answers");
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// Flips the lowest bit of a file's byte in the middle.
pub(crate) fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // A new file in its place: others may be linked to the old one.
    fs::remove_file(path).expect("removes");
    fs::write(path, bytes).expect("writes");
}
