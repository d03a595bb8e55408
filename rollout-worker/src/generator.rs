//! The thread that owns the model: takes tasks, steps the engine, hands out traces as they finish.

use crate::WorkerError;
use sinternal_model::engine::{
    Engine, EngineOptions, EngineStats, Finish, Finished, PREFILL_CHUNK_TOKENS, Request, SamplingParams,
};
use sinternal_model::{CausalLm, ChatTurn, Device, Kind, ModelFolder};
use sinternal_proto::{
    FinishReason, JobId, ModelFile, Policy, PolicyVersion, RolloutTask, SampleIndex, Segment, TaskId, Trace,
};
use sinternal_service::metrics;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Samples that may wait in the engine; leases keep far below it.
const MAX_WAITING: usize = 1 << 16;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A new registration: the policy that is held may be of another trainer's past.
    Registered,
    /// A policy whose files lie in `dir`.
    Policy { policy: Policy, dir: PathBuf },
    /// Samples to draw.
    Task(RolloutTask),
    /// Tasks that nobody waits for any more.
    Cancel(Vec<TaskId>),
}

/// What others may see of the thread without asking it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Status {
    /// Version of the weights.
    pub(crate) version: PolicyVersion,
    /// The policy that was given last and has been read.
    pub(crate) taken: Option<PolicyVersion>,
    /// Samples being decoded.
    pub(crate) running: usize,
    /// Samples that wait, also for a policy.
    pub(crate) waiting: usize,
    /// Tasks that are not done.
    pub(crate) tasks: Vec<TaskId>,
    /// Why the thread ended.
    pub(crate) ended: Option<String>,
}

/// What comes out of the thread.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A finished sample.
    Trace(Trace),
    /// A task that this model can never sample.
    Rejected { job: JobId, task: TaskId, problem: String },
}

/// The other side of the thread.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) outcomes: mpsc::Receiver<Outcome>,
    pub(crate) status: Arc<Mutex<Status>>,
}

/// How the engine is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) device: Device,
    pub(crate) kind: Kind,
    pub(crate) max_sequences: usize,
    pub(crate) kv_budget_bytes: usize,
}

/// Starts the thread; it ends when the handle is dropped.
pub(crate) fn spawn(options: Options) -> std::io::Result<Handle> {
    let (commands, inbox) = mpsc::channel(64);
    let (outgoing, outcomes) = mpsc::channel(64);
    let status = Arc::new(Mutex::new(Status::default()));
    let generator = Generator {
        options,
        inbox,
        outgoing,
        status: Arc::clone(&status),
        held: None,
        confirmed: false,
        deferred: Vec::new(),
        running: HashMap::new(),
        next_id: 0,
        counted: EngineStats::default(),
    };
    std::thread::Builder::new().name("generator".into()).spawn(move || generator.run())?;
    Ok(Handle { commands, outcomes, status })
}

/// A model with its engine, and the files it came from.
struct Held {
    folder: ModelFolder,
    engine: Engine,
    side_files: Vec<ModelFile>,
}

/// A task in the engine.
struct Active {
    job: JobId,
    task: TaskId,
    prompt: Vec<u32>,
    stop: Vec<String>,
    missing: usize,
}

struct Generator {
    options: Options,
    inbox: mpsc::Receiver<Command>,
    outgoing: mpsc::Sender<Outcome>,
    status: Arc<Mutex<Status>>,
    held: Option<Held>,
    /// The policy was confirmed since the last registration.
    confirmed: bool,
    deferred: Vec<RolloutTask>,
    running: HashMap<u64, Active>,
    next_id: u64,
    /// The engine's figures when they were last counted.
    counted: EngineStats,
}

