//! The `[grpo]` section of a job file.

use super::{HelpSpec, MOST_GROUPS, SamplingSpec, ScheduleKind, positive, require};
use crate::algorithm::{
    Aggregation, Cispo, Clip, Estimator, Gspo, Importance, KlEstimator, Loss, Overlong, Surrogate,
};
use crate::checkpoint::Keep;
use serde::{Deserialize, Serialize};
use sinternal_proto::Composition;

/// Group relative policy optimisation (Shao et al., 2024).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoSpec {
    /// Policy updates.
    pub steps: u64,
    /// Prompts a step.
    pub prompts: usize,
    /// Samples a prompt, at least 2.
    pub group_size: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    #[serde(default)]
    pub warmup_steps: u64,
    /// After the warm-up.
    #[serde(default = "constant")]
    pub schedule: ScheduleKind,
    /// Optimizer steps on each batch.
    #[serde(default = "one")]
    pub epochs: u32,
    /// How rewards become advantages.
    #[serde(default)]
    pub advantage: Estimator,
    /// How the losses of tokens become one.
    #[serde(default)]
    pub aggregation: Aggregation,
    /// What advantages are multiplied with.
    #[serde(default)]
    pub objective: ObjectiveKind,
    /// Ratios are clipped to 1 ± this. CISPO has no lower bound and does not use it.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// The upper bound alone, where it differs (DAPO's clip-higher). CISPO needs it: its weights are clipped to 1 + this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_high: Option<f64>,
    /// Bounds the loss of negative advantages to this times |A| (dual clip); more than 1, and for the objective `clip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dual_clip: Option<f64>,
    /// Weight of the KL divergence from the policy at the start of the stage.
    #[serde(default)]
    pub kl: f64,
    /// How that is estimated.
    #[serde(default)]
    pub kl_estimator: KlEstimator,
    /// Weight of the policy's entropy, which is taken from the loss.
    #[serde(default)]
    pub entropy: f64,
    /// Global norm that gradients are clipped to.
    #[serde(default = "default_norm")]
    pub max_grad_norm: f64,
    /// Groups whose rewards deviate no more than this are dropped and counted.
    #[serde(default)]
    pub min_group_std: f64,
    /// Steps by which a rollout's policy may lag behind the learner.
    #[serde(default)]
    pub staleness: u64,
    /// What rewards safety prompts.
    #[serde(default)]
    pub reward: RewardSource,
    /// Which factors make the reward.
    #[serde(default)]
    pub composition: Composition,
    /// How benign answers' help is measured.
    #[serde(default = "no_help")]
    pub help: HelpSpec,
    /// Steps between checkpoints; 0 keeps only the last.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// Newest checkpoints that are kept; 0 keeps all.
    #[serde(default)]
    pub keep_last: usize,
    /// Besides these, checkpoints with the highest mean reward; needs `keep_last`.
    #[serde(default)]
    pub keep_best: usize,
    /// Decoupled weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// Correction for tokens that another policy sampled; without one they count as the learner's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<Importance>,
    /// What a completion near or at the length limit costs.
    #[serde(default)]
    pub overlong: Overlong,
    /// Groups without signal are replaced.
    #[serde(default)]
    pub dynamic_sampling: DynamicSampling,
}

/// What advantages are multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectiveKind {
    /// See [`Clip`].
    #[default]
    Clip,
    /// See [`Gspo`].
    Gspo,
    /// See [`Cispo`].
    Cispo,
}

/// What rewards the answers to safety prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RewardSource {
    /// The verifier of `[verifier]`.
    #[default]
    Verifier,
    /// The fictional world's oracle: what a reward without error would give. For comparison alone.
    Oracle,
}

/// Replaces groups from which nothing can be learned by new prompts of their kind (DAPO, arXiv 2503.14476, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamicSampling {
    /// How often the place of a group is filled anew, at most; 0 replaces none.
    pub max_refills: u32,
}

fn constant() -> ScheduleKind {
    ScheduleKind::Constant
}

fn one() -> u32 {
    1
}

fn default_clip() -> f64 {
    0.2
}

fn default_norm() -> f64 {
    1.0
}

fn no_help() -> HelpSpec {
    HelpSpec::None
}

impl GrpoSpec {
    /// The loss that it asks for.
    #[must_use]
    pub fn loss(&self) -> Loss {
        let (low, high) = (self.clip, self.clip_high.unwrap_or(self.clip));
        let surrogate = match self.objective {
            ObjectiveKind::Clip => Surrogate::Clip(Clip { low, high, dual: self.dual_clip }),
            ObjectiveKind::Gspo => Surrogate::Gspo(Gspo { low, high }),
            ObjectiveKind::Cispo => Surrogate::Cispo(Cispo { high }),
        };
        let Self { importance, kl, kl_estimator: estimator, entropy, .. } = *self;
        Loss { surrogate, importance, kl, estimator, entropy }
    }

