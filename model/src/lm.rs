//! A causal language model: named parameters and the forward pass.

use crate::config::{Family, ModelConfig};
use crate::layers::{Layer, Qkv, norm, packed_attention};
use crate::packed::Packed;
use crate::rope::Rope;
use crate::weights::Checkpoint;
use crate::{ModelError, ModelFolder};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor, no_grad};

/// libtorch has one generator for all threads: whoever seeds it draws alone.
pub(crate) static SEEDED: Mutex<()> = Mutex::new(());

/// A tensor that training updates, made of one or more tensors of the file laid under each other.
#[derive(Debug)]
pub struct Parameter {
    /// The tensor itself; all handles on it share its storage.
    pub tensor: Tensor,
    /// Name and shape of each part, in the file's own terms; parts follow each other along dimension 0.
    pub parts: Vec<(String, Vec<i64>)>,
}

impl Parameter {
    /// Weight decay applies: matrices yes, norms and biases no.
    #[must_use]
    pub fn decays(&self) -> bool {
        self.tensor.dim() > 1
    }

    /// The parts as views, with their names in the file.
    pub fn views(&self) -> impl Iterator<Item = (&str, Tensor)> {
        let mut row = 0;
        self.parts.iter().map(move |(name, shape)| {
            let view = self.tensor.narrow(0, row, shape[0]);
            row += shape[0];
            (name.as_str(), view)
        })
    }
}

/// A causal language model on one device. Not `Sync`: one thread owns it.
#[derive(Debug)]
pub struct CausalLm {
    config: ModelConfig,
    parameters: Vec<Parameter>,
    embedding: Tensor,
    layers: Vec<Layer>,
    final_norm: Tensor,
    head: Tensor,
    rope: Rope,
}

impl CausalLm {
    /// Loads a folder's weights, cast to `kind`.
    ///
    /// # Errors
    /// A missing, extra, misshapen or non-finite tensor, or a damaged file; each by name.
    pub fn load(folder: &ModelFolder, device: Device, kind: Kind) -> Result<Self, ModelError> {
        let checkpoint = Checkpoint::open(&folder.dir)?;
        let model = Self::empty(folder.config.clone(), device, kind);
        checkpoint.check(&model.expected())?;
        model.fill(&checkpoint)?;
        Ok(model)
    }

    /// A randomly initialised model: matrices normal with deviation `std`, norms 1, biases 0.
    #[must_use]
    pub fn random(config: ModelConfig, seed: i64, std: f64, device: Device) -> Self {
        let model = Self::empty(config, device, Kind::Float);
        let _alone = SEEDED.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(seed);
        no_grad(|| {
            for p in &model.parameters {
                let mut tensor = p.tensor.shallow_clone();
                match (p.decays(), p.parts[0].0.ends_with("bias")) {
                    (true, _) => drop(tensor.normal_(0.0, std)),
                    (false, true) => drop(tensor.zero_()),
                    (false, false) => drop(tensor.fill_(1.0)),
                }
            }
        });
        model
    }

    /// Replaces the weights in place, as strictly as [`CausalLm::load`].
    ///
    /// # Errors
    /// As [`CausalLm::load`]; names and shapes are checked before anything changes.
    pub fn replace_weights(&self, dir: &Path) -> Result<(), ModelError> {
        let checkpoint = Checkpoint::open(dir)?;
        checkpoint.check(&self.expected())?;
        self.fill(&checkpoint)
    }

