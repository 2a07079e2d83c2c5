//! Layer normalisation over a leading part of the features.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::{Transforms, leading};
use crate::ops;
use crate::parameters::{constant, param};

/// [Layer normalisation](https://arxiv.org/abs/1607.06450) with a leading part of scale and shift (A5).
#[derive(Module, Debug)]
pub struct ElasticLayerNorm {
    /// Scale, `[largest features]`
    pub weight: Param<Tensor<1>>,
    /// Shift, `[largest features]`
    pub bias: Param<Tensor<1>>,
    /// On the normalised features.
    pub transforms: Transforms,
    #[module(skip)]
    epsilon: f32,
}

impl ElasticLayerNorm {
    /// A layer of the largest size: scale one, shift zero. `epsilon` is added to the variance.
    pub fn new(features: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: param(constant([features], 1.0), device),
            bias: param(constant([features], 0.0), device),
            transforms: Transforms::identity(),
            epsilon: epsilon as f32,
        }
    }

    /// The same layer with transforms.
    #[must_use]
    pub fn with_transforms(self, transforms: Transforms) -> Self {
        Self { transforms, ..self }
    }

    /// Scale and shift of the first `features` with their transform, both `[features]`.
    pub fn slice(&self, features: usize) -> (Tensor<1>, Tensor<1>) {
        self.transforms.fold(leading(&self.weight, [features]), leading(&self.bias, [features]))
    }

    /// Normalises each row.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, features]`
    /// - output: `[rows, features]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.slice(x.dims()[1]);
        ops::layer_norm(x, weight, bias, self.epsilon)
    }
}
