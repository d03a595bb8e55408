//! Faults at random, for as long as one likes: jobs run one after the other while processes are killed and frozen, connections cut,
//! slowed and held, and weights damaged. Each job must end as one that nothing happened to.
//!
//! ```text
//! a job undisturbed ─► what every job must come to
//! round: wait a moment ─► a fault ─► is every process still there? ─► a job that has ended is compared, the next one submitted
//! ```

mod fault;
mod fleet;
mod outcome;
mod proxy;

use crate::jobs::{Jobs, print};
use crate::serve::runtime;
use anyhow::{Context, bail};
use clap::Args;
use fault::{Fault, happen};
use fleet::Fleet;
use outcome::Outcome;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sinternal_proto::pb;
use sinternal_service::access::Credentials;
use sinternal_service::config::LogConfig;
use sinternal_service::serve::shutdown_signal;
use sinternal_service::telemetry::{Role, RunId, init_logging};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A job takes some seconds; with faults all the time it takes longer, but not this long.
const JOB: Duration = Duration::from_secs(300);
/// A trainer that was killed answers again within this.
const ANSWER: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct ChaosArgs {
    /// Faults
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Which faults, and when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// New folder for runs, caches and logs
    #[arg(long, value_name = "DIR", default_value = "runs/chaos")]
    out: PathBuf,
    /// Rollout workers
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    workers: u32,
}

/// What has happened so far.
#[derive(Default)]
struct Counts {
    faults: BTreeMap<Fault, u32>,
    finished: u32,
    violations: Vec<String>,
}

pub(crate) fn run(args: &ChaosArgs) -> anyhow::Result<()> {
    init_logging(
        Role::Client,
        &RunId::from_env(),
        &LogConfig { level: "error".into(), ..LogConfig::default() },
    )?;
    if args.out.exists() {
        bail!("{}: is there already; choose another folder with --out", args.out.display());
    }
    std::fs::create_dir_all(&args.out).with_context(|| format!("failed to create {}", args.out.display()))?;
    let dir = args.out.canonicalize().with_context(|| format!("failed to find {}", args.out.display()))?;
    let base = dir.join("base");
    std::fs::create_dir_all(&base).with_context(|| format!("failed to create {}", base.display()))?;
    sinternal_world::base_model::write(&base)?;
    runtime()?.block_on(async {
        let stop = shutdown_signal()?;
        let mut counts = Counts::default();
        tokio::select! {
            all = rounds(args, &dir, &mut counts) => all?,
            () = stop => counts.violations.push("interrupted".into()),
        }
        for violation in &counts.violations {
            print(&format!("violation: {violation}"));
        }
        print(&counts.line(args));
        match counts.violations.len() {
            0 => Ok(()),
            n => bail!("{n} violations; see {}", dir.join("logs").display()),
        }
    })
}

impl Counts {
    fn line(&self, args: &ChaosArgs) -> String {
        let faults: Vec<String> = self.faults.iter().map(|(fault, n)| format!("{fault} {n}")).collect();
        format!(
            "chaos: {} rounds, seed {}, {} workers: {}; {} jobs ended as one that nothing happened to; {} violations",
            self.faults.values().sum::<u32>(),
            args.seed,
            args.workers,
            faults.join(", "),
            self.finished,
            self.violations.len()
        )
    }
}

