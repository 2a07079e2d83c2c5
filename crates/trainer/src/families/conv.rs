//! The elastic convolutional network of inverted residuals.
//!
//! Activations are channels-last, `[batch, height, width, channels]`, so that a 1 x 1 convolution is one matrix
//! product over all pixels.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use elastic_space::conv::{
    Activation, ConvBlock, ConvSpace, ConvStageChoices, ConvSubnet, STEM_KERNEL, Taps, squeeze_width,
};
use elastic_space::{Dimension, Weights};
use rand::Rng;

use super::put;
use crate::layers::{
    ElasticConvolution, ElasticDepthwise, ElasticLinear, Normalisation, Statistics, Transforms,
};
use crate::ops::{self, Window};

/// A convolutional network of a space's largest sizes.
#[derive(Module, Debug)]
pub struct Conv {
    /// Images to features: a full convolution on each pixel's neighbourhood, rows first, channels last.
    pub stem: ElasticConvolution,
    /// All stages.
    pub stages: Vec<Stage>,
    /// Before the mean over all pixels.
    pub head: ElasticConvolution,
    /// After it, where the space has one.
    pub hidden: Option<ElasticLinear>,
    /// Features to classes.
    pub classifier: ElasticLinear,
    #[module(skip)]
    space: ConvSpace,
}

/// Inverted residuals of one width.
#[derive(Module, Debug)]
pub struct Stage {
    /// All layers.
    pub blocks: Vec<Block>,
}

/// One inverted residual.
#[derive(Module, Debug)]
pub struct Block {
    /// To the hidden channels, where the stage expands.
    pub expand: Option<ElasticConvolution>,
    /// Within each hidden channel.
    pub depthwise: ElasticDepthwise,
    /// The means of the hidden channels to fewer features, where the stage squeezes.
    pub squeeze: Option<ElasticLinear>,
    /// These to the weights of the hidden channels.
    pub excite: Option<ElasticLinear>,
    /// To the channels of the stage.
    pub project: ElasticConvolution,
}

impl Conv {
    /// A network of the space's largest sizes with random weights.
    pub fn new(space: &ConvSpace, device: &Device, rng: &mut impl Rng) -> Self {
        let window = STEM_KERNEL * STEM_KERNEL * space.channels;
        let stem = pointwise(space, window, &space.stem.width, device, rng);
        let mut inputs = largest(&space.stem.width);
        let mut stages = Vec::new();
        for choices in &space.stages {
            let mut blocks = Vec::new();
            for _ in 0..choices.layers() {
                blocks.push(Block::new(space, choices, inputs, device, rng));
                inputs = choices.largest_width();
            }
            stages.push(Stage { blocks });
        }
        let head = pointwise(space, inputs, &space.head.width, device, rng);
        let mut features = largest(&space.head.width);
        let hidden = (!space.head.hidden.is_empty()).then(|| {
            let outputs = largest(&space.head.hidden);
            let layer = ElasticLinear::new(features, outputs, device, rng);
            features = outputs;
            layer.with_transforms(transforms(space, &space.head.hidden, device))
        });
        let classifier = ElasticLinear::new(features, space.classes, device, rng);
        Self { stem, stages, head, hidden, classifier, space: space.clone() }
    }

    /// The logits of a subnet.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, height, width, channels]`
    /// - output: `[batch, classes]`
    pub fn forward(
        &self,
        images: Tensor<4>,
        subnet: &ConvSubnet,
        normalisation: &mut Normalisation<'_>,
    ) -> Tensor<2> {
        let x = resized(images, subnet.resolution);
        let [_, height, width, _] = x.dims();
        let window = Window::padded(self.space.padding, STEM_KERNEL, self.space.stem.stride, [height, width]);
        let x = self.stem.forward(x, window, subnet.stem, normalisation);
        let mut x = activation(x, self.space.activation);
        for block in self.space.blocks(subnet) {
            x = self.stages[block.stage].blocks[block.index].forward(x, &block, normalisation);
        }
        let x = self.head.forward(x, Window::PIXEL, subnet.head, normalisation);
        let mut x = ops::mean_pixels(activation(x, self.space.activation));
        if let (Some(layer), Some(outputs)) = (&self.hidden, subnet.head_hidden) {
            x = activation(layer.forward(x, outputs), self.space.activation);
        }
        self.classifier.forward(x, self.space.classes)
    }

