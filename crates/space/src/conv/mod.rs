//! The search space, subnet and typed shape of a convolutional network of inverted residuals.
//!
//! The network is that of [MobileNetV3](https://arxiv.org/abs/1905.02244) and
//! [EfficientNet-Lite](https://arxiv.org/abs/1905.11946); its elastic dimensions follow
//! [Once-for-All](https://arxiv.org/abs/1908.09791): width, depth, kernel and the resolution of the input.

mod invalid;
mod padding;
mod resize;
mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::choices::{DepthChoices, Granularity, TransformKind, WidthChoices, close, last};
use crate::slot::{Dimension, Place, Slot};

pub use invalid::{InvalidConvSpace, MAX_KERNEL};
pub use padding::Padding;
pub use resize::Taps;
pub use shape::{ConvBlock, squeeze_width};

/// Added to the variance in every batch normalisation where a space names nothing else, as PyTorch's default.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Height and width of the stem's kernel.
pub const STEM_KERNEL: usize = 3;

/// The choices of a convolutional network: a stem, stages of inverted residuals, a head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConvSpace {
    /// Height and width of the input in pixels.
    pub image_size: usize,
    /// Colour channels of the input.
    pub channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// Height and width to which the network reduces its input before the first layer, ascending; the last is
    /// `image-size`, the first at least half of it.
    pub resolution: Vec<usize>,
    /// The function between the layers, where a stage names no other.
    pub activation: Activation,
    /// Where the zeros around the images stand; `centred` where left out.
    #[serde(default, skip_serializing_if = "Padding::is_default")]
    pub padding: Padding,
    /// What is added to the variance in every batch normalisation; 0.00001 where left out.
    #[serde(default = "usual_epsilon", skip_serializing_if = "is_usual_epsilon")]
    pub norm_epsilon: f64,
    /// The first convolution.
    pub stem: Stem,
    /// The stages, in their order.
    pub stages: Vec<ConvStageChoices>,
    /// What follows the stages.
    pub head: Head,
    /// How the choices of kernel and width are realised; `identity` where left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transforms: BTreeMap<Dimension, TransformKind>,
}

/// The function between the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// min(max(0, x), 6)
    Relu6,
    /// x min(max(0, x + 3), 6) / 6
    HardSwish,
}

/// A full 3 x 3 convolution of the images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stem {
    /// Channels out (A1), ascending.
    pub width: Vec<usize>,
    /// 1, or 2 to halve the image.
    pub stride: usize,
}

/// The choices of one stage: inverted residuals of one width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConvStageChoices {
    /// Channels out of each layer (A1), ascending.
    pub width: Vec<usize>,
    /// Number of layers (A2); the first is always kept.
    pub depth: DepthChoices,
    /// 1, or 2 to halve the image in the first layer.
    pub stride: usize,
    /// Height and width of the depthwise kernel (A3), odd; chosen per `layer` or `stage`.
    pub kernel: WidthChoices,
    /// Channels inside a layer (A1), chosen per `layer` or `stage`; left out, a layer does not expand: it has
    /// as many as come in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<WidthChoices>,
    /// Whether each layer weighs its hidden channels by
    /// [squeeze-and-excitation](https://arxiv.org/abs/1709.01507), through a quarter of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub squeeze_excite: bool,
    /// The function between the layers, if not that of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// A 1 x 1 convolution, the mean over all pixels, and fully connected layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Head {
    /// Channels of the convolution (A1), ascending.
    pub width: Vec<usize>,
    /// Features of a fully connected layer before the classifier (A1), ascending; left out, there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<usize>,
}

/// A subnet of a [`ConvSpace`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConvSubnet {
    /// Height and width of the image that the first layer sees.
    pub resolution: usize,
    /// Channels of the stem.
    pub stem: usize,
    /// The stages.
    pub stages: Vec<ConvStage>,
    /// Channels of the head's convolution.
    pub head: usize,
    /// Features of the fully connected layer before the classifier, where the space has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_hidden: Option<usize>,
}

/// One stage of a [`ConvSubnet`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConvStage {
    /// Channels out of each layer.
    pub width: usize,
    /// The layers that are kept, in order.
    pub layers: Vec<ConvLayer>,
}

/// One kept layer of a [`ConvStage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConvLayer {
    /// The layer of the supernet's stage.
    pub index: usize,
    /// Height and width of the depthwise kernel.
    pub kernel: usize,
    /// Channels inside, where the layer expands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
}

