//! What can go wrong in a round, and how it is done.

use super::fleet::{Fleet, LEASE};
use super::proxy::Way;
use crate::jobs::Jobs;
use anyhow::Context;
use rand::Rng;
use rand::seq::SliceRandom;
use sinternal_proto::pb;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::sleep;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    KillTrainer,
    KillReward,
    KillWorker,
    FreezeWorker,
    CutWorkers,
    SlowWorkers,
    HoldWorkers,
    CutReward,
    HoldReward,
    FlipWeights,
    PauseResume,
}

impl Fault {
    pub(super) const ALL: [Self; 11] = [
        Self::KillTrainer,
        Self::KillReward,
        Self::KillWorker,
        Self::FreezeWorker,
        Self::CutWorkers,
        Self::SlowWorkers,
        Self::HoldWorkers,
        Self::CutReward,
        Self::HoldReward,
        Self::FlipWeights,
        Self::PauseResume,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillTrainer => "trainer killed",
            Self::KillReward => "reward service killed",
            Self::KillWorker => "worker killed",
            Self::FreezeWorker => "worker frozen past its lease",
            Self::CutWorkers => "workers' connections cut",
            Self::SlowWorkers => "workers' connections slowed",
            Self::HoldWorkers => "workers' connections held",
            Self::CutReward => "reward connection cut",
            Self::HoldReward => "reward connection held",
            Self::FlipWeights => "bit of published weights flipped",
            Self::PauseResume => "job paused and resumed",
        })
    }
}

/// Does it, and mends what an operator would mend: whoever was killed is started again. Returns false where there was nothing
/// for it to happen to.
pub(super) async fn happen(
    fault: Fault,
    fleet: &mut Fleet,
    jobs: &mut Jobs,
    job: &str,
    workers: u32,
    random: &mut impl Rng,
) -> anyhow::Result<bool> {
    let moment = Duration::from_millis(random.gen_range(100..1500));
    let worker = format!("worker-{}", random.gen_range(1..=workers));
    match fault {
        Fault::KillTrainer => restart(fleet, "trainer", Duration::ZERO).await?,
        Fault::KillReward => restart(fleet, "reward", moment).await?,
        Fault::KillWorker => restart(fleet, &worker, moment).await?,
        Fault::FreezeWorker => {
            fleet.signal(&worker, libc::SIGSTOP)?;
            sleep(LEASE + moment).await;
            fleet.signal(&worker, libc::SIGCONT)?;
        }
        Fault::CutWorkers => fleet.to_trainer.cut(),
        Fault::CutReward => fleet.to_reward.cut(),
        Fault::SlowWorkers => {
            fleet.to_trainer.set(Way::Slow(Duration::from_millis(random.gen_range(20..200))));
            sleep(moment).await;
            fleet.to_trainer.set(Way::Open);
        }
        Fault::HoldWorkers => {
            fleet.to_trainer.set(Way::Held);
            sleep(moment).await;
            fleet.to_trainer.set(Way::Open);
        }
        Fault::HoldReward => {
            fleet.to_reward.set(Way::Held);
            sleep(moment).await;
            fleet.to_reward.set(Way::Open);
        }
        Fault::FlipWeights => return flip_weights(fleet, moment, random).await,
        Fault::PauseResume => return pause_resume(jobs, job, moment).await,
    }
    Ok(true)
}

async fn restart(fleet: &mut Fleet, name: &str, after: Duration) -> anyhow::Result<()> {
    fleet.kill(name)?;
    sleep(after).await;
    fleet.launch(name).await
}

/// Flips a bit of a published file for a moment; workers that fetch it then must refuse it.
async fn flip_weights(fleet: &Fleet, moment: Duration, random: &mut impl Rng) -> anyhow::Result<bool> {
    let blobs = fleet.runs().join("published/blobs");
    let entries = std::fs::read_dir(&blobs).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.extension().is_none()).collect();
    files.sort();
    let Some(path) = files.choose(random) else { return Ok(false) };
    // It may be replaced by the next policy at any time.
    let Ok(whole) = std::fs::read(path) else { return Ok(false) };
    if whole.is_empty() {
        return Ok(false);
    }
    let mut damaged = whole.clone();
    let at = random.gen_range(0..damaged.len());
    damaged[at] ^= 1 << random.gen_range(0..8);
    // Others may be linked to the same file: a new one takes its place.
    let put = |bytes: &[u8]| -> anyhow::Result<()> {
        let beside = blobs.join("chaos.tmp-");
        std::fs::write(&beside, bytes).with_context(|| format!("failed to write {}", beside.display()))?;
        std::fs::rename(&beside, path).with_context(|| format!("failed to replace {}", path.display()))
    };
    put(&damaged)?;
    sleep(moment).await;
    if path.exists() {
        put(&whole)?;
    }
    Ok(true)
}

async fn pause_resume(jobs: &mut Jobs, job: &str, moment: Duration) -> anyhow::Result<bool> {
    let paused = jobs.client.pause_job(pb::PauseJobRequest { job_id: job.into() }).await;
    // It may have ended a moment ago.
    if paused.is_err() {
        return Ok(false);
    }
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let job = jobs.client.get_job(pb::GetJobRequest { job_id: job.into() }).await;
        let state = job.context("failed to ask for the job")?.into_inner().state();
        match state {
            pb::JobState::Paused => break,
            pb::JobState::Succeeded => return Ok(false),
            _ if tokio::time::Instant::now() > until => anyhow::bail!("a job was not held within 60 s"),
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
    sleep(moment).await;
    let request = pb::ResumeJobRequest { job_id: job.into(), skip_verifier_gate: false };
    jobs.client.resume_job(request).await.context("failed to let the job go on")?;
    Ok(true)
}
