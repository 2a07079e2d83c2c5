//! Tiny supernets with odd sizes, images and recipes.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use elastic_data::{Augmentation, Batch, DataConfig, Examples, Images, Source, Splits, Texts};
use elastic_space::bert::{BertPooling, BertSpace};
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, TransformKind, WidthChoices};
use elastic_space::conv::{Activation, BATCH_NORM_EPSILON, ConvSpace, ConvStageChoices, Head, Padding, Stem};
use elastic_space::random::Purpose;
use elastic_space::sampling::Mixed;
use elastic_space::swin::{SwinSpace, SwinStageChoices};
use elastic_space::vit::{Pooling, VitSpace};
use elastic_space::{Array, Dimension, Sampling, SearchSpace, Seed, Subnet, Weights};
use elastic_trainer::config::{
    BaseStage, Distillation, LearningRate, Optimizer, Progressive, Reduce, SCHEMA, Scheme, Stage,
    SubnetCount, Teacher, Training,
};
use elastic_trainer::run_folder::RunFolder;
use elastic_trainer::supernet::Network;
use elastic_trainer::train::Place;
use elastic_trainer::{Model, Supernet, parameters};
use rand::Rng;

pub(crate) const POOLINGS: [Pooling; 2] = [Pooling::ClassToken, Pooling::Mean];
pub(crate) const DROPS: [DropPolicy; 2] = [DropPolicy::Prefix, DropPolicy::Any];
pub(crate) const KINDS: [TransformKind; 3] =
    [TransformKind::Identity, TransformKind::Linear, TransformKind::Nonlinear];
pub(crate) const GRANULARITIES: [Granularity; 3] =
    [Granularity::Layer, Granularity::Network, Granularity::Stage];

/// Images of 2 x 6 x 6 in 9 patches, up to 3 layers in two stages, 3 classes; no width divides another.
pub(crate) fn vit_space(pooling: Pooling, drop: DropPolicy, per: Granularity) -> VitSpace {
    VitSpace {
        image_size: 6,
        channels: 2,
        patch_size: 2,
        classes: 3,
        head_dim: 3,
        pooling,
        embed_dim: vec![5, 8, 13],
        depth: DepthChoices { choices: vec![1, 2, 3], drop },
        heads: WidthChoices { choices: vec![1, 2, 3], per },
        mlp_width: WidthChoices { choices: vec![7, 12], per },
        stages: vec![1, 2],
        transforms: BTreeMap::new(),
    }
}

/// The same space with a kind of transform in every dimension that has some.
pub(crate) fn transformed(vit: VitSpace, kind: TransformKind) -> SearchSpace {
    let transforms = [Dimension::Width, Dimension::Heads, Dimension::Embedding].map(|d| (d, kind)).into();
    SearchSpace::Vit(VitSpace { transforms, ..vit })
}

pub(crate) fn space() -> SearchSpace {
    SearchSpace::Vit(vit_space(Pooling::ClassToken, DropPolicy::Any, Granularity::Layer))
}

/// Images of 2 x 7 x 7, at 5 or 7 pixels; a stage that keeps the width and one of up to three layers with all there
/// is; no width is one of a neighbour's.
pub(crate) fn conv_space(drop: DropPolicy, per: Granularity) -> ConvSpace {
    let choices = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per };
    let stage = |width: &[usize], depth: &[usize], stride, hidden: Option<WidthChoices>| ConvStageChoices {
        width: width.to_vec(),
        depth: DepthChoices { choices: depth.to_vec(), drop },
        stride,
        kernel: choices(&[3, 5, 7]),
        squeeze_excite: hidden.is_some(),
        hidden,
        activation: None,
    };
    let mut plain = stage(&[3, 7], &[1, 2], 1, None);
    plain.activation = Some(Activation::Relu6);
    ConvSpace {
        image_size: 7,
        channels: 2,
        classes: 3,
        resolution: vec![5, 7],
        activation: Activation::HardSwish,
        padding: Padding::Centred,
        norm_epsilon: BATCH_NORM_EPSILON,
        stem: Stem { width: vec![4, 5], stride: 1 },
        stages: vec![plain, stage(&[6, 8], &[1, 2, 3], 2, Some(choices(&[9, 11])))],
        head: Head { width: vec![10, 13], hidden: vec![12, 14] },
        transforms: BTreeMap::new(),
    }
}

