//! One transformer layer, and attention over packed sequences and over a cache.

use crate::config::ModelConfig;
use crate::packed::{Bucket, Packed};
use crate::rope::rotate;
use tch::Tensor;

/// Handles on a layer's parameters. q, k, v and gate, up are fused along their output rows.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) input_norm: Tensor,
    pub(crate) qkv: Tensor,
    pub(crate) qkv_bias: Option<Tensor>,
    pub(crate) qk_norm: Option<(Tensor, Tensor)>,
    pub(crate) output: Tensor,
    pub(crate) post_norm: Tensor,
    pub(crate) gate_up: Tensor,
    pub(crate) down: Tensor,
}

/// Queries `[n, heads, head_dim]`, keys and values `[n, kv_heads, head_dim]`, rotated.
pub(crate) struct Qkv {
    pub(crate) q: Tensor,
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
}

impl Layer {
    /// `x` `[n, hidden]` to `[n, hidden]`; `attend` maps [`Qkv`] to `[n, heads * head_dim]`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        config: &ModelConfig,
        rope: &(Tensor, Tensor),
        attend: impl FnOnce(Qkv) -> Tensor,
    ) -> Tensor {
        let qkv = self.project(&norm(x, &self.input_norm, config.norm_eps), config, rope);
        let x = x + attend(qkv).linear(&self.output, None::<&Tensor>);
        let gate_up = norm(&x, &self.post_norm, config.norm_eps).linear(&self.gate_up, None::<&Tensor>);
        let (gate, up) = (
            gate_up.narrow(1, 0, config.intermediate),
            gate_up.narrow(1, config.intermediate, config.intermediate),
        );
        x + (gate.silu() * up).linear(&self.down, None::<&Tensor>)
    }

    fn project(&self, x: &Tensor, config: &ModelConfig, rope: &(Tensor, Tensor)) -> Qkv {
        let (heads, kv) = (config.heads, config.kv_heads);
        let all = x.linear(&self.qkv, self.qkv_bias.as_ref()).view([-1, heads + 2 * kv, config.head_dim]);
        let mut qk = all.narrow(1, 0, heads + kv); // normed and rotated together: half the calls
        if let Some((q_norm, k_norm)) = &self.qk_norm {
            let weight = Tensor::cat(
                &[
                    q_norm.expand([heads, config.head_dim], false),
                    k_norm.expand([kv, config.head_dim], false),
                ],
                0,
            );
            qk = qk.rms_norm(config.head_dim, None::<&Tensor>, config.norm_eps) * weight;
        }
        let qk = rotate(&qk, rope);
        Qkv { q: qk.narrow(1, 0, heads), k: qk.narrow(1, heads, kv), v: all.narrow(1, heads + kv, kv) }
    }
}

/// RMS norm over the last dimension (Zhang and Sennrich, 2019).
pub(crate) fn norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    x.rms_norm(weight.size(), Some(weight), eps)
}

/// Causal attention within each sequence of a pack: `[n, heads * head_dim]`. With a window, tokens see only as many,
/// themselves included.
pub(crate) fn packed_attention(qkv: &Qkv, packed: &Packed, window: Option<i64>) -> Tensor {
    let parts: Vec<Tensor> = packed.buckets.iter().map(|b| bucket_attention(qkv, b, window)).collect();
    if parts.len() == 1 { parts.into_iter().next().expect("one part") } else { Tensor::cat(&parts, 0) }
}

fn bucket_attention(qkv: &Qkv, bucket: &Bucket, window: Option<i64>) -> Tensor {
    let spread = |x: &Tensor| {
        let rows = x.narrow(0, bucket.start, bucket.len);
        let rows = match &bucket.padding {
            Some(padding) => rows.index_select(0, &padding.spread),
            None => rows,
        };
        let [_, heads, dim] = rows.size()[..] else { unreachable!("three dimensions") };
        rows.view_([bucket.batch, bucket.time, heads, dim]).transpose(1, 2) // [batch, heads, time, head_dim]
    };
    let (q, k, v) = (spread(&qkv.q), spread(&qkv.k), spread(&qkv.v));
    let groups = q.size()[1] != k.size()[1];
    let seen = window.filter(|&w| w < bucket.time).map(|w| {
        let all = Tensor::ones([bucket.time, bucket.time], (tch::Kind::Bool, q.device()));
        all.tril(0).triu(1 - w) // [time, time]
    });
    let causal = seen.is_none();
    let out = Tensor::scaled_dot_product_attention(&q, &k, &v, seen.as_ref(), 0.0, causal, None, groups);
    let width = q.size()[1] * q.size()[3];
    let flat = out.transpose(1, 2).reshape([bucket.batch * bucket.time, width]);
    match &bucket.padding {
        Some(padding) => flat.index_select(0, &padding.gather),
        None => flat,
    }
}

/// Attention of one new token per sequence over cached keys and values: `[batch, heads * head_dim]`.
///
/// `q` `[batch, heads, head_dim]`; `keys`, `values` `[batch, kv_heads, time, head_dim]`, possibly strided;
/// `mask` `[batch, 1, 1, time]`, 0 or −∞. Two batched products: with a single query that is faster on a CPU
/// than `scaled_dot_product_attention`.
pub(crate) fn cached_attention(q: &Tensor, keys: &Tensor, values: &Tensor, mask: &Tensor) -> Tensor {
    let [batch, heads, dim] = q.size()[..] else { unreachable!("three dimensions") };
    let kv_heads = keys.size()[1];
    let q = q.reshape([batch, kv_heads, heads / kv_heads, dim]) / (dim as f64).sqrt();
    let scores = q.matmul(&keys.transpose(2, 3)) + mask; // [batch, kv_heads, group, time]
    scores.softmax(-1, None::<tch::Kind>).matmul(values).reshape([batch, heads * dim])
}
