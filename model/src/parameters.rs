//! Named parameters in one stretch of memory, matrices first.

use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Names and shapes of a parameter's parts, in the file's own terms; parts follow each other along dimension 0.
pub type Parts = Vec<(String, Vec<i64>)>;

/// A tensor made of one or more tensors of the file laid under each other.
#[derive(Debug)]
pub struct Parameter {
    /// The tensor itself; all handles on it share its storage.
    pub tensor: Tensor,
    /// Name and shape of each part.
    pub parts: Parts,
    /// Where it lies in [`Parameters::flat`], in elements.
    pub range: Range<i64>,
}

impl Parameter {
    /// The parts as views of `like`, which has the parameter's number of elements, with their names in the file.
    pub fn views_of(&self, like: &Tensor) -> impl Iterator<Item = (&str, Tensor)> {
        let whole = like.view_as(&self.tensor);
        let mut row = 0;
        self.parts.iter().map(move |(name, shape)| {
            let view = whole.narrow(0, row, shape[0]);
            row += shape[0];
            (name.as_str(), view)
        })
    }

    /// The parts as views, with their names in the file.
    pub fn views(&self) -> impl Iterator<Item = (&str, Tensor)> {
        self.views_of(&self.tensor)
    }
}

/// A model's or an adapter's parameters.
#[derive(Debug)]
pub struct Parameters {
    flat: Tensor,
    list: Vec<Parameter>,
    decayed: i64,
}

impl Parameters {
    /// Zeros for a plan.
    #[must_use]
    pub fn zeros(plan: Vec<Parts>, kind: Kind, device: Device) -> Self {
        let elements = plan.iter().map(|parts| numel(&shape(parts))).sum();
        Self::over(plan, &Tensor::zeros([elements], (kind, device)))
    }

    /// A plan laid over memory that is there.
    fn over(plan: Vec<Parts>, flat: &Tensor) -> Self {
        let is_matrix = |parts: &Parts| shape(parts).len() > 1;
        let decayed = plan.iter().filter(|p| is_matrix(p)).map(|p| numel(&shape(p))).sum();
        let (mut matrix, mut vector) = (0, decayed);
        let mut list = Vec::with_capacity(plan.len());
        for parts in plan {
            let shape = shape(&parts);
            let next = if is_matrix(&parts) { &mut matrix } else { &mut vector };
            let range = *next..*next + numel(&shape);
            *next = range.end;
            list.push(Parameter {
                tensor: flat.narrow(0, range.start, numel(&shape)).view(&shape[..]),
                parts,
                range,
            });
        }
        Self { flat: flat.shallow_clone(), list, decayed }
    }

    /// Other handles on the same memory, which do not share whether gradients are wanted.
    pub(crate) fn share(&self) -> Self {
        Self::over(self.list.iter().map(|p| p.parts.clone()).collect(), &self.flat.detach())
    }

    /// All elements, `[n]`.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Weight decay applies to the first so many elements: to matrices, not to norms and biases.
    #[must_use]
    pub fn decayed(&self) -> i64 {
        self.decayed
    }

    /// In a fixed order.
    #[must_use]
    pub fn list(&self) -> &[Parameter] {
        &self.list
    }

    /// Every part with its name.
    pub fn views(&self) -> impl Iterator<Item = (&str, Tensor)> {
        self.list.iter().flat_map(Parameter::views)
    }

    /// Marks every parameter as trained or frozen.
    pub fn set_requires_grad(&self, trained: bool) {
        for p in &self.list {
            let _ = p.tensor.set_requires_grad(trained);
        }
    }
}

fn shape(parts: &Parts) -> Vec<i64> {
    let mut shape = parts[0].1.clone();
    shape[0] = parts.iter().map(|(_, s)| s[0]).sum();
    shape
}

fn numel(shape: &[i64]) -> i64 {
    shape.iter().product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_lie_first_and_parts_are_views() {
        let plan = vec![
            vec![("norm".to_owned(), vec![2])],
            vec![("q".to_owned(), vec![2, 2]), ("k".to_owned(), vec![1, 2])],
        ];
        let parameters = Parameters::zeros(plan, Kind::Float, Device::Cpu);
        assert_eq!((parameters.decayed(), parameters.flat().size()), (6, vec![8]));
        assert_eq!(parameters.list().iter().map(|p| p.range.clone()).collect::<Vec<_>>(), [6..8, 0..6]);
        let (_, mut k) = parameters.views().find(|(name, _)| *name == "k").unwrap();
        let _ = k.fill_(1.0);
        assert_eq!(Vec::<f32>::try_from(parameters.flat()).unwrap(), [0., 0., 0., 0., 1., 1., 0., 0.]);
        let _ = parameters.share().list()[0].tensor.shallow_clone().fill_(2.0);
        assert_eq!(parameters.flat().double_value(&[7]), 2.0);
    }
}
