//! AdamW over a supernet's parameters, and the norm of a gradient.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Tensor, TensorData};

use crate::config::Optimizer;
use crate::parameters;
use crate::supernet::Network;

/// AdamW that decays matrices only.
pub fn adamw(config: &Optimizer, network: &Network) -> ModuleOptimizer {
    let base = AdamWConfig::new()
        .with_beta_1(config.beta1 as f32)
        .with_beta_2(config.beta2 as f32)
        .with_epsilon(1e-8);
    let plain = base.clone().with_weight_decay(0.0).init();
    let decaying = base.with_weight_decay(config.weight_decay as f32).build();
    plain.with_group(ParamGroup::from_ids(parameters::decayed(network)), decaying, None)
}

/// The Euclidean norm of all gradients together.
pub fn norm(gradients: &GradientsParams, network: &Network) -> f64 {
    let mut visitor = SquaredNorm { gradients, sum: 0.0 };
    network.visit(&mut visitor);
    visitor.sum.sqrt()
}

/// All gradients multiplied by a factor.
pub fn scaled(gradients: GradientsParams, factor: f64, network: &Network) -> GradientsParams {
    let mut visitor = Scale { from: gradients, to: GradientsParams::new(), factor };
    network.visit(&mut visitor);
    visitor.to
}

/// The average moved towards the network by one step: a <- d a + (1 - d) w, where the decay d is at most
/// (1 + n) / (10 + n) after n earlier steps, so that a young average follows quickly.
///
/// Both must have one structure.
pub fn averaged(average: Network, network: &Network, decay: f64, steps: u64) -> Network {
    let decay = decay.min((1.0 + steps as f64) / (10.0 + steps as f64));
    let mut values = Values(HashMap::new());
    network.visit(&mut values);
    average.map(&mut Average { towards: values.0, decay: decay as f32 })
}

/// Every parameter's values.
struct Values(HashMap<ParamId, TensorData>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.insert(param.id, param.val().into_data());
    }
}

struct Average {
    towards: HashMap<ParamId, TensorData>,
    decay: f32,
}

impl ModuleMapper for Average {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let towards = self.towards.remove(&id).expect("the average has the network's parameters");
        let towards = Tensor::from_data(towards, &value.device());
        Param::from_mapped_value(id, value * self.decay + towards * (1.0 - self.decay), mapper)
    }
}

struct SquaredNorm<'a> {
    gradients: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = (gradient.clone() * gradient).sum();
            self.sum += f64::from(square.into_scalar::<f32>());
        }
    }
}

struct Scale {
    from: GradientsParams,
    to: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, gradient * self.factor);
        }
    }
}
