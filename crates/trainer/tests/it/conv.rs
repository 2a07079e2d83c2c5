//! The convolutional network: weight sharing, kernels and their transforms, batch normalisation that is measured for
//! each subnet.

use burn::tensor::{Device, Tensor, TensorData};
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, TransformKind, WidthChoices};
use elastic_space::conv::{ConvSpace, ConvStage, ConvStageChoices, ConvSubnet, Head, Padding, Stem};
use elastic_space::random::Purpose;
use elastic_space::{Array, Dimension, SearchSpace, Seed, Subnet, Weights};
use elastic_trainer::layers::ElasticDepthwise;
use elastic_trainer::parameters::{self, array, collect};
use elastic_trainer::train::Start;
use elastic_trainer::{Model, Supernet, calibration};

use crate::runs::{folder, log, run};
use crate::support::{DROPS, conv_model, conv_space, draw, images, splits, supernet, training, worst};

const PER: [Granularity; 2] = [Granularity::Layer, Granularity::Stage];

/// A space of one network: the subnet, each of its layers a stage of its own.
fn exact(space: &ConvSpace, subnet: &ConvSubnet) -> ConvSpace {
    let one = |choice: usize| WidthChoices { choices: vec![choice], per: Granularity::Layer };
    let stages = |(choices, stage): (&ConvStageChoices, &ConvStage)| -> Vec<ConvStageChoices> {
        let layer = |layer: &elastic_space::conv::ConvLayer| ConvStageChoices {
            width: vec![stage.width],
            depth: DepthChoices { choices: vec![1], drop: DropPolicy::Prefix },
            stride: if layer.index == 0 { choices.stride } else { 1 },
            kernel: one(layer.kernel),
            hidden: layer.hidden.map(one),
            ..choices.clone()
        };
        stage.layers.iter().map(layer).collect()
    };
    ConvSpace {
        stem: Stem { width: vec![subnet.stem], ..space.stem },
        stages: space.stages.iter().zip(&subnet.stages).flat_map(stages).collect(),
        head: Head { width: vec![subnet.head], hidden: subnet.head_hidden.into_iter().collect() },
        ..space.clone()
    }
}

/// The part of an array that a subnet's tensor of this shape is: the leading part in every dimension, but the centre of a
/// depthwise kernel.
fn part(full: &Array, shape: &[usize]) -> Array {
    let border =
        |axis: usize| if shape.len() == 3 && axis < 2 { (full.shape[axis] - shape[axis]) / 2 } else { 0 };
    let value = |flat: usize| {
        let (mut rest, mut offset, mut stride) = (flat, 0, 1);
        for axis in (0..shape.len()).rev() {
            offset += (rest % shape[axis] + border(axis)) * stride;
            rest /= shape[axis];
            stride *= full.shape[axis];
        }
        full.data[offset]
    };
    Array { shape: shape.to_vec(), data: (0..shape.iter().product()).map(value).collect() }
}

/// The network of [`exact`] with the supernet's weights, cut out here by the definition.
fn standalone(shared: &Supernet, space: &ConvSpace, subnet: &ConvSubnet) -> (Supernet, Subnet) {
    let fresh = Supernet::new(SearchSpace::Conv(exact(space, subnet)), Seed(1), &Device::flex());
    let layers = subnet
        .stages
        .iter()
        .enumerate()
        .flat_map(|(s, stage)| stage.layers.iter().map(move |l| (s, l.index)));
    let places: Vec<(usize, usize)> = layers.collect();
    let full = collect(&shared.network);
    let cut = |(name, array): (String, Array)| {
        let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        if parts[0] == "stages" {
            let (stage, index) = places[parts[1].parse::<usize>().expect("stages are numbered")];
            (parts[1], parts[3]) = (stage.to_string(), index.to_string());
        }
        (name, part(&full[&parts.join(".")], &array.shape))
    };
    let weights: Weights = collect(&fresh.network).into_iter().map(cut).collect();
    let network = parameters::replace(fresh.network, &weights).expect("the same names and shapes");
    let mut sizes = SearchSpace::Conv(exact(space, subnet)).largest();
    let Subnet::Conv(conv) = &mut sizes else { panic!("a convolution") };
    conv.resolution = subnet.resolution;
    (Supernet { network, calibration: shared.calibration.clone(), space: fresh.space }, sizes)
}

