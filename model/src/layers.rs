//! One transformer layer, and attention over packed sequences and over a cache.
//!
//! On the CPU the parts between the matrix products are native kernels; elsewhere they are composed of libtorch's
//! operations. Both are tested against each other.

use crate::config::ModelConfig;
use crate::linear::Linear;
use crate::lora::Target;
use crate::native;
use crate::packed::{IndexedBucket, Indices, Packed};
use crate::rope::{Angles, rotate};
use tch::Tensor;

/// Handles on a layer's parameters. q, k, v and gate, up are fused along their output rows.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) input_norm: Tensor,
    pub(crate) qkv: Linear,
    pub(crate) qk_norm: Option<(Tensor, Tensor)>,
    pub(crate) output: Linear,
    pub(crate) post_norm: Tensor,
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
}

/// Queries `[n, heads, head_dim]`, keys and values `[n, kv_heads, head_dim]`, rotated.
pub(crate) struct Qkv {
    /// All three, `[n, heads + 2 * kv_heads, head_dim]`; the others are views of it.
    pub(crate) all: Tensor,
    pub(crate) q: Tensor,
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
}

impl Qkv {
    fn new(all: Tensor, config: &ModelConfig) -> Self {
        let (heads, kv) = (config.heads, config.kv_heads);
        let (q, k, v) = (all.narrow(1, 0, heads), all.narrow(1, heads, kv), all.narrow(1, heads + kv, kv));
        Self { all, q, k, v }
    }
}

impl Layer {
    /// `x` `[n, hidden]` to `[n, hidden]`; `attend` maps [`Qkv`] to `[n, heads * head_dim]`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        config: &ModelConfig,
        angles: &Angles<'_>,
        attend: impl FnOnce(Qkv) -> Tensor,
    ) -> Tensor {
        let qkv = self.project(&norm(x, &self.input_norm, config.norm_eps), config, angles);
        let x = x + self.output.forward(&attend(qkv));
        let gate_up = self.gate_up.forward(&norm(&x, &self.post_norm, config.norm_eps));
        x + self.down.forward(&gated(&gate_up))
    }

    /// The fused layer that holds a target's rows.
    pub(crate) fn linear_mut(&mut self, target: Target) -> &mut Linear {
        match target {
            Target::QProj | Target::KProj | Target::VProj => &mut self.qkv,
            Target::OProj => &mut self.output,
            Target::GateProj | Target::UpProj => &mut self.gate_up,
            Target::DownProj => &mut self.down,
        }
    }

    fn project(&self, x: &Tensor, config: &ModelConfig, angles: &Angles<'_>) -> Qkv {
        let (heads, kv) = (config.heads, config.kv_heads);
        let all = self.qkv.forward(x).view([-1, heads + 2 * kv, config.head_dim]);
        let norms = self.qk_norm.as_ref();
        let rotated = if native::supports(&all) {
            native::rotate(&all, angles.positions, angles.tables, norms, config)
        } else {
            composed_rotate(&all, angles, norms, config)
        };
        Qkv::new(rotated, config)
    }
}

/// RMS norm over the last dimension (Zhang and Sennrich, 2019).
pub(crate) fn norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    if native::supports(x) {
        native::rms_norm(x, weight, eps)
    } else {
        x.rms_norm(weight.size(), Some(weight), eps)
    }
}

/// SwiGLU (Shazeer, 2020): `silu(gate) · up`, the halves of `[n, 2 * intermediate]`.
fn gated(gate_up: &Tensor) -> Tensor {
    if native::supports(gate_up) { native::swiglu(gate_up) } else { composed_gated(gate_up) }
}

fn composed_gated(gate_up: &Tensor) -> Tensor {
    let width = gate_up.size()[1] / 2;
    gate_up.narrow(1, 0, width).silu() * gate_up.narrow(1, width, width)
}

fn composed_rotate(
    all: &Tensor,
    angles: &Angles<'_>,
    norms: Option<&(Tensor, Tensor)>,
    config: &ModelConfig,
) -> Tensor {
    let (heads, kv, dim) = (config.heads, config.kv_heads, config.head_dim);
    let mut qk = all.narrow(1, 0, heads + kv); // normed and rotated together: half the calls
    if let Some((q_norm, k_norm)) = norms {
        let weight = Tensor::cat(&[q_norm.expand([heads, dim], false), k_norm.expand([kv, dim], false)], 0);
        qk = qk.rms_norm(dim, None::<&Tensor>, config.norm_eps) * weight;
    }
    let (cos, sin) = angles.gathered(all.kind());
    Tensor::cat(&[rotate(&qk, &cos, &sin), all.narrow(1, heads + kv, kv)], 1)
}

