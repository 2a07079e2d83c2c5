//! The search space, subnet and typed shape of a BERT encoder with a classification head.
//!
//! The network is that of [Devlin et al., 2019](https://arxiv.org/abs/1810.04805): post-norm transformer layers over the
//! sum of three embeddings. As in the vision transformer the width of one head is fixed, so fewer heads make narrower
//! projections.

mod invalid;
mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::choices::{DepthChoices, TransformKind, WidthChoices, close};
use crate::slot::{Dimension, Slot};
use crate::transformer::{LayerChoices, fmt_layers};

pub use crate::transformer::TransformerLayer as BertLayer;
pub use invalid::InvalidBertSpace;

/// Added to the variance in every layer normalisation, as the authors' code does.
pub const LAYER_NORM_EPSILON: f64 = 1e-12;

/// Added to the score of a token that is padding: no probability is left to it.
pub const MASKED: f32 = -10_000.0;

/// The rows of one input, a text: the ids of its tokens, 1 for each token that is no padding, and the segment of each.
pub const ROWS: usize = 3;

/// The choices of a BERT encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BertSpace {
    /// Number of tokens that the tokenizer knows.
    pub vocabulary: usize,
    /// Tokens of the longest text, the special ones counted; longer texts are cut. Costs are those of such a text.
    pub length: usize,
    /// Number of segments that tokens may belong to.
    pub segments: usize,
    /// Number of classes.
    pub classes: usize,
    /// Features of one attention head.
    pub head_dim: usize,
    /// How the tokens become one vector for the classifier.
    pub pooling: BertPooling,
    /// Features of the residual stream (A5), ascending.
    pub embed_dim: Vec<usize>,
    /// Number of layers (A2).
    pub depth: DepthChoices,
    /// Attention heads (A4).
    pub heads: WidthChoices,
    /// Hidden features of the MLP (A1).
    pub mlp_width: WidthChoices,
    /// Layers of each stage of the network, for choices per stage; left out, all layers are one stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<usize>,
    /// How the choices of width, heads and embedding are realised; `identity` where left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transforms: BTreeMap<Dimension, TransformKind>,
}

/// How the tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BertPooling {
    /// The first token through a linear layer and tanh.
    Pooler,
    /// The mean of all tokens but the padding.
    Mean,
}

/// A subnet of a [`BertSpace`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BertSubnet {
    /// Features of the residual stream.
    pub embed_dim: usize,
    /// The layers that are kept, in order.
    pub layers: Vec<BertLayer>,
}

impl BertSpace {
    /// Layers of the supernet.
    pub fn layers(&self) -> usize {
        self.depth.layers()
    }

    /// How the choices of a dimension are realised.
    pub fn transform(&self, dimension: Dimension) -> TransformKind {
        self.transforms.get(&dimension).copied().unwrap_or_default()
    }

    fn choices(&self) -> LayerChoices<'_> {
        LayerChoices {
            embed_dim: &self.embed_dim,
            depth: &self.depth,
            heads: &self.heads,
            mlp_width: &self.mlp_width,
            stages: &self.stages,
        }
    }

    /// The same space with only some dimensions open: the others keep their largest choice.
    pub(crate) fn restricted(&self, open: &BTreeSet<Dimension>) -> Self {
        let mut space = self.clone();
        let choices = [
            (Dimension::Embedding, &mut space.embed_dim),
            (Dimension::Depth, &mut space.depth.choices),
            (Dimension::Heads, &mut space.heads.choices),
            (Dimension::Width, &mut space.mlp_width.choices),
        ];
        choices.into_iter().filter(|(d, _)| !open.contains(d)).for_each(|(_, choices)| close(choices));
        space
    }

    /// The decisions, always in this order: embedding, depth, heads, MLP width.
    pub fn slots(&self) -> Vec<Slot> {
        self.choices().slots()
    }

    /// The subnet that holds `values[i]`, a choice of slot i.
    pub(crate) fn decode(&self, values: &[usize]) -> BertSubnet {
        let (embed_dim, layers) = self.choices().decode(values);
        BertSubnet { embed_dim, layers }
    }

    /// The value of each slot, `None` where the slot belongs to a layer that is left out.
    pub(crate) fn values(&self, subnet: &BertSubnet) -> Vec<Option<usize>> {
        self.choices().values(subnet.embed_dim, &subnet.layers)
    }

    /// How many different subnets there are (saturating).
    pub(crate) fn size(&self) -> u128 {
        self.choices().size()
    }
}

impl fmt::Display for BertSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "embed {} ", self.embed_dim)?;
        fmt_layers(f, &self.layers)
    }
}
