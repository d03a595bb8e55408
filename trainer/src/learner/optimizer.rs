//! AdamW (Loshchilov and Hutter, 2019) with clipping by global norm, on float32 master weights.

use sinternal_model::{Device, Parameter, Parameters};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor, no_grad};

/// Elements of a block: 256 KiB of float32 in each of the tensors of an update.
const CPU_BLOCK: usize = 1 << 16;
/// On a GPU large blocks keep the temporary tensors bounded, 256 MiB each.
const DEVICE_BLOCK: usize = 1 << 26;

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

/// Gradients of a step, summed in float32 whatever the model computes in.
#[derive(Debug)]
pub(super) struct Sums {
    flat: Tensor,
    views: Vec<Tensor>,
}

impl Sums {
    fn new(parameters: &Parameters) -> Self {
        let flat = float_zeros(parameters);
        let view = |p: &Parameter| flat.narrow(0, p.range.start, p.tensor.numel() as i64).view_as(&p.tensor);
        let views = parameters.list().iter().map(view).collect();
        Self { flat, views }
    }

    /// Adds a parameter's gradient.
    pub(super) fn add(&mut self, parameter: usize, gradient: &Tensor) {
        no_grad(|| self.views[parameter] += gradient);
    }

    /// Adds `a · b`.
    pub(super) fn add_product(&mut self, parameter: usize, a: &Tensor, b: &Tensor) {
        let view = &mut self.views[parameter];
        no_grad(|| if a.kind() == view.kind() { drop(view.addmm_(a, b)) } else { *view += a.matmul(b) });
    }

    /// A parameter's sum.
    #[cfg(test)]
    pub(super) fn get(&self, parameter: usize) -> &Tensor {
        &self.views[parameter]
    }
}

/// Master weights, moments and the number of updates. All are float32; a model that computes in float32 is its own master.
#[derive(Debug)]
pub struct Optimizer {
    settings: AdamW,
    sums: Sums,
    first: Tensor,
    second: Tensor,
    master: Option<Tensor>,
    updates: u64,
}

impl Optimizer {
    /// Zero moments for these parameters.
    #[must_use]
    pub fn new(parameters: &Parameters, settings: AdamW) -> Self {
        let own = parameters.flat().kind() == Kind::Float;
        Self::build(parameters, settings, !own)
    }

    /// As [`Optimizer::new`], with master weights whatever the model computes in: its file then holds the weights, too.
    #[must_use]
    pub fn with_masters(parameters: &Parameters, settings: AdamW) -> Self {
        Self::build(parameters, settings, true)
    }

    fn build(parameters: &Parameters, settings: AdamW, masters: bool) -> Self {
        Self {
            settings,
            sums: Sums::new(parameters),
            first: float_zeros(parameters),
            second: float_zeros(parameters),
            master: masters.then(|| parameters.flat().detach().to_dtype(Kind::Float, false, true)),
            updates: 0,
        }
    }

    /// Updates made.
    pub(super) fn updates(&self) -> i64 {
        self.updates as i64
    }

    /// Where gradients gather until the next update.
    pub(super) fn sums(&mut self) -> &mut Sums {
        &mut self.sums
    }

    /// Clips the gradients to `max_norm`, updates, and forgets the gradients. Returns their norm before clipping.
    ///
    /// A norm that is not finite changes nothing but still forgets the gradients; the caller sees it in the result.
    pub fn update(&mut self, parameters: &Parameters, rate: f64, max_norm: f64) -> f64 {
        no_grad(|| {
            let norm = self.sums.flat.norm().double_value(&[]);
            if norm.is_finite() {
                self.updates += 1;
                let scale = (max_norm / (norm + 1e-6)).min(1.0);
                let (matrices, all) = (parameters.decayed(), parameters.flat().size()[0]);
                self.apply(parameters.flat(), 0..matrices, rate, scale, self.settings.weight_decay);
                self.apply(parameters.flat(), matrices..all, rate, scale, 0.0);
            }
            let _ = self.sums.flat.zero_();
            norm
        })
    }