    /// Writes `model.safetensors` into `dir`, tensors cast to `kind`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_weights(&self, dir: &Path, kind: Kind) -> Result<(), ModelError> {
        crate::weights::save(dir, self.parameters.iter().flat_map(Parameter::views), kind)
    }

    /// The shape of the model.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Parameters in a fixed order.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Marks every parameter as trained or frozen.
    pub fn set_requires_grad(&self, trained: bool) {
        for p in &self.parameters {
            let _ = p.tensor.set_requires_grad(trained);
        }
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

    /// Final hidden states of packed sequences, `[n, hidden]`, in the order of the pack.
    pub fn forward(&self, packed: &Packed) -> Tensor {
        self.run(&packed.tokens, &packed.positions, |layer, qkv| {
            packed_attention(&qkv, packed, self.config.window(layer))
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
        let rope = self.rope.at(positions, self.kind());
        let mut x = Tensor::embedding(&self.embedding, tokens, -1, false, false);
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &self.config, &rope, |qkv| attend(i, qkv));
        }
        norm(&x, &self.final_norm, self.config.norm_eps)
    }

    fn expected(&self) -> Vec<(String, Vec<i64>)> {
        self.parameters.iter().flat_map(|p| p.parts.clone()).collect()
    }

    fn fill(&self, checkpoint: &Checkpoint) -> Result<(), ModelError> {
        for (name, mut view) in self.parameters.iter().flat_map(Parameter::views) {
            let value = checkpoint.read(name)?;
            no_grad(|| view.copy_(&value));
        }
        Ok(())
    }

    fn empty(config: ModelConfig, device: Device, kind: Kind) -> Self {
        let mut builder = Builder { parameters: Vec::new(), device, kind };
        let c = &config;
        let embedding = builder.add(&[("model.embed_tokens.weight", &[c.vocab, c.hidden])]);
        let layers = (0..c.layers).map(|i| builder.layer(c, i)).collect();
        let final_norm = builder.add(&[("model.norm.weight", &[c.hidden])]);
        let head = match c.tied {
            true => embedding.shallow_clone(),
            false => builder.add(&[("lm_head.weight", &[c.vocab, c.hidden])]),
        };
        let rope = Rope::new(c, device);
        Self { parameters: builder.parameters, embedding, layers, final_norm, head, rope, config }
    }
}

struct Builder {
    parameters: Vec<Parameter>,
    device: Device,
    kind: Kind,
}

impl Builder {
    fn add(&mut self, parts: &[(&str, &[i64])]) -> Tensor {
        let mut shape = parts[0].1.to_vec();
        shape[0] = parts.iter().map(|(_, s)| s[0]).sum();
        let tensor = Tensor::zeros(&shape, (self.kind, self.device));
        let parts = parts.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect();
        self.parameters.push(Parameter { tensor: tensor.shallow_clone(), parts });
        tensor
    }

    fn layer(&mut self, c: &ModelConfig, index: usize) -> Layer {
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let attn = |part: &str| name(&format!("self_attn.{part}"));
        let mlp = |part: &str| name(&format!("mlp.{part}_proj.weight"));
        let input_norm = self.add(&[(&name("input_layernorm.weight"), &[c.hidden])]);
        let qkv = self.add(&[
            (&attn("q_proj.weight"), &[q, c.hidden]),
            (&attn("k_proj.weight"), &[kv, c.hidden]),
            (&attn("v_proj.weight"), &[kv, c.hidden]),
        ]);
        let qkv_bias = c.qkv_bias.then(|| {
            self.add(&[
                (&attn("q_proj.bias"), &[q]),
                (&attn("k_proj.bias"), &[kv]),
                (&attn("v_proj.bias"), &[kv]),
            ])
        });
        let qk_norm = (c.family == Family::Qwen3).then(|| {
            let q_norm = self.add(&[(&attn("q_norm.weight"), &[c.head_dim])]);
            (q_norm, self.add(&[(&attn("k_norm.weight"), &[c.head_dim])]))
        });
        Layer {
            input_norm,
            qkv,
            qkv_bias,
            qk_norm,
            output: self.add(&[(&attn("o_proj.weight"), &[c.hidden, q])]),
            post_norm: self.add(&[(&name("post_attention_layernorm.weight"), &[c.hidden])]),
            gate_up: self.add(&[
                (&mlp("gate"), &[c.intermediate, c.hidden]),
                (&mlp("up"), &[c.intermediate, c.hidden]),
            ]),
            down: self.add(&[(&mlp("down"), &[c.hidden, c.intermediate])]),
        }
    }
}
