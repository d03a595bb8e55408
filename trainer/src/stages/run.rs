//! One job from its file to its report.

use super::curate::{check_inputs, evaluation_prompts};
use super::data::JobData;
use super::kept::Kept;
use super::{StageError, eval, suites, telemetry};
use crate::checkpoint::{self, Keep, SaveError, Saved, State};
use crate::curation::NgramIndex;
use crate::jobs::{JobContext, JobError, LogLevel, Runner};
use crate::learner::{ADAPTER_SEED, AdamW, Learner};
use crate::preflight::Preflight;
use crate::publish::PublishError;
use crate::reward_client::RewardClient;
use crate::rollouts::{RolloutHub, RolloutSession};
use crate::run_dir::TensorBoard;
use crate::spec::JobSpec;
use sinternal_eval::DataSet;
use sinternal_model::think::Think;
use sinternal_model::{CausalLm, Device, ModelError, ModelFolder};
use sinternal_proto::{PolicyVersion, Sha256, StepMetrics};
use sinternal_service::atomic::{clean_leftovers, write_atomic};
use sinternal_service::owner::{OwnerHandle, spawn_owner};
use sinternal_service::telemetry::JobMetrics;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Calls that may wait for the learner's thread.
const LEARNER_QUEUE: usize = 4;

/// What every job of this trainer uses.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Where the learner computes.
    pub device: Device,
    /// The longest wait for the next trace.
    pub trace_deadline: Duration,
    /// Folders in which what jobs name must lie; none: anywhere.
    pub data_roots: Vec<PathBuf>,
}

/// Runs jobs with these workers and this reward service.
#[derive(Debug)]
pub struct Pipeline {
    hub: RolloutHub,
    reward: RewardClient,
    options: PipelineOptions,
}

impl Pipeline {
    /// A pipeline over a hub of workers and a reward service.
    #[must_use]
    pub fn new(hub: RolloutHub, reward: RewardClient, options: PipelineOptions) -> Self {
        Self { hub, reward, options }
    }
}

#[async_trait::async_trait]
impl Runner for Pipeline {
    fn check(&self, toml: &str, base_dir: &Path, runs: &Path) -> Result<Preflight, String> {
        let spec = JobSpec::parse(toml, "job file", base_dir)?;
        spec.check_roots(&self.options.data_roots)?;
        let folder = ModelFolder::open(&spec.model).map_err(|e| e.to_string())?;
        let data = JobData::load(&spec).map_err(|e| e.to_string())?;
        data.check(&folder)?;
        // Before answers are sampled and paid for: what only later stages read.
        check_inputs(&spec)?;
        suites::load(&spec)?;
        Preflight::check(&spec, &data, &folder, self.options.device, runs)
    }

    async fn run(&self, ctx: JobContext) -> Result<(), JobError> {
        let _series = JobMetrics::open(&ctx.id.0);
        let outcome = async { Run::start(self, ctx).await?.execute().await };
        outcome.await.map_err(|e: StageError| match e {
            StageError::Gate(_) | StageError::Audit(_) => JobError::Paused(e.to_string()),
            _ => JobError::Failed(e.to_string()),
        })
    }
}

/// A checkpoint, and which ones went for it.
type Written = Result<(Saved, Vec<PathBuf>), SaveError>;

/// A job that runs.
pub(super) struct Run {
    pub(super) ctx: JobContext,
    pub(super) spec: JobSpec,
    pub(super) data: JobData,
    /// Prompts that must not be learned from.
    pub(super) evaluation: NgramIndex,
    /// Of `[suites]`.
    pub(super) suites: Vec<DataSet>,
    pub(super) folder: Arc<ModelFolder>,
    pub(super) learner: OwnerHandle<Learner>,
    pub(super) reward: RewardClient,
    pub(super) session: RolloutSession,
    /// How the model that workers sample from marks its reasoning.
    pub(super) think: Think,
    /// The policy as it was published last.
    pub(super) version: PolicyVersion,
    pub(super) device: Device,
    pub(super) seconds: Vec<(String, f64)>,
    board: Option<TensorBoard>,
    /// The checkpoint that is being written.
    saving: Option<JoinHandle<Written>>,
    hub: RolloutHub,
    pub(super) trace_deadline: Duration,
}

