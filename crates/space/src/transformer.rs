//! What the transformer families share: the choices of their layers, and the typed layers of a block.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::choices::{DepthChoices, Granularity, InvalidChoices, TransformKind, WidthChoices, check_choices};
use crate::shape::{LayerKind, LayerShape};
use crate::slot::{Dimension, Place, Slot};

/// One kept layer of a transformer: attention and an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TransformerLayer {
    /// The layer of the supernet.
    pub index: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden features of the MLP.
    pub mlp_width: usize,
}

/// Why the choices of transformer layers are refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidLayers {
    /// A list of choices.
    #[error(transparent)]
    Choices(#[from] InvalidChoices),
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

/// The choices of layers that share one residual stream, as a family's space holds them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerChoices<'a> {
    /// Features of the residual stream (A5).
    pub(crate) embed_dim: &'a [usize],
    /// Number of layers (A2).
    pub(crate) depth: &'a DepthChoices,
    /// Attention heads (A4).
    pub(crate) heads: &'a WidthChoices,
    /// Hidden features of the MLP (A1).
    pub(crate) mlp_width: &'a WidthChoices,
    /// Layers of each stage; empty, all layers are one.
    pub(crate) stages: &'a [usize],
}

impl LayerChoices<'_> {
    /// Checks the lists and that the stages hold the layers; fields are called `prefix` and their name in YAML.
    pub(crate) fn check(&self, prefix: &str) -> Result<(), InvalidLayers> {
        for (field, choices) in [
            ("embed-dim", self.embed_dim),
            ("depth.choices", &self.depth.choices),
            ("heads.choices", &self.heads.choices),
            ("mlp-width.choices", &self.mlp_width.choices),
        ] {
            check_choices(&format!("{prefix}{field}"), choices)?;
        }
        self.depth.check_layers(&format!("{prefix}depth"))?;
        let depth = self.depth.layers();
        if !self.stages.is_empty() && (self.stages.contains(&0) || total(self.stages) != depth) {
            return Err(InvalidLayers::Stages { stages: self.stages.to_vec(), depth });
        }
        Ok(())
    }

    /// Number of [`Self::slots`].
    pub(crate) fn slot_count(&self) -> usize {
        let stages = self.stage_of_layers();
        2 + slots_of(self.heads, &stages) + slots_of(self.mlp_width, &stages)
    }

    /// The decisions, always in this order: embedding, depth, heads, MLP width.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![
            Slot::uniform("embed-dim", Dimension::Embedding, Place::Network, self.embed_dim.to_vec()),
            self.depth_slot(),
        ];
        let stages = self.stage_of_layers();
        for (field, dimension, width) in
            [("heads", Dimension::Heads, self.heads), ("mlp-width", Dimension::Width, self.mlp_width)]
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

    /// Embedding and layers of the subnet whose slots have these values.
    pub(crate) fn decode(&self, values: &[usize]) -> (usize, Vec<TransformerLayer>) {
        let stages = self.stage_of_layers();
        let (heads, mlp) = values[2..].split_at(slots_of(self.heads, &stages));
        let pick = |width: &WidthChoices, values: &[usize], layer: usize| match width.per {
            Granularity::Network => values[0],
            Granularity::Stage => values[stages[layer]],
            Granularity::Layer => values[layer],
        };
        let layer = |index| TransformerLayer {
            index,
            heads: pick(self.heads, heads, index),
            mlp_width: pick(self.mlp_width, mlp, index),
        };
        (values[0], (0..stages.len()).filter(|layer| values[1] >> layer & 1 == 1).map(layer).collect())
    }

    /// The value of each slot, `None` where the slot belongs to a layer that is left out.
    ///
    /// A shared slot takes the first layer's value: [`crate::SearchSpace::encode`] compares the
    /// decoded subnet, which finds layers that disagree.
    pub(crate) fn values(&self, embed_dim: usize, layers: &[TransformerLayer]) -> Vec<Option<usize>> {
        let known = layers.iter().filter(|l| l.index < usize::BITS as usize);
        let mask = known.fold(0, |mask, l| mask | 1 << l.index);
        let mut values = vec![Some(embed_dim), Some(mask)];
        let stages = self.stage_of_layers();
        let stage_of = |layer: &TransformerLayer| stages.get(layer.index).copied();
        let mut push = |per: Granularity, value: fn(&TransformerLayer) -> usize| match per {
            Granularity::Network => values.push(layers.first().map(value)),
            Granularity::Stage => values.extend(
                (0..=stages[stages.len() - 1])
                    .map(|stage| layers.iter().find(|l| stage_of(l) == Some(stage)).map(value)),
            ),
            Granularity::Layer => values
                .extend((0..stages.len()).map(|layer| layers.iter().find(|l| l.index == layer).map(value))),
        };
        push(self.heads.per, |l| l.heads);
        push(self.mlp_width.per, |l| l.mlp_width);
        values
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
            sum.saturating_add(power(self.heads, mask).saturating_mul(power(self.mlp_width, mask)))
        });
        per_embedding.saturating_mul(self.embed_dim.len() as u128)
    }

    /// The stage of each layer.
    fn stage_of_layers(&self) -> Vec<usize> {
        if self.stages.is_empty() {
            return vec![0; self.depth.layers()];
        }
        let layers = self.stages.iter().enumerate();
        layers.flat_map(|(stage, &layers)| std::iter::repeat_n(stage, layers)).collect()
    }

    fn depth_slot(&self) -> Slot {
        self.depth.slot("depth".to_owned(), Place::Network, 0)
    }
}

