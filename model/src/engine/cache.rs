//! Keys and values of the running sequences, laid out as the decode products read them.

use crate::layers::Qkv;
use crate::{CausalLm, ModelConfig};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Rows and lengths are reserved in multiples of these, so that growing is rare.
const ROW_STEP: usize = 16;
const TIME_STEP: usize = 64;

/// Per layer two tensors `[rows, kv_heads, time, head_dim]`; row i belongs to the i-th running sequence.
///
/// `time` follows the longest running sequence closely: the products of a decode step then read the first rows as
/// they lie, whole. A view of fewer tokens would be copied by libtorch in each layer of each step.
#[derive(Debug)]
pub(super) struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    config: ModelConfig,
    kind: Kind,
    device: Device,
    rows: usize,
    time: usize,
}

/// What one decode step reads and writes.
pub(super) struct View {
    /// `[batch * kv_heads]` int64: where the new token's keys go in the cache seen as `[rows * kv_heads * time, head_dim]`.
    places: Tensor,
    batch: i64,
    /// `[batch, 1, 1, time]`: 0 up to and with the new token, −∞ after.
    pub(super) mask: Tensor,
    /// The same for layers with a sliding window; `mask` itself where there is none.
    pub(super) near: Tensor,
}

impl KvCache {
    pub(super) fn new(lm: &CausalLm) -> Self {
        let (config, kind, device) = (lm.config().clone(), lm.kind(), lm.device());
        let mut cache = Self { layers: Vec::new(), config, kind, device, rows: 0, time: 0 };
        cache.layers = (0..cache.config.layers).map(|_| (cache.block(0, 0), cache.block(0, 0))).collect();
        cache
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes_for_exactly(self.rows, self.time)
    }

    /// Bytes that `rows` sequences of up to `time` tokens take.
    pub(super) fn bytes_for(&self, rows: usize, time: usize) -> usize {
        self.bytes_for_exactly(rows, time.next_multiple_of(TIME_STEP))
    }

    pub(super) fn bytes_for_exactly(&self, rows: usize, time: usize) -> usize {
        rows * time * self.config.kv_bytes_per_token(self.kind.elt_size_in_bytes())
    }

    fn block(&self, rows: usize, time: usize) -> Tensor {
        let shape = [rows as i64, self.config.kv_heads, time as i64, self.config.head_dim];
        Tensor::zeros(shape, (self.kind, self.device))
    }

    /// Makes room for `rows` sequences of up to `time` tokens; the first `used` rows, which are no longer than that,
    /// keep their content. Stays within `budget` bytes if `rows` × `time` does.
    pub(super) fn reserve(&mut self, rows: usize, time: usize, used: usize, budget: usize) {
        let time = time.next_multiple_of(TIME_STEP);
        // A somewhat longer cache stays: shrinking and growing again would copy it twice. One that is much longer
        // goes, as each step reads all of it.
        let near = (time..=time + TIME_STEP.max(time / 4)).contains(&self.time);
        let time = if near && self.bytes_for(rows, self.time) <= budget { self.time } else { time };
        if rows <= self.rows && time == self.time {
            return;
        }
        // A few rows more, so that growing is rare.
        let within = budget / self.bytes_for_exactly(1, time).max(1);
        let rows = rows.max(within.min(rows.next_multiple_of(ROW_STEP)));
        for layer in 0..self.layers.len() {
            let grown = |old: &Tensor| self.grown(old, rows, time, used);
            self.layers[layer] = (grown(&self.layers[layer].0), grown(&self.layers[layer].1));
        }
        (self.rows, self.time) = (rows, time);
    }

    fn grown(&self, old: &Tensor, rows: usize, time: usize, used: usize) -> Tensor {
        let (new, kept) = (self.block(rows, time), self.time.min(time) as i64);
        let part = |of: &Tensor| of.narrow(0, 0, used as i64).narrow(2, 0, kept);
        if used > 0 {
            part(&new).copy_(&part(old));
        }
        new
    }

