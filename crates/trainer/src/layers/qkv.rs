//! The fused projection to queries, keys and values, of which the first heads are kept.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use rand::Rng;

use super::{Transforms, leading};
use crate::ops;
use crate::parameters::{constant, param, xavier_uniform};

/// Queries, keys and values in one projection; each part keeps its leading features (A4).
#[derive(Module, Debug)]
pub struct ElasticQkv {
    /// `[largest inputs, 3, largest inner]`: query, key, value
    pub weight: Param<Tensor<3>>,
    /// `[3, largest inner]`
    pub bias: Param<Tensor<2>>,
    /// On queries, keys and values.
    pub transforms: Transforms,
}

impl ElasticQkv {
    /// A layer of the largest sizes: Xavier-uniform weights per part, zero bias.
    pub fn new(inputs: usize, inner: usize, device: &Device, rng: &mut impl Rng) -> Self {
        Self {
            weight: param(xavier_uniform([inputs, 3, inner], inputs, inner, rng), device),
            bias: param(constant([3, inner], 0.0), device),
            transforms: Transforms::identity(),
        }
    }

    /// The same layer with transforms.
    #[must_use]
    pub fn with_transforms(self, transforms: Transforms) -> Self {
        Self { transforms, ..self }
    }

    /// The weights of the first `inputs` features and, in each part, the first `inner`, with their
    /// transform.
    ///
    /// # Shapes
    ///
    /// - weight: `[inputs, 3 * inner]`
    /// - bias: `[3 * inner]`
    pub fn slice(&self, inputs: usize, inner: usize) -> (Tensor<2>, Tensor<1>) {
        let weight = leading(&self.weight, [inputs, 3, inner]);
        let bias = leading(&self.bias, [3, inner]);
        self.transforms.fold(weight.reshape([inputs, 3 * inner]), bias.reshape([3 * inner]))
    }

    /// Projects to queries, keys and values of `inner` features each.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, inputs]`
    /// - output: `[rows, 3 * inner]`
    pub fn forward(&self, x: Tensor<2>, inner: usize) -> Tensor<2> {
        let (weight, bias) = self.slice(x.dims()[1], inner);
        ops::linear(x, weight, bias)
    }
}
