//! Low-rank adapters of a model: what is trained, and PEFT's layout in and out.

mod peft;

use crate::linear::{Adapter, Dropout, DropoutKey, Linear};
use crate::lm::{SEEDED, count};
use crate::parameters::{Parameters, Parts};
use crate::weights::{Checkpoint, as_it_is};
use crate::{ModelConfig, ModelError};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::PoisonError;
use tch::{Device, Kind, Tensor, no_grad};

/// Adapter weights in a folder of PEFT's layout.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// Its settings.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// What PEFT puts before the name of a module.
const PREFIX: &str = "base_model.model.";

/// A linear layer that may have an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the names in the file")]
pub enum Target {
    QProj,
    KProj,
    VProj,
    OProj,
    GateProj,
    UpProj,
    DownProj,
}

impl Target {
    /// All linear layers of a transformer layer.
    pub const ALL: [Self; 7] =
        [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    fn name(self) -> &'static str {
        match self {
            Self::QProj => "self_attn.q_proj",
            Self::KProj => "self_attn.k_proj",
            Self::VProj => "self_attn.v_proj",
            Self::OProj => "self_attn.o_proj",
            Self::GateProj => "mlp.gate_proj",
            Self::UpProj => "mlp.up_proj",
            Self::DownProj => "mlp.down_proj",
        }
    }

    /// Width in, width out, and first row in the fused layer.
    fn shape(self, c: &ModelConfig) -> (i64, i64, i64) {
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        match self {
            Self::QProj => (c.hidden, q, 0),
            Self::KProj => (c.hidden, kv, q),
            Self::VProj => (c.hidden, kv, q + kv),
            Self::OProj => (q, c.hidden, 0),
            Self::GateProj => (c.hidden, c.intermediate, 0),
            Self::UpProj => (c.hidden, c.intermediate, c.intermediate),
            Self::DownProj => (c.intermediate, c.hidden, 0),
        }
    }
}

/// Settings of the adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of each change.
    pub rank: i64,
    /// The change is scaled by alpha / rank.
    pub alpha: f64,
    /// Share of an adapter's inputs that training passes drop.
    pub dropout: f64,
    /// Which layers, in order.
    pub targets: Vec<Target>,
}

/// Adapters over a model's layers.
#[derive(Debug)]
pub(crate) struct Lora {
    config: LoraConfig,
    pub(crate) parameters: Parameters,
    /// Dropout key of the training pass at hand.
    pub(crate) key: DropoutKey,
}

impl Lora {
    /// Adapters that change nothing yet: A as PyTorch initialises linear layers, B zero.
    pub(crate) fn new(c: &ModelConfig, config: LoraConfig, seed: i64, kind: Kind, device: Device) -> Self {
        let parameters = Parameters::zeros(plan(c, &config), kind, device);
        let _alone = SEEDED.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(seed);
        no_grad(|| {
            for p in parameters.list().iter().step_by(2) {
                // Kaiming uniform with a = √5 is uniform within 1 / √in.
                let bound = 1.0 / (p.tensor.size()[1] as f64).sqrt();
                let drawn =
                    Tensor::empty(p.tensor.size(), (Kind::Float, Device::Cpu)).uniform_(-bound, bound);
                p.tensor.shallow_clone().copy_(&drawn);
            }
        });
        Self { config, parameters, key: DropoutKey::new() }
    }

    /// Handles for layer `index`, by target.
    pub(crate) fn adapters(&self, c: &ModelConfig, index: usize) -> impl Iterator<Item = (Target, Adapter)> {
        let of_one = self.config.targets.len();
        self.config.targets.iter().enumerate().map(move |(i, &target)| {
            let at = 2 * (index * of_one + i);
            let tensor = |i: usize| self.parameters.list()[i].tensor.shallow_clone();
            let (_, rows, first) = target.shape(c);
            let dropout = Dropout { share: self.config.dropout, place: at as i64, key: self.key.clone() };
            (target, Adapter { first, rows, a: tensor(at), b: tensor(at + 1), scale: self.scale(), dropout })
        })
    }

    /// The change of the weight of this name, `[out, in]` float32: scale · B · A. `None` if it has no adapter.
    pub(crate) fn product(&self, weight: &str) -> Option<Tensor> {
        let of_a = format!("{PREFIX}{}.lora_A.weight", weight.strip_suffix(".weight")?);
        let at = self.parameters.list().iter().position(|p| p.parts[0].0 == of_a)?;
        let float = |at: usize| self.parameters.list()[at].tensor.to_kind(Kind::Float);
        Some(float(at + 1).matmul(&float(at)) * self.scale())
    }

    fn scale(&self) -> f64 {
        self.config.alpha / self.config.rank as f64
    }

    /// Which parameters belong to layer `index`.
    pub(crate) fn of_layer(&self, index: usize) -> std::ops::Range<usize> {
        let of_one = 2 * self.config.targets.len();
        index * of_one..(index + 1) * of_one
    }

    /// Writes PEFT's two files into `dir`.
    pub(crate) fn save(&self, dir: &Path, base: &Path) -> Result<(), ModelError> {
        crate::weights::save(
            dir,
            ADAPTER_WEIGHTS,
            self.parameters.views(),
            self.parameters.flat().kind(),
            &as_it_is,
        )?;
        let file = peft::AdapterFile::new(&self.config, base);
        let text = serde_json::to_string_pretty(&file)
            .map_err(|e| ModelError::file(dir.join(ADAPTER_CONFIG), e.to_string()))?;
        let path = dir.join(ADAPTER_CONFIG);
        std::fs::write(&path, text).map_err(ModelError::io(&path))
    }

    /// Reads the weights of a folder whose settings are those of these adapters.
    pub(crate) fn load(&self, dir: &Path) -> Result<(), ModelError> {
        let checkpoint = Checkpoint::open_file(&dir.join(ADAPTER_WEIGHTS))?;
        let expected: Vec<_> = self.parameters.list().iter().flat_map(|p| p.parts.clone()).collect();
        checkpoint.check(&expected)?;
        checkpoint.fill(&self.parameters)
    }
}

impl LoraConfig {
    /// Weights of the adapters on a model of this shape.
    #[must_use]
    pub fn parameter_count(&self, config: &ModelConfig) -> u64 {
        count(&plan(config, self))
    }
}

/// Adds an adapter to the fused layer that holds its rows.
pub(crate) fn attach(layer: &mut Linear, adapter: Adapter) {
    layer.adapters.push(adapter);
    layer.adapters.sort_by_key(|a| a.first);
}

fn plan(c: &ModelConfig, config: &LoraConfig) -> Vec<Parts> {
    let of_layer = |i: usize| {
        config.targets.iter().flat_map(move |target| {
            let (inner, outer, _) = target.shape(c);
            let name = format!("{PREFIX}model.layers.{i}.{}", target.name());
            [
                vec![(format!("{name}.lora_A.weight"), vec![config.rank, inner])],
                vec![(format!("{name}.lora_B.weight"), vec![outer, config.rank])],
            ]
        })
    };
    (0..c.layers).flat_map(of_layer).collect()
}

#[cfg(test)]
mod tests;
