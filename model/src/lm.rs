//! A causal language model: named parameters and the forward pass.

use crate::config::{Family, ModelConfig};
use crate::layers::{Layer, Qkv, norm, packed_attention};
use crate::linear::Linear;
use crate::lora::Lora;
use crate::packed::Packed;
use crate::parameters::{Parameters, Parts};
use crate::rope::Rope;
use crate::weights::{Checkpoint, WEIGHTS};
use crate::{ModelError, ModelFolder};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor, no_grad};

/// libtorch has one generator for all threads: whoever seeds it draws alone.
pub(crate) static SEEDED: Mutex<()> = Mutex::new(());

/// A causal language model on one device. Not `Sync`: one thread owns it.
#[derive(Debug)]
pub struct CausalLm {
    pub(crate) config: ModelConfig,
    pub(crate) parameters: Parameters,
    embedding: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) of_layer: Vec<Range<usize>>,
    pub(crate) lora: Option<Lora>,
    final_norm: Tensor,
    head: Tensor,
    rope: Rope,
}

impl CausalLm {
    /// Loads a folder's weights, cast to `kind`.
    ///
    /// # Errors
    /// A missing, extra, misshapen or non-finite tensor, or a damaged file; each by name. Names and shapes are compared
    /// before any memory is taken.
    pub fn load(folder: &ModelFolder, device: Device, kind: Kind) -> Result<Self, ModelError> {
        let checkpoint = Checkpoint::open(&folder.dir)?;
        checkpoint.check(&plan(&folder.config).concat())?;
        let model = Self::empty(folder.config.clone(), device, kind);
        checkpoint.fill(&model.parameters)?;
        Ok(model)
    }

    /// A randomly initialised model: matrices normal with deviation `std`, norms 1, biases 0.
    #[must_use]
    pub fn random(config: ModelConfig, seed: i64, std: f64, device: Device) -> Self {
        Self::random_in(config, seed, std, device, Kind::Float)
    }

    /// As [`CausalLm::random`], the same numbers rounded to `kind`.
    #[must_use]
    pub fn random_in(config: ModelConfig, seed: i64, std: f64, device: Device, kind: Kind) -> Self {
        let model = Self::empty(config, device, kind);
        let _alone = SEEDED.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(seed);
        no_grad(|| {
            for p in model.parameters.list() {
                let mut tensor = p.tensor.shallow_clone();
                match (tensor.dim() > 1, p.parts[0].0.ends_with("bias")) {
                    (true, _) => {
                        let drawn = Tensor::empty(tensor.size(), (Kind::Float, device)).normal_(0.0, std);
                        tensor.copy_(&drawn);
                    }
                    (false, true) => drop(tensor.zero_()),
                    (false, false) => drop(tensor.fill_(1.0)),
                }
            }
        });
        model
    }

    /// Another handle on the same weights: what changes them in one is seen by the other.
    #[must_use]
    pub fn share(&self) -> Self {
        Self::assemble(self.config.clone(), self.parameters.share(), self.device())
    }

    /// Replaces the weights in place, as strictly as [`CausalLm::load`].
    ///
    /// # Errors
    /// As [`CausalLm::load`]; names and shapes are checked before anything changes.
    pub fn replace_weights(&self, dir: &Path) -> Result<(), ModelError> {
        let checkpoint = Checkpoint::open(dir)?;
        checkpoint.check(&plan(&self.config).concat())?;
        checkpoint.fill(&self.parameters)
    }

