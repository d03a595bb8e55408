//! Keys and values of the running sequences, laid out as the decode products read them.

use crate::layers::Qkv;
use crate::{CausalLm, ModelConfig};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Rows and lengths are reserved in multiples of these, so that growing is rare.
const ROW_STEP: usize = 16;
const TIME_STEP: usize = 64;

/// Per layer two tensors `[rows, kv_heads, time, head_dim]`; row i belongs to the i-th running sequence.
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
    rows: Tensor,
    lengths: Tensor,
    batch: i64,
    time: i64,
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

    /// How many sequences of up to `time` tokens fit a budget.
    pub(super) fn rows_within(&self, budget: usize, time: usize) -> usize {
        budget / self.bytes_for(1, time.max(1))
    }

    fn bytes_for_exactly(&self, rows: usize, time: usize) -> usize {
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
        let fits = rows <= self.rows && time <= self.time;
        if fits && (used > 0 || self.time <= 2 * time) {
            return;
        }
        // A longer cache stays as long as its rows still fit: shrinking and growing again would copy it twice.
        let longer = time.max(self.time);
        let time = if used > 0 && self.bytes_for(rows, longer) <= budget { longer } else { time };
        // A few rows more, so that growing is rare.
        let spare = self.rows_within(budget, time).min(rows.next_multiple_of(ROW_STEP));
        let rows = rows.max(spare);
        for layer in 0..self.layers.len() {
            let grow = |old: &Tensor| {
                let new = self.block(rows, time);
                let kept = self.time.min(time) as i64;
                if used > 0 {
                    let (to, from) = (new.narrow(0, 0, used as i64), old.narrow(0, 0, used as i64));
                    to.narrow(2, 0, kept).copy_(&from.narrow(2, 0, kept));
                }
                new
            };
            self.layers[layer] = (grow(&self.layers[layer].0), grow(&self.layers[layer].1));
        }
        (self.rows, self.time) = (rows, time);
    }

    /// Copies the keys and values of one prompt of a pack into a row.
    pub(super) fn write_prompt(&mut self, layer: usize, row: usize, range: &Range<usize>, qkv: &Qkv) {
        let (start, len) = (range.start as i64, range.len() as i64);
        let write = |cache: &Tensor, new: &Tensor| {
            let new = new.narrow(0, start, len).transpose(0, 1); // [kv_heads, len, head_dim]
            cache.get(row as i64).narrow(1, 0, len).copy_(&new);
        };
        write(&self.layers[layer].0, &qkv.k);
        write(&self.layers[layer].1, &qkv.v);
    }

    /// Prepares a step in which sequence i, holding `lengths[i]` tokens, gains one.
    pub(super) fn view(&self, lengths: &[i64]) -> View {
        let batch = lengths.len() as i64;
        let time = lengths.iter().max().copied().unwrap_or(0) + 1;
        let lengths = Tensor::from_slice(lengths).to_device(self.device);
        let places = Tensor::arange(time, (Kind::Int64, self.device));
        let ahead = places.unsqueeze(0).gt_tensor(&lengths.unsqueeze(1)); // [batch, time]
        let masked = |hidden: &Tensor| {
            let open = Tensor::zeros([batch, time], (self.kind, self.device));
            open.masked_fill(hidden, f64::NEG_INFINITY).view([batch, 1, 1, time])
        };
        let mask = masked(&ahead);
        let near = match &self.config.sliding {
            Some(sliding) => {
                let behind = places.unsqueeze(0).le_tensor(&(&lengths - sliding.size).unsqueeze(1));
                masked(&ahead.logical_or(&behind))
            }
            None => mask.shallow_clone(),
        };
        let rows = Tensor::arange(batch, (Kind::Int64, self.device));
        View { rows, lengths, batch, time, mask, near }
    }

    /// Writes the new token's keys and values, and gives those of all tokens: `[batch, kv_heads, time, head_dim]`.
    pub(super) fn append(&self, layer: usize, view: &View, qkv: &Qkv) -> (Tensor, Tensor) {
        let write = |cache: &Tensor, new: &Tensor| {
            let mut rows = cache.shallow_clone();
            let _ = rows.index_put_(&[Some(&view.rows), None, Some(&view.lengths)], new, false);
            cache.narrow(0, 0, view.batch).narrow(2, 0, view.time)
        };
        let (keys, values) = &self.layers[layer];
        (write(keys, &qkv.k), write(values, &qkv.v))
    }

    /// Copies the first `len` tokens of one row over another.
    pub(super) fn move_row(&mut self, from: usize, to: usize, len: usize) {
        for tensor in self.layers.iter().flat_map(|(k, v)| [k, v]) {
            let part = |row: usize| tensor.get(row as i64).narrow(1, 0, len as i64);
            part(to).copy_(&part(from));
        }
    }
}