    pub(super) fn check(&self, sampling: &SamplingSpec) -> Result<(), String> {
        self.check_sizes()?;
        self.check_rates()?;
        self.check_objective()?;
        self.check_importance()?;
        let helps = self.composition == Composition::PaperPlus || self.help == HelpSpec::None;
        require(
            helps,
            "grpo.help",
            "is no factor of composition = \"paper\"; set help = \"none\" or \"paper+\"",
        )?;
        let fits = self.overlong.buffer <= sampling.max_new_tokens;
        require(fits, "grpo.overlong.buffer", "must be at most sampling.max_new_tokens")
    }

    /// Which checkpoints stay.
    pub(crate) fn keep(&self) -> Keep {
        Keep { last: self.keep_last, best: self.keep_best }
    }

    fn check_sizes(&self) -> Result<(), String> {
        let of_one = "must be at least 2: a group of one has no advantage";
        require(self.group_size >= 2, "grpo.group_size", of_one)?;
        require(self.steps > 0, "grpo.steps", "must be at least 1")?;
        require(self.prompts > 0, "grpo.prompts", "must be at least 1")?;
        require(self.epochs > 0, "grpo.epochs", "must be at least 1")?;
        let kept = self.keep_best == 0 || self.keep_last > 0;
        require(kept, "grpo.keep_best", "needs grpo.keep_last, without which all checkpoints are kept")?;
        let ahead = (self.prompts as u64).saturating_mul(self.staleness.saturating_add(1));
        let too_many = format!("prompts × (staleness + 1) is {ahead}; the work buffer holds {MOST_GROUPS}");
        require(ahead <= MOST_GROUPS as u64, "grpo.prompts, grpo.staleness", &too_many)?;
        // A group's number within its job takes half of its task's id.
        let attempts = u64::from(self.dynamic_sampling.max_refills.max(1));
        let groups = self.steps.saturating_mul(self.prompts as u64).saturating_mul(attempts);
        let keys = "grpo.steps, grpo.prompts, grpo.dynamic_sampling.max_refills";
        require(groups <= u64::from(u32::MAX), keys, "their product must be less than 2^32")
    }

    fn check_rates(&self) -> Result<(), String> {
        let not_negative =
            |x: f64, key| require(x.is_finite() && x >= 0.0, key, "must be a finite number, 0 or more");
        require(positive(self.learning_rate), "grpo.learning_rate", "must be positive")?;
        require(positive(self.max_grad_norm), "grpo.max_grad_norm", "must be positive")?;
        not_negative(self.kl, "grpo.kl")?;
        not_negative(self.entropy, "grpo.entropy")?;
        not_negative(self.min_group_std, "grpo.min_group_std")?;
        not_negative(self.weight_decay, "grpo.weight_decay")
    }

    fn check_objective(&self) -> Result<(), String> {
        require(positive(self.clip) && self.clip < 1.0, "grpo.clip", "must lie in (0, 1)")?;
        require(self.clip_high.is_none_or(positive), "grpo.clip_high", "must be positive")?;
        let above_one = self.dual_clip.is_none_or(|c| c.is_finite() && c > 1.0);
        require(above_one, "grpo.dual_clip", "must be greater than 1")?;
        let own = self.dual_clip.is_none() || self.objective == ObjectiveKind::Clip;
        require(own, "grpo.dual_clip", "has a meaning only with objective = \"clip\"")?;
        let bounded = self.objective != ObjectiveKind::Cispo || self.clip_high.is_some();
        require(bounded, "grpo.clip_high", "is missing: objective = \"cispo\" clips weights to 1 + this")?;
        let whole =
            self.objective != ObjectiveKind::Gspo || self.aggregation == Aggregation::SequenceMeanTokenMean;
        let why = "must be \"sequence-mean-token-mean\" with objective = \"gspo\", whose ratio is that of a sequence";
        require(whole, "grpo.aggregation", why)
    }

    fn check_importance(&self) -> Result<(), String> {
        match self.importance {
            None => Ok(()),
            Some(Importance::Truncate { cap }) => {
                require(cap.is_finite() && cap >= 1.0, "grpo.importance.cap", "must be at least 1")
            }
            Some(Importance::Mask { low, high }) => {
                require((0.0..=1.0).contains(&low), "grpo.importance.low", "must lie in 0–1")?;
                require(high.is_finite() && high >= 1.0, "grpo.importance.high", "must be at least 1")
            }
        }
    }
}
