//! The typed layers of a convolutional network's subnet.

use super::{Activation, ConvSpace, ConvSubnet, STEM_KERNEL};
use crate::choices::last;
use crate::shape::{LayerKind, LayerShape, Shape};

/// One inverted residual of a subnet with all its sizes.
///
/// It expands `inputs` to `hidden` channels, runs a depthwise convolution, weighs the channels where it
/// squeezes, and projects to `outputs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvBlock {
    /// The name of the layer in the standalone subnet, in which kept layers are numbered anew.
    pub name: String,
    /// The stage.
    pub stage: usize,
    /// The layer of the supernet's stage.
    pub index: usize,
    /// Channels in.
    pub inputs: usize,
    /// Channels inside.
    pub hidden: usize,
    /// Channels out.
    pub outputs: usize,
    /// Whether there is a convolution from `inputs` to `hidden`; else they are equal.
    pub expands: bool,
    /// Height and width of the depthwise kernel.
    pub kernel: usize,
    /// Pixels from one place of the depthwise kernel to the next.
    pub stride: usize,
    /// Features of squeeze-and-excitation, where there is one.
    pub squeeze: Option<usize>,
    /// Whether the input is added to the output.
    pub residual: bool,
    /// After expansion and depthwise convolution.
    pub activation: Activation,
}

impl ConvSpace {
    /// The inverted residuals of a subnet, in the order in which they run.
    ///
    /// The input is added where the image keeps its size and the supernet's largest widths before and after
    /// the layer are equal, as long as the subnet's are too.
    pub fn blocks(&self, subnet: &ConvSubnet) -> Vec<ConvBlock> {
        let mut blocks = Vec::new();
        let (mut inputs, mut largest_inputs) = (subnet.stem, last(&self.stem.width));
        for (number, (choices, stage)) in self.stages.iter().zip(&subnet.stages).enumerate() {
            for (position, layer) in stage.layers.iter().enumerate() {
                let stride = if layer.index == 0 { choices.stride } else { 1 };
                let hidden = layer.hidden.unwrap_or(inputs);
                let outputs = stage.width;
                blocks.push(ConvBlock {
                    name: format!("stages.{number}.blocks.{position}"),
                    stage: number,
                    index: layer.index,
                    inputs,
                    hidden,
                    outputs,
                    expands: layer.hidden.is_some(),
                    kernel: layer.kernel,
                    stride,
                    squeeze: choices.squeeze_excite.then(|| squeeze_width(hidden)),
                    residual: stride == 1 && inputs == outputs && largest_inputs == choices.largest_width(),
                    activation: choices.activation.unwrap_or(self.activation),
                });
                (inputs, largest_inputs) = (outputs, choices.largest_width());
            }
        }
        blocks
    }

    /// The typed layers of a subnet, in the order in which they run.
    ///
    /// Convolutions have a bias: batch normalisation is folded into them.
    pub fn shape(&self, subnet: &ConvSubnet) -> Shape {
        let mut layers = Vec::new();
        let mut side = subnet.resolution.div_ceil(self.stem.stride);
        let conv = |name: String, inputs: usize, outputs: usize, side: usize| LayerShape {
            name,
            kind: LayerKind::Conv { inputs, outputs, kernel: 1, groups: 1 },
            rows: side * side,
        };
        let (inputs, outputs) = (self.channels, subnet.stem);
        layers.push(LayerShape {
            name: "stem".into(),
            kind: LayerKind::Conv { inputs, outputs, kernel: STEM_KERNEL, groups: 1 },
            rows: side * side,
        });
        let mut channels = subnet.stem;
        for block in self.blocks(subnet) {
            let name = |part: &str| format!("{}.{part}", block.name);
            let hidden = block.hidden;
            if block.expands {
                layers.push(conv(name("expand"), block.inputs, hidden, side));
            }
            side = side.div_ceil(block.stride);
            let (inputs, outputs, kernel, groups) = (hidden, hidden, block.kernel, hidden);
            layers.push(LayerShape {
                name: name("depthwise"),
                kind: LayerKind::Conv { inputs, outputs, kernel, groups },
                rows: side * side,
            });
            if let Some(squeeze) = block.squeeze {
                layers.push(conv(name("squeeze"), hidden, squeeze, 1));
                layers.push(conv(name("excite"), squeeze, hidden, 1));
            }
            layers.push(conv(name("project"), hidden, block.outputs, side));
            channels = block.outputs;
        }
        layers.push(conv("head".into(), channels, subnet.head, side));
        let mut features = subnet.head;
        let linear = |name: &str, inputs: usize, outputs: usize| LayerShape {
            name: name.into(),
            kind: LayerKind::Linear { inputs, outputs },
            rows: 1,
        };
        if let Some(hidden) = subnet.head_hidden {
            layers.push(linear("hidden", features, hidden));
            features = hidden;
        }
        layers.push(linear("classifier", features, self.classes));
        Shape { input: [self.channels, self.image_size, self.image_size], classes: self.classes, layers }
    }
}

/// Features of squeeze-and-excitation: a quarter of the channels, to the nearest multiple of 8, at least 8 and
/// not below nine tenths of the quarter, as [MobileNetV3](https://arxiv.org/abs/1905.02244) has them.
pub fn squeeze_width(hidden: usize) -> usize {
    let quarter = hidden / 4;
    let nearest = ((quarter + 4) / 8 * 8).max(8);
    if 10 * nearest < 9 * quarter { nearest + 8 } else { nearest }
}
