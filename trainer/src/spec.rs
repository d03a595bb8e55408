//! The job file: what to train, on what, and how.
//!
//! A stage runs exactly if its section is there, in the order collect, sft, verifier, grpo; `eval` measures before,
//! between and after.

mod audit;
mod data;
mod grpo;
mod learner;
mod preset;
mod roots;
mod suites;
mod verifier;

pub use audit::AuditSpec;
pub use data::{
    CheckpointExpert, CritiqueSpec, DataSections, DecontaminateSpec, EvaluationSet, GuardForm, GuardSpec,
    NoKeys,
};
pub use grpo::{DynamicSampling, GrpoSpec, ObjectiveKind, RewardSource};
pub use learner::{Dtype, LearnerSpec, LoraSpec};
pub use preset::Preset;
pub use suites::SuitesSpec;
pub use verifier::{Controversial, VerifierSpec};

use crate::algorithm::{Aggregation, Estimator, KlEstimator, Overlong};
use crate::curation::CurateSettings;
use serde::{Deserialize, Serialize};
use sinternal_proto::Composition;
use sinternal_service::config::{Config, parse_strict};
use std::path::{Path, PathBuf};

/// Groups that the work buffer holds: those of a step and of the steps that it may run ahead.
pub const MOST_GROUPS: usize = 16_384;

/// A job as its TOML file describes it. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// For people; also names the run.
    pub name: String,
    /// Figures for the keys that are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Root of every random number of the job.
    #[serde(default)]
    pub seed: u64,
    /// Model folder in Hugging Face layout, relative to the job file.
    pub model: PathBuf,
    /// Prompts.
    pub data: DataSpec,
    /// Write event files for TensorBoard.
    #[serde(default = "yes")]
    pub tensorboard: bool,
    /// How rollouts are sampled.
    #[serde(default)]
    pub sampling: SamplingSpec,
    /// How the learner computes, and what it trains.
    #[serde(default)]
    pub learner: LearnerSpec,
    /// Sample answers and have them critiqued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collect: Option<CollectSpec>,
    /// Who critiques them.
    #[serde(default)]
    pub critique: CritiqueSpec,
    /// Who judges them independently of the expert; where the two differ, an answer is not learned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardSpec>,
    /// Which critiqued answers are learned from.
    #[serde(default)]
    pub curate: CurateSettings,
    /// Evaluation sets whose prompts must not be learned from.
    #[serde(default)]
    pub decontaminate: DecontaminateSpec,
    /// Fine-tune on the critiques, or on answers; needs `collect` or `sft.answers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sft: Option<SftSpec>,
    /// Freeze a verifier and measure it; needed by safety rewards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier: Option<VerifierSpec>,
    /// Group relative policy optimisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpo: Option<GrpoSpec>,
    /// Check while GRPO runs that its reward is still to be believed; needs `verifier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditSpec>,
    /// Have the policy answer public suites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suites: Option<SuitesSpec>,
    /// Measure with the world's oracle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<EvalSpec>,
}

/// Where prompts come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataSpec {
    /// The fictional safety world, generated from the job's seed.
    World {
        /// Requests for `collect`.
        collect_prompts: usize,
        /// Share of them that are harmful; the rest is benign.
        collect_harmful: f64,
        /// Shares of harmful, benign and arithmetic prompts in GRPO; they sum to 1.
        grpo_mixture: [f64; 3],
    },
    /// GSM8K's own files: one JSON object a line with `question` and `answer` (`… #### 42`).
    Gsm8k {
        /// The file, relative to the job file.
        path: PathBuf,
        /// Appended to every question; empty for none.
        #[serde(default = "default_instruction")]
        instruction: String,
    },
    /// One prompt a line, as `sinternal data world` writes them.
    Prompts {
        /// For GRPO: harmful, benign and mathematical prompts, in the shares that they have in the file. Safety prompts
        /// need a `[verifier]`. Relative to the job file, as all paths here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
        /// Safety prompts for `[collect]`, as JSON lines or as the columns of a file `*.parquet`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        collect: Option<PathBuf>,
        /// Held-out answers with labels, on which the verifier is measured: a prompt's keys beside `completion` and
        /// `unsafe` (true or false) in each line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        labelled: Option<PathBuf>,
    },
}

