//! Batch normalisation over a leading part of the channels, without running statistics.
//!
//! The subnets of a supernet share scale and shift, but not mean and variance: those of one subnet are wrong for
//! another. So none are kept. Training normalises by the batch's own; before a subnet is judged or exported, they
//! are measured for it on some training images, and folded into the convolution before.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use elastic_space::conv::BATCH_NORM_EPSILON;

use super::{Transforms, leading};
use crate::ops;
use crate::parameters::{array, constant, param};

/// [Batch normalisation](https://arxiv.org/abs/1502.03167) with a leading part of scale and shift.
#[derive(Module, Debug)]
pub struct ElasticBatchNorm {
    /// Scale, `[largest channels]`
    pub weight: Param<Tensor<1>>,
    /// Shift, `[largest channels]`
    pub bias: Param<Tensor<1>>,
    /// On the normalised channels.
    pub transforms: Transforms,
    #[module(skip)]
    epsilon: f64,
}

/// Mean and variance of each channel of one layer of one subnet, `[channels]` both.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    mean: Vec<f32>,
    variance: Vec<f32>,
}

/// The moments of a subnet's batch normalisations, in the order in which they run; empty for a family without.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics(Vec<Moments>);

/// Where the batch normalisations of one forward pass take their statistics from.
#[derive(Debug)]
pub enum Normalisation<'a> {
    /// From the images of the pass, as in training.
    Batch,
    /// From the images of the pass, and notes them.
    Measure(&'a mut Statistics),
    /// From those that were measured before, one layer after the other.
    Given(std::slice::Iter<'a, Moments>),
}

impl Moments {
    /// Moments of as many channels.
    ///
    /// # Shapes
    ///
    /// - mean, variance: `[channels]`
    ///
    /// # Panics
    ///
    /// If there are more of one than of the other.
    pub fn new(mean: Vec<f32>, variance: Vec<f32>) -> Self {
        assert_eq!(mean.len(), variance.len(), "a mean and a variance for each channel");
        Self { mean, variance }
    }

    /// The means, `[channels]`.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The variances, `[channels]`.
    pub fn variance(&self) -> &[f32] {
        &self.variance
    }
}

/// Moments in the order in which the layers run.
impl FromIterator<Moments> for Statistics {
    fn from_iter<I: IntoIterator<Item = Moments>>(moments: I) -> Self {
        Self(moments.into_iter().collect())
    }
}

impl Statistics {
    /// For a pass that uses them.
    pub fn given(&self) -> Normalisation<'_> {
        Normalisation::Given(self.iter())
    }

    /// Layer by layer.
    pub fn iter(&self) -> std::slice::Iter<'_, Moments> {
        self.0.iter()
    }
}

impl Normalisation<'_> {
    /// The moments of the next layer, where they are given.
    ///
    /// # Panics
    ///
    /// If they were measured for another subnet, which has fewer layers.
    pub(super) fn next(&mut self) -> Option<&Moments> {
        match self {
            Self::Batch | Self::Measure(_) => None,
            Self::Given(moments) => Some(moments.next().expect("statistics of this subnet")),
        }
    }
}

impl ElasticBatchNorm {
    /// A layer of the largest size: scale one, shift zero.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            weight: param(constant([channels], 1.0), device),
            bias: param(constant([channels], 0.0), device),
            transforms: Transforms::identity(),
            epsilon: BATCH_NORM_EPSILON,
        }
    }

    /// The same layer that adds another number to the variance.
    #[must_use]
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// The same layer with transforms.
    #[must_use]
    pub fn with_transforms(self, transforms: Transforms) -> Self {
        Self { transforms, ..self }
    }

    /// Scale and shift of the first `channels` with their transform, both `[channels]`.
    pub fn slice(&self, channels: usize) -> (Tensor<1>, Tensor<1>) {
        self.transforms.fold(leading(&self.weight, [channels]), leading(&self.bias, [channels]))
    }

    /// Normalises each channel over all rows of the batch.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, channels]`
    /// - output: `[rows, channels]`
    pub(super) fn forward(&self, x: Tensor<2>, normalisation: &mut Normalisation<'_>) -> Tensor<2> {
        let (weight, bias) = self.slice(x.dims()[1]);
        if let Normalisation::Measure(statistics) = normalisation {
            let (mean, variance) = ops::moments(x.clone());
            statistics.0.push(Moments { mean: array(mean).data, variance: array(variance).data });
        }
        ops::batch_norm(x, weight, bias, self.epsilon as f32)
    }

    /// Folds the normalisation by given moments into the weights before it.
    ///
    /// y = (x W - mean) / sqrt(variance + eps) * scale + shift is x W' + b', with the b' that is returned.
    ///
    /// # Shapes
    ///
    /// - weight: `[.., channels]`
    /// - output: weight of the same shape, bias `[channels]`
    pub(super) fn fold<const D: usize>(
        &self,
        weight: Tensor<D>,
        moments: &Moments,
    ) -> (Tensor<D>, Tensor<1>) {
        let channels = weight.dims()[D - 1];
        assert_eq!(moments.mean.len(), channels, "statistics of this subnet");
        let (scale, shift) = self.slice(channels);
        let vector = |values: &[f32]| {
            Tensor::<1>::from_data(TensorData::new(values.to_vec(), [channels]), &scale.device())
        };
        let deviation = vector(&moments.variance).add_scalar(self.epsilon).sqrt();
        let scale = scale.clone() / deviation;
        let bias = shift - vector(&moments.mean) * scale.clone();
        (weight * scale.unsqueeze(), bias)
    }
}
