//! A depthwise convolution whose kernel shrinks, and its batch normalisation.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use elastic_space::choices::TransformKind;
use elastic_space::conv::Padding;
use rand::Rng;

use super::batch_norm::Moments;
use super::{ElasticBatchNorm, Normalisation, leading};
use crate::ops::{self, Window};
use crate::parameters::{param, xavier_uniform};

/// A depthwise convolution without bias, then batch normalisation (A1, A3).
///
/// A smaller kernel is the centre of the next larger one, times a learned matrix on its window where the
/// transform is `linear` ([Once-for-All](https://arxiv.org/abs/1908.09791)); all channels share the matrix.
#[derive(Module, Debug)]
pub struct ElasticDepthwise {
    /// `[largest kernel, largest kernel, largest channels]`
    pub weight: Param<Tensor<3>>,
    /// For each kernel but the largest `[kernel * kernel, kernel * kernel]`, from the identity; empty for
    /// [`TransformKind::Identity`].
    pub transforms: Vec<Param<Tensor<2>>>,
    /// On all channels.
    pub norm: ElasticBatchNorm,
    #[module(skip)]
    kernels: Vec<usize>,
    #[module(skip)]
    padding: Padding,
}

impl ElasticDepthwise {
    /// A layer with the largest of the given kernels, ascending, with Xavier-uniform weights.
    pub fn new(
        kernels: &[usize],
        channels: usize,
        transform: TransformKind,
        device: &Device,
        rng: &mut impl Rng,
    ) -> Self {
        let largest = kernels[kernels.len() - 1];
        let window = largest * largest;
        let transforms = match transform {
            TransformKind::Identity => Vec::new(),
            TransformKind::Linear => kernels[..kernels.len() - 1]
                .iter()
                .map(|kernel| param(identity(kernel * kernel), device))
                .collect(),
            TransformKind::Nonlinear => unreachable!("a validated space has no such transform of kernels"),
        };
        Self {
            weight: param(xavier_uniform([largest, largest, channels], window, window, rng), device),
            transforms,
            norm: ElasticBatchNorm::new(channels, device),
            kernels: kernels.to_vec(),
            padding: Padding::Centred,
        }
    }

    /// The same layer with its zeros elsewhere.
    #[must_use]
    pub fn with_padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// The same layer whose normalisation adds another number to the variance.
    #[must_use]
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { norm: self.norm.with_epsilon(epsilon), ..self }
    }

    /// The kernel of the first `channels`, `[kernel, kernel, channels]`.
    pub fn slice(&self, kernel: usize, channels: usize) -> Tensor<3> {
        let [height, width, _] = self.weight.dims();
        let mut weight = leading(&self.weight, [height, width, channels]);
        for (index, &size) in self.kernels.iter().enumerate().rev().filter(|(_, size)| **size >= kernel) {
            let border = (weight.dims()[0] - size) / 2;
            weight = weight.narrow(0, border, size).narrow(1, border, size);
            if let Some(matrix) = self.transforms.get(index) {
                let window = weight.reshape([size * size, channels]);
                weight = matrix.val().matmul(window).reshape([size, size, channels]);
            }
        }
        weight
    }

    /// [`Self::slice`] with the normalisation folded in.
    ///
    /// # Shapes
    ///
    /// - weight: `[kernel, kernel, channels]`
    /// - bias: `[channels]`
    pub fn folded(&self, kernel: usize, channels: usize, moments: &Moments) -> (Tensor<3>, Tensor<1>) {
        self.norm.fold(self.slice(kernel, channels), moments)
    }

    /// Runs on the channels of `x`.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, height, width, channels]`
    /// - output: `[batch, height / stride, width / stride, channels]`, rounded up
    pub fn forward(
        &self,
        x: Tensor<4>,
        kernel: usize,
        stride: usize,
        normalisation: &mut Normalisation<'_>,
    ) -> Tensor<4> {
        let [_, height, width, channels] = x.dims();
        let window = Window::padded(self.padding, kernel, stride, [height, width]);
        match normalisation.next() {
            Some(moments) => {
                let (weight, bias) = self.folded(kernel, channels, moments);
                ops::depthwise(x, weight, window) + bias.reshape([1, 1, 1, channels])
            }
            None => {
                let x = ops::depthwise(x, self.slice(kernel, channels), window);
                let dims = x.dims();
                let rows = x.reshape([dims[0] * dims[1] * dims[2], channels]);
                self.norm.forward(rows, normalisation).reshape(dims)
            }
        }
    }
}

fn identity(size: usize) -> TensorData {
    let values: Vec<f32> = (0..size * size).map(|at| f32::from(u8::from(at / size == at % size))).collect();
    TensorData::new(values, [size, size])
}