    /// The names of the batch normalisations of the largest subnet, in the order in which they run.
    pub fn normalisations(&self) -> Vec<String> {
        let of_block = |stage: usize, (index, block): (usize, &Block)| {
            let expand = block.expand.as_ref().map(|_| "expand");
            let parts = expand.into_iter().chain(["depthwise", "project"]);
            parts.map(|part| format!("stages.{stage}.blocks.{index}.{part}.norm")).collect::<Vec<_>>()
        };
        let of_stage = |(number, stage): (usize, &Stage)| {
            stage.blocks.iter().enumerate().flat_map(|block| of_block(number, block)).collect::<Vec<_>>()
        };
        let stages = self.stages.iter().enumerate().flat_map(of_stage);
        ["stem.norm".to_owned()].into_iter().chain(stages).chain(["head.norm".to_owned()]).collect()
    }

    /// The tensors of the standalone subnet, named as [`ConvSpace::shape`] lists them, with the batch
    /// normalisation of the given statistics folded in.
    pub fn extract(&self, subnet: &ConvSubnet, statistics: &Statistics) -> Weights {
        let mut moments = statistics.iter();
        let mut next = || moments.next().expect("statistics of this subnet");
        let mut weights = Weights::new();
        let window = STEM_KERNEL * STEM_KERNEL * self.space.channels;
        let (weight, bias) = self.stem.folded(window, subnet.stem, next());
        let kernel = weight.reshape([STEM_KERNEL, STEM_KERNEL, self.space.channels, subnet.stem]);
        put(&mut weights, "stem", (kernel.permute([3, 2, 0, 1]), bias));
        let mut channels = subnet.stem;
        for sizes in self.space.blocks(subnet) {
            let block = &self.stages[sizes.stage].blocks[sizes.index];
            let name = |part: &str| format!("{}.{part}", sizes.name);
            let hidden = sizes.hidden;
            if let Some(expand) = &block.expand {
                let folded = expand.folded(sizes.inputs, hidden, next());
                put(&mut weights, &name("expand"), as_kernel(folded));
            }
            let (weight, bias) = block.depthwise.folded(sizes.kernel, hidden, next());
            put(&mut weights, &name("depthwise"), (weight.permute([2, 0, 1]).unsqueeze_dim::<4>(1), bias));
            if let (Some(squeeze), Some(excite), Some(width)) = (&block.squeeze, &block.excite, sizes.squeeze)
            {
                put(&mut weights, &name("squeeze"), as_kernel(squeeze.slice(hidden, width)));
                put(&mut weights, &name("excite"), as_kernel(excite.slice(width, hidden)));
            }
            let folded = block.project.folded(hidden, sizes.outputs, next());
            put(&mut weights, &name("project"), as_kernel(folded));
            channels = sizes.outputs;
        }
        put(&mut weights, "head", as_kernel(self.head.folded(channels, subnet.head, next())));
        let mut features = subnet.head;
        if let (Some(layer), Some(outputs)) = (&self.hidden, subnet.head_hidden) {
            put(&mut weights, "hidden", layer.slice(features, outputs));
            features = outputs;
        }
        put(&mut weights, "classifier", self.classifier.slice(features, self.space.classes));
        weights
    }
}

impl Block {
    fn new(
        space: &ConvSpace,
        choices: &ConvStageChoices,
        inputs: usize,
        device: &Device,
        rng: &mut impl Rng,
    ) -> Self {
        let expand =
            choices.hidden.as_ref().map(|hidden| pointwise(space, inputs, &hidden.choices, device, rng));
        let hidden = choices.hidden.as_ref().map_or(inputs, |hidden| largest(&hidden.choices));
        let kernel = space.transform(Dimension::Kernel);
        let depthwise = ElasticDepthwise::new(&choices.kernel.choices, hidden, kernel, device, rng)
            .with_padding(space.padding)
            .with_epsilon(space.norm_epsilon);
        let width = squeeze_width(hidden);
        let mut linear = |inputs, outputs| {
            choices.squeeze_excite.then(|| ElasticLinear::new(inputs, outputs, device, rng))
        };
        let (squeeze, excite) = (linear(hidden, width), linear(width, hidden));
        let project = pointwise(space, hidden, &choices.width, device, rng);
        Self { expand, depthwise, squeeze, excite, project }
    }

