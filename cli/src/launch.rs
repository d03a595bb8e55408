//! Roles as child processes of this one: started in order, watched, and stopped together.

use anyhow::{Context, bail};
use sinternal_service::config::ServiceConfig;
use sinternal_service::telemetry::RunId;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From the start of the processes until they serve.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// From SIGTERM to SIGKILL.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// What to start.
pub(crate) struct Plan {
    pub(crate) config: Option<PathBuf>,
    pub(crate) set: Vec<(String, String)>,
    pub(crate) workers: usize,
    pub(crate) worker_metrics: SocketAddr,
    /// Addresses that must accept connections before work begins.
    pub(crate) listeners: Vec<SocketAddr>,
    /// Folder of log files; without one, children write to this process's standard error.
    pub(crate) logs: Option<PathBuf>,
}

impl Plan {
    /// With free loopback ports, which are chosen here so that the roles can be told of each other; runs, caches and logs in
    /// `dir`. Also gives the trainer's address.
    pub(crate) fn on_free_ports(dir: &Path, workers: usize) -> anyhow::Result<(Self, String)> {
        let (trainer, reward) = (free_address()?, free_address()?);
        let any = "127.0.0.1:0";
        let set = [
            ("trainer.listen", trainer.to_string()),
            ("trainer.metrics_listen", any.to_owned()),
            ("trainer.reward", format!("http://{reward}")),
            ("trainer.runs", dir.join("runs").display().to_string()),
            ("reward.listen", reward.to_string()),
            ("reward.metrics_listen", any.to_owned()),
            ("reward.cache", dir.join("cache").join("reward").display().to_string()),
            ("rollout_worker.trainer", format!("http://{trainer}")),
            ("rollout_worker.cache", dir.join("cache").join("rollout-worker").display().to_string()),
        ];
        let plan = Self {
            config: None,
            set: set.map(|(k, v)| (k.to_owned(), v)).into(),
            workers,
            worker_metrics: any.parse().context("a loopback address")?,
            listeners: vec![trainer, reward],
            logs: Some(dir.join("logs")),
        };
        Ok((plan, format!("http://{trainer}")))
    }

    /// As `sinternal up` starts them.
    pub(crate) fn from_config(
        config: &ServiceConfig,
        file: Option<PathBuf>,
        set: Vec<(String, String)>,
    ) -> Self {
        Self {
            config: file,
            set,
            workers: config.up.workers,
            worker_metrics: config.rollout_worker.metrics_listen,
            listeners: vec![config.trainer.listen, config.reward.listen],
            logs: None,
        }
    }
}

/// The children. Dropping it kills what still runs.
pub(crate) struct Cluster {
    children: Vec<Running>,
    listeners: Vec<SocketAddr>,
}

struct Running {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

impl Cluster {
    /// Starts reward, trainer and workers. To be called on the main thread: the kernel ties children to it.
    pub(crate) fn start(plan: Plan, run_id: &RunId) -> anyhow::Result<Self> {
        for address in &plan.listeners {
            // Whoever answers there now would be taken for the role that is about to start.
            if TcpStream::connect_timeout(address, Duration::from_secs(1)).is_ok() {
                bail!(
                    "{address} is in use already; stop what listens there, or set other addresses (trainer.listen, reward.listen)"
                );
            }
        }
        let mut cluster = Self { children: Vec::new(), listeners: plan.listeners.clone() };
        cluster.spawn(&plan, run_id, "reward", "reward", &[])?;
        cluster.spawn(&plan, run_id, "trainer", "trainer", &[])?;
        for i in 1..=plan.workers {
            let name = format!("rollout-worker-{i}");
            // The first worker has the configured metrics port, the others take free ones.
            let metrics =
                if i == 1 { plan.worker_metrics } else { SocketAddr::new(plan.worker_metrics.ip(), 0) };
            let own = [
                ("rollout_worker.name".to_owned(), name.clone()),
                ("rollout_worker.metrics_listen".to_owned(), metrics.to_string()),
            ];
            cluster.spawn(&plan, run_id, &name, "rollout-worker", &own)?;
        }
        Ok(cluster)
    }