impl Generator {
    fn run(mut self) {
        let status = Arc::clone(&self.status);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.serve()));
        let why = match outcome {
            Ok(Ok(())) => "its inbox is closed".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .map_or_else(
                    || "it panicked".into(),
                    |text| text.lines().next().unwrap_or_default().to_owned(),
                ),
        };
        status.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(why);
    }

    fn serve(&mut self) -> Result<(), WorkerError> {
        loop {
            if self.is_idle() {
                let Some(command) = self.inbox.blocking_recv() else { return Ok(()) };
                self.obey(command)?;
            }
            while let Ok(command) = self.inbox.try_recv() {
                self.obey(command)?;
            }
            let finished = self.held.as_mut().map(|held| timed_step(&mut held.engine)).unwrap_or_default();
            for one in finished {
                if !self.hand_out(one)? {
                    return Ok(());
                }
            }
            self.tell();
        }
    }

    fn is_idle(&self) -> bool {
        self.held.as_ref().is_none_or(|held| held.engine.is_idle())
    }

    fn obey(&mut self, command: Command) -> Result<(), WorkerError> {
        match command {
            Command::Registered => self.confirmed = false,
            Command::Policy { policy, dir } => self.take_policy(&policy, dir)?,
            Command::Task(task) => {
                self.deferred.push(task);
                self.start_deferred()?;
            }
            Command::Cancel(tasks) => self.cancel(&tasks),
        }
        self.tell();
        Ok(())
    }

    /// Swaps weights between two steps where only they changed, else starts anew with the new model.
    fn take_policy(&mut self, policy: &Policy, dir: PathBuf) -> Result<(), WorkerError> {
        let side_files: Vec<ModelFile> =
            policy.manifest.files.iter().filter(|f| !f.name.ends_with(".safetensors")).cloned().collect();
        match &mut self.held {
            Some(held) if held.side_files == side_files => {
                held.engine.swap_weights(&dir, policy.version.0)?
            }
            _ => self.load(policy.version, dir, side_files)?,
        }
        self.confirmed = true;
        self.status.lock().unwrap_or_else(PoisonError::into_inner).taken = Some(policy.version);
        metrics::policy_version().set(policy.version.0 as f64);
        self.start_deferred()
    }

    fn load(
        &mut self,
        version: PolicyVersion,
        dir: PathBuf,
        side_files: Vec<ModelFile>,
    ) -> Result<(), WorkerError> {
        if !self.running.is_empty() {
            tracing::warn!(
                tasks = self.running.len(),
                "another model was published; dropping what was being sampled"
            );
            self.running.clear();
        }
        let folder = ModelFolder::open(&dir)?;
        let lm = CausalLm::load(&folder, self.options.device, self.options.kind)?;
        let options = EngineOptions {
            max_sequences: self.options.max_sequences,
            kv_budget_bytes: self.options.kv_budget_bytes,
            max_waiting: MAX_WAITING,
            prefill_chunk_tokens: PREFILL_CHUNK_TOKENS,
        };
        let tokenizer = folder.tokenizer.clone();
        let engine =
            Engine::new(lm, folder.end_of_text.clone(), version.0, options).with_decoder(move |tokens| {
                tokenizer.decode(tokens).expect("sampled tokens are in the vocabulary")
            });
        metrics::kv_budget_bytes().set(self.options.kv_budget_bytes as f64);
        self.counted = EngineStats::default();
        self.held = Some(Held { folder, engine, side_files });
        tracing::info!(%version, dir = %dir.display(), "loaded a model");
        Ok(())
    }

    /// Starts the tasks that the present weights may serve.
    fn start_deferred(&mut self) -> Result<(), WorkerError> {
        let version =
            self.held.as_ref().filter(|_| self.confirmed).map(|held| PolicyVersion(held.engine.version()));
        let Some(version) = version else { return Ok(()) };
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.deferred).into_iter().partition(|task| task.min_version <= version);
        self.deferred = later;
        now.into_iter().try_for_each(|task| self.start(task))
    }

    fn start(&mut self, task: RolloutTask) -> Result<(), WorkerError> {
        let Some(held) = &mut self.held else { return Ok(()) };
        let turns: Vec<ChatTurn<'_>> =
            task.messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
        let prompt = match held.folder.tokenizer.encode_chat(&turns, true) {
            Ok(prompt) => prompt,
            Err(error) => return self.reject(task, error.to_string()),
        };
        self.next_id += 1;
        let sampling = SamplingParams {
            temperature: task.sampling.temperature,
            top_p: task.sampling.top_p,
            top_k: task.sampling.top_k as usize,
            ignore_eos: task.sampling.ignore_eos,
            min_p: task.sampling.min_p,
            stop_strings: task.sampling.stop.clone(),
            ..SamplingParams::new(task.sampling.max_new_tokens as usize)
        };
        let request = Request {
            id: self.next_id,
            key: key(task.sampling.seed, task.task),
            prompt: prompt.clone(),
            samples: task.samples.iter().map(|s| s.0).collect(),
            sampling,
            choice: None,
        };
        let missing = request.samples.len();
        match held.engine.submit(request) {
            Ok(()) => {
                let stop = task.sampling.stop;
                let active = Active { job: task.job, task: task.task, prompt, stop, missing };
                self.running.insert(self.next_id, active);
                Ok(())
            }
            Err(refused) => self.reject(task, refused.to_string()),
        }
    }

    /// Hands a task back; other jobs' tasks go on.
    fn reject(&mut self, task: RolloutTask, problem: String) -> Result<(), WorkerError> {
        tracing::warn!(job = %task.job, task = %task.task, problem, "cannot sample this task");
        let rejected = Outcome::Rejected { job: task.job, task: task.task, problem };
        // Where nobody listens any more, the thread ends at its next look at the inbox.
        drop(self.outgoing.blocking_send(rejected));
        Ok(())
    }

    fn cancel(&mut self, tasks: &[TaskId]) {
        self.deferred.retain(|task| !tasks.contains(&task.task));
        let ids: Vec<u64> =
            self.running.iter().filter(|(_, a)| tasks.contains(&a.task)).map(|(&id, _)| id).collect();
        for id in ids {
            self.running.remove(&id);
            if let Some(held) = &mut self.held {
                held.engine.cancel(id);
            }
        }
    }

    /// Passes a finished sample on; false when nobody listens any more.
    fn hand_out(&mut self, finished: Finished) -> Result<bool, WorkerError> {
        let Some(active) = self.running.get_mut(&finished.id) else { return Ok(true) };
        let Some(held) = &self.held else { return Ok(true) };
        active.missing -= 1;
        let stopped = finished.finish != Finish::Length;
        let text = finished.text(&active.stop, &held.folder.tokenizer)?;
        let segment = |&(version, tokens): &(u64, u32)| Segment { version: PolicyVersion(version), tokens };
        let trace = Trace {
            job: active.job.clone(),
            task: active.task,
            sample: SampleIndex(finished.sample),
            prompt_tokens: active.prompt.clone(),
            logprobs: finished.logprobs,
            segments: finished.segments.iter().map(segment).collect(),
            tokens: finished.tokens,
            text,
            finish: if stopped { FinishReason::Stop } else { FinishReason::Length },
            generate: Duration::from_millis(u64::try_from(finished.elapsed.as_millis()).unwrap_or(u64::MAX)),
        };
        if active.missing == 0 {
            self.running.remove(&finished.id);
        }
        Ok(self.outgoing.blocking_send(Outcome::Trace(trace)).is_ok())
    }

    fn tell(&mut self) {
        let stats = self.held.as_ref().map(|held| held.engine.stats()).unwrap_or_default();
        let deferred: usize = self.deferred.iter().map(|t| t.samples.len()).sum();
        metrics::running_sequences().set(stats.running as f64);
        metrics::waiting_sequences().set((stats.waiting + deferred) as f64);
        metrics::kv_bytes().set(stats.kv_bytes as f64);
        metrics::kv_used_bytes().set(stats.kv_used_bytes as f64);
        let since = |of: fn(&EngineStats) -> u64| of(&stats) - of(&self.counted);
        metrics::generated_tokens_total().increment(since(|s| s.generated_tokens));
        metrics::prefilled_tokens_total().increment(since(|s| s.prefilled_tokens));
        metrics::shared_prompt_tokens_total().increment(since(|s| s.shared_tokens));
        metrics::preemptions_total().increment(since(|s| s.preemptions));
        self.counted = stats;
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.version = PolicyVersion(self.held.as_ref().map_or(0, |held| held.engine.version()));
        (status.running, status.waiting) = (stats.running, stats.waiting + deferred);
        status.tasks =
            self.running.values().map(|a| a.task).chain(self.deferred.iter().map(|t| t.task)).collect();
    }
}

fn timed_step(engine: &mut Engine) -> Vec<Finished> {
    let before = engine.stats().busy;
    let finished = engine.step();
    metrics::engine_step_seconds().record(engine.stats().busy - before);
    finished
}

/// Root of a task's random numbers: the same on every worker and in a resumed job.
#[must_use]
pub fn key(seed: u64, task: TaskId) -> u64 {
    seed.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ task.0
}
