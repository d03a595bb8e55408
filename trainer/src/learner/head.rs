//! The head and the loss, forward and backward, a chunk of rows at a time.
//!
//! With p the distribution and H its entropy, the gradients by the logits are
//! ∂ log p(target) = onehot − p and ∂ H = −p · (log p + H).

use super::layout::Layout;
use super::optimizer::Sums;
use super::{Chunk, Objective};
use sinternal_model::CausalLm;
use sinternal_model::logprob::{chunk_rows, log_probs, strip_rows};
use tch::{Kind, Tensor, no_grad};

/// What the head came to over one micro-batch.
pub(super) struct HeadPass {
    /// Gradient of the hidden states, `[m, width]`.
    pub(super) hidden: Tensor,
    /// `[m]` float32.
    pub(super) log_probs: Tensor,
    /// Sum over the chunks.
    pub(super) loss: f64,
    /// Sum over the tokens, in nats.
    pub(super) entropy: f64,
}

/// Loss and gradients for `hidden` `[m, width]`; the head's own gradient goes to `sums`.
pub(super) fn backward(
    lm: &CausalLm,
    hidden: &Tensor,
    layout: &Layout,
    temperature: f32,
    objective: &mut dyn Objective,
    sums: &mut Sums,
) -> HeadPass {
    let vocab = lm.config().vocab;
    let m = layout.len() as i64;
    let mut pass = HeadPass {
        hidden: hidden.zeros_like(),
        log_probs: Tensor::zeros([m], (Kind::Float, hidden.device())),
        loss: 0.0,
        entropy: 0.0,
    };
    // Chunks are small, so that the passes over a chunk's logits find them in the processor's cache; a strip of chunks
    // is what the matrix products see.
    for strip in pieces(0, m, strip_rows(vocab)) {
        let of_logits = Tensor::empty([strip.1, vocab], (hidden.kind(), hidden.device()));
        for (start, len) in pieces(strip.0, strip.1, chunk_rows(vocab)) {
            let gradient = chunk(lm, hidden, layout, (start, len), temperature, objective, &mut pass);
            no_grad(|| of_logits.narrow(0, start - strip.0, len).copy_(&gradient));
        }
        no_grad(|| {
            let part = hidden.narrow(0, strip.0, strip.1);
            pass.hidden.narrow(0, strip.0, strip.1).copy_(&of_logits.matmul(lm.head()));
            if lm.trains_weights() {
                sums.add_product(lm.head_parameter(), &of_logits.tr(), &part);
            }
        });
    }
    pass
}

/// Start and length of pieces of `size` rows, the last shorter.
fn pieces(start: i64, len: i64, size: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..len).step_by(size as usize).map(move |at| (start + at, size.min(len - at)))
}

/// The gradient of one chunk's logits, `[len, vocab]` float32.
fn chunk(
    lm: &CausalLm,
    hidden: &Tensor,
    layout: &Layout,
    (start, len): (i64, i64),
    temperature: f32,
    objective: &mut dyn Objective,
    pass: &mut HeadPass,
) -> Tensor {
    let part = |t: &Tensor| t.narrow(0, start, len);
    let targets = part(&layout.targets).unsqueeze(1);
    let (all, mut p, of_targets, entropy) = no_grad(|| {
        let all = log_probs(&part(hidden), lm.head(), temperature); // [len, vocab]
        let p = all.exp();
        let entropy = -(&p * &all).sum_dim_intlist(-1, false, Kind::Float);
        let of_targets = all.gather(1, &targets, false).squeeze_dim(1);
        (all, p, of_targets, entropy)
    });
    let (log_leaf, entropy_leaf) = (leaf(&of_targets), leaf(&entropy));
    let loss = objective.loss(&Chunk {
        log_probs: &log_leaf,
        entropy: &entropy_leaf,
        places: &part(&layout.places),
    });
    let mut gradients = Tensor::run_backward(&[&loss], &[&log_leaf, &entropy_leaf], false, false);
    no_grad(|| {
        let of_entropy = gradients.pop().filter(Tensor::defined);
        let of_log_probs = gradients.pop().filter(Tensor::defined).unwrap_or_else(|| of_targets.zeros_like());
        part(&pass.log_probs).copy_(&of_targets);
        pass.loss += loss.double_value(&[]);
        pass.entropy += entropy.sum(Kind::Double).double_value(&[]);
        let entropy_term = of_entropy.map(|g| (&all + entropy.unsqueeze(1)) * &p * -g.unsqueeze(1));
        let _ = p.g_mul_(&-of_log_probs.unsqueeze(1));
        let _ = p.scatter_add_(1, &targets, &of_log_probs.unsqueeze(1));
        if let Some(term) = entropy_term {
            p += term;
        }
        // The logits were divided by the temperature first.
        if temperature == 0.0 || temperature == 1.0 { p } else { p / f64::from(temperature) }
    })
}

fn leaf(x: &Tensor) -> Tensor {
    x.detach().set_requires_grad(true)
}
