//! The Swin transformer: weight sharing, and transforms that begin as nothing.

use burn::tensor::{Device, Tensor, TensorData};
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, TransformKind, WidthChoices};
use elastic_space::swin::{SwinLayer, SwinSpace, SwinStage, SwinStageChoices, SwinSubnet};
use elastic_space::{Array, Dimension, SearchSpace, Seed, Subnet, Weights};
use elastic_trainer::supernet::Network;
use elastic_trainer::train::Start;
use elastic_trainer::{Model, Supernet, parameters};

use crate::runs::{folder, log, run};
use crate::support::{DROPS, KINDS, draw, images, leading, model, supernet, swin_space, training, worst};

const PER: [Granularity; 2] = [Granularity::Layer, Granularity::Stage];

fn transformed(space: &SwinSpace, kind: TransformKind) -> SearchSpace {
    let transforms = [Dimension::Width, Dimension::Heads, Dimension::Embedding].map(|d| (d, kind)).into();
    SearchSpace::Swin(SwinSpace { transforms, ..space.clone() })
}

/// A supernet of one network, whose layers in each stage are all like the one of `pick`.
fn fresh(space: &SwinSpace, subnet: &SwinSubnet, pick: impl Fn(&SwinStage) -> SwinLayer) -> Supernet {
    let one = |choice: usize| WidthChoices { choices: vec![choice], per: Granularity::Layer };
    let stage = |stage: &SwinStage| SwinStageChoices {
        embed_dim: vec![stage.embed_dim],
        depth: DepthChoices { choices: vec![stage.layers.len()], drop: DropPolicy::Prefix },
        heads: one(pick(stage).heads),
        mlp_width: one(pick(stage).mlp_width),
    };
    let stages = subnet.stages.iter().map(stage).collect();
    Supernet::new(SearchSpace::Swin(SwinSpace { stages, ..space.clone() }), Seed(99), &Device::flex())
}

/// The subnet's tensor of a standalone network in the supernet's layout.
fn unfolded(name: &str, mut array: Array) -> Array {
    if name.contains(".qkv.") {
        let inner = array.shape.pop().expect("a projection has features") / 3;
        array.shape.extend([3, inner]);
    }
    if name.contains(".downsample.") {
        array.shape[0] /= 4;
        array.shape.insert(0, 4);
    }
    array
}

/// A supernet that is exactly one network: no slice in it leaves anything out.
fn standalone(space: &SwinSpace, subnet: &SwinSubnet, weights: &Weights) -> (Supernet, Subnet) {
    let supernet = fresh(space, subnet, |stage| stage.layers[0]);
    let Network::Swin(mut swin) = supernet.network else { panic!("a Swin transformer") };
    let depth = subnet.stages.iter().map(|stage| stage.layers.len()).max().unwrap_or(0);
    for position in 0..depth {
        let like = fresh(space, subnet, |stage| stage.layers[position.min(stage.layers.len() - 1)]);
        let Network::Swin(like) = like.network else { panic!("a Swin transformer") };
        for (stage, like) in swin.layers.iter_mut().zip(like.layers) {
            if let (Some(block), Some(like)) =
                (stage.blocks.get_mut(position), like.blocks.into_iter().nth(position))
            {
                *block = like;
            }
        }
    }
    let weights = weights.iter().map(|(name, array)| (name.clone(), unfolded(name, array.clone()))).collect();
    let network =
        parameters::replace(Network::Swin(swin), &weights).expect("the names and shapes of the extracted");
    let mut subnet = subnet.clone();
    for stage in &mut subnet.stages {
        stage.layers.iter_mut().enumerate().for_each(|(position, layer)| layer.index = position);
    }
    (Supernet { network, ..supernet }, Subnet::Swin(subnet))
}

#[test]
fn a_subnet_is_its_standalone_network() {
    let mut subnets = 0;
    for (number, (drop, per)) in DROPS.into_iter().flat_map(|drop| PER.map(|per| (drop, per))).enumerate() {
        let swin = swin_space(drop, per);
        let space = transformed(&swin, KINDS[number % 3]);
        space.validate().expect("a space");
        let shared = supernet(space.clone(), 5, &Device::flex());
        let images = images(&space, 3, 8);
        for subnet in draw(&space, 12, 30 + subnets).into_iter().chain([space.smallest(), space.largest()]) {
            let Subnet::Swin(sizes) = &subnet else { panic!("a Swin transformer") };
            let inside = shared.logits(&images, &subnet);
            assert_eq!(inside.shape, [3, 3], "{subnet}");
            let weights = shared.extract(&subnet);
            let shapes: Vec<_> =
                weights.iter().map(|(name, array)| (name.clone(), array.shape.clone())).collect();
            let mut expected = space.shape(&subnet).tensors();
            expected.sort();
            assert_eq!(shapes, expected, "{subnet}");
            let (alone, whole) = standalone(&swin, sizes, &weights);
            let difference = worst(&inside.data, &alone.logits(&images, &whole).data);
            assert!(difference <= 2e-6, "{subnet}: {difference} from the standalone network");
            subnets += 1;
        }
    }
    assert!(subnets >= 50, "{subnets} subnets");
}