    /// Updates a stretch of the parameters in blocks: a block stays in the processor's cache through all operations.
    fn apply(&self, weights: &Tensor, stretch: Range<i64>, rate: f64, scale: f64, decay: f64) {
        let AdamW { beta1, beta2, eps, .. } = self.settings;
        let count = i32::try_from(self.updates).unwrap_or(i32::MAX);
        let (correction1, correction2) = (1.0 - beta1.powi(count), 1.0 - beta2.powi(count));
        let size = if weights.device() == Device::Cpu { CPU_BLOCK } else { DEVICE_BLOCK };
        for start in stretch.clone().step_by(size) {
            let len = (size as i64).min(stretch.end - start);
            let part = |t: &Tensor| t.narrow(0, start, len);
            let gradient = part(&self.sums.flat).g_mul_scalar_(scale);
            let (mut first, mut second) = (part(&self.first), part(&self.second));
            let mut weight = part(self.master.as_ref().unwrap_or(weights));
            let _ = first.lerp_(&gradient, 1.0 - beta1);
            let _ = second.g_mul_scalar_(beta2).addcmul_(&gradient, &(&gradient * (1.0 - beta2)));
            if decay > 0.0 {
                let _ = weight.g_mul_scalar_(1.0 - rate * decay);
            }
            let denominator = (&second / correction2).sqrt_().g_add_scalar_(eps);
            let _ = weight.addcdiv_(&(&first * (-rate / correction1)), &denominator);
            if self.master.is_some() {
                part(weights).copy_(&weight);
            }
        }
    }

    /// Names, as they stand in the file, of the tensors that belong to a parameter.
    fn states(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        [("first", Some(&self.first)), ("second", Some(&self.second)), ("master", self.master.as_ref())]
            .into_iter()
            .filter_map(|(name, tensor)| tensor.map(|t| (name, t)))
    }

    /// Writes moments, master weights and count into `dir`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, parameters: &Parameters, dir: &Path) -> Result<(), CheckpointError> {
        let named = parameters.list().iter().flat_map(|p| {
            self.states()
                .map(move |(state, flat)| (format!("{}.{state}", p.parts[0].0), of_parameter(flat, p)))
        });
        let updates = ("updates".to_owned(), Tensor::from_slice(&[self.updates as i64]));
        let path = dir.join(FILE);
        let all: Vec<(String, Tensor)> = named.chain([updates]).collect();
        Tensor::write_safetensors(&all, &path).map_err(|e| CheckpointError::new(&path, &e))
    }

    /// Reads what [`Optimizer::save`] wrote, strictly, and gives the parameters the values of their masters.
    ///
    /// # Errors
    /// A file that cannot be read, or a tensor that is missing or misshapen, by name.
    pub fn load(&mut self, parameters: &Parameters, dir: &Path) -> Result<(), CheckpointError> {
        let path = dir.join(FILE);
        let stored: BTreeMap<String, Tensor> = Tensor::read_safetensors(&path)
            .map_err(|e| CheckpointError::new(&path, &e))?
            .into_iter()
            .collect();
        let find = |name: &str| {
            stored
                .get(name)
                .ok_or_else(|| CheckpointError::new(&path, &format!("tensor `{name}` is missing")))
        };
        for p in parameters.list() {
            for (state, flat) in self.states() {
                let name = format!("{}.{state}", p.parts[0].0);
                let (from, mut to) = (find(&name)?, of_parameter(flat, p));
                if from.size() != to.size() {
                    let problem = format!("tensor `{name}` has shape {:?}, not {:?}", from.size(), to.size());
                    return Err(CheckpointError::new(&path, &problem));
                }
                no_grad(|| to.copy_(from));
            }
        }
        if let Some(master) = &self.master {
            no_grad(|| parameters.flat().shallow_clone().copy_(master));
        }
        self.updates = u64::try_from(find("updates")?.int64_value(&[0])).unwrap_or(0);
        Ok(())
    }
}

fn float_zeros(parameters: &Parameters) -> Tensor {
    Tensor::zeros(parameters.flat().size(), (Kind::Float, parameters.flat().device()))
}

