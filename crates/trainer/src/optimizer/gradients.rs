//! Norm and sum of gradients.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::ops;
use crate::supernet::Network;

/// The Euclidean norm of all gradients together.
pub fn norm(gradients: &GradientsParams, network: &Network) -> f64 {
    let mut visitor = SquaredNorm { gradients, sum: 0.0 };
    network.visit(&mut visitor);
    visitor.sum.sqrt()
}

/// The sum of two gradients.
pub fn added(a: GradientsParams, b: GradientsParams, network: &Network) -> GradientsParams {
    let mut visitor = Add { to: a, from: b };
    network.visit(&mut visitor);
    visitor.to
}

struct SquaredNorm<'a> {
    gradients: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let gradient = gradient.into_data();
            self.sum += ops::squared_sum(gradient.as_slice().expect("gradients are 32-bit floats"));
        }
    }
}

struct Add {
    to: GradientsParams,
    from: GradientsParams,
}

impl ModuleVisitor for Add {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            let sum = match self.to.remove::<D>(param.id) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            self.to.register(param.id, sum);
        }
    }
}
