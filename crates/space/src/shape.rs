//! The typed shape of a network: one list from which parameters, MACs and names derive.

use crate::cost::Cost;

/// The layers of one subnet with all their sizes, in the order in which they run.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Channels, height, width of one input; of a text as [`crate::SearchSpace::input`] says.
    pub input: [usize; 3],
    /// Number of outputs.
    pub classes: usize,
    /// The layers.
    pub layers: Vec<LayerShape>,
}

/// One layer with its sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerShape {
    /// The checkpoint's name of the layer; parameters append `.weight` and `.bias`.
    pub name: String,
    /// What it computes.
    pub kind: LayerKind,
    /// How many times it runs for one input: tokens, or pixels.
    pub rows: usize,
}

/// What a layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// y = x W + b, with W `[inputs, outputs]`.
    Linear {
        /// Features in.
        inputs: usize,
        /// Features out.
        outputs: usize,
    },
    /// y = x W, with W `[inputs, outputs]`.
    Projection {
        /// Features in.
        inputs: usize,
        /// Features out.
        outputs: usize,
    },
    /// A convolution with a square kernel and padding that keeps the image's size but for the stride.
    Conv {
        /// Channels in.
        inputs: usize,
        /// Channels out.
        outputs: usize,
        /// Height and width of the kernel.
        kernel: usize,
        /// Parts of the channels that do not see each other; as many as channels in a depthwise one.
        groups: usize,
    },
    /// Layer normalisation with scale and shift.
    LayerNorm {
        /// Features.
        features: usize,
    },
    /// A learned table `[1, entries, features]` that is added, concatenated or looked up.
    Table {
        /// Rows of the table.
        entries: usize,
        /// Features of a row.
        features: usize,
    },
    /// A product of two activations, `[batch, rows, inner] x [batch, inner, columns]`.
    MatMul {
        /// Independent products.
        batch: usize,
        /// Length of the sum.
        inner: usize,
        /// Columns of the result.
        columns: usize,
    },
}

impl LayerShape {
    /// The learned tensors: name and shape.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let named = |(suffix, shape)| (format!("{}{suffix}", self.name), shape);
        self.learned().into_iter().map(named).collect()
    }

    /// Number of learned values.
    pub fn params(&self) -> u64 {
        self.learned().iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
    }

    /// The learned tensors: what is appended to the layer's name, and the shape.
    fn learned(&self) -> Vec<(&'static str, Vec<usize>)> {
        match self.kind {
            LayerKind::Linear { inputs, outputs } => {
                vec![(".weight", vec![inputs, outputs]), (".bias", vec![outputs])]
            }
            LayerKind::Projection { inputs, outputs } => vec![(".weight", vec![inputs, outputs])],
            LayerKind::Conv { inputs, outputs, kernel, groups } => {
                vec![(".weight", vec![outputs, inputs / groups, kernel, kernel]), (".bias", vec![outputs])]
            }
            LayerKind::LayerNorm { features } => {
                vec![(".weight", vec![features]), (".bias", vec![features])]
            }
            LayerKind::Table { entries, features } => vec![("", vec![1, entries, features])],
            LayerKind::MatMul { .. } => Vec::new(),
        }
    }

    /// Multiply-accumulates of the matrix products and convolutions for one input.
    ///
    /// Normalisation, softmax, activations and additions are not counted, as is usual in the field.
    pub fn macs(&self) -> u64 {
        let product = match self.kind {
            LayerKind::Linear { inputs, outputs } | LayerKind::Projection { inputs, outputs } => {
                inputs * outputs
            }
            LayerKind::Conv { inputs, outputs, kernel, groups } => {
                inputs / groups * outputs * kernel * kernel
            }
            LayerKind::MatMul { batch, inner, columns } => batch * inner * columns,
            LayerKind::LayerNorm { .. } | LayerKind::Table { .. } => 0,
        };
        (self.rows * product) as u64
    }
}

impl Shape {
    /// The learned tensors of the network: name and shape.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.layers.iter().flat_map(LayerShape::tensors).collect()
    }

    /// Parameters and MACs of the network.
    pub fn cost(&self) -> Cost {
        Cost {
            params: self.layers.iter().map(LayerShape::params).sum(),
            macs: self.layers.iter().map(LayerShape::macs).sum(),
        }
    }
}