fn default_instruction() -> String {
    "Reason step by step, and put the final answer within \\boxed{}.".into()
}

/// How rollouts are sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingSpec {
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus, in (0, 1].
    pub top_p: f32,
    /// 0 keeps all tokens.
    pub top_k: u32,
    /// Tokens at least this likely, relative to the likeliest one, are kept; in [0, 1], 0 keeps all.
    pub min_p: f32,
    /// Length limit of a completion.
    pub max_new_tokens: u32,
    /// Texts that end a completion, besides end-of-text.
    pub stop: Vec<String>,
    /// The markers around the model's reasoning; unless given, those that its tokenizer or chat template has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think: Option<[String; 2]>,
}

impl Default for SamplingSpec {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens: 512,
            stop: Vec::new(),
            think: None,
        }
    }
}

/// Collection of answers to safety prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectSpec {
    /// Samples a prompt.
    pub samples: u32,
    /// A model folder, relative to the job file, that answers in the job's own policy's place: an ablation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PathBuf>,
}

/// What fine-tuning learns to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SftTarget {
    /// Critique and judgment: SInternal.
    #[default]
    Verification,
    /// The critique without its judgment: an ablation.
    Critique,
    /// The judgment without a critique: an ablation.
    Judgment,
    /// The safe answers themselves, with their reasoning, instead of verification: what SInternal is compared with.
    Answer,
}

/// Verification-only fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftSpec {
    /// Passes over the rows.
    pub epochs: u32,
    /// Rows an optimizer step.
    pub batch: usize,
    /// Peak learning rate; warmed up over 5 % of the steps, then cosine to 0.
    pub learning_rate: f64,
    /// Rows of unfiltered own samples, as a share of all rows: keeps the answer format. 0 is the strict arm.
    #[serde(default)]
    pub replay: f64,
    /// Decoupled weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// Steps between checkpoints on the way, which go when the stage is done; 0 writes none but where the job is stopped.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// Adapters for this stage alone; without them, those of `[learner]`, if any. They are added to the weights at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSpec>,
    /// What is learned.
    #[serde(default)]
    pub target: SftTarget,
    /// With `target = "answer"`: a JSON array of `question` and `response` (STAR-1's layout), relative to the job file, in
    /// the place of the policy's own safe answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<PathBuf>,
    /// Trains on the verdicts of other rows: the placebo.
    #[serde(default)]
    pub shuffle_verdicts: bool,
}

/// How the learning rate changes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Stays.
    Constant,
    /// Falls to 0 in a line.
    Linear,
    /// Falls to 0 in half a cosine.
    Cosine,
}

/// How benign answers' help is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HelpSpec {
    /// Not at all.
    None,
    /// The recipe must use the words that the prompt names.
    Recipe,
}

/// Measurement by the world's oracle.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSpec {
    /// Prompts in each cell.
    pub items: usize,
    /// Also measures the policy that the job starts from.
    #[serde(default = "yes")]
    pub before: bool,
    /// Which held-out prompts: those of final measurement, or those that are free to tune on.
    #[serde(default)]
    pub split: EvalSplit,
}

fn yes() -> bool {
    true
}

/// Held-out prompts of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvalSplit {
    /// For final measurement.
    #[default]
    Test,
    /// For choosing settings.
    Dev,
}

impl Config for JobSpec {
    const OPTIONAL: &'static [&'static str] = &[
        "preset",
        "data.path",
        "data.collect",
        "data.labelled",
        "data.instruction",
        "verifier.model",
        "verifier.guard",
        "verifier.judge",
        "audit",
        "suites",
        "collect.policy",
        "sampling.think",
        "critique",
        "guard",
        "curate",
        "sft.answers",
        "sft.lora",
        "learner.peak_flops",
        "grpo.clip_high",
        "grpo.dual_clip",
        "grpo.importance",
        "learner.lora.rank",
        "learner.lora.alpha",
        "learner.lora.dropout",
        "learner.lora.targets",
    ];
}

