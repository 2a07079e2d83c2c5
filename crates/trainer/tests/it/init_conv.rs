//! Weights of convolutional networks to begin with: PyTorch's layout, running statistics, a classifier that begins at
//! random.

use std::path::PathBuf;

use burn::tensor::Device;
use elastic_space::choices::{DropPolicy, Granularity};
use elastic_space::conv::{ConvSpace, Padding};
use elastic_space::{Array, SearchSpace, Weights};
use elastic_trainer::init::{Init, Initial, Layout, load};
use elastic_trainer::parameters::collect;
use elastic_trainer::supernet::Network;
use elastic_trainer::{Supernet, parameters};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

use crate::support::{conv_space, images, supernet, worst};

fn space() -> ConvSpace {
    let space = conv_space(DropPolicy::Prefix, Granularity::Layer);
    ConvSpace { padding: Padding::Same, norm_epsilon: 1e-3, ..space }
}

/// A supernet's tensors as PyTorch's modules hold them, index by index: linear weights `[outputs, inputs]`, kernels
/// `[outputs, inputs, height, width]`.
fn pytorch(weights: &Weights, space: &ConvSpace) -> Weights {
    let turn = |(name, array): (&String, &Array)| {
        let data = &array.data;
        let (shape, data): (Vec<usize>, Vec<f32>) = match array.shape[..] {
            [values, outputs] if name == "stem.weight" => {
                let channels = space.channels;
                assert_eq!(values, 9 * channels);
                let at = |o: usize, c: usize, pixel: usize| data[(pixel * channels + c) * outputs + o];
                let kernel = |o| (0..channels).flat_map(move |c| (0..9).map(move |pixel| at(o, c, pixel)));
                (vec![outputs, channels, 3, 3], (0..outputs).flat_map(kernel).collect())
            }
            [height, width, channels] => {
                let plane = |c| (0..height * width).map(move |pixel| data[pixel * channels + c]);
                (vec![channels, 1, height, width], (0..channels).flat_map(plane).collect())
            }
            [inputs, outputs] => {
                let row = |o| (0..inputs).map(move |i| data[i * outputs + o]);
                let linear = name.starts_with("hidden") || name.starts_with("classifier");
                let shape = if linear { vec![outputs, inputs] } else { vec![outputs, inputs, 1, 1] };
                (shape, (0..outputs).flat_map(row).collect())
            }
            _ => (array.shape.clone(), data.clone()),
        };
        (name.clone(), Array { shape, data })
    };
    weights.iter().map(turn).collect()
}

/// The running mean and variance that PyTorch's modules hold: those of the largest subnet.
fn running(supernet: &Supernet) -> Weights {
    let Network::Conv(conv) = &supernet.network else { panic!("a convolutional network") };
    let statistics = supernet.statistics(&supernet.space.largest());
    let names = conv.normalisations();
    assert_eq!(names.len(), statistics.iter().count(), "a name for each normalisation");
    let array = |data: &[f32]| Array { shape: vec![data.len()], data: data.to_vec() };
    let of_layer = |(name, moments): (String, &elastic_trainer::layers::Moments)| {
        [
            (format!("{name}.running_mean"), array(moments.mean())),
            (format!("{name}.running_var"), array(moments.variance())),
        ]
    };
    names.into_iter().zip(statistics.iter()).flat_map(of_layer).collect()
}

