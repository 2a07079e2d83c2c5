//! The moving average of the weights.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use crate::supernet::Network;

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

/// Every parameter's values, `[elements]`.
struct Values(HashMap<ParamId, Tensor<1>>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        let elements = value.shape().num_elements();
        self.0.insert(param.id, value.reshape([elements]));
    }
}

struct Average {
    towards: HashMap<ParamId, Tensor<1>>,
    decay: f32,
}

impl ModuleMapper for Average {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let towards = self.towards.remove(&id).expect("the average has the network's parameters");
        let towards = towards.reshape(value.dims());
        Param::from_mapped_value(id, value * self.decay + towards * (1.0 - self.decay), mapper)
    }
}