    fn spawn(
        &mut self,
        plan: &Plan,
        run_id: &RunId,
        name: &str,
        role: &str,
        own: &[(String, String)],
    ) -> anyhow::Result<()> {
        let exe = std::env::current_exe().context("failed to find this program's own file")?;
        let mut command = Command::new(exe);
        command.arg(role).arg("--parent").arg(std::process::id().to_string());
        if let Some(config) = &plan.config {
            command.arg("--config").arg(config);
        }
        for (key, value) in plan.set.iter().chain(own) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.env(RunId::ENV, run_id.as_str()).stdin(Stdio::null()).stdout(Stdio::null());
        // Threads that spin while they wait for each other starve those of the roles beside them.
        if std::env::var_os("OMP_WAIT_POLICY").is_none() {
            command.env("OMP_WAIT_POLICY", "passive");
        }
        // Ctrl-C in a terminal reaches this process alone; it tells the children once, and they drain.
        command.process_group(0);
        let log = plan.logs.as_ref().map(|dir| dir.join(format!("{name}.log")));
        if let Some(path) = &log {
            let file = File::create(path).with_context(|| format!("failed to create {}", path.display()))?;
            command.stderr(file);
        }
        let child = command.spawn().with_context(|| format!("failed to start {name}"))?;
        self.children.push(Running { name: name.into(), child, log });
        Ok(())
    }

    /// Waits until every listener accepts connections.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        for address in self.listeners.clone() {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                if let Some((name, status, last)) = self.ended()? {
                    bail!("{name} ended before it was ready ({status}): {last}");
                }
                if Instant::now() > deadline {
                    bail!("nothing listens on {address} after {START_DEADLINE:?}");
                }
                sleep(POLL).await;
            }
        }
        match self.ended()? {
            Some((name, status, last)) => bail!("{name} ended before it was ready ({status}): {last}"),
            None => Ok(()),
        }
    }

    /// Returns with an error when a role that the others need has ended, or the last worker has.
    pub(crate) async fn supervise(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some((name, status, last)) = self.ended()? {
                let workers = self.children.iter().filter(|c| c.name.starts_with("rollout-worker")).count();
                if !name.starts_with("rollout-worker") || workers == 0 {
                    bail!("{name} ended ({status}): {last}");
                }
                eprintln!("warning: {name} ended ({status}): {last}; {workers} workers go on");
            }
            sleep(POLL * 4).await;
        }
    }

    /// A child that has ended, taken out of the list, with the last line of its log.
    fn ended(&mut self) -> anyhow::Result<Option<(String, ExitStatus, String)>> {
        for i in 0..self.children.len() {
            if let Some(status) = self.children[i].child.try_wait().context("failed to watch a child")? {
                let gone = self.children.remove(i);
                let last = gone.log.as_deref().map_or_else(|| "its error is above".into(), last_line);
                return Ok(Some((gone.name, status, last)));
            }
        }
        Ok(None)
    }

    /// SIGTERM to all, SIGKILL to those that outlast the deadline.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for running in &self.children {
            terminate(&running.child);
        }
        let deadline = Instant::now() + STOP_DEADLINE;
        while !self.children.is_empty() && Instant::now() < deadline {
            if self.ended()?.is_none() {
                sleep(POLL).await;
            }
        }
        if let Some(stuck) = self.children.first() {
            eprintln!("warning: {} did not drain within {STOP_DEADLINE:?}; killing it", stuck.name);
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for running in &mut self.children {
            // It may have ended by itself; there is nothing else to be done about a failure here.
            drop(running.child.kill());
            drop(running.child.wait());
        }
    }
}

fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    #[expect(
        unsafe_code,
        reason = "std has no call for SIGTERM; the child was not waited for, so its pid is its own"
    )]
    // SAFETY: kill takes two numbers and touches no memory.
    unsafe {
        libc::kill(pid, libc::SIGTERM);
    }
}

/// The error that a role ended with, or whatever it said last.
fn last_line(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let error = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
    error.or(text.lines().last()).unwrap_or("it wrote no log").to_owned()
}

/// A loopback address that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("failed to find a free port")?;
    listener.local_addr().context("failed to find a free port")
}