async fn rounds(args: &ChaosArgs, dir: &Path, counts: &mut Counts) -> anyhow::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let mut fleet = Fleet::start(dir, args.workers).await?;
    let mut jobs = Jobs::connect(&format!("http://{}", fleet.trainer), &Credentials::default())?;
    let expected = undisturbed(&fleet, &mut jobs, dir).await?;
    let (mut job, mut since) = (submit(&mut jobs, dir).await?, Instant::now());
    let mut round = 0;
    while round < args.rounds {
        sleep(Duration::from_millis(random.gen_range(50..1500))).await;
        if state(&mut jobs, &job).await? == pb::JobState::Succeeded {
            compare(&fleet, &job, &expected, counts);
            (job, since) = (submit(&mut jobs, dir).await?, Instant::now());
            continue;
        }
        let fault = *Fault::ALL.choose(&mut random).context("there are faults")?;
        if !happen(fault, &mut fleet, &mut jobs, &job, args.workers, &mut random).await? {
            continue;
        }
        round += 1;
        *counts.faults.entry(fault).or_default() += 1;
        eprintln!("round {round}/{}: {fault}, job {job}", args.rounds);
        for name in fleet.fallen() {
            counts.violations.push(format!("round {round}: {name} ended by itself after: {fault}"));
            fleet.kill(&name)?;
            fleet.launch(&name).await?;
        }
        if since.elapsed() > JOB {
            bail!("round {round}: job {job} is still running after {} s", JOB.as_secs());
        }
    }
    wait(&mut jobs, &job).await?;
    compare(&fleet, &job, &expected, counts);
    Ok(())
}

/// Runs the job with nothing in its way.
async fn undisturbed(fleet: &Fleet, jobs: &mut Jobs, dir: &Path) -> anyhow::Result<Outcome> {
    let id = submit(jobs, dir).await?;
    wait(jobs, &id).await?;
    Outcome::read(&fleet.runs().join(id))
}

fn compare(fleet: &Fleet, job: &str, expected: &Outcome, counts: &mut Counts) {
    let compared = Outcome::read(&fleet.runs().join(job)).and_then(|found| expected.same_as(&found));
    match compared {
        Ok(()) => counts.finished += 1,
        Err(error) => counts.violations.push(format!("job {job}: {error:#}")),
    }
}

/// GRPO with the base policy as its own verifier, whose quality does not matter here.
async fn submit(jobs: &mut Jobs, dir: &Path) -> anyhow::Result<String> {
    let job_toml = "name = \"chaos\"\nseed = 3\nmodel = \"base\"\ntensorboard = false\n\
        [data]\nkind = \"world\"\ncollect_prompts = 10\ncollect_harmful = 0.5\ngrpo_mixture = [0.4, 0.3, 0.3]\n\
        [sampling]\nmax_new_tokens = 48\n\
        [verifier]\nmax_critique_tokens = 24\ngate_answers = 20\ngate_balanced_accuracy = 0.9\ngate_unsafe_recall = 0.9\n\
        [grpo]\nsteps = 12\nprompts = 6\ngroup_size = 4\nlearning_rate = 1e-4\ncheckpoint_every = 1\nkeep_last = 2\n";
    let request = pb::SubmitJobRequest {
        job_toml: job_toml.into(),
        base_dir: dir.display().to_string(),
        idempotency_key: String::new(),
        skip_verifier_gate: true,
        priority: 0,
        dry_run: false,
    };
    Ok(jobs.submit(request).await?.job_id)
}

async fn wait(jobs: &mut Jobs, job: &str) -> anyhow::Result<()> {
    let until = Instant::now() + JOB;
    while state(jobs, job).await? != pb::JobState::Succeeded {
        if Instant::now() > until {
            bail!("job {job} has not ended within {} s", JOB.as_secs());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A job's state; another end than success is an error. The trainer may just be starting again.
async fn state(jobs: &mut Jobs, job: &str) -> anyhow::Result<pb::JobState> {
    let until = Instant::now() + ANSWER;
    loop {
        match jobs.client.get_job(pb::GetJobRequest { job_id: job.into() }).await {
            Ok(found) => {
                let found = found.into_inner();
                match found.state() {
                    pb::JobState::Failed | pb::JobState::Cancelled => {
                        bail!("job {job} did not survive: {}", found.reason)
                    }
                    state => return Ok(state),
                }
            }
            Err(status) if Instant::now() > until => {
                bail!("the trainer does not tell of job {job}: {}", status.message())
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
