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

use crate::choices::{
    DepthChoices, Granularity, InvalidChoices, TransformKind, WidthChoices, check_choices, check_size, close,
};
use crate::shape::{LayerKind, LayerShape, Shape};
use crate::slot::{Dimension, Place, Slot};

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
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VitSubnet {
    /// Features of the residual stream.
    pub embed_dim: usize,
    /// The layers that are kept, in order.
    pub layers: Vec<VitLayer>,
}

/// One kept layer of a [`VitSubnet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VitLayer {
    /// The layer of the supernet.
    pub index: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden features of the MLP.
    pub mlp_width: usize,
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
    /// The stages do not hold the layers.
    #[error(
        "stages {stages:?} hold {} layers, the supernet has {depth}: let them add up, each at least 1",
        total(stages)
    )]
    Stages {
        /// Layers of each stage.
        stages: Vec<usize>,
        /// The supernet's depth.
        depth: usize,
    },
    /// A dimension has no transform.
    #[error("transforms: {} has none in this family; width, heads and embedding have", dimension.name())]
    Transform {
        /// The dimension.
        dimension: Dimension,
    },
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
        for (field, choices) in [
            ("embed-dim", &self.embed_dim),
            ("depth.choices", &self.depth.choices),
            ("heads.choices", &self.heads.choices),
            ("mlp-width.choices", &self.mlp_width.choices),
        ] {
            check_choices(field, choices)?;
        }
        self.depth.check_layers("depth")?;
        if !self.stages.is_empty() && (self.stages.contains(&0) || total(&self.stages) != self.layers()) {
            return Err(InvalidVitSpace::Stages { stages: self.stages.clone(), depth: self.layers() });
        }
        let elastic = |dimension: &&Dimension| {
            matches!(dimension, Dimension::Width | Dimension::Heads | Dimension::Embedding)
        };
        if let Some(&dimension) = self.transforms.keys().find(|dimension| !elastic(dimension)) {
            return Err(InvalidVitSpace::Transform { dimension });
        }
        Ok(())
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

    /// The stage of each layer.
    fn stage_of_layers(&self) -> Vec<usize> {
        if self.stages.is_empty() {
            return vec![0; self.layers()];
        }
        let layers = self.stages.iter().enumerate();
        layers.flat_map(|(stage, &layers)| std::iter::repeat_n(stage, layers)).collect()
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
        let mut slots = vec![
            Slot::uniform("embed-dim", Dimension::Embedding, Place::Network, self.embed_dim.clone()),
            self.depth_slot(),
        ];
        let stages = self.stage_of_layers();
        for (field, dimension, width) in
            [("heads", Dimension::Heads, &self.heads), ("mlp-width", Dimension::Width, &self.mlp_width)]
        {
            let places: Vec<Place> = match width.per {
                Granularity::Network => vec![Place::Network],
                Granularity::Stage => (0..=stages[stages.len() - 1]).map(Place::Stage).collect(),
                Granularity::Layer => {
                    stages.iter().enumerate().map(|(layer, &stage)| Place::Layer { layer, stage }).collect()
                }
            };
            let slot = |place| Slot::uniform(field, dimension, place, width.choices.clone());
            slots.extend(places.into_iter().map(slot));
        }
        slots
    }

    /// The subnet that holds `values[i]`, a choice of slot i.
    pub(crate) fn decode(&self, values: &[usize]) -> VitSubnet {
        let stages = self.stage_of_layers();
        let slots = |width: &WidthChoices| match width.per {
            Granularity::Network => 1,
            Granularity::Stage => stages[stages.len() - 1] + 1,
            Granularity::Layer => stages.len(),
        };
        let (heads, mlp) = values[2..].split_at(slots(&self.heads));
        let pick = |width: &WidthChoices, values: &[usize], layer: usize| match width.per {
            Granularity::Network => values[0],
            Granularity::Stage => values[stages[layer]],
            Granularity::Layer => values[layer],
        };
        VitSubnet {
            embed_dim: values[0],
            layers: (0..stages.len())
                .filter(|layer| values[1] >> layer & 1 == 1)
                .map(|index| VitLayer {
                    index,
                    heads: pick(&self.heads, heads, index),
                    mlp_width: pick(&self.mlp_width, mlp, index),
                })
                .collect(),
        }
    }

    /// The value of each slot, `None` where the slot belongs to a layer that is left out.
    ///
    /// A shared slot takes the first layer's value: [`crate::SearchSpace::encode`] compares the
    /// decoded subnet, which finds layers that disagree.
    pub(crate) fn values(&self, subnet: &VitSubnet) -> Vec<Option<usize>> {
        let mask = subnet
            .layers
            .iter()
            .filter(|l| l.index < usize::BITS as usize)
            .fold(0, |mask, l| mask | 1 << l.index);
        let mut values = vec![Some(subnet.embed_dim), Some(mask)];
        let stages = self.stage_of_layers();
        let stage_of = |layer: &VitLayer| stages.get(layer.index).copied();
        let mut push = |per: Granularity, value: fn(&VitLayer) -> usize| match per {
            Granularity::Network => values.push(subnet.layers.first().map(value)),
            Granularity::Stage => values.extend(
                (0..=stages[stages.len() - 1])
                    .map(|stage| subnet.layers.iter().find(|l| stage_of(l) == Some(stage)).map(value)),
            ),
            Granularity::Layer => values.extend(
                (0..self.layers()).map(|layer| subnet.layers.iter().find(|l| l.index == layer).map(value)),
            ),
        };
        push(self.heads.per, |l| l.heads);
        push(self.mlp_width.per, |l| l.mlp_width);
        values
    }

    /// The typed layers of a subnet, in the order in which they run.
    ///
    /// Parameter names are those of timm's `VisionTransformer`; linear weights are `[inputs, outputs]`.
    pub fn shape(&self, subnet: &VitSubnet) -> Shape {
        let (tokens, patches, embed) = (self.tokens(), self.patches(), subnet.embed_dim);
        let layer = |name: String, kind: LayerKind, rows: usize| LayerShape { name, kind, rows };
        let linear = |name: String, inputs: usize, outputs: usize, rows: usize| {
            layer(name, LayerKind::Linear { inputs, outputs }, rows)
        };
        let norm = |name: String| layer(name, LayerKind::LayerNorm { features: embed }, tokens);
        let mut layers = vec![linear("patch_embed.proj".into(), self.patch_values(), embed, patches)];
        if self.pooling == Pooling::ClassToken {
            layers.push(layer("cls_token".into(), LayerKind::Table { entries: 1, features: embed }, 1));
        }
        layers.push(layer("pos_embed".into(), LayerKind::Table { entries: tokens, features: embed }, tokens));
        for (position, l) in subnet.layers.iter().enumerate() {
            let block = format!("blocks.{position}");
            let inner = l.heads * self.head_dim;
            layers.push(norm(format!("{block}.norm1")));
            layers.push(linear(format!("{block}.attn.qkv"), embed, 3 * inner, tokens));
            layers.push(layer(
                format!("{block}.attn.scores"),
                LayerKind::MatMul { batch: l.heads, inner: self.head_dim, columns: tokens },
                tokens,
            ));
            layers.push(layer(
                format!("{block}.attn.context"),
                LayerKind::MatMul { batch: l.heads, inner: tokens, columns: self.head_dim },
                tokens,
            ));
            layers.push(linear(format!("{block}.attn.proj"), inner, embed, tokens));
            layers.push(norm(format!("{block}.norm2")));
            layers.push(linear(format!("{block}.mlp.fc1"), embed, l.mlp_width, tokens));
            layers.push(linear(format!("{block}.mlp.fc2"), l.mlp_width, embed, tokens));
        }
        layers.push(layer("norm".into(), LayerKind::LayerNorm { features: embed }, tokens));
        layers.push(linear("head".into(), embed, self.classes, 1));
        Shape { input: [self.channels, self.image_size, self.image_size], classes: self.classes, layers }
    }

    /// How many different subnets there are (saturating): for each set of layers, the choices of the
    /// layers it keeps.
    pub(crate) fn size(&self) -> u128 {
        let stages = self.stage_of_layers();
        let power = |width: &WidthChoices, mask: usize| {
            let kept = |layer: &usize| mask >> layer & 1 == 1;
            let decisions = match width.per {
                Granularity::Network => 1,
                Granularity::Stage => {
                    (0..stages.len()).filter(kept).map(|layer| stages[layer]).collect::<BTreeSet<_>>().len()
                }
                Granularity::Layer => mask.count_ones() as usize,
            };
            (width.choices.len() as u128).saturating_pow(decisions as u32)
        };
        let per_embedding = self.depth_slot().choices.iter().fold(0_u128, |sum, &mask| {
            sum.saturating_add(power(&self.heads, mask).saturating_mul(power(&self.mlp_width, mask)))
        });
        per_embedding.saturating_mul(self.embed_dim.len() as u128)
    }

    fn depth_slot(&self) -> Slot {
        self.depth.slot("depth".to_owned(), Place::Network, 0)
    }
}

impl fmt::Display for VitSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |value: fn(&VitLayer) -> usize| {
            let values: Vec<String> = self.layers.iter().map(|l| value(l).to_string()).collect();
            if values.windows(2).all(|pair| pair[0] == pair[1]) {
                values.first().cloned().unwrap_or_default()
            } else {
                values.join(",")
            }
        };
        write!(f, "embed {} depth {}", self.embed_dim, self.layers.len())?;
        if self.layers.iter().enumerate().any(|(position, l)| l.index != position) {
            let kept: Vec<String> = self.layers.iter().map(|l| l.index.to_string()).collect();
            write!(f, " (layers {})", kept.join(","))?;
        }
        write!(f, " heads {} mlp {}", join(|l| l.heads), join(|l| l.mlp_width))
    }
}

/// The layers of all stages (saturating).
fn total(stages: &[usize]) -> usize {
    stages.iter().fold(0, |sum, &layers| sum.saturating_add(layers))
}
