//! Layers on four tokens side by side, of which each keeps its leading features.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use rand::Rng;

use super::{Transforms, leading};
use crate::ops;
use crate::parameters::{constant, param, xavier_uniform};

/// Tokens that are merged into one.
const TOKENS: usize = 4;

/// Layer normalisation of four tokens side by side; each part keeps its leading features (A5).
#[derive(Module, Debug)]
pub struct ElasticMergeNorm {
    /// Scale, `[4, largest features]`
    pub weight: Param<Tensor<2>>,
    /// Shift, `[4, largest features]`
    pub bias: Param<Tensor<2>>,
    /// On the normalised features.
    pub transforms: Transforms,
    #[module(skip)]
    epsilon: f32,
}

/// y = x W for four tokens side by side; each part keeps its leading features (A5).
#[derive(Module, Debug)]
pub struct ElasticMergeLinear {
    /// `[4, largest inputs, largest outputs]`
    pub weight: Param<Tensor<3>>,
}

impl ElasticMergeNorm {
    /// A layer of the largest size, of one token: scale one, shift zero. `epsilon` is added to the variance.
    pub fn new(features: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: param(constant([TOKENS, features], 1.0), device),
            bias: param(constant([TOKENS, features], 0.0), device),
            transforms: Transforms::identity(),
            epsilon: epsilon as f32,
        }
    }

    /// The same layer with transforms, made for four times the choices of features.
    #[must_use]
    pub fn with_transforms(self, transforms: Transforms) -> Self {
        Self { transforms, ..self }
    }

    /// Scale and shift of the first `features` of each token with their transform, both `[4 * features]`.
    pub fn slice(&self, features: usize) -> (Tensor<1>, Tensor<1>) {
        let flat = |param| leading(param, [TOKENS, features]).reshape([TOKENS * features]);
        self.transforms.fold(flat(&self.weight), flat(&self.bias))
    }

    /// Normalises each row.
    ///
    /// # Shapes
    ///
    /// - x and output: `[rows, 4 * features]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.slice(x.dims()[1] / TOKENS);
        ops::layer_norm(x, weight, bias, self.epsilon)
    }
}

impl ElasticMergeLinear {
    /// A layer of the largest sizes, inputs of one token: Xavier-uniform weights.
    pub fn new(inputs: usize, outputs: usize, device: &Device, rng: &mut impl Rng) -> Self {
        let shape = [TOKENS, inputs, outputs];
        Self { weight: param(xavier_uniform(shape, TOKENS * inputs, outputs, rng), device) }
    }

    /// The weights of the first `inputs` features of each token and the first `outputs`,
    /// `[4 * inputs, outputs]`.
    pub fn slice(&self, inputs: usize, outputs: usize) -> Tensor<2> {
        leading(&self.weight, [TOKENS, inputs, outputs]).reshape([TOKENS * inputs, outputs])
    }

    /// Runs on the first `outputs` features out; the features in are those of `x`.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, 4 * inputs]`
    /// - output: `[rows, outputs]`
    pub fn forward(&self, x: Tensor<2>, outputs: usize) -> Tensor<2> {
        let inputs = x.dims()[1] / TOKENS;
        x.matmul(self.slice(inputs, outputs))
    }
}