/// Slots of one field, for layers of these stages.
fn slots_of(width: &WidthChoices, stages: &[usize]) -> usize {
    match width.per {
        Granularity::Network => 1,
        Granularity::Stage => stages[stages.len() - 1] + 1,
        Granularity::Layer => stages.len(),
    }
}

/// Checks that only width, heads and embedding have transforms.
pub(crate) fn check_transforms(transforms: &BTreeMap<Dimension, TransformKind>) -> Result<(), InvalidLayers> {
    let elastic = |dimension: &&Dimension| {
        matches!(dimension, Dimension::Width | Dimension::Heads | Dimension::Embedding)
    };
    match transforms.keys().find(|dimension| !elastic(dimension)) {
        Some(&dimension) => Err(InvalidLayers::Transform { dimension }),
        None => Ok(()),
    }
}

/// The sizes of one multi-head attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionSizes {
    /// Features of the residual stream.
    pub(crate) embed_dim: usize,
    /// Attention heads.
    pub(crate) heads: usize,
    /// Features of one head.
    pub(crate) head_dim: usize,
    /// Tokens that one token looks at.
    pub(crate) keys: usize,
    /// Tokens that look.
    pub(crate) rows: usize,
    /// Tokens whose context goes back to the residual stream.
    pub(crate) kept: usize,
}

/// The typed layers of one attention, in the order in which they run.
pub(crate) fn attention_layers(name: &str, sizes: AttentionSizes) -> [LayerShape; 4] {
    let AttentionSizes { embed_dim, heads, head_dim, keys, rows, kept } = sizes;
    let inner = heads * head_dim;
    let product = |part: &str, inner, columns| LayerShape {
        name: format!("{name}.{part}"),
        kind: LayerKind::MatMul { batch: heads, inner, columns },
        rows,
    };
    [
        linear(format!("{name}.qkv"), embed_dim, 3 * inner, rows),
        product("scores", head_dim, keys),
        product("context", keys, head_dim),
        linear(format!("{name}.proj"), inner, embed_dim, kept),
    ]
}

/// The typed layers of one MLP that runs for `rows` tokens.
pub(crate) fn mlp_layers(name: &str, embed_dim: usize, width: usize, rows: usize) -> [LayerShape; 2] {
    [
        linear(format!("{name}.fc1"), embed_dim, width, rows),
        linear(format!("{name}.fc2"), width, embed_dim, rows),
    ]
}

/// A linear layer that runs for `rows` tokens.
pub(crate) fn linear(name: String, inputs: usize, outputs: usize, rows: usize) -> LayerShape {
    LayerShape { name, kind: LayerKind::Linear { inputs, outputs }, rows }
}

/// A layer normalisation that runs for `rows` tokens.
pub(crate) fn norm(name: String, features: usize, rows: usize) -> LayerShape {
    LayerShape { name, kind: LayerKind::LayerNorm { features }, rows }
}

/// Writes depth, heads and MLP widths; lists only where the layers differ.
pub(crate) fn fmt_layers(f: &mut fmt::Formatter<'_>, layers: &[TransformerLayer]) -> fmt::Result {
    let join = |value: fn(&TransformerLayer) -> usize| {
        let values: Vec<String> = layers.iter().map(|l| value(l).to_string()).collect();
        if values.windows(2).all(|pair| pair[0] == pair[1]) {
            values.first().cloned().unwrap_or_default()
        } else {
            values.join(",")
        }
    };
    write!(f, "depth {}", layers.len())?;
    if layers.iter().enumerate().any(|(position, l)| l.index != position) {
        let kept: Vec<String> = layers.iter().map(|l| l.index.to_string()).collect();
        write!(f, " (layers {})", kept.join(","))?;
    }
    write!(f, " heads {} mlp {}", join(|l| l.heads), join(|l| l.mlp_width))
}

/// The layers of all stages (saturating).
fn total(stages: &[usize]) -> usize {
    stages.iter().fold(0, |sum, &layers| sum.saturating_add(layers))
}