impl Run {
    async fn start(pipeline: &Pipeline, ctx: JobContext) -> Result<Self, StageError> {
        let spec = JobSpec::parse(&ctx.toml, "job file", &ctx.base_dir).map_err(StageError::Spec)?;
        // Again: links may have changed while it waited.
        spec.check_roots(&pipeline.options.data_roots).map_err(StageError::Spec)?;
        clean(&ctx)?;
        let resolved = toml::to_string(&spec).map_err(|e| StageError::Spec(e.to_string()))?;
        write_atomic(&ctx.run_dir.config(), resolved.as_bytes())?;
        let data = JobData::load(&spec)?;
        let evaluation = evaluation_prompts(&spec.decontaminate).map_err(StageError::Data)?;
        let suites = suites::load(&spec).map_err(StageError::Data)?;
        let folder = Arc::new(ModelFolder::open(&spec.model)?);
        let learner = spawn_learner(&folder, pipeline.options.device, &spec).await?;
        pipeline.reward.forget_verifiers();
        let session = pipeline.hub.open(ctx.id.clone())?;
        let board = spec.tensorboard.then(|| TensorBoard::new(ctx.run_dir.path(), ctx.attempt));
        let think = Think::of(&folder.tokenizer, spec.sampling.think.as_ref());
        Ok(Self {
            ctx,
            think,
            spec,
            data,
            evaluation,
            suites,
            folder,
            learner,
            reward: pipeline.reward.clone(),
            session,
            version: PolicyVersion(0),
            device: pipeline.options.device,
            seconds: Vec::new(),
            board,
            saving: None,
            hub: pipeline.hub.clone(),
            trace_deadline: pipeline.options.trace_deadline,
        })
    }

    async fn execute(mut self) -> Result<(), StageError> {
        self.publish().await?;
        let mut results = eval::Results::default();
        if self.spec.eval.is_some_and(|eval| eval.before) {
            results.arms.push(self.sample_arm("base").await?);
        }
        self.answer_suites("base").await?;
        let mut answered = vec!["base".to_owned()];
        let answers = match self.spec.verifier {
            Some(_) => self.labelled_answers().await?,
            None => Vec::new(),
        };
        let tuned = self.spec.sft.as_ref().map(|sft| sft.arm());
        if let Some(arm) = tuned {
            self.initialise().await?;
            if self.spec.eval.is_some() {
                results.arms.push(self.sample_arm(arm).await?);
            }
            self.answer_suites(arm).await?;
            answered.push(arm.to_owned());
        }
        if self.spec.verifier.is_some() {
            let (gate, calibration) = self.pass_gate(&answers).await?;
            (results.gate, results.calibration) = (Some(gate), Some(calibration));
        }
        // The verifier is loaded now, if there is one.
        for arm in &answered {
            self.judge_suites(arm).await?;
        }
        if self.spec.grpo.is_some() {
            results.curve = self.optimise(&answers).await?;
            let arm = format!("{}+grpo", tuned.unwrap_or("base"));
            if self.spec.eval.is_some() {
                results.arms.push(self.sample_arm(&arm).await?);
            }
            self.answer_suites(&arm).await?;
            self.judge_suites(&arm).await?;
        }
        self.report(results, &answers).await
    }

    /// Makes the learner's weights the policy that workers sample from.
    pub(super) async fn publish(&mut self) -> Result<(), StageError> {
        let dir = self.scratch("publish")?;
        let (folder, to) = (Arc::clone(&self.folder), dir.clone());
        let written = self.learner.call(move |learner| -> Result<(), ModelError> {
            folder.copy_side_files(&to)?;
            learner.lm().save_weights(&to, learner.lm().kind())
        });
        written.await??;
        self.publish_folder(&dir).await?;
        remove(&dir)
    }