/// Images of 2 x 10 x 10 in maps of 5, 3 and 2 tokens a side: windows of 3 that are padded and shifted, one window, one
/// that shrinks; no width is one of a neighbour's.
pub(crate) fn swin_space(drop: DropPolicy, per: Granularity) -> SwinSpace {
    let choices = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per };
    let stage = |embed_dim: &[usize], depth: &[usize], heads: &[usize], mlp: &[usize]| SwinStageChoices {
        embed_dim: embed_dim.to_vec(),
        depth: DepthChoices { choices: depth.to_vec(), drop },
        heads: choices(heads),
        mlp_width: choices(mlp),
    };
    SwinSpace {
        image_size: 10,
        channels: 2,
        patch_size: 2,
        classes: 3,
        window_size: 3,
        head_dim: 3,
        stages: vec![
            stage(&[5, 8], &[1, 2, 3], &[1, 2, 3], &[7, 12]),
            stage(&[6, 10], &[1, 2], &[1, 2], &[9, 11]),
            stage(&[13, 14], &[1], &[1, 4], &[16]),
        ],
        transforms: BTreeMap::new(),
    }
}

/// Texts of up to 7 tokens out of 23, up to 3 layers in two stages, 3 classes; no width divides another.
pub(crate) fn bert_space(pooling: BertPooling, drop: DropPolicy, per: Granularity) -> BertSpace {
    BertSpace {
        vocabulary: 23,
        length: 7,
        segments: 2,
        classes: 3,
        head_dim: 3,
        pooling,
        embed_dim: vec![5, 8, 13],
        depth: DepthChoices { choices: vec![1, 2, 3], drop },
        heads: WidthChoices { choices: vec![1, 2, 3], per },
        mlp_width: WidthChoices { choices: vec![7, 12], per },
        stages: vec![1, 2],
        transforms: BTreeMap::new(),
    }
}

/// A space of every family.
pub(crate) fn families() -> [SearchSpace; 4] {
    let (drop, per) = (DropPolicy::Any, Granularity::Layer);
    let bert = bert_space(BertPooling::Pooler, drop, per);
    [
        space(),
        SearchSpace::Conv(conv_space(drop, per)),
        SearchSpace::Swin(swin_space(drop, per)),
        SearchSpace::Bert(bert),
    ]
}

/// A stage of six steps with nothing beyond what is needed.
pub(crate) fn stage() -> Stage {
    Stage {
        open: None,
        steps: 6,
        learning_rate: LearningRate { peak: 0.01, last: 0.001, warm_up_steps: 2 },
        subnets: SubnetCount::Count(2),
        sampling: Sampling::Random,
        share_earlier: None,
        sort_channels: false,
        reduce: Reduce::Sum,
        distillation: None,
    }
}

/// A stage of six steps with all that the recipes of the field have.
pub(crate) fn rich_stage() -> Stage {
    Stage {
        subnets: SubnetCount::Count(3),
        sampling: sandwich(),
        reduce: Reduce::Mean,
        distillation: Some(in_place(0.5)),
        ..stage()
    }
}

/// The largest and the smallest, then random ones.
pub(crate) fn sandwich() -> Sampling {
    let fixed = vec!["largest".into(), "smallest".into()];
    Sampling::Mixed(Mixed { fixed, rest: Box::new(Sampling::Random) })
}

pub(crate) fn in_place(weight: f64) -> Distillation {
    Distillation { weight, teacher: Teacher::InPlace }
}

/// A recipe with nothing beyond what is needed.
pub(crate) fn training() -> Training {
    joint(stage())
}

/// [`training`] with all dimensions open in one stage.
pub(crate) fn joint(stage: Stage) -> Training {
    Training {
        scheme: Scheme::Joint(stage),
        batch_size: 5,
        optimizer: Optimizer { weight_decay: 0.1, beta1: 0.9, beta2: 0.98 },
        label_smoothing: 0.0,
        clip_gradient_norm: None,
        ema: None,
        augmentation: Augmentation::NONE,
        platform_budgets: Vec::new(),
        collapse_margin: None,
        evaluate_every: 2,
        evaluate_random: 2,
        evaluate_images: 8,
        calibration_images: None,
        checkpoint_every: 2,
    }
}

