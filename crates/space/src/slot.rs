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
    /// The network looks at a smaller image.
    Resolution,
}

impl Dimension {
    /// All dimensions.
    pub const ALL: [Self; 6] =
        [Self::Width, Self::Depth, Self::Kernel, Self::Heads, Self::Embedding, Self::Resolution];

    /// The name in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Width => "width",
            Self::Depth => "depth",
            Self::Kernel => "kernel",
            Self::Heads => "heads",
            Self::Embedding => "embedding",
            Self::Resolution => "resolution",
        }
    }
}

/// The part of the network that a slot decides for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The whole network.
    Network,
    /// All layers of a stage.
    Stage(usize),
    /// One layer.
    Layer {
        /// The layer, as its family counts: in the network, or in its stage.
        layer: usize,
        /// Its stage.
        stage: usize,
    },
}

/// One decision of a search space.
///
/// Choices are in ascending order: the first is the smallest and the last the largest.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// A unique name, for instance `layers.3.heads`.
    pub name: String,
    /// The name of the choices in the space's YAML; slots of one field have the same choices.
    pub field: String,
    /// The dimension that the slot opens.
    pub dimension: Dimension,
    /// What it decides for.
    pub place: Place,
    /// The values: widths, heads, features, kernels or pixels; for depth a bit mask of the layers that are kept.
    pub choices: Vec<usize>,
    /// The probability of each choice under uniform sampling; the sum is 1.
    ///
    /// Not all equal for depth under the drop policy `any`: first the number of layers is uniform,
    /// then the set of that size.
    pub weights: Vec<f64>,
}

impl Slot {
    /// A slot whose choices are all equally likely.
    pub(crate) fn uniform(field: &str, dimension: Dimension, place: Place, choices: Vec<usize>) -> Self {
        let name = match place {
            Place::Network => field.to_owned(),
            Place::Stage(stage) => format!("stages.{stage}.{field}"),
            Place::Layer { layer, .. } => format!("layers.{layer}.{field}"),
        };
        Self::named(name, field.to_owned(), dimension, place, choices)
    }

    /// [`Self::uniform`] with a name that does not follow from the place alone.
    pub(crate) fn named(
        name: String,
        field: String,
        dimension: Dimension,
        place: Place,
        choices: Vec<usize>,
    ) -> Self {
        let weights = vec![1.0 / choices.len() as f64; choices.len()];
        Self { name, field, dimension, place, choices, weights }
    }

    /// The index of the largest choice.
    pub fn largest(&self) -> usize {
        self.choices.len() - 1
    }
}
