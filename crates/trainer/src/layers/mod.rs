//! Elastic layers: each holds its largest weights and runs on a leading part of them.
//!
//! A layer keeps no active size. The sizes are arguments, and the function that cuts the weights
//! for `forward` is the one that extracts them.

mod linear;
mod norm;
mod qkv;
mod transform;

pub use linear::ElasticLinear;
pub use norm::ElasticLayerNorm;
pub use qkv::ElasticQkv;
pub use transform::{Affine, Gate, Transform, Transforms};
