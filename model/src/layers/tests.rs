//! The native kernels against the composed operations: values and gradients.

use super::*;
use crate::config::{Family, RopeScaling};
use crate::packed::Group;
use crate::rope::Rope;
use tch::{Device, Kind};

const KINDS: [(Kind, f64); 2] = [(Kind::Float, 1e-5), (Kind::BFloat16, 2e-2)];

fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Qwen3,
        hidden: 24,
        intermediate: 40,
        layers: 1,
        heads: 6,
        kv_heads: 2,
        head_dim: 10,
        vocab: 50,
        max_positions: 700,
        norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope: RopeScaling::Default,
        tied: true,
        qkv_bias: false,
        sliding: None,
    }
}

fn random(shape: &[i64], seed: i64) -> Tensor {
    let _alone = crate::lm::SEEDED.lock().unwrap();
    tch::manual_seed(seed);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// Runs both ways on the same inputs and compares output and gradients, relative to the largest value.
fn compare(
    what: &str,
    inputs: &[Tensor],
    native: impl Fn(&[Tensor]) -> Tensor,
    composed: impl Fn(&[Tensor]) -> Tensor,
) {
    for (kind, tolerance) in KINDS {
        // The composed way runs in float32 on the same values: the truth for both kinds.
        let leaf = |t: &Tensor, to: Kind| t.to_kind(kind).to_kind(to).detach().set_requires_grad(true);
        let ours: Vec<Tensor> = inputs.iter().map(|t| leaf(t, kind)).collect();
        let truth: Vec<Tensor> = inputs.iter().map(|t| leaf(t, Kind::Float)).collect();
        let (a, b) = (native(&ours), composed(&truth));
        let weight = random(&b.size(), 77).to_kind(kind).to_kind(Kind::Float);
        (a.to_kind(Kind::Float) * &weight).sum(Kind::Float).backward();
        (&b * &weight).sum(Kind::Float).backward();
        let close = |of: &str, a: &Tensor, b: &Tensor| {
            let gap = (a.to_kind(Kind::Float) - b).abs().max().double_value(&[]);
            let size = b.abs().max().double_value(&[]);
            assert!(gap <= tolerance * size, "{what}, {kind:?}, {of}: {gap} of {size}");
        };
        close("output", &a.detach(), &b.detach());
        for (i, (x, y)) in ours.iter().zip(&truth).enumerate() {
            close(&format!("gradient of input {i}"), &x.grad(), &y.grad());
        }
    }
}

#[test]
fn rms_norm() {
    let inputs = [random(&[37, 24], 1), random(&[24], 2)];
    compare(
        "rms_norm",
        &inputs,
        |t| native::rms_norm(&t[0], &t[1], 1e-6),
        |t| t[0].rms_norm([24], Some(&t[1]), 1e-6),
    );
}

#[test]
fn swiglu() {
    compare("swiglu", &[random(&[37, 80], 3) * 4.0], |t| native::swiglu(&t[0]), |t| composed_gated(&t[0]));
}

#[test]
fn rotation_with_and_without_norms() {
    let c = config();
    let rope = Rope::new(&c, Device::Cpu);
    let positions = Tensor::from_slice(&[0i64, 5, 3, 699, 17]);
    let angles = rope.at(&positions);
    let x = random(&[5, 10, 10], 4);
    compare(
        "rotate",
        std::slice::from_ref(&x),
        |t| native::rotate(&t[0], &positions, angles.tables, None, &c),
        |t| composed_rotate(&t[0], &angles, None, &c),
    );
    let norms = |t: &[Tensor]| Some((t[1].shallow_clone(), t[2].shallow_clone()));
    compare(
        "normed rotate",
        &[x, random(&[10], 5), random(&[10], 6)],
        |t| native::rotate(&t[0], &positions, angles.tables, norms(t).as_ref(), &c),
        |t| composed_rotate(&t[0], &angles, norms(t).as_ref(), &c),
    );
}

#[test]
fn attention_with_shared_prompts_long_sequences_and_windows() {
    let c = config();
    let tokens = vec![1u32; 600];
    let cut = |n: usize| &tokens[..n];
    let groups = [
        Group { prompt: cut(7), continuations: vec![cut(3), cut(9), cut(40), cut(0)] },
        Group { prompt: cut(20), continuations: vec![] },
        Group { prompt: cut(4), continuations: vec![cut(5)] },
        Group { prompt: cut(3), continuations: vec![cut(590), cut(550)] },
    ];
    let packed = Packed::grouped(&groups, Device::Cpu);
    let indices = packed.plan.indexed();
    let qkv = random(&[packed.len() as i64, 10, 10], 7);
    for window in [None, Some(6), Some(300)] {
        compare(
            &format!("attention with window {window:?}"),
            std::slice::from_ref(&qkv),
            |t| native::attention(&t[0], &packed.plan, &c, window),
            |t| composed_attention(&Qkv::new(t[0].shallow_clone(), &c), &indices, window),
        );
    }
}
