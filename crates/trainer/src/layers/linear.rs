//! A fully connected layer whose inputs and outputs both shrink.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use rand::Rng;

use super::{Transforms, leading};
use crate::ops;
use crate::parameters::{constant, param, xavier_uniform};

/// y = x W + b with a leading part of W and b (method row A1).
#[derive(Module, Debug)]
pub struct ElasticLinear {
    /// `[largest inputs, largest outputs]`
    pub weight: Param<Tensor<2>>,
    /// `[largest outputs]`
    pub bias: Param<Tensor<1>>,
    /// On the outputs.
    pub transforms: Transforms,
}

impl ElasticLinear {
    /// A layer of the largest sizes: Xavier-uniform weights, zero bias.
    pub fn new(inputs: usize, outputs: usize, device: &Device, rng: &mut impl Rng) -> Self {
        Self {
            weight: param(xavier_uniform([inputs, outputs], inputs, outputs, rng), device),
            bias: param(constant([outputs], 0.0), device),
            transforms: Transforms::identity(),
        }
    }

    /// The same layer with transforms.
    #[must_use]
    pub fn with_transforms(self, transforms: Transforms) -> Self {
        Self { transforms, ..self }
    }

    /// The weights of the first `inputs` and the first `outputs` features, with their transform.
    ///
    /// # Shapes
    ///
    /// - weight: `[inputs, outputs]`
    /// - bias: `[outputs]`
    pub fn slice(&self, inputs: usize, outputs: usize) -> (Tensor<2>, Tensor<1>) {
        let weight = leading(&self.weight, [inputs, outputs]);
        self.transforms.fold(weight, leading(&self.bias, [outputs]))
    }

    /// Runs on the first `outputs` features out; the features in are those of `x`.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, inputs]`
    /// - output: `[rows, outputs]`
    pub fn forward(&self, x: Tensor<2>, outputs: usize) -> Tensor<2> {
        let (weight, bias) = self.slice(x.dims()[1], outputs);
        ops::linear(x, weight, bias)
    }

    /// [`Self::forward`] plus a residual, in one pass.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, inputs]`
    /// - residual, output: `[rows, outputs]`
    pub fn forward_add(&self, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.slice(x.dims()[1], residual.dims()[1]);
        ops::linear_add(x, weight, bias, residual)
    }
}
