//! The graphs against the reference on both runtimes, their counts, and what is refused.

use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::conv::{Activation, BATCH_NORM_EPSILON, ConvSpace, ConvStageChoices, Head, Padding, Stem};
use elastic_space::platform::{OnnxRuntime, Optimization, Provider, Runtime, Tract};
use elastic_space::random::Purpose;
use elastic_space::swin::{SwinSpace, SwinStageChoices};
use elastic_space::vit::{Pooling, VitSpace};
use elastic_space::{Array, SearchSpace, Seed, Subnet, Weights};
use rand::Rng;

use super::*;
use crate::graph::read::{ReadModelError, macs, params, read_metadata, text};
use crate::verify::{TOLERANCE, compare};

const SEED: Seed = Seed(7);

/// Sizes that no formula can confuse with each other.
fn space(pooling: Pooling) -> VitSpace {
    let per_layer = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Layer };
    VitSpace {
        image_size: 15,
        channels: 2,
        patch_size: 5,
        classes: 7,
        head_dim: 6,
        pooling,
        embed_dim: vec![11, 13, 22],
        depth: DepthChoices { choices: vec![1, 2, 3], drop: DropPolicy::Any },
        heads: per_layer(&[1, 3, 4]),
        mlp_width: per_layer(&[8, 17, 31]),
        stages: Vec::new(),
        transforms: BTreeMap::new(),
    }
}

/// A stage with nothing but a convolution, and one with all there is; sizes halve to odd ones.
fn conv_space() -> ConvSpace {
    let per_layer = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Layer };
    let stage = |width: &[usize], stride, hidden: Option<WidthChoices>, activation| ConvStageChoices {
        width: width.to_vec(),
        depth: DepthChoices { choices: vec![1, 2, 3], drop: DropPolicy::Any },
        stride,
        kernel: per_layer(&[3, 5, 7]),
        squeeze_excite: hidden.is_some(),
        hidden,
        activation,
    };
    ConvSpace {
        image_size: 15,
        channels: 2,
        classes: 7,
        resolution: vec![10, 13, 15],
        activation: Activation::HardSwish,
        padding: Padding::Centred,
        norm_epsilon: BATCH_NORM_EPSILON,
        stem: Stem { width: vec![4, 6], stride: 2 },
        stages: vec![
            stage(&[4, 6], 1, None, Some(Activation::Relu6)),
            stage(&[5, 9], 2, Some(per_layer(&[11, 14])), None),
            stage(&[9, 12], 1, Some(per_layer(&[10, 16])), Some(Activation::Relu)),
        ],
        head: Head { width: vec![17, 18], hidden: vec![19, 20] },
        transforms: BTreeMap::new(),
    }
}

/// Maps of 5, 3 and 2 tokens a side: windows of 3 that are padded and shifted, one window, one that shrinks; two odd
/// maps are merged.
fn swin_space() -> SwinSpace {
    let per_layer = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Layer };
    let stage = |embed_dim: &[usize], heads: &[usize]| SwinStageChoices {
        embed_dim: embed_dim.to_vec(),
        depth: DepthChoices { choices: vec![1, 2, 3], drop: DropPolicy::Any },
        heads: per_layer(heads),
        mlp_width: per_layer(&[8, 17]),
    };
    SwinSpace {
        image_size: 15,
        channels: 2,
        patch_size: 3,
        classes: 7,
        window_size: 3,
        head_dim: 6,
        stages: vec![stage(&[5, 8], &[1, 2, 3]), stage(&[9, 11], &[1, 2]), stage(&[13, 14], &[1, 4])],
        transforms: BTreeMap::new(),
    }
}

/// Every family, and every form that it has.
fn spaces() -> [SearchSpace; 5] {
    let vit = [Pooling::ClassToken, Pooling::Mean].map(|pooling| SearchSpace::Vit(space(pooling)));
    let [class_token, mean] = vit;
    let centred = conv_space();
    let same = ConvSpace { padding: Padding::Same, ..centred.clone() };
    let swin = SearchSpace::Swin(swin_space());
    [class_token, mean, SearchSpace::Conv(centred), SearchSpace::Conv(same), swin]
}

fn reference(space: &SearchSpace, subnet: &Subnet, weights: &Weights, images: &Array) -> Array {
    match (space, subnet) {
        (SearchSpace::Vit(space), Subnet::Vit(subnet)) => reference::forward(space, subnet, weights, images),
        (SearchSpace::Conv(space), Subnet::Conv(subnet)) => {
            reference_conv::forward(space, subnet, weights, images)
        }
        (SearchSpace::Swin(space), Subnet::Swin(subnet)) => {
            reference_swin::forward(space, subnet, weights, images)
        }
        _ => panic!("a subnet of the space"),
    }
}

fn options(batch: Batch) -> GraphOptions {
    GraphOptions { batch, class_names: vec![], metadata: BTreeMap::new() }
}

fn random_array(shape: &[usize], scale: f32, rng: &mut impl Rng) -> Array {
    let count = shape.iter().product();
    let data = std::iter::repeat_with(|| rng.random_range(-scale..scale)).take(count).collect();
    Array { shape: shape.to_vec(), data }
}

