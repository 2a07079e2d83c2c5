//! Named tensors of a standalone network: what trainer and exporter hand to each other.

use std::collections::BTreeMap;

/// A dense array of 32-bit floats in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// The values; their number is the product of `shape`.
    pub data: Vec<f32>,
}

/// The tensors of a network by name, as [`crate::Shape::tensors`] lists them.
pub type Weights = BTreeMap<String, Array>;
