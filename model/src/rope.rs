//! Rotary position embedding (Su et al., 2021), in the half-split form of Hugging Face.

use crate::config::{ModelConfig, RopeScaling};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// Tables of cosines and sines for every position. `[max_positions, head_dim]`, float32.
#[derive(Debug)]
pub(crate) struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    pub(crate) fn new(config: &ModelConfig, device: Device) -> Self {
        let frequencies = Tensor::from_slice(&inverse_frequencies(config)); // [head_dim / 2]
        let positions = Tensor::arange(config.max_positions as i64, (Kind::Float, Device::Cpu));
        let angles = positions.unsqueeze(1) * frequencies.to_kind(Kind::Float).unsqueeze(0);
        let angles = Tensor::cat(&[&angles, &angles], 1); // [max_positions, head_dim]
        let scaled = |table: Tensor| match config.rope {
            RopeScaling::Yarn { attention, .. } => table * attention,
            _ => table,
        };
        Self { cos: scaled(angles.cos()).to_device(device), sin: scaled(angles.sin()).to_device(device) }
    }

    /// The angles of tokens at these positions `[n]`.
    pub(crate) fn at<'a>(&'a self, positions: &'a Tensor) -> Angles<'a> {
        Angles { positions, tables: (&self.cos, &self.sin) }
    }
}

/// Positions `[n]` int64 and the tables to look them up in.
pub(crate) struct Angles<'a> {
    pub(crate) positions: &'a Tensor,
    /// Cosines and sines.
    pub(crate) tables: (&'a Tensor, &'a Tensor),
}

impl Angles<'_> {
    /// Cosines and sines of the positions, `[n, 1, head_dim]` of `kind` each.
    pub(crate) fn gathered(&self, kind: Kind) -> (Tensor, Tensor) {
        let pick = |table: &Tensor| table.index_select(0, self.positions).unsqueeze(1).to_kind(kind);
        (pick(self.tables.0), pick(self.tables.1))
    }
}

/// Rotates `x` `[n, heads, head_dim]`.
pub(crate) fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let half = x.size()[2] / 2;
    let (a, b) = (x.narrow(2, 0, half), x.narrow(2, half, half));
    x * cos + Tensor::cat(&[&-b, &a], 2) * sin
}

fn inverse_frequencies(config: &ModelConfig) -> Vec<f64> {
    let dim = config.head_dim as f64;
    unscaled(config.head_dim, config.rope_theta)
        .into_iter()
        .enumerate()
        .map(|(i, frequency)| {
            let frequency = f64::from(frequency);
            match yarn_share(i as f64, dim, config) {
                Some((kept, factor)) => frequency * (kept + (1.0 - kept) / factor),
                None => scale(frequency, config.rope),
            }
        })
        .map(|f| f64::from(f as f32))
        .collect()
}

/// `1 / theta^(2 i / head_dim)`, by the operations that Hugging Face takes, in float32: a last bit that differs is 6e-5 radians
/// at position 1,000, and three digits of the log-probabilities of a peaky model.
fn unscaled(head_dim: i64, theta: f64) -> Vec<f32> {
    let even = Tensor::arange_start_step(0, head_dim, 2, (Kind::Int64, Device::Cpu));
    let exponents = even.to_kind(Kind::Float) / head_dim as f64;
    let powers = Tensor::pow_scalar(theta, &exponents);
    Vec::try_from(powers.reciprocal()).expect("float32 of one dimension")
}

/// How much of the i-th frequency YaRN keeps, 0–1, and what the rest is divided by.
fn yarn_share(i: f64, dim: f64, config: &ModelConfig) -> Option<(f64, f64)> {
    let RopeScaling::Yarn { factor, fast, slow, original, truncate, .. } = config.rope else { return None };
    // The dimension that makes so many turns in the original context.
    let at = |turns: f64| dim * (original / (turns * 2.0 * PI)).ln() / (2.0 * config.rope_theta.ln());
    let (mut low, mut high) = (at(fast), at(slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001;
    }
    Some((1.0 - ((i - low) / (high - low)).clamp(0.0, 1.0), factor))
}

fn scale(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::Default | RopeScaling::Yarn { .. } => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low, high, original } => {
            let turns = original * frequency / (2.0 * PI); // full turns within the original context
            let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            frequency * ((1.0 - smooth) / factor + smooth)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_high_frequencies_and_divides_low_ones() {
        let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        assert_eq!(scale(1.0, scaling), 1.0);
        assert_eq!(scale(1e-5, scaling), 1e-5 / 8.0);
        let middle = 2.5 * 2.0 * PI / 8192.0; // half way up the ramp
        assert!((scale(middle, scaling) - middle * (0.5 / 8.0 + 0.5)).abs() < 1e-12);
    }

    #[test]
    fn frequencies_have_the_bits_of_float32_arithmetic() {
        // 1.0 / (10000.0 ** (torch.arange(0, 40, 2).float() / 40)) in PyTorch 2.11; thirteen of the twenty are one bit away
        // from the exact value rounded to float32.
        let expected = [
            0x3f80_0000,
            0x3f21_866b,
            0x3ecb_d4b4,
            0x3e80_9bcc,
            0x3e22_4b06,
            0x3dcc_cccd,
            0x3d81_3855,
            0x3d23_1091,
            0x3ccd_c613,
            0x3c81_d5a0,
            0x3c23_d70a,
            0x3bce_c089,
            0x3b82_73a4,
            0x3b24_9e78,
            0x3acf_bc32,
            0x3a83_126f,
            0x3a25_66d4,
            0x39d0_b907,
            0x3983_b1fa,
            0x3926_3028,
        ];
        let bits: Vec<u32> = unscaled(40, 10_000.0).into_iter().map(f32::to_bits).collect();
        assert_eq!(bits, expected);
    }

    #[test]
    fn rotation_of_a_known_angle() {
        let x = Tensor::from_slice(&[1.0f32, 0.0]).view([1, 1, 2]);
        let angle = Tensor::from_slice(&[0.5f32, 0.5]).view([1, 1, 2]);
        let y = Vec::<f32>::try_from(rotate(&x, &angle.cos(), &angle.sin()).view(-1)).unwrap();
        assert!((y[0] - 0.5f32.cos()).abs() < 1e-6 && (y[1] - 0.5f32.sin()).abs() < 1e-6);
    }
}