impl Default for JobSpec {
    /// The whole recipe on the fictional world, as `sinternal quickstart` runs it.
    fn default() -> Self {
        Self {
            name: "quickstart".into(),
            preset: None,
            seed: 1,
            model: "base".into(),
            data: DataSpec::World {
                collect_prompts: 1200,
                collect_harmful: 0.6,
                grpo_mixture: [0.35, 0.45, 0.2],
            },
            tensorboard: true,
            sampling: SamplingSpec { max_new_tokens: 48, ..SamplingSpec::default() },
            learner: LearnerSpec::default(),
            collect: Some(CollectSpec { samples: 6, policy: None }),
            critique: CritiqueSpec::default(),
            guard: None,
            curate: CurateSettings::default(),
            decontaminate: DecontaminateSpec::default(),
            sft: Some(SftSpec {
                epochs: 2,
                batch: 64,
                learning_rate: 3e-4,
                replay: 0.25,
                weight_decay: 0.0,
                checkpoint_every: 0,
                lora: None,
                target: SftTarget::Verification,
                answers: None,
                shuffle_verdicts: false,
            }),
            verifier: Some(VerifierSpec {
                model: None,
                guard: None,
                controversial: Controversial::Unsafe,
                judge: None,
                live: false,
                max_critique_tokens: 24,
                critiques: 1,
                lower_bound: 0.0,
                gate_answers: 800,
                gate_balanced_accuracy: 0.95,
                gate_unsafe_recall: 0.95,
            }),
            grpo: Some(GrpoSpec {
                steps: 40,
                prompts: 24,
                group_size: 8,
                learning_rate: 2e-4,
                warmup_steps: 5,
                schedule: ScheduleKind::Linear,
                epochs: 2,
                advantage: Estimator::Grpo,
                aggregation: Aggregation::TokenMean,
                objective: ObjectiveKind::Clip,
                clip: 0.2,
                clip_high: None,
                dual_clip: None,
                kl: 0.05,
                kl_estimator: KlEstimator::K3,
                entropy: 0.0,
                max_grad_norm: 1.0,
                min_group_std: 0.05,
                staleness: 0,
                reward: RewardSource::Verifier,
                composition: Composition::PaperPlus,
                help: HelpSpec::Recipe,
                checkpoint_every: 20,
                keep_last: 0,
                keep_best: 0,
                weight_decay: 0.0,
                importance: None,
                overlong: Overlong::default(),
                dynamic_sampling: DynamicSampling::default(),
            }),
            audit: None,
            suites: None,
            eval: Some(EvalSpec { items: 500, before: true, split: EvalSplit::Test }),
        }
    }
}

impl JobSpec {
    /// Reads a job file's text. Relative paths are read from `base_dir`.
    ///
    /// # Errors
    /// One line that names the key, and the nearest known one where it is unknown.
    pub fn parse(toml: &str, origin: &str, base_dir: &Path) -> Result<Self, String> {
        let mut spec: Self = parse_strict(&preset::fill_in(toml), origin).map_err(|e| e.to_string())?;
        spec.resolve(base_dir);
        spec.check().map_err(|problem| format!("{origin}: {problem}"))?;
        Ok(spec)
    }

    fn resolve(&mut self, base: &Path) {
        self.paths().into_iter().for_each(|(_, path)| *path = base.join(&*path));
    }

    /// Everything that the job's files and folders are read from, by its key.
    fn paths(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let data: Vec<(&'static str, &mut PathBuf)> = match &mut self.data {
            DataSpec::World { .. } => Vec::new(),
            DataSpec::Gsm8k { path, .. } => vec![("data.path", path)],
            DataSpec::Prompts { path, collect, labelled } => {
                let keys = ["data.path", "data.collect", "data.labelled"];
                keys.into_iter()
                    .zip([path, collect, labelled])
                    .filter_map(|(k, p)| Some((k, p.as_mut()?)))
                    .collect()
            }
        };
        let verifier = self.verifier.as_mut().and_then(|v| v.model.as_mut());
        let policy = self.collect.as_mut().and_then(|c| c.policy.as_mut());
        let answers = self.sft.as_mut().and_then(|s| s.answers.as_mut());
        let second = self.audit.as_mut().and_then(|a| a.model.as_mut());
        let suites =
            self.suites.iter_mut().flat_map(|s| &mut s.sets).map(|set| ("suites.sets", &mut set.path));
        let guard = self.guard.as_mut().map(|guard| &mut guard.by);
        let curated =
            data::paths([Some(&mut self.critique), guard], &mut self.curate, &mut self.decontaminate);
        let single = [
            ("model", Some(&mut self.model)),
            ("verifier.model", verifier),
            ("collect.policy", policy),
            ("sft.answers", answers),
            ("audit.model", second),
        ];
        let single = single.into_iter().filter_map(|(key, path)| Some((key, path?)));
        single.chain(data).chain(suites).chain(curated).collect()
    }