/// Weights of the size that trained ones have: products neither vanish nor grow.
fn random_weights(space: &SearchSpace, subnet: &Subnet, rng: &mut impl Rng) -> Weights {
    let draw = |(name, shape): (String, Vec<usize>)| {
        let fan_in = match shape[..] {
            [inputs, _] => inputs,
            [_, inputs, height, width] => inputs * height * width,
            _ => 1,
        };
        let mut array = random_array(&shape, (3.0 / fan_in as f32).sqrt(), rng);
        if name.contains("norm") && name.ends_with("weight") {
            array.data.iter_mut().for_each(|value| *value = 1.0 + 0.3 * *value);
        }
        (name, array)
    };
    space.shape(subnet).tensors().into_iter().map(draw).collect()
}

fn onnx_runtime() -> Runtime {
    Runtime::OnnxRuntime(OnnxRuntime {
        provider: Provider::Cpu,
        threads: 1,
        optimization: Optimization::All,
        spinning: false,
    })
}

#[test]
fn runtimes_agree_with_the_reference() {
    for space in spaces() {
        space.validate().expect("the space is valid");
        let mut rng = SEED.generator(Purpose::Candidates, 0);
        for subnet in space.draw_distinct(10, &mut rng) {
            let weights = random_weights(&space, &subnet, &mut rng);
            let images = random_array(&[4, 2, 15, 15], 2.0, &mut rng);
            let expected = reference(&space, &subnet, &weights, &images);
            for (batch, run) in [
                (Batch::Fixed(1), 1),
                (Batch::Fixed(3), 3),
                (Batch::Dynamic, 1),
                (Batch::Dynamic, 3),
                (Batch::Dynamic, 4),
            ] {
                let model = build(&space, &subnet, &weights, &options(batch)).expect("the weights fit");
                for runtime in [onnx_runtime(), Runtime::Tract(Tract {})] {
                    let row = format!("{subnet}, {batch:?} run with {run}, {}", runtime.label());
                    let agreement = compare(&model, &runtime, &images, &expected, run)
                        .unwrap_or_else(|error| panic!("{row}: {error}; is ELASTIC_ORT_LIBRARY set?"));
                    assert!(agreement.holds(TOLERANCE), "{row}: {agreement:?}");
                    assert_eq!(agreement.samples, 4, "{row}");
                }
            }
        }
    }
}

#[test]
fn a_wrong_weight_breaks_the_agreement() {
    let space = SearchSpace::Vit(space(Pooling::Mean));
    let mut rng = SEED.generator(Purpose::Candidates, 1);
    let subnet = space.largest();
    let mut weights = random_weights(&space, &subnet, &mut rng);
    let images = random_array(&[2, 2, 15, 15], 2.0, &mut rng);
    let expected = reference(&space, &subnet, &weights, &images);
    for (value, least) in [(0.01, 1e-3), (f32::NAN, f64::INFINITY)] {
        weights.get_mut("head.bias").expect("it is there").data[3] += value;
        let model = build(&space, &subnet, &weights, &options(Batch::Fixed(1))).expect("the weights fit");
        for runtime in [onnx_runtime(), Runtime::Tract(Tract {})] {
            let agreement = compare(&model, &runtime, &images, &expected, 1).expect("it runs");
            assert!(agreement.max_abs_difference >= least, "{value}: {agreement:?}");
            assert!(!agreement.holds(TOLERANCE), "{value}: {agreement:?}");
        }
    }
}

#[test]
fn counts_agree_with_the_graph() {
    for space in spaces() {
        let mut rng = SEED.generator(Purpose::Candidates, 2);
        for (index, subnet) in space.draw_distinct(50, &mut rng).into_iter().enumerate() {
            let batch = [Batch::Fixed(1), Batch::Fixed(3), Batch::Dynamic][index % 3];
            let weights = random_weights(&space, &subnet, &mut rng);
            let model = build(&space, &subnet, &weights, &options(batch)).expect("the weights fit");
            let cost = space.cost(&subnet);
            assert_eq!(params(&model), Ok(cost.params), "{subnet}, {batch:?}");
            assert_eq!(macs(&model), Ok(cost.macs), "{subnet}, {batch:?}");
            let size = file_size(&space, &subnet, &options(batch));
            assert_eq!(size, model.len() as u64, "{subnet}, {batch:?}");
        }
    }
}

#[test]
fn equal_arguments_give_equal_bytes() {
    let space = SearchSpace::Vit(space(Pooling::ClassToken));
    let subnet = space.largest();
    let weights = random_weights(&space, &subnet, &mut SEED.generator(Purpose::Candidates, 3));
    for batch in [Batch::Fixed(1), Batch::Fixed(2), Batch::Dynamic] {
        let mut options = options(batch);
        options.metadata = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into();
        let write = || build(&space, &subnet, &weights, &options).expect("the weights fit");
        assert!(write() == write(), "{batch:?}");
    }
}

