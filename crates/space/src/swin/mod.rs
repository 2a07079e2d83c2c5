//! The search space, subnet and typed shape of a Swin transformer.
//!
//! The network is that of [Liu et al., 2021](https://arxiv.org/abs/2103.14030): attention within windows, which
//! every second layer shifts, and stages that halve the map of tokens. As in the vision transformer the width of
//! one head is fixed, so fewer heads make narrower projections.

mod invalid;
mod shape;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::choices::{DepthChoices, TransformKind, WidthChoices, close};
use crate::slot::{Dimension, Place, Slot};
use crate::transformer::{LayerChoices, fmt_layers};

pub use crate::transformer::TransformerLayer as SwinLayer;
pub use invalid::InvalidSwinSpace;
pub use windows::{MASKED, Windows, merged};

/// Added to the variance in every layer normalisation, as PyTorch's default.
pub const LAYER_NORM_EPSILON: f64 = 1e-5;

/// The choices of a Swin transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SwinSpace {
    /// Height and width of the input in pixels.
    pub image_size: usize,
    /// Colour channels of the input.
    pub channels: usize,
    /// Height and width of one patch in pixels; divides `image-size`.
    pub patch_size: usize,
    /// Number of classes.
    pub classes: usize,
    /// Height and width of one window in tokens; smaller where the map is.
    pub window_size: usize,
    /// Features of one attention head.
    pub head_dim: usize,
    /// The stages, in their order; each but the first merges four tokens into one.
    pub stages: Vec<SwinStageChoices>,
    /// How the choices of width, heads and embedding are realised; `identity` where left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transforms: BTreeMap<Dimension, TransformKind>,
}

/// The choices of one stage of a [`SwinSpace`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SwinStageChoices {
    /// Features of the stage's residual stream (A5), ascending.
    pub embed_dim: Vec<usize>,
    /// Number of layers (A2).
    pub depth: DepthChoices,
    /// Attention heads (A4), chosen per `layer` or `stage`.
    pub heads: WidthChoices,
    /// Hidden features of the MLP (A1), chosen per `layer` or `stage`.
    pub mlp_width: WidthChoices,
}

/// A subnet of a [`SwinSpace`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SwinSubnet {
    /// The stages.
    pub stages: Vec<SwinStage>,
}

/// One stage of a [`SwinSubnet`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SwinStage {
    /// Features of the residual stream.
    pub embed_dim: usize,
    /// The layers that are kept, in order. Of these every second one is shifted.
    pub layers: Vec<SwinLayer>,
}

impl SwinSpace {
    /// Values of one patch: channels times its pixels.
    pub fn patch_values(&self) -> usize {
        self.channels * self.patch_size * self.patch_size
    }

    /// Tokens of a stage's map in one direction.
    pub fn side(&self, stage: usize) -> usize {
        (0..stage).fold(self.image_size / self.patch_size, |side, _| side.div_ceil(2))
    }

    /// The windows of a stage.
    pub fn windows(&self, stage: usize) -> Windows {
        Windows::new(self.side(stage), self.window_size)
    }

    /// How the choices of a dimension are realised.
    pub fn transform(&self, dimension: Dimension) -> TransformKind {
        self.transforms.get(&dimension).copied().unwrap_or_default()
    }

    /// The same space with only some dimensions open: the others keep their largest choice.
    pub(crate) fn restricted(&self, open: &BTreeSet<Dimension>) -> Self {
        let mut space = self.clone();
        for stage in &mut space.stages {
            let choices = [
                (Dimension::Embedding, &mut stage.embed_dim),
                (Dimension::Depth, &mut stage.depth.choices),
                (Dimension::Heads, &mut stage.heads.choices),
                (Dimension::Width, &mut stage.mlp_width.choices),
            ];
            choices.into_iter().filter(|(d, _)| !open.contains(d)).for_each(|(_, choices)| close(choices));
        }
        space
    }

    /// The decisions, for each stage in this order: embedding, depth, heads, MLP width.
    pub fn slots(&self) -> Vec<Slot> {
        self.stages.iter().enumerate().flat_map(|(index, stage)| stage.slots(index)).collect()
    }

    /// The subnet that holds `values[i]`, a choice of slot i.
    pub(crate) fn decode(&self, values: &[usize]) -> SwinSubnet {
        let mut rest = values;
        let mut next = |stage: &SwinStageChoices| {
            let choices = stage.choices();
            let (values, others) = rest.split_at(choices.slot_count());
            rest = others;
            let (embed_dim, layers) = choices.decode(values);
            SwinStage { embed_dim, layers }
        };
        SwinSubnet { stages: self.stages.iter().map(&mut next).collect() }
    }

    /// The value of each slot, `None` where the slot belongs to a layer that is left out.
    pub(crate) fn values(&self, subnet: &SwinSubnet) -> Vec<Option<usize>> {
        let of_stage = |(index, choices): (usize, &SwinStageChoices)| match subnet.stages.get(index) {
            Some(stage) => choices.choices().values(stage.embed_dim, &stage.layers),
            None => vec![None; choices.choices().slot_count()],
        };
        self.stages.iter().enumerate().flat_map(of_stage).collect()
    }

    /// How many different subnets there are (saturating).
    pub(crate) fn size(&self) -> u128 {
        self.stages.iter().map(|stage| stage.choices().size()).fold(1, u128::saturating_mul)
    }
}

impl SwinStageChoices {
    /// Layers of the supernet's stage.
    pub fn layers(&self) -> usize {
        self.depth.layers()
    }

    fn choices(&self) -> LayerChoices<'_> {
        LayerChoices {
            embed_dim: &self.embed_dim,
            depth: &self.depth,
            heads: &self.heads,
            mlp_width: &self.mlp_width,
            stages: &[],
        }
    }

    /// The decisions of a network of this stage alone, as those of stage `index`.
    fn slots(&self, index: usize) -> Vec<Slot> {
        let of_stage = |slot: Slot| {
            let field = format!("stages.{index}.{}", slot.field);
            let (name, place) = match slot.place {
                Place::Layer { layer, .. } => (
                    format!("stages.{index}.layers.{layer}.{}", slot.field),
                    Place::Layer { layer, stage: index },
                ),
                Place::Stage(_) | Place::Network => (field.clone(), Place::Stage(index)),
            };
            Slot { name, field, place, ..slot }
        };
        self.choices().slots().into_iter().map(of_stage).collect()
    }
}

impl fmt::Display for SwinSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages.iter().enumerate() {
            write!(f, "{}embed {} ", if index == 0 { "" } else { " / " }, stage.embed_dim)?;
            fmt_layers(f, &stage.layers)?;
        }
        Ok(())
    }
}