impl ConvSpace {
    /// How the choices of a dimension are realised.
    pub fn transform(&self, dimension: Dimension) -> TransformKind {
        self.transforms.get(&dimension).copied().unwrap_or_default()
    }

    /// The same space with only some dimensions open: the others keep their largest choice.
    pub(crate) fn restricted(&self, open: &BTreeSet<Dimension>) -> Self {
        let mut space = self.clone();
        let mut choices = vec![
            (Dimension::Resolution, &mut space.resolution),
            (Dimension::Width, &mut space.stem.width),
            (Dimension::Width, &mut space.head.width),
            (Dimension::Width, &mut space.head.hidden),
        ];
        for stage in &mut space.stages {
            choices.push((Dimension::Width, &mut stage.width));
            choices.push((Dimension::Depth, &mut stage.depth.choices));
            choices.push((Dimension::Kernel, &mut stage.kernel.choices));
            choices.extend(stage.hidden.iter_mut().map(|hidden| (Dimension::Width, &mut hidden.choices)));
        }
        choices.into_iter().filter(|(d, _)| !open.contains(d)).for_each(|(_, choices)| close(choices));
        space
    }

    /// The decisions, always in this order: resolution, stem; for each stage width, depth, kernels, hidden
    /// widths; head, its fully connected layer.
    pub fn slots(&self) -> Vec<Slot> {
        let network = |field: &str, dimension, choices: &[usize]| {
            Slot::uniform(field, dimension, Place::Network, choices.to_vec())
        };
        let mut slots = vec![
            network("resolution", Dimension::Resolution, &self.resolution),
            network("stem.width", Dimension::Width, &self.stem.width),
        ];
        for (index, stage) in self.stages.iter().enumerate() {
            stage.add_slots(index, &mut slots);
        }
        slots.push(network("head.width", Dimension::Width, &self.head.width));
        if !self.head.hidden.is_empty() {
            slots.push(network("head.hidden", Dimension::Width, &self.head.hidden));
        }
        slots
    }

    /// The subnet that holds `values[i]`, a choice of slot i.
    pub(crate) fn decode(&self, values: &[usize]) -> ConvSubnet {
        let mut values = values.iter().copied();
        let mut next = || values.next().expect("a value for each slot");
        ConvSubnet {
            resolution: next(),
            stem: next(),
            stages: self.stages.iter().map(|stage| stage.decode(&mut next)).collect(),
            head: next(),
            head_hidden: (!self.head.hidden.is_empty()).then(next),
        }
    }

    /// The value of each slot, `None` where the slot belongs to a layer that is left out.
    ///
    /// A shared slot takes the first layer's value: [`crate::SearchSpace::encode`] compares the
    /// decoded subnet, which finds layers that disagree.
    pub(crate) fn values(&self, subnet: &ConvSubnet) -> Vec<Option<usize>> {
        let mut values = vec![Some(subnet.resolution), Some(subnet.stem)];
        for (index, stage) in self.stages.iter().enumerate() {
            stage.add_values(subnet.stages.get(index), &mut values);
        }
        values.push(Some(subnet.head));
        if !self.head.hidden.is_empty() {
            values.push(subnet.head_hidden);
        }
        values
    }

    /// How many different subnets there are (saturating).
    pub(crate) fn size(&self) -> u128 {
        let lists = [&self.resolution, &self.stem.width, &self.head.width, &self.head.hidden];
        let fixed = lists.into_iter().map(|choices| choices.len().max(1) as u128);
        fixed.chain(self.stages.iter().map(ConvStageChoices::size)).fold(1, u128::saturating_mul)
    }
}

impl ConvStageChoices {
    /// Layers of the supernet's stage.
    pub fn layers(&self) -> usize {
        self.depth.layers()
    }

    /// Depth with the first layer, which changes width and size, always kept.
    fn depth_slot(&self, index: usize) -> Slot {
        self.depth.slot(format!("stages.{index}.depth"), Place::Stage(index), 1)
    }