/// The largest network alone for some steps.
pub(crate) fn base_stage(steps: u64) -> BaseStage {
    BaseStage { steps, learning_rate: stage().learning_rate, patience: None, distillation: None }
}

/// A stage that opens a dimension for some steps; each step trains the smallest subnet.
pub(crate) fn opening(dimension: Dimension, steps: u64) -> Stage {
    let fixed = vec!["smallest".into()];
    let sampling = Sampling::Mixed(Mixed { fixed, rest: Box::new(Sampling::Random) });
    Stage { open: Some(dimension), steps, sampling, ..stage() }
}

/// [`training`] with one stage after the other.
pub(crate) fn progressive(base: BaseStage, stages: Vec<Stage>) -> Training {
    Training { scheme: Scheme::Progressive(Progressive { base: Some(base), stages }), ..training() }
}

/// The one stage of a joint scheme.
pub(crate) fn only_stage(training: &mut Training) -> &mut Stage {
    let Scheme::Joint(stage) = &mut training.scheme else { panic!("a joint scheme") };
    stage
}

pub(crate) fn model(training: Training) -> Model {
    Model {
        schema: SCHEMA.to_owned(),
        licence: None,
        seed: 11,
        space: space(),
        subnets: BTreeMap::new(),
        data: DataConfig {
            source: Source::Idx("no/such/folder".into()),
            validation: Some(9),
            mean: vec![0.4, 0.5],
            std: vec![0.3, 0.25],
            class_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
        },
        init: None,
        training,
    }
}

/// The model of a convolutional network.
pub(crate) fn conv_model(training: Training) -> Model {
    let space = SearchSpace::Conv(conv_space(DropPolicy::Any, Granularity::Layer));
    Model { space, ..model(Training { calibration_images: Some(6), ..training }) }
}

/// 17 training images or texts and 9 for validation.
pub(crate) fn splits(space: &SearchSpace) -> Splits {
    let mut rng = Seed(3).generator(Purpose::Split, 1);
    let [channels, height, width] = space.input();
    let mut examples = |count: usize| {
        let labels = (0..count).map(|i| (i % space.classes()) as u8).collect();
        match space.vocabulary() {
            None => Examples::Images(Images {
                channels,
                height,
                width,
                pixels: (0..count * channels * height * width).map(|_| rng.random()).collect(),
                labels,
            }),
            Some(vocabulary) => {
                let mut text = |longest: usize| {
                    let tokens = rng.random_range(1..=longest);
                    (0..tokens).map(|_| rng.random_range(0..vocabulary) as u32).collect()
                };
                let tokens = (0..count).map(|_| text(width)).collect();
                Examples::Texts(Texts { tokens, labels, length: width, pad_to: 2 })
            }
        }
    };
    Splits { train: examples(17), validation: examples(9) }
}

/// A run on the CPU.
pub(crate) fn on_cpu(folder: &RunFolder) -> Place<'_> {
    Place { folder, device: Device::flex() }
}

/// A supernet in which no weight, shift or scale has a special value.
pub(crate) fn supernet(space: SearchSpace, seed: u64, device: &Device) -> Supernet {
    let supernet = Supernet::new(space, Seed(seed), device);
    let mut rng = Seed(seed).generator(Purpose::Init, 1);
    let mut weights = parameters::collect(&supernet.network);
    weights.values_mut().flat_map(|array| &mut array.data).for_each(|v| *v = rng.random_range(-0.6..0.6));
    let network = parameters::replace(supernet.network, &weights).expect("the same names and shapes");
    let calibration = supernet.space.needs_calibration().then(|| images(&supernet.space, 6, seed));
    Supernet { network, ..supernet }.with_calibration(calibration)
}

