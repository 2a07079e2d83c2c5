//! The vision transformer's search space, subnet and typed shape.
//!
//! The network is the pre-norm ViT of [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929);
//! its elastic dimensions follow [AutoFormer](https://arxiv.org/abs/2107.00651): the width of one
//! head is fixed, so fewer heads make narrower projections.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::choices::{DepthChoices, InvalidChoices, TransformKind, WidthChoices, check_size, close};
use crate::shape::{LayerKind, LayerShape, Shape};
use crate::slot::{Dimension, Slot};
use crate::transformer::{
    AttentionSizes, InvalidLayers, LayerChoices, attention_layers, check_transforms, fmt_layers, linear,
    mlp_layers, norm,
};

/// One kept layer of a [`VitSubnet`].
pub use crate::transformer::TransformerLayer as VitLayer;

/// Added to the variance in every layer normalisation, as timm's `VisionTransformer` does.
pub const LAYER_NORM_EPSILON: f64 = 1e-6;

/// The choices of a vision transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VitSpace {
    /// Height and width of the input in pixels.
    pub image_size: usize,
    /// Colour channels of the input.
    pub channels: usize,
    /// Height and width of one patch in pixels; divides `image-size`.
    pub patch_size: usize,
    /// Number of classes.
    pub classes: usize,
    /// Features of one attention head.
    pub head_dim: usize,
    /// How the tokens become one vector for the classifier.
    pub pooling: Pooling,
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
pub enum Pooling {
    /// A learned token put before the patches.
    ClassToken,
    /// The mean of the patch tokens.
    Mean,
}

/// A subnet of a [`VitSpace`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VitSubnet {
    /// Features of the residual stream.
    pub embed_dim: usize,
    /// The layers that are kept, in order.
    pub layers: Vec<VitLayer>,
}

/// Why a [`VitSpace`] is refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidVitSpace {
    /// A size or a list of choices.
    #[error(transparent)]
    Choices(#[from] InvalidChoices),
    /// The patches do not cover the image.
    #[error("image-size {image} is not a multiple of patch-size {patch}: choose sizes that divide")]
    Patches {
        /// Pixels of the image.
        image: usize,
        /// Pixels of a patch.
        patch: usize,
    },
    /// The choices of the layers.
    #[error(transparent)]
    Layers(#[from] InvalidLayers),
}

impl VitSpace {
    /// Checks every rule that the type cannot hold.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, with the field's name.
    pub fn validate(&self) -> Result<(), InvalidVitSpace> {
        for (field, size) in [
            ("image-size", self.image_size),
            ("channels", self.channels),
            ("patch-size", self.patch_size),
            ("classes", self.classes),
            ("head-dim", self.head_dim),
        ] {
            check_size(field, size)?;
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return Err(InvalidVitSpace::Patches { image: self.image_size, patch: self.patch_size });
        }
        self.choices().check("")?;
        Ok(check_transforms(&self.transforms)?)
    }

    /// Layers of the supernet.
    pub fn layers(&self) -> usize {
        self.depth.layers()
    }

    /// Patches of one image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Tokens of the residual stream: the patches, and the class token where there is one.
    pub fn tokens(&self) -> usize {
        self.patches() + usize::from(self.pooling == Pooling::ClassToken)
    }

    /// Values of one patch: channels times its pixels.
    pub fn patch_values(&self) -> usize {
        self.channels * self.patch_size * self.patch_size
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
        for (dimension, choices) in choices {
            if !open.contains(&dimension) {
                close(choices);
            }
        }
        space
    }

    /// The decisions, always in this order: embedding, depth, heads, MLP width.
    pub fn slots(&self) -> Vec<Slot> {
        self.choices().slots()
    }

    /// The subnet that holds `values[i]`, a choice of slot i.
    pub(crate) fn decode(&self, values: &[usize]) -> VitSubnet {
        let (embed_dim, layers) = self.choices().decode(values);
        VitSubnet { embed_dim, layers }
    }

    /// The value of each slot, `None` where the slot belongs to a layer that is left out.
    pub(crate) fn values(&self, subnet: &VitSubnet) -> Vec<Option<usize>> {
        self.choices().values(subnet.embed_dim, &subnet.layers)
    }

    /// The typed layers of a subnet, in the order in which they run.
    ///
    /// Parameter names are those of timm's `VisionTransformer`; linear weights are `[inputs, outputs]`.
    pub fn shape(&self, subnet: &VitSubnet) -> Shape {
        let (tokens, patches, embed) = (self.tokens(), self.patches(), subnet.embed_dim);
        let table = |name: &str, entries: usize| LayerShape {
            name: name.into(),
            kind: LayerKind::Table { entries, features: embed },
            rows: entries,
        };
        let mut layers = vec![linear("patch_embed.proj".into(), self.patch_values(), embed, patches)];
        if self.pooling == Pooling::ClassToken {
            layers.push(table("cls_token", 1));
        }
        layers.push(table("pos_embed", tokens));
        for (position, l) in subnet.layers.iter().enumerate() {
            let name = |part: &str| format!("blocks.{position}.{part}");
            let sizes = AttentionSizes {
                embed_dim: embed,
                heads: l.heads,
                head_dim: self.head_dim,
                keys: tokens,
                rows: tokens,
                kept: tokens,
            };
            layers.push(norm(name("norm1"), embed, tokens));
            layers.extend(attention_layers(&name("attn"), sizes));
            layers.push(norm(name("norm2"), embed, tokens));
            layers.extend(mlp_layers(&name("mlp"), embed, l.mlp_width, tokens));
        }
        layers.push(norm("norm".into(), embed, tokens));
        layers.push(linear("head".into(), embed, self.classes, 1));
        Shape { input: [self.channels, self.image_size, self.image_size], classes: self.classes, layers }
    }

    /// How many different subnets there are (saturating).
    pub(crate) fn size(&self) -> u128 {
        self.choices().size()
    }
}

impl fmt::Display for VitSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "embed {} ", self.embed_dim)?;
        fmt_layers(f, &self.layers)
    }
}