    /// Makes a model folder the policy that workers sample from; gives its hash.
    pub(super) async fn publish_folder(&mut self, dir: &Path) -> Result<Sha256, StageError> {
        let next = self.hub.policy().map_or(PolicyVersion(1), |p| p.version.next());
        let policy = self.hub.publish(next, dir).await?;
        self.version = next;
        Ok(policy.manifest.hash)
    }

    /// Hash of the policy that workers sample from.
    pub(super) fn policy_hash(&self) -> Result<Sha256, StageError> {
        let policy = self.hub.policy().ok_or_else(|| StageError::Data("no policy is published".into()))?;
        Ok(policy.manifest.hash)
    }

    pub(super) fn check_cancelled(&self) -> Result<(), StageError> {
        if self.ctx.cancel.is_cancelled() { Err(StageError::Cancelled) } else { Ok(()) }
    }

    /// Saves the learner as it is, with the scored samples of steps to come. What can be done without the learner goes on in the
    /// background, for one checkpoint at a time.
    pub(super) async fn checkpoint(&mut self, state: State, work: Vec<Kept>) -> Result<(), StageError> {
        self.settle_checkpoint().await?;
        let (folder, dir, stage) =
            (Arc::clone(&self.folder), self.ctx.run_dir.checkpoints(), state.stage.clone());
        let to = dir.clone();
        let staged = self.learner.call(move |learner| checkpoint::stage(&to, state, &folder, learner, &work));
        let staged = staged.await?;
        if staged.is_err() {
            telemetry::checkpoint(&self.ctx.id, false);
        }
        let Some(staged) = staged? else { return Ok(()) };
        let keep = self.spec.grpo.map_or(Keep { last: 0, best: 0 }, |grpo| grpo.keep());
        self.saving = Some(tokio::task::spawn_blocking(move || {
            let saved = staged.finish()?;
            let removed = if stage == "grpo" { checkpoint::prune(&dir, &stage, keep)? } else { Vec::new() };
            Ok((saved, removed))
        }));
        Ok(())
    }

    /// Waits for the checkpoint that is being written, and tells of it.
    pub(super) async fn settle_checkpoint(&mut self) -> Result<(), StageError> {
        let Some(saving) = self.saving.take() else { return Ok(()) };
        let done = saving.await.map_err(|e| StageError::Data(format!("writing a checkpoint failed: {e}")))?;
        telemetry::checkpoint(&self.ctx.id, done.is_ok());
        let (saved, removed) = done?;
        for path in removed {
            tracing::info!(job = %self.ctx.id, path = %path.display(), "removed a checkpoint that is not to be kept");
        }
        self.ctx.events.checkpoint(saved);
        Ok(())
    }

    /// Tells of a checkpoint whose writing has ended meanwhile.
    pub(super) async fn note_checkpoint(&mut self) -> Result<(), StageError> {
        match &self.saving {
            Some(saving) if saving.is_finished() => self.settle_checkpoint().await,
            _ => Ok(()),
        }
    }

    /// Loads a checkpoint's weights into the learner.
    pub(super) async fn restore_weights(&self, dir: PathBuf) -> Result<(), StageError> {
        Ok(self.learner.call(move |learner| learner.lm().replace_weights(&dir)).await??)
    }

    /// Loads a checkpoint's weights and moments into a learner that has begun its stage.
    pub(super) async fn restore_learner(&self, dir: PathBuf, adapters: bool) -> Result<(), StageError> {
        // Adapters come with the optimizer, and what they change is there already.
        if !adapters {
            self.restore_weights(dir.clone()).await?;
        }
        let loaded = self.learner.call(move |learner| {
            let (optimizer, lm) = learner.optimizer();
            optimizer.load(lm.trained(), &dir)
        });
        Ok(loaded.await?.map_err(SaveError::from)?)
    }

