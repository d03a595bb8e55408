//! AdamW (Loshchilov and Hutter, 2019) with clipping by global norm.

use sinternal_model::Parameter;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor, no_grad};

/// Its file in a checkpoint.
pub const FILE: &str = "optimizer.safetensors";

/// Hyper-parameters that do not change during a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, on matrices alone.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// Moments of every parameter, and the number of updates.
#[derive(Debug)]
pub struct Optimizer {
    settings: AdamW,
    moments: Vec<(Tensor, Tensor)>,
    updates: u64,
}

impl Optimizer {
    /// Zero moments for these parameters.
    #[must_use]
    pub fn new(parameters: &[Parameter], settings: AdamW) -> Self {
        let moments = parameters.iter().map(|p| (p.tensor.zeros_like(), p.tensor.zeros_like())).collect();
        Self { settings, moments, updates: 0 }
    }

    /// Clips the gradients to `max_norm`, updates, and forgets the gradients. Returns their norm before clipping.
    ///
    /// A norm that is not finite changes nothing but still forgets the gradients; the caller sees it in the result.
    pub fn update(&mut self, parameters: &[Parameter], rate: f64, max_norm: f64) -> f64 {
        no_grad(|| {
            let norm = global_norm(parameters);
            if norm.is_finite() {
                self.updates += 1;
                let scale = (max_norm / (norm + 1e-6)).min(1.0);
                for (parameter, (first, second)) in parameters.iter().zip(&self.moments) {
                    self.apply(parameter, first, second, rate, scale);
                }
            }
            zero_grad(parameters);
            norm
        })
    }

    fn apply(&self, parameter: &Parameter, first: &Tensor, second: &Tensor, rate: f64, scale: f64) {
        let gradient = parameter.tensor.grad();
        if !gradient.defined() {
            return;
        }
        let AdamW { beta1, beta2, eps, weight_decay } = self.settings;
        let count = i32::try_from(self.updates).unwrap_or(i32::MAX);
        let (correction1, correction2) = (1.0 - beta1.powi(count), 1.0 - beta2.powi(count));
        let gradient = gradient * scale;
        let (mut weight, mut first, mut second) =
            (parameter.tensor.shallow_clone(), first.shallow_clone(), second.shallow_clone());
        let _ = first.lerp_(&gradient, 1.0 - beta1);
        let _ = second.g_mul_scalar_(beta2).addcmul_(&gradient, &(&gradient * (1.0 - beta2)));
        if parameter.decays() && weight_decay > 0.0 {
            let _ = weight.g_mul_scalar_(1.0 - rate * weight_decay);
        }
        let denominator = (&second / correction2).sqrt_().g_add_scalar_(eps);
        let _ = weight.addcdiv_(&(&first * (-rate / correction1)), &denominator);
    }

    /// Writes moments and count into `dir`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, parameters: &[Parameter], dir: &Path) -> Result<(), CheckpointError> {
        let named = parameters.iter().zip(&self.moments).flat_map(|(p, (first, second))| {
            let name = &p.parts[0].0;
            [
                (format!("{name}.first"), first.shallow_clone()),
                (format!("{name}.second"), second.shallow_clone()),
            ]
        });
        let updates = ("updates".to_owned(), Tensor::from_slice(&[self.updates as i64]));
        let path = dir.join(FILE);
        let all: Vec<(String, Tensor)> = named.chain([updates]).collect();
        Tensor::write_safetensors(&all, &path).map_err(|e| CheckpointError::new(&path, &e))
    }

    /// Reads what [`Optimizer::save`] wrote, strictly.
    ///
    /// # Errors
    /// A file that cannot be read, or a moment that is missing or misshapen, by name.
    pub fn load(&mut self, parameters: &[Parameter], dir: &Path) -> Result<(), CheckpointError> {
        let path = dir.join(FILE);
        let stored: BTreeMap<String, Tensor> = Tensor::read_safetensors(&path)
            .map_err(|e| CheckpointError::new(&path, &e))?
            .into_iter()
            .collect();
        let find = |name: String| {
            stored
                .get(&name)
                .ok_or_else(|| CheckpointError::new(&path, &format!("tensor `{name}` is missing")))
        };
        for (p, (first, second)) in parameters.iter().zip(&self.moments) {
            for (suffix, to) in [("first", first), ("second", second)] {
                let from = find(format!("{}.{suffix}", p.parts[0].0))?;
                if from.size() != to.size() {
                    let problem = format!(
                        "tensor `{}.{suffix}` has shape {:?}, not {:?}",
                        p.parts[0].0,
                        from.size(),
                        to.size()
                    );
                    return Err(CheckpointError::new(&path, &problem));
                }
                no_grad(|| to.shallow_clone().copy_(from));
            }
        }
        self.updates = u64::try_from(find("updates".into())?.int64_value(&[0])).unwrap_or(0);
        Ok(())
    }
}