#[test]
fn a_subnet_is_its_standalone_network() {
    let mut subnets = 0;
    let paddings = [Padding::Centred, Padding::Same, Padding::Same, Padding::Centred];
    let rows = DROPS.into_iter().flat_map(|drop| PER.map(|per| (drop, per)));
    for ((drop, per), padding) in rows.zip(paddings) {
        let conv = ConvSpace { padding, ..conv_space(drop, per) };
        let space = SearchSpace::Conv(conv.clone());
        space.validate().expect("a space");
        let shared = supernet(space.clone(), 5, &Device::flex());
        let images = images(&space, 3, 8);
        for subnet in draw(&space, 12, 30 + subnets).into_iter().chain([space.smallest(), space.largest()]) {
            let Subnet::Conv(sizes) = &subnet else { panic!("a convolution") };
            let (alone, whole) = standalone(&shared, &conv, sizes);
            let (inside, expected) = (shared.logits(&images, &subnet), alone.logits(&images, &whole));
            assert_eq!(inside.shape, [3, 3], "{subnet}");
            let difference = worst(&inside.data, &expected.data);
            assert!(difference <= 1e-5, "{subnet}: {difference} from the standalone network");
            let (inside, alone) = (shared.extract(&subnet), alone.extract(&whole));
            let shapes: Vec<_> =
                inside.iter().map(|(name, array)| (name.clone(), array.shape.clone())).collect();
            let mut expected = space.shape(&subnet).tensors();
            expected.sort();
            assert_eq!(shapes, expected, "{subnet}");
            let [inside, alone] =
                [&inside, &alone].map(|weights| weights.values().map(|a| a.data.len()).sum::<usize>());
            assert_eq!(inside, alone, "{subnet}");
            subnets += 1;
        }
    }
    assert!(subnets >= 50, "{subnets} subnets");
}

#[test]
fn statistics_are_those_of_the_calibration_images() {
    // On the calibration images themselves a calibrated subnet does what training does with them as a batch.
    let space = SearchSpace::Conv(conv_space(DropPolicy::Any, Granularity::Layer));
    let shared = supernet(space.clone(), 2, &Device::flex());
    let batch = shared.calibration.clone().expect("images");
    let tensor: Tensor<4> =
        Tensor::from_data(TensorData::new(batch.data.clone(), batch.shape.clone()), &Device::flex());
    for subnet in draw(&space, 10, 3) {
        let training = array(shared.forward(tensor.clone(), &subnet));
        let difference = worst(&shared.logits(&batch, &subnet).data, &training.data);
        assert!(difference < 1e-5, "{subnet}: {difference}");
        // Other images have other statistics.
        let other = shared.clone().with_calibration(Some(images(&space, 6, 77)));
        assert!(worst(&other.logits(&batch, &subnet).data, &training.data) > 1e-3, "{subnet}");
        assert_ne!(other.statistics(&subnet), shared.statistics(&subnet), "{subnet}");
    }
}

#[test]
fn batch_normalisation_by_hand() {
    // One pixel of one colour and a stem of one channel: its activation is w x, so mean and variance are those of w x, and
    // the folded weight is w g / sqrt(v + eps).
    let one = |choice: usize| WidthChoices { choices: vec![choice], per: Granularity::Layer };
    let space = ConvSpace {
        image_size: 1,
        channels: 1,
        classes: 2,
        resolution: vec![1],
        stem: Stem { width: vec![1], stride: 1 },
        stages: vec![ConvStageChoices {
            width: vec![1],
            depth: DepthChoices { choices: vec![1], drop: DropPolicy::Prefix },
            stride: 1,
            kernel: one(1),
            hidden: None,
            squeeze_excite: false,
            activation: None,
        }],
        head: Head { width: vec![1], hidden: vec![] },
        norm_epsilon: 0.05,
        ..conv_space(DropPolicy::Prefix, Granularity::Layer)
    };
    let space = SearchSpace::Conv(space);
    let calibration = Array { shape: vec![3, 1, 1, 1], data: vec![1.0, 2.0, 6.0] };
    let shared = supernet(space.clone(), 4, &Device::flex()).with_calibration(Some(calibration));
    let full = collect(&shared.network);
    let value = |name: &str| f64::from(full[name].data[0]);
    // Of the nine pixels of the stem's window the middle one is in the image. Mean 3, variance 14/3 of x.
    let w = f64::from(full["stem.weight"].data[4]);
    let scale = value("stem.norm.weight") / (w * w * 14.0 / 3.0 + 0.05).sqrt();
    let weights = shared.extract(&space.largest());
    let found = [weights["stem.weight"].data[4], weights["stem.bias"].data[0]];
    let expected = [w * scale, value("stem.norm.bias") - 3.0 * w * scale];
    assert!(worst(&found, &expected) < 1e-5, "{found:?} {expected:?}");
}

