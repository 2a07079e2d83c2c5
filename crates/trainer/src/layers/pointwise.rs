//! A convolution as a matrix on rows of pixels, and its batch normalisation.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, module::linear};
use rand::Rng;

use super::batch_norm::Moments;
use super::{ElasticBatchNorm, Normalisation, Transforms, leading};
use crate::ops;
use crate::parameters::{param, xavier_uniform};

/// A 1 x 1 convolution without bias, then batch normalisation (A1).
///
/// A larger kernel is the same on rows that hold each pixel's neighbourhood.
#[derive(Module, Debug)]
pub struct ElasticPointwise {
    /// `[largest inputs, largest outputs]`
    pub weight: Param<Tensor<2>>,
    /// On the outputs.
    pub norm: ElasticBatchNorm,
}

impl ElasticPointwise {
    /// A layer of the largest sizes with Xavier-uniform weights.
    pub fn new(inputs: usize, outputs: usize, device: &Device, rng: &mut impl Rng) -> Self {
        Self {
            weight: param(xavier_uniform([inputs, outputs], inputs, outputs, rng), device),
            norm: ElasticBatchNorm::new(outputs, device),
        }
    }

    /// The same layer with transforms on its outputs.
    #[must_use]
    pub fn with_transforms(self, transforms: Transforms) -> Self {
        Self { norm: self.norm.with_transforms(transforms), ..self }
    }

    /// The same layer whose normalisation adds another number to the variance.
    #[must_use]
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { norm: self.norm.with_epsilon(epsilon), ..self }
    }

    /// The weights of the first `inputs` and the first `outputs` channels, `[inputs, outputs]`.
    pub fn slice(&self, inputs: usize, outputs: usize) -> Tensor<2> {
        leading(&self.weight, [inputs, outputs])
    }

    /// [`Self::slice`] with the normalisation folded in.
    ///
    /// # Shapes
    ///
    /// - weight: `[inputs, outputs]`
    /// - bias: `[outputs]`
    pub fn folded(&self, inputs: usize, outputs: usize, moments: &Moments) -> (Tensor<2>, Tensor<1>) {
        self.norm.fold(self.slice(inputs, outputs), moments)
    }

    /// Runs on the first `outputs` channels out; the channels in are those of `x`.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, inputs]`
    /// - output: `[rows, outputs]`
    pub fn forward(&self, x: Tensor<2>, outputs: usize, normalisation: &mut Normalisation<'_>) -> Tensor<2> {
        let inputs = x.dims()[1];
        match normalisation.next() {
            Some(moments) => {
                let (weight, bias) = self.folded(inputs, outputs, moments);
                ops::linear(x, weight, bias)
            }
            None => self.norm.forward(linear(x, self.slice(inputs, outputs), None), normalisation),
        }
    }
}
