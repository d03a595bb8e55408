//! What this machine can do at best, measured in the same run, and what the process took.

use sinternal_model::{CausalLm, Device, Kind, ModelConfig};
use std::time::Instant;
use tch::{Cuda, Tensor, no_grad};

/// Repeats of a measurement; the best counts.
const REPEATS: usize = 5;

/// FLOP/s of the model's own matrix products, forward and both ways backward, over `rows` tokens.
pub(super) fn matrix_rate(lm: &CausalLm, rows: i64) -> f64 {
    let options = (lm.kind(), lm.device());
    let (mut flop, mut seconds) = (0.0, 0.0);
    for (inner, outer) in shapes(lm.config()) {
        let x = Tensor::ones([rows, inner], options);
        let w = Tensor::ones([outer, inner], options);
        let y = Tensor::ones([rows, outer], options);
        let products: [&dyn Fn() -> Tensor; 3] =
            [&|| x.matmul(&w.tr()), &|| y.matmul(&w), &|| y.tr().matmul(&x)];
        for product in products {
            flop += 2.0 * rows as f64 * inner as f64 * outer as f64;
            seconds += best(lm.device(), || drop(no_grad(product)));
        }
    }
    flop / seconds
}

/// Widths in and out of a layer's products, and of the head.
fn shapes(c: &ModelConfig) -> [(i64, i64); 5] {
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    [
        (c.hidden, q + 2 * kv),
        (q, c.hidden),
        (c.hidden, 2 * c.intermediate),
        (c.intermediate, c.hidden),
        (c.hidden, c.vocab),
    ]
}

/// Bytes/s of copying, both ways counted.
pub(super) fn bandwidth(device: Device) -> f64 {
    let elements = 64 << 20;
    let from = Tensor::ones([elements], (Kind::Float, device));
    let mut to = from.zeros_like();
    2.0 * 4.0 * elements as f64 / best(device, || to.copy_(&from))
}

/// Seconds of the best of some repeats, after one that warms up.
fn best(device: Device, mut work: impl FnMut()) -> f64 {
    work();
    (0..REPEATS)
        .map(|_| {
            let began = Instant::now();
            work();
            synchronize(device);
            began.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// Waits for a GPU to finish what it was given.
pub(super) fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// Most memory that this process had, in MiB.
pub(super) fn peak_rss_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    Ok(kib.ok_or_else(|| anyhow::anyhow!("/proc/self/status: no VmHWM"))? / 1024.0)
}