/// Causal attention within each sequence of a pack: `[n, heads * head_dim]`. With a window, tokens see only as many,
/// themselves included.
pub(crate) fn packed_attention(
    qkv: &Qkv,
    packed: &Packed,
    config: &ModelConfig,
    window: Option<i64>,
) -> Tensor {
    match &packed.plan.indices {
        None => native::attention(&qkv.all, &packed.plan, config, window),
        Some(indices) => composed_attention(qkv, indices, window),
    }
}

fn composed_attention(qkv: &Qkv, indices: &Indices, window: Option<i64>) -> Tensor {
    let parts: Vec<Tensor> = indices.buckets.iter().map(|b| bucket_attention(qkv, b, window)).collect();
    Tensor::cat(&parts, 0).index_select(0, &indices.order)
}

fn bucket_attention(qkv: &Qkv, bucket: &IndexedBucket, window: Option<i64>) -> Tensor {
    let &IndexedBucket { batch, q: queries, t: keys, .. } = bucket;
    let spread = |x: &Tensor, rows: &Tensor, time: i64| {
        let [_, heads, dim] = x.size()[..] else { unreachable!("three dimensions") };
        x.index_select(0, rows).view_([batch, time, heads, dim]).transpose(1, 2) // [batch, heads, time, head_dim]
    };
    let q = spread(&qkv.q, &bucket.queries, queries);
    let (k, v) = (spread(&qkv.k, &bucket.keys, keys), spread(&qkv.v, &bucket.keys, keys));
    let window = window.filter(|&w| w < keys);
    let seen = (window.is_some() || queries < keys).then(|| {
        let all = Tensor::ones([queries, keys], (tch::Kind::Bool, q.device())).tril(keys - queries);
        window.map_or_else(|| all.shallow_clone(), |w| all.triu(keys - queries + 1 - w))
    });
    let (causal, groups) = (seen.is_none(), q.size()[1] != k.size()[1]);
    let out = Tensor::scaled_dot_product_attention(&q, &k, &v, seen.as_ref(), 0.0, causal, None, groups);
    let width = q.size()[1] * q.size()[3];
    out.transpose(1, 2).reshape([batch * queries, width]).index_select(0, &bucket.kept)
}

/// Attention of one new token per sequence over cached keys and values: `[batch, heads * head_dim]`.
///
/// `q` `[batch, heads, head_dim]`; `keys`, `values` `[batch, kv_heads, time, head_dim]`, contiguous, or each product
/// copies them; `mask` `[batch, 1, 1, time]`, 0 or −∞. Two batched products: with a single query that is faster on a
/// CPU than `scaled_dot_product_attention`.
pub(crate) fn cached_attention(q: &Tensor, keys: &Tensor, values: &Tensor, mask: &Tensor) -> Tensor {
    let [batch, heads, dim] = q.size()[..] else { unreachable!("three dimensions") };
    let [_, kv_heads, time, _] = keys.size()[..] else { unreachable!("four dimensions") };
    let group = heads / kv_heads;
    let q = (q / (dim as f64).sqrt()).reshape([batch * kv_heads, group, dim]);
    let [keys, values] = [keys, values].map(|x| x.reshape([batch * kv_heads, time, dim]));
    let scores = q.bmm(&keys.transpose(1, 2)).view([batch, kv_heads, group, time]) + mask;
    let weights = scores.softmax(-1, None::<tch::Kind>).view([batch * kv_heads, group, time]);
    weights.bmm(&values).view([batch, heads * dim])
}

/// Causal attention of a sequence's last tokens over all of its tokens: `[n, heads * head_dim]`.
///
/// `q` `[n, heads, head_dim]`; `keys`, `values` `[1, kv_heads, time, head_dim]`, of which the last n are the queries' own.
pub(crate) fn prefix_attention(q: &Tensor, keys: &Tensor, values: &Tensor, window: Option<i64>) -> Tensor {
    let [n, heads, dim] = q.size()[..] else { unreachable!("three dimensions") };
    let [_, kv_heads, time, _] = keys.size()[..] else { unreachable!("four dimensions") };
    let seen = Tensor::ones([n, time], (tch::Kind::Bool, q.device())).tril(time - n);
    let seen = match window {
        Some(window) => seen.triu(time - n + 1 - window),
        None => seen,
    };
    let q = q.transpose(0, 1).unsqueeze(0); // [1, heads, n, head_dim]
    let groups = heads != kv_heads;
    let out = Tensor::scaled_dot_product_attention(&q, keys, values, Some(&seen), 0.0, false, None, groups);
    out.squeeze_dim(0).transpose(0, 1).reshape([n, heads * dim])
}

#[cfg(test)]
mod tests;
