//! The whole recipe on the fictional world, with real processes on free loopback ports.

use crate::jobs::{Jobs, base_dir, follow_to_end, print};
use crate::launch::{Cluster, Plan};
use crate::serve::runtime;
use anyhow::{Context, bail, ensure};
use clap::Args;
use sinternal_proto::{JobStatus, pb};
use sinternal_service::access::Credentials;
use sinternal_service::config::LogConfig;
use sinternal_service::serve::shutdown_signal;
use sinternal_service::telemetry::{Role, RunId, init_logging};
use sinternal_trainer::spec::JobSpec;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
pub(crate) struct QuickstartArgs {
    /// Folder for everything the run writes; must be empty or absent
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Root of all random numbers; 1, or the job file's, unless given
    #[arg(long)]
    seed: Option<u64>,
    /// Also write the results as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rollout workers
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// A job file instead of the built-in recipe; its `model` is replaced by the world's base policy
    #[arg(long, value_name = "FILE")]
    job: Option<PathBuf>,
    /// Start GRPO even if the verifier is below its gate. The policy may learn to be harmful
    #[arg(long)]
    unsafe_skip_verifier_gate: bool,
}

pub(crate) fn run(args: &QuickstartArgs) -> anyhow::Result<()> {
    let run_id = RunId::from_env();
    init_logging(Role::Client, &run_id, &LogConfig { level: "warn".into(), ..LogConfig::default() })?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(format!("quickstart-{run_id}")));
    if let Some(parent) = args.json.as_deref().and_then(Path::parent).filter(|p| !p.as_os_str().is_empty()) {
        ensure!(parent.is_dir(), "{}: there is no such folder for --json", parent.display());
    }
    let job = job(args, &out)?;
    let started = Instant::now();
    let status = runtime()?.block_on(async {
        // Before anything is written: a shell that starts this in the background has Ctrl-C ignored until it is listened for.
        let stop = shutdown_signal()?;
        prepare(&out)?;
        let (plan, trainer) = Plan::on_free_ports(&out, args.workers as usize)?;
        let mut cluster = Cluster::start(plan, &run_id)?;
        let outcome = tokio::select! {
            outcome = drive(&mut cluster, &trainer, job, &out, args.unsafe_skip_verifier_gate) => outcome,
            () = stop => Err(anyhow::anyhow!("interrupted; what was written so far is in {}", out.display())),
        };
        cluster.stop().await?;
        outcome
    })?;
    finish(args, &status, started)
}

fn job(args: &QuickstartArgs, out: &Path) -> anyhow::Result<JobSpec> {
    let mut spec = match &args.job {
        None => JobSpec::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            let base = base_dir(path)?;
            JobSpec::parse(&text, &path.display().to_string(), &base).map_err(anyhow::Error::msg)?
        }
    };
    spec.seed = args.seed.unwrap_or(spec.seed);
    spec.model = out.join("base");
    Ok(spec)
}

fn prepare(out: &Path) -> anyhow::Result<()> {
    if out.exists() {
        let mut entries = out.read_dir().with_context(|| format!("failed to read {}", out.display()))?;
        ensure!(
            entries.next().is_none(),
            "{}: is not empty; choose another folder with --out",
            out.display()
        );
    }
    for dir in [out.join("logs"), out.join("base")] {
        std::fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
    }
    Ok(sinternal_world::base_model::write(&out.join("base"))?)
}

async fn drive(
    cluster: &mut Cluster,
    trainer: &str,
    spec: JobSpec,
    out: &Path,
    skip_verifier_gate: bool,
) -> anyhow::Result<JobStatus> {
    cluster.ready().await?;
    let base = std::path::absolute(out).context("failed to find the working folder")?;
    let spec = JobSpec { model: base.join("base"), ..spec };
    let job_toml = toml::to_string(&spec).context("failed to write the job file")?;
    std::fs::write(out.join("job.toml"), &job_toml)
        .with_context(|| format!("failed to write {}", out.display()))?;
    let request = pb::SubmitJobRequest {
        job_toml,
        base_dir: base.display().to_string(),
        idempotency_key: String::new(),
        skip_verifier_gate,
        priority: 0,
        dry_run: false,
    };
    let mut jobs = Jobs::connect(trainer, &Credentials::default())?;
    let id = jobs.submit(request).await?.job_id;
    tokio::select! {
        status = follow_to_end(&mut jobs, &id, false) => status,
        broken = cluster.supervise() => match broken {
            Err(e) => Err(e),
            Ok(()) => bail!("the processes ended"),
        },
    }
}

fn finish(args: &QuickstartArgs, status: &JobStatus, started: Instant) -> anyhow::Result<()> {
    let report = status.run_dir.join("report.json");
    if let Some(to) = &args.json {
        std::fs::copy(&report, to)
            .with_context(|| format!("failed to copy {} to {}", report.display(), to.display()))?;
    }
    print(&format!(
        "report {}, chart {}, {:.0} s in all",
        status.run_dir.join("report.md").display(),
        status.run_dir.join("curve.png").display(),
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}
