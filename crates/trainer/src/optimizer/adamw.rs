//! AdamW in one pass over each parameter.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use thiserror::Error;

use crate::config::Optimizer;
use crate::ops::{self, AdamwFactors};
use crate::parameters;
use crate::supernet::Network;

const EPSILON: f64 = 1e-8;
/// Before a parameter's name: the mean of its gradients, of their squares, and the number of its updates.
const FIRST: &str = "first.";
const SECOND: &str = "second.";
const UPDATES: &str = "updates.";

/// [AdamW](https://arxiv.org/abs/1711.05101): with the gradient g of a parameter's n-th update,
///
/// m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2,
/// w <- (1 - r d) w - r (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + 1e-8),
///
/// r the learning rate, d the weight decay. A parameter that has no gradient is left as it is.
pub struct AdamW {
    beta1: f64,
    beta2: f64,
    weight_decay: f64,
    /// Where the moments are: where the network is.
    device: Device,
    parameters: HashMap<ParamId, Parameter>,
}

/// Why a saved state does not fit.
#[derive(Debug, Error)]
pub enum StateError {
    /// It cannot be decoded.
    #[error(transparent)]
    Format(#[from] SafeTensorError),
    /// A tensor is missing or has another type or size.
    #[error("there is no tensor {name} of {elements} values")]
    Tensor {
        /// Its name.
        name: String,
        /// The values that the parameter needs.
        elements: usize,
    },
    /// There are tensors that belong to no parameter.
    #[error("unknown tensors: {}", names.join(", "))]
    Unknown {
        /// Their names.
        names: Vec<String>,
    },
}

struct Parameter {
    name: String,
    decays: bool,
    elements: usize,
    /// From its first gradient on.
    moments: Option<Moments>,
}

struct Moments {
    updates: u64,
    /// `[elements]`, as `second`.
    first: Tensor<1>,
    second: Tensor<1>,
}

/// AdamW that decays matrices only.
pub fn adamw(config: &Optimizer, network: &Network) -> AdamW {
    let parameters = parameters::collect(network).into_iter().map(|(name, array)| {
        let (id, decays) = (parameters::id(&name), parameters::decays(&name, &array));
        (id, Parameter { name, decays, elements: array.data.len(), moments: None })
    });
    let Optimizer { weight_decay, beta1, beta2 } = *config;
    AdamW { beta1, beta2, weight_decay, device: network.device(), parameters: parameters.collect() }
}

impl AdamW {
    /// The network after one update with all gradients times `factor`.
    pub fn step(&mut self, rate: f64, network: Network, gradients: GradientsParams, factor: f64) -> Network {
        network.map(&mut Update { optimizer: self, rate, gradients, factor })
    }

    /// The state as bytes: equal states are equal bytes.
    ///
    /// # Errors
    ///
    /// The encoder's.
    pub fn into_bytes(&self) -> Result<Vec<u8>, SafeTensorError> {
        let bytes = |moment: &Tensor<1>| -> Vec<u8> {
            let values = parameters::array(moment.clone()).data;
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let mut tensors = BTreeMap::new();
        for parameter in self.parameters.values() {
            if let Some(Moments { updates, first, second }) = &parameter.moments {
                let name = &parameter.name;
                let elements = vec![parameter.elements];
                tensors.insert(format!("{FIRST}{name}"), (Dtype::F32, elements.clone(), bytes(first)));
                tensors.insert(format!("{SECOND}{name}"), (Dtype::F32, elements, bytes(second)));
                let updates = updates.to_le_bytes().to_vec();
                tensors.insert(format!("{UPDATES}{name}"), (Dtype::U64, Vec::new(), updates));
            }
        }
        let views = tensors
            .iter()
            .map(|(name, (dtype, shape, bytes))| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, SafeTensorError>>()?;
        safetensors::serialize(views, None)
    }

    /// The same optimizer in a saved state.
    ///
    /// # Errors
    ///
    /// [`StateError`] if it is damaged or belongs to other parameters.
    pub fn from_bytes(mut self, bytes: &[u8]) -> Result<Self, StateError> {
        let tensors = SafeTensors::deserialize(bytes)?;
        let mut unknown: Vec<&str> = tensors.names();
        for parameter in self.parameters.values_mut() {
            let mut find = |prefix: &str, dtype: Dtype, elements: usize| {
                let name = format!("{prefix}{}", parameter.name);
                unknown.retain(|found| *found != name);
                match tensors.tensor(&name) {
                    Ok(view)
                        if view.dtype() == dtype && view.shape().iter().product::<usize>() == elements =>
                    {
                        Ok(view.data().to_vec())
                    }
                    _ => Err(StateError::Tensor { name, elements }),
                }
            };
            if tensors.tensor(&format!("{UPDATES}{}", parameter.name)).is_ok() {
                let updates = find(UPDATES, Dtype::U64, 1)?;
                let updates = u64::from_le_bytes(updates.try_into().expect("one value of eight bytes"));
                let mut moment = |prefix| -> Result<Tensor<1>, StateError> {
                    let values = parameters::floats(&find(prefix, Dtype::F32, parameter.elements)?);
                    Ok(Tensor::from_data(TensorData::new(values, [parameter.elements]), &self.device))
                };
                let (first, second) = (moment(FIRST)?, moment(SECOND)?);
                parameter.moments = Some(Moments { updates, first, second });
            }
        }
        if unknown.is_empty() {
            return Ok(self);
        }
        unknown.sort_unstable();
        Err(StateError::Unknown { names: unknown.into_iter().map(str::to_owned).collect() })
    }
}

struct Update<'a> {
    optimizer: &'a mut AdamW,
    rate: f64,
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let AdamW { beta1, beta2, weight_decay, ref device, ref mut parameters } = *self.optimizer;
        let parameter = parameters.get_mut(&param.id).expect("the optimizer was made for this network");
        let zeros = || Tensor::zeros([parameter.elements], device);
        let Moments { updates, first, second } = parameter.moments.take().unwrap_or_else(|| Moments {
            updates: 0,
            first: zeros(),
            second: zeros(),
        });
        let updates = updates + 1;
        let correction = |beta: f64| 1.0 - beta.powf(updates as f64);
        let decay = if parameter.decays { self.rate * weight_decay } else { 0.0 };
        let factors = AdamwFactors {
            gradient: self.factor as f32,
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            keep: (1.0 - decay) as f32,
            rate: (self.rate / correction(beta1)) as f32,
            root: correction(beta2).sqrt().recip() as f32,
            epsilon: EPSILON as f32,
        };
        let (id, value, mapper) = param.consume();
        let (trains, shape) = (value.is_require_grad(), value.dims());
        let value = value.inner().reshape([parameter.elements]);
        let gradient = gradient.reshape([parameter.elements]);
        let [value, first, second] = ops::adamw(value, first, second, gradient, factors);
        parameter.moments = Some(Moments { updates, first, second });
        let value = Tensor::from_inner(value.reshape(shape)).set_require_grad(trains);
        Param::from_mapped_value(id, value, mapper)
    }
}
