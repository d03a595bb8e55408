//! A linear layer, with low-rank adapters on some of its output rows.

use crate::lm::SEEDED;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use tch::{Kind, Tensor};

/// `y = x · Wᵀ + b`, and `scale · dropout(x) · Aᵀ · Bᵀ` for each adapter (LoRA, Hu et al., 2021, arXiv 2106.09685).
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`.
    pub(crate) weight: Tensor,
    /// `[out]`.
    pub(crate) bias: Option<Tensor>,
    pub(crate) adapters: Vec<Adapter>,
}

/// A low-rank change of `rows` output rows from `first` on.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) first: i64,
    pub(crate) rows: i64,
    /// `[rank, in]`.
    pub(crate) a: Tensor,
    /// `[rows, rank]`.
    pub(crate) b: Tensor,
    /// alpha / rank.
    pub(crate) scale: f64,
    pub(crate) dropout: Dropout,
}

/// Dropout whose mask is a function of a key, so that a layer computed again drops the same elements.
#[derive(Debug)]
pub(crate) struct Dropout {
    pub(crate) share: f64,
    /// Distinguishes the adapters of a model.
    pub(crate) place: i64,
    pub(crate) key: DropoutKey,
}

/// Key of the training pass at hand, shared by the adapters of a model. Without one nothing is dropped.
#[derive(Debug, Clone)]
pub(crate) struct DropoutKey(Arc<AtomicI64>);

/// Stands for no key.
const OFF: i64 = i64::MIN;

impl DropoutKey {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(OFF)))
    }

    pub(crate) fn set(&self, key: Option<i64>) {
        self.0.store(key.unwrap_or(OFF), Ordering::Relaxed);
    }

    fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&key| key != OFF)
    }
}

impl Linear {
    pub(crate) fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, adapters: Vec::new() }
    }

    /// `x` `[n, in]` to `[n, out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let y = x.linear(&self.weight, self.bias.as_ref());
        if self.adapters.is_empty() { y } else { y + self.change(x) }
    }

    /// What the adapters add, `[n, out]`; they are in the order of their rows.
    fn change(&self, x: &Tensor) -> Tensor {
        let (n, out) = (x.size()[0], self.weight.size()[0]);
        let nothing = |rows: i64| Tensor::zeros([n, rows], (x.kind(), x.device()));
        let (mut parts, mut row) = (Vec::new(), 0);
        for adapter in &self.adapters {
            if adapter.first > row {
                parts.push(nothing(adapter.first - row));
            }
            parts.push(adapter.forward(x));
            row = adapter.first + adapter.rows;
        }
        if row < out {
            parts.push(nothing(out - row));
        }
        Tensor::cat(&parts, 1)
    }
}

impl Adapter {
    fn forward(&self, x: &Tensor) -> Tensor {
        let none = None::<&Tensor>;
        self.dropout.apply(x).linear(&self.a, none).linear(&self.b, none) * self.scale
    }
}

impl Dropout {
    fn apply(&self, x: &Tensor) -> Tensor {
        let Some(key) = self.key.get().filter(|_| self.share > 0.0) else { return x.shallow_clone() };
        let mask = {
            let _alone = SEEDED.lock().unwrap_or_else(PoisonError::into_inner);
            tch::manual_seed(key.wrapping_mul(1_000_003).wrapping_add(self.place));
            Tensor::rand(x.size(), (Kind::Float, x.device())).ge(self.share)
        };
        x * mask.to_kind(x.kind()) / (1.0 - self.share)
    }
}