    /// The end of a job that was asked to stop; where its last checkpoint failed it says so.
    pub(super) fn stopped(&self, saved: Result<(), StageError>) -> StageError {
        if let Err(error) = saved {
            self.warn(format!(
                "no checkpoint where the job was stopped, so it goes on from an older one: {error}"
            ));
        }
        StageError::Cancelled
    }

    /// An empty folder under the run's own, for what need not last.
    pub(super) fn scratch(&self, name: &str) -> Result<PathBuf, StageError> {
        let dir = self.ctx.run_dir.path().join(format!("{name}.tmp-stage"));
        if dir.exists() {
            remove(&dir)?;
        }
        std::fs::create_dir_all(&dir).map_err(|source| PublishError::Io { path: dir.clone(), source })?;
        Ok(dir)
    }

    pub(super) fn say(&self, message: impl Into<String>) {
        let message = message.into();
        tracing::info!(job = %self.ctx.id, "{message}");
        self.ctx.events.log(LogLevel::Info, message);
    }

    pub(super) fn warn(&self, message: impl Into<String>) {
        let message = message.into();
        tracing::warn!(job = %self.ctx.id, "{message}");
        self.ctx.events.log(LogLevel::Warn, message);
    }

    /// Appends to `metrics.jsonl` and TensorBoard's file, and tells those who watch.
    pub(super) fn record(&mut self, metrics: StepMetrics) -> Result<(), StageError> {
        let now = unix_ms();
        self.ctx.run_dir.append_metrics(&metrics, now)?;
        if let Some(board) = &mut self.board {
            board.add(&metrics, now)?;
        }
        telemetry::step(&self.ctx.id, &metrics, self.spec.learner.peak_flops);
        self.ctx.events.metrics(metrics);
        Ok(())
    }

    /// What was recorded after `step` of `stage` is dropped: it will be done again.
    pub(super) fn forget_after(&mut self, stage: &str, step: u64) -> Result<(), StageError> {
        self.ctx.run_dir.truncate_after(stage, step)?;
        if let Some(board) = self.board.as_mut().filter(|_| self.ctx.attempt > 1) {
            board.resume_before(stage, step + 1, unix_ms())?;
        }
        Ok(())
    }

    /// Notes how long a stage took.
    pub(super) fn took(&mut self, stage: &str, since: Instant) {
        self.seconds.push((stage.into(), since.elapsed().as_secs_f64()));
    }
}

fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Removes what an earlier attempt left unfinished when it was killed.
fn clean(ctx: &JobContext) -> Result<(), StageError> {
    for dir in [ctx.run_dir.path(), &ctx.run_dir.checkpoints()] {
        for path in clean_leftovers(dir)? {
            tracing::info!(job = %ctx.id, path = %path.display(), "removed an unfinished write");
        }
    }
    Ok(())
}

pub(super) fn remove(dir: &Path) -> Result<(), StageError> {
    std::fs::remove_dir_all(dir).map_err(|source| PublishError::Io { path: dir.into(), source }.into())
}

async fn spawn_learner(
    folder: &Arc<ModelFolder>,
    device: Device,
    spec: &JobSpec,
) -> Result<OwnerHandle<Learner>, StageError> {
    let folder = Arc::clone(folder);
    let (temperature, kind) = (spec.sampling.temperature, spec.learner.dtype.kind());
    let (compute, lora) = (spec.learner.compute(device), spec.learner.adapters());
    let init = move || -> Result<Learner, ModelError> {
        let mut lm = CausalLm::load(&folder, device, kind)?;
        // With adapters the moments of all weights would never be used.
        if let Some(config) = lora {
            lm.add_adapters(config, ADAPTER_SEED);
        }
        let mut learner = Learner::new(lm, AdamW::default(), temperature);
        learner.set_compute(compute);
        Ok(learner)
    };
    spawn_owner("learner", LEARNER_QUEUE, init).await.map_err(|e| StageError::Spec(e.to_string()))
}
