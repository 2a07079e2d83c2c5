//! A convolution of all channels and its batch normalisation.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use rand::Rng;

use super::batch_norm::Moments;
use super::{ElasticBatchNorm, Normalisation, Transforms, leading};
use crate::ops::{self, Window};
use crate::parameters::{param, xavier_uniform};

/// A convolution without bias, then batch normalisation (A1).
#[derive(Module, Debug)]
pub struct ElasticConvolution {
    /// `[kernel * kernel * largest inputs, largest outputs]`, row by row of the window
    pub weight: Param<Tensor<2>>,
    /// On the outputs.
    pub norm: ElasticBatchNorm,
}

impl ElasticConvolution {
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

    /// The weights of the first `inputs` rows and the first `outputs` channels, `[inputs, outputs]`.
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
    /// - x: `[batch, height, width, inputs]`
    /// - output: `[batch, out_height, out_width, outputs]`, see [`Window::output`]
    pub(crate) fn forward(
        &self,
        x: Tensor<4>,
        window: Window,
        outputs: usize,
        normalisation: &mut Normalisation<'_>,
    ) -> Tensor<4> {
        let inputs = window.taps() * x.dims()[3];
        match normalisation.next() {
            Some(moments) => {
                let (weight, bias) = self.folded(inputs, outputs, moments);
                ops::convolution(x, weight, Some(bias), window)
            }
            None => {
                let x = ops::convolution(x, self.slice(inputs, outputs), None, window);
                let dims = x.dims();
                let rows = x.reshape([dims[0] * dims[1] * dims[2], outputs]);
                self.norm.forward(rows, normalisation).reshape(dims)
            }
        }
    }
}