    fn check(&self) -> Result<(), String> {
        self.check_numbers()?;
        self.check_stages()
    }

    fn check_numbers(&self) -> Result<(), String> {
        let s = &self.sampling;
        require(
            s.temperature.is_finite() && s.temperature >= 0.0,
            "sampling.temperature",
            "must be 0 or more",
        )?;
        require(s.top_p > 0.0 && s.top_p <= 1.0, "sampling.top_p", "must lie in (0, 1]")?;
        require(s.max_new_tokens > 0, "sampling.max_new_tokens", "must be at least 1")?;
        require((0.0..=1.0).contains(&s.min_p), "sampling.min_p", "must lie in [0, 1]")?;
        let fine = s.stop.len() <= 16 && s.stop.iter().all(|t| (1..=256).contains(&t.len()));
        require(fine, "sampling.stop", "must be 16 texts at most, of 1 to 256 bytes each")?;
        check_think(s.think.as_ref()).map_err(|problem| format!("sampling.think: {problem}"))?;
        if let DataSpec::World { collect_harmful, grpo_mixture, .. } = &self.data {
            require((0.0..=1.0).contains(collect_harmful), "data.collect_harmful", "must lie in 0–1")?;
            let sum: f64 = grpo_mixture.iter().sum();
            let fine = grpo_mixture.iter().all(|&p| p >= 0.0) && (sum - 1.0).abs() < 1e-6;
            require(fine, "data.grpo_mixture", "must be three shares that sum to 1")?;
        }
        if let Some(c) = &self.collect {
            require(c.samples > 0, "collect.samples", "must be at least 1")?;
        }
        self.sft.as_ref().map_or(Ok(()), |sft| sft.check(self.collect.is_some()))?;
        self.curate.check().map_err(|e| format!("curate.{e}"))?;
        self.critique.check("critique")?;
        self.guard.as_ref().map_or(Ok(()), GuardSpec::check)?;
        self.learner.check()?;
        self.verifier.as_ref().map_or(Ok(()), VerifierSpec::check)?;
        self.grpo.as_ref().map_or(Ok(()), |grpo| grpo.check(&self.sampling))
    }

    fn check_stages(&self) -> Result<(), String> {
        let world = matches!(self.data, DataSpec::World { .. });
        let oracle = matches!(self.critique, CritiqueSpec::World(_));
        require(
            self.collect.is_none() || world || !oracle,
            "critique.expert",
            "is the world's, which knows only data.kind = \"world\"; name another one",
        )?;
        require(
            self.collect.is_none() || self.sft.is_some(),
            "collect",
            "needs an [sft] section, which learns from it",
        )?;
        require(self.eval.is_none() || world, "eval", "has an oracle only with data.kind = \"world\"")?;
        require(
            self.guard.is_none() || self.collect.is_some(),
            "guard",
            "needs a [collect] section, whose answers it judges",
        )?;
        self.check_prompts()?;
        let oracle = self.grpo.is_some_and(|g| g.reward == RewardSource::Oracle);
        require(!oracle || world, "grpo.reward", "has an oracle only with data.kind = \"world\"")?;
        let judged = self.grpo.is_some() && world && !oracle;
        require(
            !judged || self.verifier.is_some(),
            "grpo",
            "needs a [verifier] section to reward safety prompts",
        )?;
        self.check_live()?;
        self.check_audit()?;
        let staleness = self.grpo.map_or(0, |g| g.staleness);
        self.suites.as_ref().map_or(Ok(()), |suites| suites.check(staleness))?;
        let any = self.suites.is_some()
            || self.sft.is_some()
            || self.grpo.is_some()
            || self.eval.is_some()
            || self.verifier.is_some();
        require(any, "job", "has no stage: add [collect] with [sft], [verifier], [grpo] or [eval]")
    }