/// Images, or texts of which only the first has no padding.
pub(crate) fn images(space: &SearchSpace, count: usize, seed: u64) -> Array {
    let mut rng = Seed(seed).generator(Purpose::Augment, 0);
    let shape: Vec<usize> = [count].into_iter().chain(space.input()).collect();
    if let Some(vocabulary) = space.vocabulary() {
        let tokens = shape[3];
        let mut data = Vec::new();
        for text in 0..count {
            data.extend((0..tokens).map(|_| rng.random_range(0..vocabulary) as f32));
            let length = if text == 0 { tokens } else { rng.random_range(1..tokens) };
            data.extend((0..tokens).map(|token| f32::from(u8::from(token < length))));
            data.extend((0..tokens).map(|_| f32::from(rng.random_range(0..2_u8))));
        }
        return Array { shape, data };
    }
    let data = (0..shape.iter().product()).map(|_| rng.random_range(-1.5..1.5)).collect();
    Array { shape, data }
}

pub(crate) fn batch(space: &SearchSpace, labels: &[u8], seed: u64) -> Batch {
    let [channels, height, width] = space.input();
    let images = images(space, labels.len(), seed).data;
    Batch { shape: [labels.len(), channels, height, width], images, labels: labels.to_vec(), mixed: None }
}

pub(crate) fn draw(space: &SearchSpace, count: usize, seed: u64) -> Vec<Subnet> {
    let mut rng = Seed(seed).generator(Purpose::Candidates, 0);
    (0..count).map(|_| space.draw(&mut rng)).collect()
}

pub(crate) fn vit(supernet: &Supernet) -> &elastic_trainer::families::vit::Vit {
    let Network::Vit(vit) = &supernet.network else { panic!("a vision transformer") };
    vit
}

pub(crate) fn tensor<const D: usize>(array: &Array) -> Tensor<D> {
    Tensor::from_data(TensorData::new(array.data.clone(), array.shape.clone()), &Device::flex())
}

/// The largest difference; infinite if the lengths differ, no number if a value is none.
pub(crate) fn worst<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> f64 {
    let difference = |(a, b): (&A, &B)| ((*a).into() - (*b).into()).abs();
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    a.iter()
        .zip(b)
        .map(difference)
        .fold(0.0, |worst: f64, d| if worst.is_nan() || d <= worst { worst } else { d })
}

/// A tensor of a subnet as part of a tensor of the supernet.
pub(crate) struct Origin {
    /// The supernet's tensor.
    pub(crate) name: String,
    /// Where in it each value of the subnet's tensor lies.
    pub(crate) offsets: Vec<usize>,
}

/// Where each tensor of a standalone subnet lies in the supernet, from the definition: the leading
/// part in every dimension, of queries, keys and values apart.
pub(crate) fn origins(full: &Weights, space: &SearchSpace, subnet: &Subnet) -> BTreeMap<String, Origin> {
    let Subnet::Vit(layers) = subnet else { panic!("a vision transformer") };
    let origin = |(name, mut shape): (String, Vec<usize>)| {
        let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        if parts[0] == "blocks" {
            let position: usize = parts[1].parse().expect("blocks are numbered");
            parts[1] = layers.layers[position].index.to_string();
        }
        if name.contains(".qkv.") {
            let inner = shape.pop().expect("a projection has features") / 3;
            shape.extend([3, inner]);
        }
        let full_name = parts.join(".");
        let offsets = leading(&full[&full_name].shape, &shape);
        (name, Origin { name: full_name, offsets })
    };
    space.shape(subnet).tensors().into_iter().map(origin).collect()
}

/// The row-major offsets of the leading part `shape` of an array of shape `full`.
pub(crate) fn leading(full: &[usize], shape: &[usize]) -> Vec<usize> {
    assert_eq!(full.len(), shape.len(), "{full:?} {shape:?}");
    let offset = |flat: usize| {
        let (mut rest, mut offset, mut stride) = (flat, 0, 1);
        for (&size, &full) in shape.iter().zip(full).rev() {
            offset += rest % size * stride;
            rest /= size;
            stride *= full;
        }
        offset
    };
    (0..shape.iter().product()).map(offset).collect()
}

/// All gradients multiplied by a factor.
pub(crate) fn scaled(gradients: GradientsParams, factor: f64, network: &Network) -> GradientsParams {
    let mut visitor = Scale { from: gradients, to: GradientsParams::new(), factor };
    network.visit(&mut visitor);
    visitor.to
}

struct Scale {
    from: GradientsParams,
    to: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, gradient * self.factor);
        }
    }
}
