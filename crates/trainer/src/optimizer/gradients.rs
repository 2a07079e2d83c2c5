//! Norm and sum of gradients.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::device::is_cpu;
use crate::supernet::Network;
use crate::{ops, parameters};

/// The Euclidean norm of all gradients together.
pub fn norm(gradients: &GradientsParams, network: &Network) -> f64 {
    let mut visitor =
        SquaredNorm { gradients, on_cpu: is_cpu(&network.device()), sum: 0.0, sums: Vec::new() };
    network.visit(&mut visitor);
    visitor.total().sqrt()
}

/// The sum of two gradients.
pub fn added(a: GradientsParams, b: GradientsParams, network: &Network) -> GradientsParams {
    let mut visitor = Add { to: a, from: b };
    network.visit(&mut visitor);
    visitor.to
}

struct SquaredNorm<'a> {
    gradients: &'a GradientsParams,
    on_cpu: bool,
    sum: f64,
    /// Those that are still on a GPU, `[1]` each: waiting for one at a time would cost more than the arithmetic.
    sums: Vec<Tensor<1>>,
}

impl SquaredNorm<'_> {
    fn total(self) -> f64 {
        if self.sums.is_empty() {
            return self.sum;
        }
        self.sum + parameters::array(Tensor::cat(self.sums, 0)).data.into_iter().map(f64::from).sum::<f64>()
    }
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            if self.on_cpu {
                let gradient = gradient.into_data();
                self.sum += ops::squared_sum(gradient.as_slice().expect("gradients are 32-bit floats"));
            } else {
                self.sums.push((gradient.clone() * gradient).sum());
            }
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