/// A part of a checkpoint that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}", path = path.display())]
pub struct CheckpointError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl CheckpointError {
    pub(crate) fn new(path: &Path, problem: &impl std::fmt::Display) -> Self {
        let problem = problem.to_string();
        Self { path: path.into(), problem: problem.lines().next().unwrap_or_default().into() }
    }
}

fn global_norm(parameters: &[Parameter]) -> f64 {
    let squares: Vec<Tensor> = parameters
        .iter()
        .map(|p| p.tensor.grad())
        .filter(Tensor::defined)
        .map(|g| g.to_kind(Kind::Float).square().sum(Kind::Double))
        .collect();
    if squares.is_empty() {
        0.0
    } else {
        Tensor::stack(&squares, 0).sum(Kind::Double).sqrt().double_value(&[])
    }
}

fn zero_grad(parameters: &[Parameter]) {
    for p in parameters {
        p.tensor.shallow_clone().zero_grad();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(values: &[f32], rows: i64) -> Parameter {
        let tensor = Tensor::from_slice(values).view([rows, -1]).set_requires_grad(true);
        let shape = tensor.size();
        Parameter { tensor, parts: vec![("w".into(), shape)] }
    }

    fn values(p: &Parameter) -> Vec<f32> {
        Vec::try_from(p.tensor.detach().view(-1)).unwrap()
    }

    #[test]
    fn two_updates_by_hand() {
        // Gradient of 3w² / 2 at w = 1 is 3, clipped to norm 1; Adam's first step is rate · sign.
        let p = parameter(&[1.0], 1);
        let mut optimizer =
            Optimizer::new(std::slice::from_ref(&p), AdamW { weight_decay: 0.5, ..AdamW::default() });
        (&p.tensor * &p.tensor * 1.5).sum(Kind::Float).backward();
        let norm = optimizer.update(std::slice::from_ref(&p), 0.1, 1.0);
        assert!((norm - 3.0).abs() < 1e-6);
        let expected = 1.0 * (1.0 - 0.1 * 0.5) - 0.1;
        assert!((values(&p)[0] - expected).abs() < 1e-5, "{:?}", values(&p));

        // Second: gradient 3 · 0.85 = 2.55 clipped to 1 again, so both moments stay at those of a constant gradient 1.
        (&p.tensor * &p.tensor * 1.5).sum(Kind::Float).backward();
        optimizer.update(std::slice::from_ref(&p), 0.1, 1.0);
        let expected = expected * (1.0 - 0.1 * 0.5) - 0.1;
        assert!((values(&p)[0] - expected).abs() < 1e-5);
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let p = parameter(&[1.0, 2.0], 1);
        let mut optimizer = Optimizer::new(std::slice::from_ref(&p), AdamW::default());
        (&p.tensor * f64::NAN).sum(Kind::Float).backward();
        assert!(!optimizer.update(std::slice::from_ref(&p), 0.1, 1.0).is_finite());
        assert_eq!(values(&p), [1.0, 2.0]);
    }

    #[test]
    fn moments_survive_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let step = |p: &Parameter, o: &mut Optimizer| {
            p.tensor.square().sum(Kind::Float).backward();
            o.update(std::slice::from_ref(p), 0.1, 10.0);
        };
        let a = parameter(&[1.0, -2.0], 1);
        let mut first = Optimizer::new(std::slice::from_ref(&a), AdamW::default());
        step(&a, &mut first);
        first.save(std::slice::from_ref(&a), dir.path()).unwrap();
        let b = parameter(&values(&a), 1);
        let mut second = Optimizer::new(std::slice::from_ref(&b), AdamW::default());
        second.load(std::slice::from_ref(&b), dir.path()).unwrap();
        step(&a, &mut first);
        step(&b, &mut second);
        assert_eq!(values(&a), values(&b));
    }
}
