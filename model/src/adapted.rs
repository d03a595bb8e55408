//! Adapters on a model: put on, trained in place of the weights, saved, merged.

use crate::linear::Linear;
use crate::lora::{Lora, LoraConfig, attach};
use crate::parameters::Parameters;
use crate::{CausalLm, ModelError};
use std::ops::Range;
use std::path::Path;
use tch::{Kind, Tensor, no_grad};

impl CausalLm {
    /// Puts adapters that change nothing yet on the layers; they are trained in place of the weights. Adapters that were
    /// there are taken off.
    pub fn add_adapters(&mut self, config: LoraConfig, seed: i64) {
        self.set_adapters(Lora::new(&self.config, config, seed, self.kind(), self.device()));
    }

    /// Puts the adapters of a folder in PEFT's layout on the layers.
    ///
    /// # Errors
    /// A file that is missing or damaged, settings beyond plain LoRA, or tensors that do not fit.
    pub fn load_adapters(&mut self, dir: &Path) -> Result<(), ModelError> {
        let lora = Lora::new(&self.config, LoraConfig::load(dir)?, 0, self.kind(), self.device());
        lora.load(dir)?;
        self.set_adapters(lora);
        Ok(())
    }

    /// Writes the adapters in PEFT's layout; `base` is the folder that they change.
    ///
    /// # Errors
    /// No adapters, or a file that cannot be written.
    pub fn save_adapters(&self, dir: &Path, base: &Path) -> Result<(), ModelError> {
        let lora =
            self.lora.as_ref().ok_or_else(|| ModelError::file(dir, "the model has no adapters to write"))?;
        lora.save(dir, base)
    }

    /// Adds the adapters to the weights, and takes them off.
    pub fn merge_adapters(&mut self) {
        no_grad(|| {
            self.parameters.views().for_each(|(name, mut view)| view.copy_(&self.merged(name, &view)))
        });
        self.lora = None;
        self.linears_mut().for_each(|l| l.adapters.clear());
    }

    /// What is trained: the adapters where there are any, else all weights.
    #[must_use]
    pub fn trained(&self) -> &Parameters {
        self.lora.as_ref().map_or(&self.parameters, |l| &l.parameters)
    }

    /// Which of [`CausalLm::trained`] belong to each layer.
    pub(crate) fn trained_of_layer(&self, index: usize) -> Range<usize> {
        self.lora.as_ref().map_or_else(|| self.of_layer[index].clone(), |l| l.of_layer(index))
    }

    /// Embedding, norms and head are trained.
    #[must_use]
    pub fn trains_weights(&self) -> bool {
        self.lora.is_none()
    }

    /// The dropout of the passes to come: a function of the key, or none.
    pub fn set_dropout_key(&self, key: Option<i64>) {
        if let Some(lora) = &self.lora {
            lora.key.set(key);
        }
    }

    fn set_adapters(&mut self, lora: Lora) {
        self.parameters.set_requires_grad(false);
        self.linears_mut().for_each(|l| l.adapters.clear());
        for index in 0..self.layers.len() {
            for (target, adapter) in lora.adapters(&self.config, index) {
                attach(self.layers[index].linear_mut(target), adapter);
            }
        }
        self.lora = Some(lora);
    }

    /// The value of a weight with its adapter added, in the weight's own type.
    pub(crate) fn merged(&self, name: &str, weight: &Tensor) -> Tensor {
        match self.lora.as_ref().and_then(|l| l.product(name)) {
            Some(product) => (weight.to_kind(Kind::Float) + product).to_kind(weight.kind()),
            None => weight.shallow_clone(),
        }
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(|l| [&mut l.qkv, &mut l.output, &mut l.gate_up, &mut l.down])
    }
}