#[test]
fn a_smaller_kernel_is_the_centre_times_a_matrix() {
    let mut rng = Seed(6).generator(Purpose::Init, 0);
    for kind in [TransformKind::Identity, TransformKind::Linear] {
        let layer = ElasticDepthwise::new(&[3, 5, 7], 4, kind, &Device::flex(), &mut rng);
        let whole = array(layer.weight.val());
        for (kernel, channels) in [(7, 4), (5, 3), (3, 2)] {
            // A fresh matrix is the identity.
            let expected = part(&whole, &[kernel, kernel, channels]);
            assert_eq!(array(layer.slice(kernel, channels)), expected, "{kind:?} {kernel}");
        }
    }
    let layer = ElasticDepthwise::new(&[3, 5, 7], 4, TransformKind::Linear, &Device::flex(), &mut rng);
    let mut weights = collect(&layer);
    let mut seed = 0.0_f32;
    for (name, array) in &mut weights {
        if name.starts_with("transforms") {
            array.data.iter_mut().for_each(|v| {
                seed += 1.0;
                *v = seed.sin();
            });
        }
    }
    let layer = parameters::replace(layer, &weights).expect("the same names");
    let times = |matrix: &Array, window: Array| {
        let (size, channels) = (matrix.shape[0], window.shape[2]);
        let cell = |at: usize| {
            let (row, channel) = (at / channels, at % channels);
            (0..size)
                .map(|i| {
                    f64::from(matrix.data[row * size + i]) * f64::from(window.data[i * channels + channel])
                })
                .sum::<f64>() as f32
        };
        Array { data: (0..window.data.len()).map(cell).collect(), shape: window.shape }
    };
    // The matrix of 5 is the second, that of 3 the first: each acts on the centre of the one before.
    let five = times(&weights["transforms.1"], part(&weights["weight"], &[5, 5, 4]));
    let three = times(&weights["transforms.0"], part(&five, &[3, 3, 4]));
    for (kernel, expected) in [(7, &weights["weight"]), (5, &five), (3, &three)] {
        let found = array(layer.slice(kernel, 4));
        assert_eq!(found.shape, expected.shape);
        assert!(worst(&found.data, &expected.data) < 1e-5, "{kernel}");
    }
}

#[test]
fn fresh_transforms_do_nothing() {
    let plain = conv_space(DropPolicy::Any, Granularity::Layer);
    let linear = [Dimension::Kernel, Dimension::Width].map(|d| (d, TransformKind::Linear)).into();
    let spaces = [plain.clone(), ConvSpace { transforms: linear, ..plain }].map(SearchSpace::Conv);
    let supernets = spaces.each_ref().map(|space| {
        let supernet = Supernet::new(space.clone(), Seed(3), &Device::flex());
        supernet.with_calibration(Some(images(space, 5, 1)))
    });
    let images = images(&spaces[0], 4, 2);
    for subnet in draw(&spaces[0], 8, 9) {
        let [plain, with] = supernets.each_ref().map(|supernet| supernet.logits(&images, &subnet));
        assert_eq!(plain, with, "{subnet}");
    }
    // One matrix for two of three kernels in each of five layers; an affine map for the smaller of two widths.
    let names = collect(&supernets[1].network).into_keys().filter(|name| name.contains(".transforms."));
    let (kernels, widths): (Vec<_>, Vec<_>) = names.partition(|name| name.contains("depthwise"));
    assert_eq!((kernels.len(), widths.len()), (5 * 2, 2 * (1 + 2 + 3 * 2 + 1 + 1)));
}

#[test]
fn a_run_learns_and_its_calibration_repeats() {
    let model = conv_model(training());
    let (_temporary, folder) = folder();
    run(&model, &folder, Start::Fresh, |_, _| ()).expect("a run");
    assert!(!log(&folder).is_empty());
    let train = splits(&model.space).train;
    let chosen = calibration::images(&model, &train).expect("images");
    assert_eq!(chosen.shape, [6, 2, 7, 7]);
    assert_eq!(calibration::images(&model, &train), Some(chosen.clone()), "always the same");
    let other = calibration::images(&Model { seed: 12, ..model.clone() }, &train);
    assert_ne!(other, Some(chosen), "by the seed");
}

#[test]
fn calibration_belongs_to_families_with_batch_normalisation() {
    let message = |model: Model| model.validate().expect_err("it is refused").to_string();
    let mut missing = conv_model(training());
    missing.training.calibration_images = None;
    assert_eq!(
        message(missing),
        "training.calibration-images is missing: space.conv has batch normalisation, which is measured anew for each \
         subnet; say on how many training images, for instance 500"
    );
    let mut superfluous = crate::support::model(training());
    superfluous.training.calibration_images = Some(5);
    assert_eq!(
        message(superfluous),
        "training.calibration-images is 5, but space.vit has no batch normalisation: leave it out"
    );
    let mut none = conv_model(training());
    none.training.calibration_images = Some(0);
    assert_eq!(message(none), "training.calibration-images is 0: it must be at least 1");
}