#[test]
fn metadata_comes_back() {
    let space = SearchSpace::Vit(space(Pooling::Mean));
    let subnet = space.smallest();
    let weights = random_weights(&space, &subnet, &mut SEED.generator(Purpose::Candidates, 4));
    let class_names = ["T-shirt", "a \"quoted\" name", "été", "3", "4", "5", "6"].map(str::to_owned).to_vec();
    let subnet_json = serde_json::to_string(&subnet).expect("a subnet is JSON");
    let metadata = BTreeMap::from([("elastic.subnet".to_owned(), subnet_json)]);
    let options = GraphOptions { batch: Batch::Fixed(1), class_names: class_names.clone(), metadata };
    let model = build(&space, &subnet, &weights, &options).expect("the weights fit");
    let read = read_metadata(&model).expect("it is a model");
    assert_eq!(read.len(), 2, "{read:?}");
    let names: Vec<String> = serde_json::from_str(&read[CLASSES_KEY]).expect("a JSON list");
    assert_eq!(names, class_names);
    let found: Subnet = serde_json::from_str(&read["elastic.subnet"]).expect("a subnet as JSON");
    assert_eq!(found, subnet);
}

#[test]
fn graph_as_text() {
    let [class_token, mean, conv, _, swin] = spaces();
    for (name, space, batch) in [
        ("class_token", &class_token, Batch::Fixed(1)),
        ("class_token_dynamic", &class_token, Batch::Dynamic),
        ("mean_batch_3", &mean, Batch::Fixed(3)),
        ("conv", &conv, Batch::Fixed(1)),
        ("conv_dynamic", &conv, Batch::Dynamic),
        ("swin", &swin, Batch::Fixed(1)),
        ("swin_dynamic", &swin, Batch::Dynamic),
    ] {
        let subnet = space.smallest();
        let weights = random_weights(space, &subnet, &mut SEED.generator(Purpose::Candidates, 5));
        let model = build(space, &subnet, &weights, &options(batch)).expect("the weights fit");
        insta::assert_snapshot!(name, text(&model).expect("it is a model"));
    }
}

#[test]
fn what_is_refused() {
    let space = SearchSpace::Vit(space(Pooling::ClassToken));
    let subnet = space.smallest();
    let weights = random_weights(&space, &subnet, &mut SEED.generator(Purpose::Candidates, 6));
    let good = options(Batch::Fixed(1));
    let named = GraphOptions { class_names: vec!["one".into()], ..good.clone() };
    let change = |change: fn(&mut Weights)| {
        let mut weights = weights.clone();
        change(&mut weights);
        weights
    };
    for (name, weights, options, reason) in [
        (
            "missing",
            change(|w| w.retain(|name, _| name != "blocks.0.attn.qkv.bias")),
            &good,
            "no tensor `blocks.0.attn.qkv.bias` of shape [18]",
        ),
        (
            "transposed",
            change(|w| w.get_mut("head.weight").expect("it is there").shape = vec![7, 11]),
            &good,
            "`head.weight` has shape [7, 11] with 77 values, expected [11, 7]",
        ),
        (
            "short",
            change(|w| w.get_mut("norm.bias").expect("it is there").data.truncate(10)),
            &good,
            "`norm.bias` has shape [11] with 10 values, expected [11]",
        ),
        (
            "a layer too many",
            change(|w| {
                w.insert("blocks.1.norm1.bias".into(), Array { shape: vec![1], data: vec![0.0] });
            }),
            &good,
            "no tensor `blocks.1.norm1.bias`, but the weights do",
        ),
        ("no batch", weights.clone(), &options(Batch::Fixed(0)), "batch 0"),
        ("class names", weights.clone(), &named, "1 class names: the network has 7"),
    ] {
        let error = build(&space, &subnet, &weights, options).expect_err(name).to_string();
        assert!(error.contains(reason), "{name}: {error}");
    }
}

#[test]
fn a_network_beyond_protobufs_limit_is_refused() {
    let mut vit = space(Pooling::Mean);
    vit.embed_dim = vec![40_000];
    let space = SearchSpace::Vit(vit);
    let mut subnet = space.largest();
    let Subnet::Vit(inner) = &mut subnet else { panic!("a vision transformer") };
    inner.layers[0].mlp_width = 40_000;
    let error = build(&space, &subnet, &Weights::new(), &options(Batch::Fixed(1))).expect_err("too large");
    assert!(matches!(error, BuildError::TooLarge { bytes, .. } if bytes > 1 << 31), "{error}");
}

#[test]
fn bytes_that_are_no_model() {
    assert!(matches!(read_metadata(b"\x7fELF\x02\x01"), Err(ReadModelError::Protobuf(_))));
    assert_eq!(params(b""), Err(ReadModelError::NoGraph));
    let space = SearchSpace::Vit(space(Pooling::Mean));
    let subnet = space.smallest();
    let mut bare = model(&space, &subnet, &Tensors::Zeros, &options(Batch::Fixed(1)));
    bare.graph.as_mut().expect("there is a graph").value_info.clear();
    let error = macs(&bare.encode_to_vec()).expect_err("no shapes").to_string();
    assert!(error.contains("`patch_embed.proj`") || error.contains("`patch_embed.rows`"), "{error}");
}