    /// Writes `model.safetensors` into `dir`, tensors cast to `kind`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_weights(&self, dir: &Path, kind: Kind) -> Result<(), ModelError> {
        crate::weights::save(dir, WEIGHTS, self.parameters.views(), kind, &|name, weight| {
            self.merged(name, weight)
        })
    }

    /// The shape of the model.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// All weights.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Where the model lives.
    #[must_use]
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// Element type of weights, activations and cache.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.embedding.kind()
    }

    /// Output matrix, `[vocab, hidden]`.
    pub fn head(&self) -> &Tensor {
        &self.head
    }

    /// Where the output matrix stands in the list of parameters: first, where it is tied to the embedding.
    #[must_use]
    pub fn head_parameter(&self) -> usize {
        if self.config.tied { 0 } else { self.parameters.list().len() - 1 }
    }

    /// Where the final norm stands in the list of parameters.
    pub(crate) fn norm_parameter(&self) -> Range<usize> {
        let at = self.of_layer.last().map_or(1, |r| r.end);
        at..at + 1
    }

    /// Final hidden states of packed sequences, `[n, hidden]`, in the order of the pack.
    pub fn forward(&self, packed: &Packed) -> Tensor {
        self.run(&packed.tokens, &packed.positions, |layer, qkv| {
            packed_attention(&qkv, packed, &self.config, self.config.window(layer))
        })
    }

    /// Final hidden states `[n, hidden]` of tokens `[n]` at `positions` `[n]`, with attention left to the caller,
    /// who gets the layer's index and its [`Qkv`].
    pub(crate) fn run(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        mut attend: impl FnMut(usize, Qkv) -> Tensor,
    ) -> Tensor {
        let angles = self.rope.at(positions);
        let mut x = self.embed(tokens);
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &self.config, &angles, |qkv| attend(i, qkv));
        }
        self.finish(&x)
    }

    /// `[n]` tokens to `[n, hidden]`.
    pub(crate) fn embed(&self, tokens: &Tensor) -> Tensor {
        Tensor::embedding(&self.embedding, tokens, -1, false, false)
    }

    /// One layer over packed sequences.
    pub(crate) fn layer(&self, index: usize, x: &Tensor, packed: &Packed) -> Tensor {
        self.layers[index].forward(x, &self.config, &self.rope.at(&packed.positions), |qkv| {
            packed_attention(&qkv, packed, &self.config, self.config.window(index))
        })
    }

    /// The final norm.
    pub(crate) fn finish(&self, x: &Tensor) -> Tensor {
        norm(x, &self.final_norm, self.config.norm_eps)
    }

    fn empty(config: ModelConfig, device: Device, kind: Kind) -> Self {
        let parameters = Parameters::zeros(plan(&config), kind, device);
        Self::assemble(config, parameters, device)
    }

    /// Takes handles on the parameters, which lie in the order of [`plan`].
    fn assemble(config: ModelConfig, parameters: Parameters, device: Device) -> Self {
        let mut taken = 0;
        let mut take = || {
            taken += 1;
            parameters.list()[taken - 1].tensor.shallow_clone()
        };
        let embedding = take();
        let of_one = layer_plan(&config, 0).len();
        let layers: Vec<Layer> = (0..config.layers).map(|_| assemble_layer(&config, &mut take)).collect();
        let of_layer = (0..config.layers).map(|i| 1 + i * of_one..1 + (i + 1) * of_one).collect();
        let final_norm = take();
        let head = if config.tied { embedding.shallow_clone() } else { take() };
        let rope = Rope::new(&config, device);
        Self { parameters, embedding, layers, of_layer, lora: None, final_norm, head, rope, config }
    }
}

/// Weights of a model of this shape; a head that is the embedding counts once.
#[must_use]
pub fn parameter_count(config: &ModelConfig) -> u64 {
    count(&plan(config))
}

/// Elements of all parts.
pub(crate) fn count(plan: &[Parts]) -> u64 {
    plan.iter().flatten().map(|(_, shape)| shape.iter().product::<i64>() as u64).sum()
}

/// All parameters in order: embedding, layers, final norm, head if it has weights of its own.
fn plan(c: &ModelConfig) -> Vec<Parts> {
    let one = |name: &str, shape: &[i64]| vec![(name.to_owned(), shape.to_vec())];
    let mut plan = vec![one("model.embed_tokens.weight", &[c.vocab, c.hidden])];
    plan.extend((0..c.layers).flat_map(|i| layer_plan(c, i)));
    plan.push(one("model.norm.weight", &[c.hidden]));
    if !c.tied {
        plan.push(one("lm_head.weight", &[c.vocab, c.hidden]));
    }
    plan
}

/// In the order in which [`assemble_layer`] takes them.
fn layer_plan(c: &ModelConfig, index: usize) -> Vec<Parts> {
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let part = |name: &str, shape: &[i64]| (format!("model.layers.{index}.{name}"), shape.to_vec());
    let mut plan = vec![
        vec![part("input_layernorm.weight", &[c.hidden])],
        vec![
            part("self_attn.q_proj.weight", &[q, c.hidden]),
            part("self_attn.k_proj.weight", &[kv, c.hidden]),
            part("self_attn.v_proj.weight", &[kv, c.hidden]),
        ],
    ];
    if c.qkv_bias {
        plan.push(vec![
            part("self_attn.q_proj.bias", &[q]),
            part("self_attn.k_proj.bias", &[kv]),
            part("self_attn.v_proj.bias", &[kv]),
        ]);
    }
    if c.family == Family::Qwen3 {
        plan.push(vec![part("self_attn.q_norm.weight", &[c.head_dim])]);
        plan.push(vec![part("self_attn.k_norm.weight", &[c.head_dim])]);
    }
    plan.extend([
        vec![part("self_attn.o_proj.weight", &[c.hidden, q])],
        vec![part("post_attention_layernorm.weight", &[c.hidden])],
        vec![
            part("mlp.gate_proj.weight", &[c.intermediate, c.hidden]),
            part("mlp.up_proj.weight", &[c.intermediate, c.hidden]),
        ],
        vec![part("mlp.down_proj.weight", &[c.hidden, c.intermediate])],
    ]);
    plan
}

fn assemble_layer(c: &ModelConfig, mut take: impl FnMut() -> Tensor) -> Layer {
    Layer {
        input_norm: take(),
        qkv: {
            let weight = take();
            Linear::new(weight, c.qkv_bias.then(&mut take))
        },
        qk_norm: (c.family == Family::Qwen3).then(|| (take(), take())),
        output: Linear::new(take(), None),
        post_norm: take(),
        gate_up: Linear::new(take(), None),
        down: Linear::new(take(), None),
    }
}
