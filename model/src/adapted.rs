//! Adapters on a model: put on, trained in place of the weights, saved, merged.

use crate::layers::Layer;
use crate::linear::{Adapter, Linear};
use crate::lora::{Lora, LoraConfig, attach};
use crate::parameters::Parameters;
use crate::{CausalLm, ModelError};
use std::ops::Range;
use std::path::Path;
use tch::{Kind, no_grad};

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
        self.add_products();
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

    /// Runs `f` on the model with its adapters added to the weights, which are then put back bit for bit.
    pub(crate) fn merged<T>(&self, f: impl FnOnce(&Self) -> T) -> T {
        let before = no_grad(|| self.parameters.flat().copy());
        self.add_products();
        let result = f(self);
        no_grad(|| self.parameters.flat().shallow_clone().copy_(&before));
        result
    }

    fn add_products(&self) {
        let all = self.layers.iter().flat_map(Layer::linears);
        for (linear, adapter) in all.flat_map(|l| l.adapters.iter().map(move |a| (l, a))) {
            let add = |adapter: &Adapter, linear: &Linear| {
                let mut rows = linear.weight.narrow(0, adapter.first, adapter.rows);
                let sum = rows.to_kind(Kind::Float) + adapter.product();
                rows.copy_(&sum);
            };
            no_grad(|| add(adapter, linear));
        }
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(|l| [&mut l.qkv, &mut l.output, &mut l.gate_up, &mut l.down])
    }
}