fn file(weights: &Weights) -> (TempDir, PathBuf) {
    let bytes: Vec<Vec<u8>> =
        weights.values().map(|array| array.data.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = weights.iter().zip(&bytes).map(|((name, array), bytes)| {
        (
            name.as_str(),
            TensorView::new(Dtype::F32, array.shape.clone(), bytes).expect("the bytes fill the shape"),
        )
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).expect("tensors")).expect("a file");
    (folder, path)
}

fn begin(init: &Init, space: &ConvSpace) -> Result<(Supernet, Initial), String> {
    let space = SearchSpace::Conv(space.clone());
    let fresh = supernet(space.clone(), 77, &Device::flex());
    let initial = load(init, &fresh.network, &space).map_err(|error| error.to_string())?;
    Ok((fresh, initial))
}

fn init(path: PathBuf) -> Init {
    Init {
        from: path,
        map: Vec::new(),
        layout: Layout::Pytorch,
        fresh: Vec::new(),
        sort_channels: false,
        after: None,
    }
}

#[test]
fn pytorchs_layout_with_and_without_running_statistics() {
    let space = space();
    let made = supernet(SearchSpace::Conv(space.clone()), 5, &Device::flex());
    let weights = collect(&made.network);
    let mut tensors = pytorch(&weights, &space);
    let (_folder, path) = file(&tensors);
    let (_, found) = begin(&init(path), &space).expect("it fits");
    assert_eq!((found.weights, found.statistics), (weights.clone(), None));

    tensors.extend(running(&made));
    let (_folder, path) = file(&tensors);
    let (fresh, found) = begin(&init(path), &space).expect("it fits");
    let largest = made.space.largest();
    assert_eq!(found.weights, weights);
    let statistics = found.statistics.expect("the file has them");
    assert_eq!(statistics, made.statistics(&largest));
    // So it is the network that the file was made of, without a calibration image.
    let network = parameters::replace(fresh.network, &found.weights).expect("all tensors");
    let network = Supernet { network, calibration: None, space: fresh.space };
    let images = images(&network.space, 3, 8);
    let difference =
        worst(&network.logits_by(&images, &largest, &statistics).data, &made.logits(&images, &largest).data);
    assert!(difference <= 1e-6, "{difference}");
    assert_eq!(network.extract_by(&largest, &statistics), made.extract(&largest));
}

#[test]
fn running_statistics_are_there_for_all_layers_or_for_none() {
    let space = space();
    let made = supernet(SearchSpace::Conv(space.clone()), 5, &Device::flex());
    let mut tensors = pytorch(&collect(&made.network), &space);
    tensors.extend(running(&made));
    tensors.remove("head.norm.running_var");
    tensors.get_mut("stem.norm.running_mean").expect("it is there").shape = vec![1, 5];
    let (_folder, path) = file(&tensors);
    let text = begin(&init(path.clone()), &space).err().expect("one is missing");
    let expected = "missing tensors: head.norm.running_var; misshapen tensors: stem.norm.running_mean is [1, 5] instead \
                    of [5]; rename";
    assert!(text.starts_with(&format!("read {}: {expected}", path.display())), "{text}");
}

#[test]
fn a_classifier_of_other_classes_begins_at_random() {
    let space = space();
    let made = supernet(SearchSpace::Conv(ConvSpace { classes: 9, ..space.clone() }), 5, &Device::flex());
    let (_folder, path) = file(&pytorch(&collect(&made.network), &space));
    let patterns = |patterns: &[&str]| Init {
        fresh: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ..init(path.clone())
    };
    let (fresh, found) = begin(&patterns(&["classifier\\..*"]), &space).expect("it fits");
    let (random, given) = (collect(&fresh.network), collect(&made.network));
    for (name, array) in &found.weights {
        let from = if name.starts_with("classifier.") { &random } else { &given };
        assert_eq!(array, &from[name], "{name}");
    }
    assert_eq!(found.weights.len(), random.len());
    // With a normalisation among them, the running statistics of the others say nothing.
    let mut tensors = pytorch(&collect(&made.network), &space);
    tensors.extend(running(&made));
    let (_folder, with_statistics) = file(&tensors);
    let init = Init { from: with_statistics, ..patterns(&["(head|hidden|classifier)\\..*"]) };
    let (fresh, found) = begin(&init, &space).expect("it fits");
    assert_eq!(found.statistics, None);
    assert_eq!(found.weights["head.norm.weight"], collect(&fresh.network)["head.norm.weight"]);
    // Part of a name is not enough.
    let text = begin(&patterns(&["classifier\\..*", "classifier"]), &space).err().expect("no such tensor");
    let expected = "init.fresh[1] is `classifier`, which is the whole name of no tensor: the names are those of the \
                    supernet, such as classifier.bias";
    assert_eq!(text, expected);
}
