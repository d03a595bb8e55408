//! The trunk of a model forward and backward, one layer's graph at a time.
//!
//! Each layer's input is a leaf of its own, so a layer's gradients are final, and its graph is gone, before the layer below
//! is touched. With recomputation a layer has no graph until then.

use crate::{CausalLm, Packed};
use tch::{Kind, Tensor, no_grad};

/// A forward pass that can be taken back once.
#[derive(Debug)]
pub struct Pass<'a> {
    lm: &'a CausalLm,
    packed: &'a Packed,
    embedded: Tensor,
    /// Input of each layer, a leaf, with its output where the graph was kept.
    layers: Vec<(Tensor, Option<Tensor>)>,
    /// Input of the final norm.
    last: Tensor,
    hidden: Tensor,
}

impl<'a> Pass<'a> {
    /// Runs the trunk over a pack. With `recompute`, memory holds the inputs of the layers alone, and the backward runs each
    /// layer once more.
    #[must_use]
    pub fn forward(lm: &'a CausalLm, packed: &'a Packed, recompute: bool) -> Self {
        let embedded = lm.embed(&packed.tokens);
        let mut x = leaf(&embedded);
        let mut layers = Vec::with_capacity(lm.layers.len());
        for i in 0..lm.layers.len() {
            let y = if recompute { no_grad(|| lm.layer(i, &x, packed)) } else { lm.layer(i, &x, packed) };
            let next = leaf(&y);
            layers.push((x, (!recompute).then_some(y)));
            x = next;
        }
        let hidden = lm.finish(&x);
        Self { lm, packed, embedded, layers, last: x, hidden }
    }

    /// Final hidden states, `[n, hidden]`, without a graph.
    pub fn hidden(&self) -> Tensor {
        self.hidden.detach()
    }

    /// Takes the gradient of [`Pass::hidden`] back, and gives `sink` each trained parameter's, by index in
    /// [`CausalLm::trained`].
    pub fn backward(self, gradient: &Tensor, mut sink: impl FnMut(usize, &Tensor)) {
        let Self { lm, packed, embedded, layers, last, hidden } = self;
        let all = lm.trained().list();
        let norm = if lm.trains_weights() { lm.norm_parameter() } else { 0..0 };
        let mut down =
            |input: &Tensor, output: &Tensor, gradient: &Tensor, parameters: std::ops::Range<usize>| {
                let handles = parameters.clone().map(|i| &all[i].tensor);
                let inputs: Vec<&Tensor> = std::iter::once(input).chain(handles).collect();
                let mut gradients = vector_jacobian(output, gradient, &inputs).into_iter();
                let of_input = gradients.next().expect("one gradient for each input");
                parameters.zip(gradients).for_each(|(i, g)| sink(i, &g));
                of_input
            };
        let mut gradient = down(&last, &hidden, gradient, norm);
        drop(hidden);
        for (i, (input, output)) in layers.into_iter().enumerate().rev() {
            let output = output.unwrap_or_else(|| lm.layer(i, &input, packed));
            gradient = down(&input, &output, &gradient, lm.trained_of_layer(i));
        }
        if lm.trains_weights() {
            let of_embedding = vector_jacobian(&embedded, &gradient, &[&all[0].tensor]);
            sink(0, &of_embedding[0]);
        }
    }
}

fn leaf(x: &Tensor) -> Tensor {
    x.detach().set_requires_grad(true)
}

/// Gradients of `inputs`, given that of `output`.
fn vector_jacobian(output: &Tensor, gradient: &Tensor, inputs: &[&Tensor]) -> Vec<Tensor> {
    Tensor::run_backward(&[(output * gradient).sum(Kind::Float)], inputs, false, false)
}
