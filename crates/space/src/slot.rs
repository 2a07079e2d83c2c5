//! A slot: one decision of a search space, with the values it may take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The dimensions in which a supernet can shrink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dimension {
    /// A layer keeps a leading part of its features (method row A1).
    Width,
    /// Some layers of a stage are left out (A2).
    Depth,
    /// A convolution uses the centre of its largest kernel (A3).
    Kernel,
    /// Attention keeps its first heads (A4).
    Heads,
    /// The residual stream keeps its first features (A5).
    Embedding,
}

/// One decision of a search space.
///
/// Choices are in ascending order: the first is the smallest and the last the largest.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// A unique name, for instance `layers.3.heads`.
    pub name: String,
    /// The dimension that the slot opens.
    pub dimension: Dimension,
    /// The layer that the slot belongs to; `None` if it is shared by the network.
    pub layer: Option<usize>,
    /// The values: widths, heads or features; for depth a bit mask of the layers that are kept.
    pub choices: Vec<usize>,
    /// The probability of each choice under uniform sampling; the sum is 1.
    ///
    /// Not all equal for depth under the drop policy `any`: first the number of layers is uniform,
    /// then the set of that size.
    pub weights: Vec<f64>,
}

impl Slot {
    /// A slot whose choices are all equally likely.
    pub(crate) fn uniform(
        name: String,
        dimension: Dimension,
        layer: Option<usize>,
        choices: Vec<usize>,
    ) -> Self {
        let weights = vec![1.0 / choices.len() as f64; choices.len()];
        Self { name, dimension, layer, choices, weights }
    }

    /// The index of the largest choice.
    pub fn largest(&self) -> usize {
        self.choices.len() - 1
    }
}
