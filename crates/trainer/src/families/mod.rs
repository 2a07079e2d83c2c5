//! One file a family: the largest network and its forward pass for a given subnet.

use burn::tensor::Tensor;
use elastic_space::{Array, Weights};

use crate::parameters::array;

pub mod bert;
pub mod conv;
pub mod swin;
pub mod transformer;
pub mod vit;

/// Adds the weight and the bias of a layer.
fn put<const D: usize>(weights: &mut Weights, name: &str, (weight, bias): (Tensor<D>, Tensor<1>)) {
    let entries: [(&str, Array); 2] = [("weight", array(weight)), ("bias", array(bias))];
    weights.extend(entries.map(|(suffix, array)| (format!("{name}.{suffix}"), array)));
}