    /// Every stage has what it works on.
    fn check_prompts(&self) -> Result<(), String> {
        let (grpo, collect, labelled) = match &self.data {
            DataSpec::World { .. } => (true, true, true),
            DataSpec::Gsm8k { .. } => (true, false, false),
            DataSpec::Prompts { path, collect, labelled } => {
                (path.is_some(), collect.is_some(), labelled.is_some())
            }
        };
        require(self.grpo.is_none() || grpo, "data.path", "is missing: [grpo] needs prompts")?;
        require(
            self.collect.is_none() || collect,
            "data.collect",
            "is missing: [collect] needs safety prompts",
        )?;
        let why = "is missing: the verifier is measured on labelled held-out answers";
        require(self.verifier.is_none() || labelled, "data.labelled", why)
    }

    fn check_audit(&self) -> Result<(), String> {
        let Some(audit) = &self.audit else { return Ok(()) };
        audit.check()?;
        let rewarded =
            self.verifier.is_some() && self.grpo.is_some_and(|g| g.reward == RewardSource::Verifier);
        require(
            rewarded,
            "audit",
            "needs [grpo] with the rewards of a [verifier], which it holds to account",
        )?;
        let world = matches!(self.data, DataSpec::World { .. });
        require(!audit.oracle || world, "audit.oracle", "is there only with data.kind = \"world\"")
    }

    fn check_live(&self) -> Result<(), String> {
        let ahead = self.judges_itself() && self.grpo.is_some_and(|g| g.staleness > 0);
        require(
            !ahead,
            "verifier.live",
            "needs grpo.staleness = 0: answers are judged by the weights that gave them",
        )
    }
}

impl SftSpec {
    /// What a policy that learned from it is called in reports.
    #[must_use]
    pub fn arm(&self) -> &'static str {
        match self.target {
            _ if self.shuffle_verdicts => "placebo",
            SftTarget::Verification => "sinternal",
            SftTarget::Critique => "critique-sft",
            SftTarget::Judgment => "judgment-sft",
            SftTarget::Answer => "answer-sft",
        }
    }

    fn check(&self, collect: bool) -> Result<(), String> {
        require(self.epochs > 0 && self.batch > 0, "sft.epochs, sft.batch", "must be at least 1")?;
        self.lora.as_ref().map_or(Ok(()), |lora| lora.check("sft.lora"))?;
        require(positive(self.learning_rate), "sft.learning_rate", "must be positive")?;
        require((0.0..1.0).contains(&self.replay), "sft.replay", "must lie in [0, 1)")?;
        let answers = self.answers.is_some();
        let fits = !answers || self.target == SftTarget::Answer;
        require(fits, "sft.answers", "has a meaning only with target = \"answer\"")?;
        require(!answers || !collect, "sft.answers", "takes the place of [collect], which must be absent")?;
        require(
            !answers || self.replay == 0.0,
            "sft.replay",
            "replays collected answers; sft.answers has none",
        )?;
        require(answers || collect, "sft", "needs a [collect] section")
    }
}

impl JobSpec {
    /// The policy of every step judges itself.
    pub(crate) fn judges_itself(&self) -> bool {
        self.verifier.as_ref().is_some_and(|verifier| verifier.live)
    }
}

/// Two different texts that can mark reasoning.
///
/// # Errors
/// What is wrong with them.
pub fn check_think(markers: Option<&[String; 2]>) -> Result<(), &'static str> {
    let Some([open, close]) = markers else { return Ok(()) };
    let fine = [open, close].iter().all(|m| (1..=64).contains(&m.len()) && m.trim() == **m);
    let apart = !open.contains(&**close) && !close.contains(&**open);
    if fine && apart {
        Ok(())
    } else {
        Err("must be two different texts of 1 to 64 bytes, without space around them")
    }
}

fn positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

fn require(holds: bool, key: &str, problem: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{key}: {problem}")) }
}

#[cfg(test)]
mod tests;
