//! Elastic layers: each holds its largest weights and runs on a leading part of them.
//!
//! A layer keeps no active size. The sizes are arguments, and the function that cuts the weights
//! for `forward` is the one that extracts them.

mod batch_norm;
mod convolution;
mod depthwise;
mod linear;
mod merge;
mod norm;
mod qkv;
mod transform;

pub use batch_norm::{ElasticBatchNorm, Moments, Normalisation, Statistics};
pub use convolution::ElasticConvolution;
pub use depthwise::ElasticDepthwise;
pub use linear::ElasticLinear;
pub use merge::{ElasticMergeLinear, ElasticMergeNorm};
pub use norm::ElasticLayerNorm;
pub use qkv::ElasticQkv;
pub use transform::{Affine, Gate, Transform, Transforms};

use burn::module::Param;
use burn::tensor::Tensor;

/// The leading part of a parameter; where it is the whole, no slice stands in the way of its gradient.
pub(crate) fn leading<const D: usize>(param: &Param<Tensor<D>>, sizes: [usize; D]) -> Tensor<D> {
    let whole = param.val();
    if whole.dims() == sizes { whole } else { whole.slice(sizes.map(|size| 0..size)) }
}