    fn add_slots(&self, index: usize, slots: &mut Vec<Slot>) {
        let stage = |field: &str, dimension, choices: &[usize]| {
            let field = format!("stages.{index}.{field}");
            Slot::named(field.clone(), field, dimension, Place::Stage(index), choices.to_vec())
        };
        slots.push(stage("width", Dimension::Width, &self.width));
        slots.push(self.depth_slot(index));
        for (field, dimension, width) in self.layer_choices() {
            let whole = stage(field, dimension, &width.choices);
            match width.per {
                Granularity::Stage | Granularity::Network => slots.push(whole),
                Granularity::Layer => slots.extend((0..self.layers()).map(|layer| Slot {
                    name: format!("stages.{index}.layers.{layer}.{field}"),
                    place: Place::Layer { layer, stage: index },
                    ..whole.clone()
                })),
            }
        }
    }

    /// The choices that layers make: kernel, and the hidden width where there is one.
    fn layer_choices(&self) -> impl Iterator<Item = (&'static str, Dimension, &WidthChoices)> {
        let hidden = self.hidden.iter().map(|hidden| ("hidden", Dimension::Width, hidden));
        std::iter::once(("kernel", Dimension::Kernel, &self.kernel)).chain(hidden)
    }

    fn decode(&self, next: &mut impl FnMut() -> usize) -> ConvStage {
        let (width, mask) = (next(), next());
        let mut of_layers = |width: &WidthChoices| match width.per {
            Granularity::Stage | Granularity::Network => vec![next(); self.layers()],
            Granularity::Layer => (0..self.layers()).map(|_| next()).collect(),
        };
        let kernels = of_layers(&self.kernel);
        let hidden = self.hidden.as_ref().map(of_layers);
        let layer = |index: usize| ConvLayer {
            index,
            kernel: kernels[index],
            hidden: hidden.as_ref().map(|hidden| hidden[index]),
        };
        ConvStage { width, layers: (0..self.layers()).filter(|l| mask >> l & 1 == 1).map(layer).collect() }
    }

    fn add_values(&self, stage: Option<&ConvStage>, values: &mut Vec<Option<usize>>) {
        let layers = stage.map_or(&[][..], |stage| &stage.layers);
        let bit = |layer: &ConvLayer| 1_usize.checked_shl(layer.index as u32).unwrap_or(0);
        values.push(stage.map(|stage| stage.width));
        values.push(stage.map(|_| layers.iter().fold(0, |mask, layer| mask | bit(layer))));
        let mut push = |width: &WidthChoices, value: fn(&ConvLayer) -> Option<usize>| match width.per {
            Granularity::Stage | Granularity::Network => values.push(layers.first().and_then(value)),
            Granularity::Layer => values.extend(
                (0..self.layers()).map(|index| layers.iter().find(|l| l.index == index).and_then(value)),
            ),
        };
        push(&self.kernel, |layer| Some(layer.kernel));
        if let Some(hidden) = &self.hidden {
            push(hidden, |layer| layer.hidden);
        }
    }

    /// Different choices of the stage: for each set of layers, the choices of the layers it keeps.
    fn size(&self) -> u128 {
        let power = |width: &WidthChoices, mask: usize| {
            let decisions = match width.per {
                Granularity::Stage | Granularity::Network => 1,
                Granularity::Layer => mask.count_ones(),
            };
            (width.choices.len() as u128).saturating_pow(decisions)
        };
        let of_set = |mask: usize| {
            self.layer_choices().map(|(_, _, width)| power(width, mask)).fold(1, u128::saturating_mul)
        };
        let sets = self.depth_slot(0).choices.into_iter().map(of_set).fold(0, u128::saturating_add);
        sets.saturating_mul(self.width.len() as u128)
    }

    /// The largest width.
    pub fn largest_width(&self) -> usize {
        last(&self.width)
    }
}

fn usual_epsilon() -> f64 {
    BATCH_NORM_EPSILON
}

fn is_usual_epsilon(epsilon: &f64) -> bool {
    *epsilon == BATCH_NORM_EPSILON
}

impl fmt::Display for ConvSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "resolution {} stem {}", self.resolution, self.stem)?;
        for stage in &self.stages {
            let layer = |(position, layer): (usize, &ConvLayer)| {
                let index = if layer.index == position { String::new() } else { format!("{}:", layer.index) };
                let hidden = layer.hidden.map_or_else(String::new, |hidden| format!("-{hidden}"));
                format!("{index}k{}{hidden}", layer.kernel)
            };
            let layers: Vec<String> = stage.layers.iter().enumerate().map(layer).collect();
            write!(f, " {}({})", stage.width, layers.join(" "))?;
        }
        write!(f, " head {}", self.head)?;
        self.head_hidden.map_or(Ok(()), |hidden| write!(f, "-{hidden}"))
    }
}