    /// Writes keys and values of tokens `range` of a pass to a row, from its token `start` on.
    pub(super) fn write(&self, layer: usize, row: usize, start: usize, range: &Range<usize>, qkv: &Qkv) {
        let len = range.len() as i64;
        let write = |cache: &Tensor, new: &Tensor| {
            let new = new.narrow(0, range.start as i64, len).transpose(0, 1); // [kv_heads, len, head_dim]
            cache.get(row as i64).narrow(1, start as i64, len).copy_(&new);
        };
        write(&self.layers[layer].0, &qkv.k);
        write(&self.layers[layer].1, &qkv.v);
    }

    /// The first `len` tokens of a row: keys and values `[1, kv_heads, len, head_dim]`.
    pub(super) fn row(&self, layer: usize, row: usize, len: usize) -> (Tensor, Tensor) {
        let part = |cache: &Tensor| cache.narrow(0, row as i64, 1).narrow(2, 0, len as i64);
        (part(&self.layers[layer].0), part(&self.layers[layer].1))
    }

    /// Prepares a step in which sequence i, holding `lengths[i]` tokens, gains one.
    pub(super) fn view(&self, lengths: &[i64]) -> View {
        let (batch, time) = (lengths.len() as i64, self.time as i64);
        let kv_heads = self.config.kv_heads;
        let places: Vec<i64> =
            (0..batch * kv_heads).map(|i| i * time + lengths[(i / kv_heads) as usize]).collect();
        let lengths = Tensor::from_slice(lengths).to_device(self.device).unsqueeze(1);
        let times = Tensor::arange(time, (Kind::Int64, self.device)).unsqueeze(0);
        let ahead = times.gt_tensor(&lengths); // [batch, time]
        let masked = |hidden: &Tensor| {
            let open = Tensor::zeros([batch, time], (self.kind, self.device));
            open.masked_fill(hidden, f64::NEG_INFINITY).view([batch, 1, 1, time])
        };
        let mask = masked(&ahead);
        let near = match &self.config.sliding {
            Some(sliding) => masked(&ahead.logical_or(&times.le_tensor(&(lengths - sliding.size)))),
            None => mask.shallow_clone(),
        };
        View { places: Tensor::from_slice(&places).to_device(self.device), batch, mask, near }
    }

    /// Writes the new token's keys and values, and gives those of all tokens: `[batch, kv_heads, time, head_dim]`.
    pub(super) fn append(&self, layer: usize, view: &View, qkv: &Qkv) -> (Tensor, Tensor) {
        let head_dim = self.config.head_dim;
        let write = |cache: &Tensor, new: &Tensor| {
            let _ = cache.view([-1, head_dim]).index_copy_(0, &view.places, &new.reshape([-1, head_dim]));
            cache.narrow(0, 0, view.batch)
        };
        let (keys, values) = &self.layers[layer];
        (write(keys, &qkv.k), write(values, &qkv.v))
    }

    /// A copy of the first `len` tokens of a row, layer by layer: keys and values `[1, kv_heads, len, head_dim]`.
    pub(super) fn copied(&self, row: usize, len: usize) -> Vec<(Tensor, Tensor)> {
        let layers = (0..self.layers.len()).map(|layer| self.row(layer, row, len));
        layers.map(|(keys, values)| (keys.copy(), values.copy())).collect()
    }

    /// Writes the first `len` tokens of such a copy to rows.
    pub(super) fn fill(&self, copied: &[(Tensor, Tensor)], rows: Range<usize>, len: usize) {
        let fill = |cache: &Tensor, copied: &Tensor| {
            let rows = cache.narrow(0, rows.start as i64, rows.len() as i64);
            rows.narrow(2, 0, len as i64).copy_(&copied.narrow(2, 0, len as i64));
        };
        for ((keys, values), (kept_keys, kept_values)) in self.layers.iter().zip(copied) {
            fill(keys, kept_keys);
            fill(values, kept_values);
        }
    }

    /// Copies the first `len` tokens of row `from` over those of rows `to`.
    pub(super) fn copy_row(&self, from: usize, to: Range<usize>, len: usize) {
        for tensor in self.layers.iter().flat_map(|(k, v)| [k, v]) {
            let part = |first: usize, rows: usize| {
                tensor.narrow(0, first as i64, rows as i64).narrow(2, 0, len as i64)
            };
            part(to.start, to.len()).copy_(&part(from, 1));
        }
    }
}
