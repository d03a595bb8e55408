//! The processes that faults happen to, each on its own: started, killed, frozen, started again.

use super::proxy::Proxy;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From a start until a port answers.
const START: Duration = Duration::from_secs(60);
/// A worker is evicted when it is silent for this long.
pub(super) const LEASE: Duration = Duration::from_millis(1500);

/// Trainer, reward service and workers, with proxies in front of the first two.
pub(super) struct Fleet {
    dir: PathBuf,
    pub(super) trainer: SocketAddr,
    reward: SocketAddr,
    /// Workers reach the trainer through this one.
    pub(super) to_trainer: Proxy,
    /// The trainer reaches the reward service through this one.
    pub(super) to_reward: Proxy,
    running: BTreeMap<String, Child>,
}

impl Fleet {
    /// Starts all of it, with runs, caches and logs in `dir`.
    pub(super) async fn start(dir: &Path, workers: u32) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir.join("logs"))
            .with_context(|| format!("failed to create {}", dir.display()))?;
        let (trainer, reward) = (free_address()?, free_address()?);
        let mut fleet = Self {
            dir: dir.into(),
            trainer,
            reward,
            to_trainer: Proxy::start(trainer).await?,
            to_reward: Proxy::start(reward).await?,
            running: BTreeMap::new(),
        };
        fleet.launch("reward").await?;
        fleet.launch("trainer").await?;
        for i in 1..=workers {
            fleet.launch(&format!("worker-{i}")).await?;
        }
        Ok(fleet)
    }

    pub(super) fn runs(&self) -> PathBuf {
        self.dir.join("runs")
    }

    /// Starts a role that does not run.
    pub(super) async fn launch(&mut self, name: &str) -> anyhow::Result<()> {
        let own = |role: &str| self.dir.join(format!("cache-{role}")).display().to_string();
        let (role, set, port) = match name {
            "trainer" => {
                let set = vec![
                    format!("trainer.listen={}", self.trainer),
                    "trainer.metrics_listen=127.0.0.1:0".into(),
                    format!("trainer.reward=http://{}", self.to_reward.address),
                    format!("trainer.runs={}", self.runs().display()),
                    format!("trainer.lease_s={}", LEASE.as_secs_f64()),
                    "trainer.heartbeat_s=0.2".into(),
                ];
                ("trainer", set, Some(self.trainer))
            }
            "reward" => {
                let set = vec![
                    format!("reward.listen={}", self.reward),
                    "reward.metrics_listen=127.0.0.1:0".into(),
                    format!("reward.cache={}", own("reward")),
                ];
                ("reward", set, Some(self.reward))
            }
            worker => {
                let set = vec![
                    format!("rollout_worker.trainer=http://{}", self.to_trainer.address),
                    "rollout_worker.metrics_listen=127.0.0.1:0".into(),
                    format!("rollout_worker.name={worker}"),
                    format!("rollout_worker.cache={}", own(worker)),
                ];
                ("rollout-worker", set, None)
            }
        };
        let log = self.dir.join("logs").join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("failed to open {}", log.display()))?;
        let exe = std::env::current_exe().context("failed to find this program's own file")?;
        let mut command = Command::new(exe);
        command.arg(role).arg("--parent").arg(std::process::id().to_string());
        for set in set {
            command.arg("--set").arg(set);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| format!("failed to start {name}"))?;
        self.running.insert(name.into(), child);
        match port {
            Some(port) => self.answers(name, port).await,
            None => Ok(()),
        }
    }

    async fn answers(&mut self, name: &str, port: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect_timeout(&port, Duration::from_secs(1)).is_err() {
            if Instant::now() > deadline {
                bail!(
                    "{name} does not answer on {port} within {} s; see {}",
                    START.as_secs(),
                    self.dir.join("logs").display()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// SIGKILL, and away with it.
    pub(super) fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut child = self.running.remove(name).with_context(|| format!("{name} does not run"))?;
        child.kill().with_context(|| format!("failed to kill {name}"))?;
        child.wait().with_context(|| format!("failed to wait for {name}"))?;
        Ok(())
    }

    /// SIGSTOP or SIGCONT.
    pub(super) fn signal(&self, name: &str, signal: libc::c_int) -> anyhow::Result<()> {
        let child = self.running.get(name).with_context(|| format!("{name} does not run"))?;
        let pid = i32::try_from(child.id()).context("a process id beyond 31 bits")?;
        #[expect(
            unsafe_code,
            reason = "std has no call for signals; the child was not waited for, so its pid is its own"
        )]
        // SAFETY: kill takes two numbers and touches no memory.
        let failed = unsafe { libc::kill(pid, signal) } != 0;
        if failed {
            bail!("failed to signal {name}: {}", std::io::Error::last_os_error());
        }
        Ok(())
    }

    /// Roles that have ended though nobody ended them.
    pub(super) fn fallen(&mut self) -> Vec<String> {
        let ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        self.running.iter_mut().filter_map(|(name, child)| ended(child).then(|| name.clone())).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // It may have ended by itself; there is nothing else to be done about a failure here.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A loopback address that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("failed to find a free port")?;
    listener.local_addr().context("failed to find a free port")
}