    /// # Shapes
    ///
    /// - x: `[batch, height, width, inputs]`
    /// - output: `[batch, height / stride, width / stride, outputs]`, rounded up
    fn forward(
        &self,
        input: Tensor<4>,
        sizes: &ConvBlock,
        normalisation: &mut Normalisation<'_>,
    ) -> Tensor<4> {
        let mut x = input.clone();
        if let Some(expand) = &self.expand {
            x = activation(expand.forward(x, Window::PIXEL, sizes.hidden, normalisation), sizes.activation);
        }
        x = self.depthwise.forward(x, sizes.kernel, sizes.stride, normalisation);
        x = activation(x, sizes.activation);
        if let (Some(squeeze), Some(excite), Some(width)) = (&self.squeeze, &self.excite, sizes.squeeze) {
            let means = ops::mean_pixels(x.clone());
            let features = ops::activation(squeeze.forward(means, width), ops::Activation::Relu);
            let gate = ops::activation(excite.forward(features, sizes.hidden), ops::Activation::HardSigmoid);
            x = ops::scale_channels(x, gate);
        }
        x = self.project.forward(x, Window::PIXEL, sizes.outputs, normalisation);
        if sizes.residual { x + input } else { x }
    }
}

/// A 1 x 1 convolution with these choices of outputs.
fn pointwise(
    space: &ConvSpace,
    inputs: usize,
    outputs: &[usize],
    device: &Device,
    rng: &mut impl Rng,
) -> ElasticConvolution {
    let layer = ElasticConvolution::new(inputs, largest(outputs), device, rng);
    layer.with_transforms(transforms(space, outputs, device)).with_epsilon(space.norm_epsilon)
}

fn transforms(space: &ConvSpace, outputs: &[usize], device: &Device) -> Transforms {
    Transforms::new(space.transform(Dimension::Width), outputs, device)
}

/// Images of another size, by bilinear interpolation.
///
/// # Shapes
///
/// - images: `[batch, height, width, channels]`
/// - output: `[batch, size, size, channels]`
fn resized(images: Tensor<4>, size: usize) -> Tensor<4> {
    [1, 2].into_iter().fold(images, |images, axis| {
        if images.dims()[axis] == size {
            return images;
        }
        let Taps { lower, upper, share } = Taps::new(images.dims()[axis], size);
        let device = images.device();
        let pick = |at: Vec<usize>| {
            let at: Vec<i64> = at.into_iter().map(|at| at as i64).collect();
            images.clone().select(axis, Tensor::<1, Int>::from_data(TensorData::new(at, [size]), &device))
        };
        let mut shape = [1; 4];
        shape[axis] = size;
        let share = Tensor::<1>::from_data(TensorData::new(share, [size]), &device).reshape(shape);
        let lower = pick(lower);
        lower.clone() + (pick(upper) - lower) * share
    })
}

fn activation<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    ops::activation(
        x,
        match activation {
            Activation::Relu => ops::Activation::Relu,
            Activation::Relu6 => ops::Activation::Relu6,
            Activation::HardSwish => ops::Activation::HardSwish,
        },
    )
}

/// A matrix `[inputs, outputs]` as the kernel of a 1 x 1 convolution, `[outputs, inputs, 1, 1]`.
fn as_kernel((weight, bias): (Tensor<2>, Tensor<1>)) -> (Tensor<4>, Tensor<1>) {
    let [inputs, outputs] = weight.dims();
    (weight.transpose().reshape([outputs, inputs, 1, 1]), bias)
}

fn largest(choices: &[usize]) -> usize {
    choices[choices.len() - 1]
}
