//! How the learner computes, and what it trains.

use super::{positive, require};
use crate::learner::Compute;
use serde::{Deserialize, Serialize};
use sinternal_model::lora::{LoraConfig, Target};
use sinternal_model::{Device, Kind};

/// Element type of weights, activations and gradients. Master weights, moments and sums of gradients are float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Exact, and twice the memory and more of the time.
    #[default]
    Float32,
    /// What large models are trained in.
    Bfloat16,
}

impl Dtype {
    /// libtorch's name.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Float32 => Kind::Float,
            Self::Bfloat16 => Kind::BFloat16,
        }
    }
}

/// How the learner computes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LearnerSpec {
    /// Element type.
    pub dtype: Dtype,
    /// Keep only the layers' inputs, and run each layer again in the backward: less memory, a third more time.
    pub recompute: bool,
    /// Tokens of a micro-batch, at most; 0 takes what suits the device (1,280 on a CPU, 16,384 on a GPU). It bounds memory
    /// and does not change the result.
    pub micro_batch_tokens: usize,
    /// Floating-point operations that the trainer's device makes a second, at most, in this element type; for the exported
    /// utilisation alone, which is left out where this is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_flops: Option<f64>,
    /// Train low-rank adapters instead of the weights; they are added to the weights at the end of each stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSpec>,
}

/// Low-rank adapters (Hu et al., 2021, arXiv 2106.09685).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSpec {
    /// Rank of each change.
    pub rank: i64,
    /// The change is scaled by alpha / rank.
    pub alpha: f64,
    /// Share of an adapter's inputs that training drops.
    pub dropout: f64,
    /// Which linear layers.
    pub targets: Vec<Target>,
}

impl Default for LoraSpec {
    /// The paper's rank and alpha, on every linear layer.
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, dropout: 0.0, targets: Target::ALL.into() }
    }
}

impl LoraSpec {
    /// As the model takes them.
    #[must_use]
    pub fn config(&self) -> LoraConfig {
        let mut targets = self.targets.clone();
        targets.sort();
        LoraConfig { rank: self.rank, alpha: self.alpha, dropout: self.dropout, targets }
    }

    pub(super) fn check(&self, section: &str) -> Result<(), String> {
        let key = |key: &str| format!("{section}.{key}");
        require(self.rank > 0, &key("rank"), "must be at least 1")?;
        require(positive(self.alpha), &key("alpha"), "must be positive")?;
        require((0.0..1.0).contains(&self.dropout), &key("dropout"), "must lie in [0, 1)")?;
        require(!self.targets.is_empty(), &key("targets"), "must name a linear layer")?;
        let mut sorted = self.targets.clone();
        sorted.sort();
        sorted.dedup();
        require(sorted.len() == self.targets.len(), &key("targets"), "names a layer twice")
    }
}

impl LearnerSpec {
    /// For the learner on a device.
    #[must_use]
    pub fn compute(&self, device: Device) -> Compute {
        let suited = Compute::of(device);
        let micro_batch_tokens =
            if self.micro_batch_tokens == 0 { suited.micro_batch_tokens } else { self.micro_batch_tokens };
        Compute { micro_batch_tokens, recompute: self.recompute }
    }

    /// The adapters, if any, as the model takes them.
    #[must_use]
    pub fn adapters(&self) -> Option<LoraConfig> {
        self.lora.as_ref().map(LoraSpec::config)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        require(self.peak_flops.is_none_or(positive), "learner.peak_flops", "must be positive")?;
        self.lora.as_ref().map_or(Ok(()), |lora| lora.check("learner.lora"))
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::JobSpec;
    use sinternal_model::lora::Target;
    use std::path::Path;

    fn parse(learner: &str) -> Result<JobSpec, String> {
        let job = "name = 'n'\nmodel = 'm'\n[data]\nkind = 'prompts'\npath = 'p'\n[grpo]\nsteps = 1\nprompts = 1\n\
                   group_size = 2\nlearning_rate = 1e-6\n";
        JobSpec::parse(&format!("{job}{learner}"), "job.toml", Path::new("."))
    }

    #[test]
    fn adapters_have_defaults_and_an_order() {
        assert_eq!(parse("").unwrap().learner.adapters(), None);
        let spec = parse(
            "[learner]\ndtype = 'bfloat16'\n[learner.lora]\nrank = 4\ntargets = ['v_proj', 'q_proj']\n",
        );
        let lora = spec.unwrap().learner.adapters().unwrap();
        assert_eq!((lora.rank, lora.alpha, lora.targets), (4, 32.0, vec![Target::QProj, Target::VProj]));
    }

    #[test]
    fn wrong_values_name_their_key() {
        for (text, expected) in [
            ("[learner]\ndtype = 'float16'\n", "learner.dtype"),
            ("[learner]\nrecomputation = true\n", "did you mean `learner.recompute`?"),
            ("[learner]\npeak_flops = 0\n", "learner.peak_flops: must be positive"),
            ("[learner.lora]\nrank = 0\n", "learner.lora.rank: must be at least 1"),
            ("[learner.lora]\ndropout = 1.0\n", "learner.lora.dropout"),
            ("[learner.lora]\ntargets = ['lm_head']\n", "learner.lora.targets"),
            ("[learner.lora]\ntargets = ['q_proj', 'q_proj']\n", "names a layer twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