#[test]
fn extracted_tensors_are_leading_parts() {
    // Of queries, keys and values each the leading part, and of the four tokens that are merged.
    let space = SearchSpace::Swin(swin_space(DropPolicy::Any, Granularity::Layer));
    let shared = supernet(space.clone(), 2, &Device::flex());
    let full = parameters::collect(&shared.network);
    for subnet in draw(&space, 20, 3) {
        let Subnet::Swin(sizes) = &subnet else { panic!("a Swin transformer") };
        for (name, array) in shared.extract(&subnet) {
            let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
            if parts.len() > 3 && parts[2] == "blocks" {
                let [stage, position] = [1, 3].map(|at: usize| parts[at].parse::<usize>().expect("a number"));
                parts[3] = sizes.stages[stage].layers[position].index.to_string();
            }
            let whole = &full[&parts.join(".")];
            let array = unfolded(&name, array);
            let expected: Vec<f32> =
                leading(&whole.shape, &array.shape).into_iter().map(|at| whole.data[at]).collect();
            assert_eq!(array.data, expected, "{subnet}: {name}");
        }
    }
}

#[test]
fn a_map_of_one_window_is_not_shifted_and_others_are() {
    // Two layers with the same weights are the same layer twice, unless the second is shifted.
    let mut swin = swin_space(DropPolicy::Prefix, Granularity::Layer);
    swin.stages.truncate(1);
    for (window_size, same) in [(5, true), (7, true), (3, false)] {
        let space = SearchSpace::Swin(SwinSpace { window_size, ..swin.clone() });
        let shared = supernet(space.clone(), 4, &Device::flex());
        let images = images(&space, 2, 1);
        let layers = |indices: &[usize]| {
            let layer = |&index: &usize| SwinLayer { index, heads: 3, mlp_width: 12 };
            let layers = indices.iter().map(layer).collect();
            Subnet::Swin(SwinSubnet { stages: vec![SwinStage { embed_dim: 8, layers }] })
        };
        // A layer that is kept alone, and the same as the second of two of which the first does nothing.
        let mut weights = parameters::collect(&shared.network);
        for (name, array) in &mut weights {
            let last = ["attn.proj.weight", "attn.proj.bias", "mlp.fc2.weight", "mlp.fc2.bias"];
            if last.iter().any(|part| name == &format!("layers.0.blocks.0.{part}")) {
                array.data.fill(0.0);
            }
        }
        let shared = Supernet::from_weights(space, &weights).expect("the same names and shapes");
        let [alone, second] = [&[1][..], &[0, 1]].map(|kept| shared.logits(&images, &layers(kept)).data);
        let difference = worst(&alone, &second);
        assert_eq!(difference < 1e-6, same, "windows of {window_size}: {difference}");
    }
}

#[test]
fn every_parameter_of_the_largest_learns() {
    let space = transformed(&swin_space(DropPolicy::Prefix, Granularity::Layer), TransformKind::Identity);
    let device = Device::flex().autodiff();
    let shared = supernet(space.clone(), 6, &device);
    let images = images(&space, 2, 1);
    let tensor: Tensor<4> = Tensor::from_data(TensorData::new(images.data, images.shape), &device);
    let logits = shared.forward(tensor, &space.largest());
    // Different weights for the logits, so that no gradient vanishes for symmetry.
    let factors = Tensor::<2>::from_data([[1.0, -2.0, 0.5]], &device);
    let gradients =
        burn::optim::GradientsParams::from_grads((logits * factors).sum().backward(), &shared.network);
    assert_eq!(gradients.len(), parameters::collect(&shared.network).len());
}

#[test]
fn fresh_transforms_do_nothing() {
    let plain = swin_space(DropPolicy::Any, Granularity::Layer);
    for kind in [TransformKind::Linear, TransformKind::Nonlinear] {
        let spaces = [TransformKind::Identity, kind].map(|kind| transformed(&plain, kind));
        let supernets = spaces.each_ref().map(|space| Supernet::new(space.clone(), Seed(3), &Device::flex()));
        let images = images(&spaces[0], 4, 2);
        for subnet in draw(&spaces[0], 8, 9) {
            let [plain, with] = supernets.each_ref().map(|supernet| supernet.logits(&images, &subnet));
            assert_eq!(plain, with, "{kind:?}: {subnet}");
        }
    }
}

#[test]
fn a_run_learns() {
    let space = SearchSpace::Swin(swin_space(DropPolicy::Any, Granularity::Layer));
    let model = Model { space, ..model(training()) };
    let (_temporary, folder) = folder();
    run(&model, &folder, Start::Fresh, |_, _| ()).expect("a run");
    assert!(!log(&folder).is_empty());
}