fn of_parameter(flat: &Tensor, parameter: &Parameter) -> Tensor {
    flat.narrow(0, parameter.range.start, parameter.tensor.numel() as i64).view_as(&parameter.tensor)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix and a vector, so that decay is seen on one and not on the other.
    fn parameters(kind: Kind, values: &[f32]) -> Parameters {
        let half = values.len() as i64 / 2;
        let plan = vec![vec![("v".to_owned(), vec![half])], vec![("m".to_owned(), vec![1, half])]];
        let parameters = Parameters::zeros(plan, kind, Device::Cpu);
        no_grad(|| parameters.flat().shallow_clone().copy_(&Tensor::from_slice(values)));
        parameters
    }

    fn values(t: &Tensor) -> Vec<f32> {
        Vec::try_from(t.to_kind(Kind::Float)).unwrap()
    }

    fn add(optimizer: &mut Optimizer, gradient: f32) {
        optimizer.sums().add(0, &Tensor::from_slice(&[gradient]));
        optimizer.sums().add(1, &Tensor::from_slice(&[[gradient]].concat()).view([1, 1]));
    }

    #[test]
    fn two_updates_by_hand() {
        // Gradients (3, 3), norm 3√2, clipped to 1; Adam's first step is rate · sign, and decay is on the matrix alone.
        let p = parameters(Kind::Float, &[1.0, 1.0]);
        let mut optimizer = Optimizer::new(&p, AdamW { weight_decay: 0.5, ..AdamW::default() });
        add(&mut optimizer, 3.0);
        let norm = optimizer.update(&p, 0.1, 1.0);
        assert!((norm - 3.0 * 2f64.sqrt()).abs() < 1e-6);
        let close = |expected: [f32; 2]| {
            let is = values(p.flat());
            assert!(is.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{is:?}");
        };
        close([0.95 - 0.1, 0.9]);
        // The same gradient again leaves the moments at those of a constant gradient.
        add(&mut optimizer, 3.0);
        optimizer.update(&p, 0.1, 1.0);
        close([0.85 * 0.95 - 0.1, 0.8]);
    }

    #[test]
    fn blocks_and_gradients_that_gather() {
        let n = CPU_BLOCK + 3;
        let p = parameters(Kind::Float, &vec![0.0; 2 * n]);
        let mut optimizer = Optimizer::new(&p, AdamW::default());
        for _ in 0..2 {
            optimizer.sums().add(0, &Tensor::ones([n as i64], (Kind::Float, Device::Cpu)));
        }
        optimizer.sums().add_product(
            1,
            &Tensor::from_slice(&[-2f32]).view([1, 1]),
            &Tensor::ones([1, n as i64], (Kind::Float, Device::Cpu)),
        );
        let norm = optimizer.update(&p, 0.5, 1e9);
        assert!((norm - (8.0 * n as f64).sqrt()).abs() < 1e-2);
        assert!(values(p.flat())[..n].iter().all(|w| (w - 0.5).abs() < 1e-5), "matrix: gradient −2");
        assert!(values(p.flat())[n..].iter().all(|w| (w + 0.5).abs() < 1e-5), "vector: gradient 2");
    }

    #[test]
    fn steps_too_small_for_bfloat16_add_up_in_the_master() {
        // 1e-4 is below half a unit in the last place of bfloat16 at 1; a hundred of them are not.
        let p = parameters(Kind::BFloat16, &[1.0, 1.0]);
        let mut optimizer = Optimizer::new(&p, AdamW::default());
        for step in 0..100 {
            add(&mut optimizer, 1.0);
            optimizer.update(&p, 1e-4, 1e9);
            assert!(step > 0 || values(p.flat()) == [1.0, 1.0]);
        }
        assert!(values(p.flat()).iter().all(|w| (w - 0.99).abs() < 4e-3));
        assert!(values(optimizer.master.as_ref().unwrap()).iter().all(|w| (w - 0.99).abs() < 1e-5));
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let p = parameters(Kind::Float, &[1.0, 2.0]);
        let mut optimizer = Optimizer::new(&p, AdamW::default());
        add(&mut optimizer, f32::NAN);
        assert!(!optimizer.update(&p, 0.1, 1.0).is_finite());
        assert_eq!(values(p.flat()), [1.0, 2.0]);
        add(&mut optimizer, 1.0);
        assert!(optimizer.update(&p, 0.1, 1.0).is_finite(), "it is forgotten");
    }

    #[test]
    fn everything_survives_a_round_trip() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let dir = tempfile::tempdir().unwrap();
            let step = |p: &Parameters, o: &mut Optimizer| {
                add(o, 0.3);
                o.update(p, 0.013, 10.0);
            };
            let a = parameters(kind, &[1.0, -2.0]);
            let mut first = Optimizer::new(&a, AdamW::default());
            step(&a, &mut first);
            first.save(&a, dir.path()).unwrap();
            let b = parameters(kind, &[0.0, 0.0]);
            no_grad(|| b.flat().shallow_clone().copy_(a.flat()));
            let mut second = Optimizer::new(&b, AdamW::default());
            second.load(&b, dir.path()).unwrap();
            step(&a, &mut first);
            step(&b, &mut second);
            assert_eq!(values(a.flat()), values(b.flat()));
            assert_eq!(first.master.as_ref().map(values), second.master.as_ref().map(values));
        }
    }
}
