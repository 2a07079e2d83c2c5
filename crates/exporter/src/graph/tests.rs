//! The graphs against the reference on both runtimes, their counts, and what is refused.

use elastic_space::bert::{BertPooling, BertSpace};
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::conv::{Activation, BATCH_NORM_EPSILON, ConvSpace, ConvStageChoices, Head, Padding, Stem};
use elastic_space::platform::{OnnxRuntime, Runtime, Tract};
use elastic_space::random::Purpose;
use elastic_space::swin::{SwinSpace, SwinStageChoices};
use elastic_space::vit::{Pooling, VitSpace};
use elastic_space::{Array, SearchSpace, Seed, Subnet, Weights};
use rand::Rng;

use super::*;
use crate::graph::read::{ReadModelError, macs, opsets, params, read_metadata, text};
use crate::verify::{TOLERANCE, compare};

pub(crate) const SEED: Seed = Seed(7);

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

/// Texts of up to 9 tokens out of 19.
fn bert_space(pooling: BertPooling) -> BertSpace {
    let per_layer = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Layer };
    BertSpace {
        vocabulary: 19,
        length: 9,
        segments: 2,
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

/// Every family, and every form that it has.
pub(crate) fn spaces() -> [SearchSpace; 7] {
    let vit = [Pooling::ClassToken, Pooling::Mean].map(|pooling| SearchSpace::Vit(space(pooling)));
    let [class_token, mean] = vit;
    let centred = conv_space();
    let same = ConvSpace { padding: Padding::Same, ..centred.clone() };
    let swin = SearchSpace::Swin(swin_space());
    let bert = [BertPooling::Pooler, BertPooling::Mean].map(|pooling| SearchSpace::Bert(bert_space(pooling)));
    let [pooler, mean_text] = bert;
    [class_token, mean, SearchSpace::Conv(centred), SearchSpace::Conv(same), swin, pooler, mean_text]
}

/// Random images; or texts, all but the first of which have padding.
fn random_inputs(space: &SearchSpace, count: usize, rng: &mut impl Rng) -> Array {
    let shape = [&[count][..], &space.input()].concat();
    let Some(vocabulary) = space.vocabulary() else { return random_array(&shape, 2.0, rng) };
    let (tokens, mut data) = (shape[3], Vec::new());
    for text in 0..count {
        let length = if text == 0 { tokens } else { rng.random_range(1..tokens) };
        data.extend((0..tokens).map(|_| rng.random_range(0..vocabulary) as f32));
        data.extend((0..tokens).map(|token| f32::from(u8::from(token < length))));
        data.extend((0..tokens).map(|_| f32::from(rng.random_range(0..2_u8))));
    }
    Array { shape, data }
}

pub(crate) fn reference(space: &SearchSpace, subnet: &Subnet, weights: &Weights, images: &Array) -> Array {
    match (space, subnet) {
        (SearchSpace::Vit(space), Subnet::Vit(subnet)) => reference::forward(space, subnet, weights, images),
        (SearchSpace::Conv(space), Subnet::Conv(subnet)) => {
            reference_conv::forward(space, subnet, weights, images)
        }
        (SearchSpace::Swin(space), Subnet::Swin(subnet)) => {
            reference_swin::forward(space, subnet, weights, images)
        }
        (SearchSpace::Bert(space), Subnet::Bert(subnet)) => {
            reference_bert::forward(space, subnet, weights, images)
        }
        _ => panic!("a subnet of the space"),
    }
}

fn options(batch: Batch) -> GraphOptions {
    written(batch, Form::Portable, Form::Portable.opset())
}

pub(crate) fn written(batch: Batch, form: Form, opset: i64) -> GraphOptions {
    let sequence = Sequence::Fixed;
    GraphOptions { batch, sequence, form, opset, class_names: vec![], metadata: BTreeMap::new() }
}

/// The runtimes that know a form's operators.
fn runtimes(form: Form) -> Vec<Runtime> {
    let tract = form.is_standard().then_some(Runtime::Tract(Tract {}));
    std::iter::once(onnx_runtime()).chain(tract).collect()
}

pub(crate) fn random_array(shape: &[usize], scale: f32, rng: &mut impl Rng) -> Array {
    let count = shape.iter().product();
    let data = std::iter::repeat_with(|| rng.random_range(-scale..scale)).take(count).collect();
    Array { shape: shape.to_vec(), data }
}

/// Weights of the size that trained ones have: products neither vanish nor grow.
pub(crate) fn random_weights(space: &SearchSpace, subnet: &Subnet, rng: &mut impl Rng) -> Weights {
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

pub(crate) fn onnx_runtime() -> Runtime {
    Runtime::OnnxRuntime(OnnxRuntime::cpu(1))
}

/// Batch of the file, and inputs of one run.
const BATCHES: [(Batch, usize); 5] = [
    (Batch::Fixed(1), 1),
    (Batch::Fixed(3), 3),
    (Batch::Dynamic, 1),
    (Batch::Dynamic, 3),
    (Batch::Dynamic, 4),
];

/// Holds files of some random subnets against the reference, on every runtime that knows the form.
fn agree(space: &SearchSpace, subnets: usize, form: Form, opset: i64) {
    space.validate().expect("the space is valid");
    let mut rng = SEED.generator(Purpose::Candidates, 0);
    for subnet in space.draw_distinct(subnets, &mut rng) {
        let weights = random_weights(space, &subnet, &mut rng);
        let images = random_inputs(space, 4, &mut rng);
        let expected = reference(space, &subnet, &weights, &images);
        for (batch, run) in BATCHES {
            let options = written(batch, form, opset);
            let model = build(space, &subnet, &weights, &options).expect("the weights fit");
            for runtime in runtimes(form) {
                let row = format!("{subnet}, {form} {opset}, {batch:?} run with {run}, {}", runtime.label());
                let agreement = compare(&model, &runtime, &images, &expected, run)
                    .unwrap_or_else(|error| panic!("{row}: {error}; is ELASTIC_ORT_LIBRARY set?"));
                assert!(agreement.holds(TOLERANCE), "{row}: {agreement:?}");
                assert_eq!(agreement.samples, 4, "{row}");
            }
        }
    }
}

#[test]
fn runtimes_agree_with_the_reference() {
    for space in spaces() {
        agree(&space, 10, Form::Portable, Form::Portable.opset());
    }
}

#[test]
fn every_form_agrees_with_the_reference() {
    for space in spaces() {
        for form in forms(&space).into_iter().filter(|&form| form != Form::Portable) {
            agree(&space, 4, form, form.opset());
        }
    }
}

#[test]
fn every_opset_agrees_with_the_reference() {
    let [class_token, _, conv, _, swin, pooler, mean_text] = spaces();
    for opset in OLDEST_OPSET..=NEWEST_OPSET {
        for space in [&class_token, &conv, &swin, &pooler, &mean_text] {
            agree(space, 1, Form::Portable, opset);
        }
    }
    for form in [Form::Opset20, Form::ContribAttention] {
        agree(&swin, 1, form, NEWEST_OPSET);
    }
    agree(&swin, 1, Form::ContribAttention, OLDEST_OPSET);
}

#[test]
fn texts_of_any_length_agree_with_the_padded_ones() {
    let mut rng = SEED.generator(Purpose::Candidates, 4);
    for space in spaces().into_iter().filter(|space| space.vocabulary().is_some()) {
        let [channels, height, longest] = space.input();
        let subnet = space.draw_distinct(1, &mut rng).remove(0);
        let weights = random_weights(&space, &subnet, &mut rng);
        let texts = random_inputs(&space, 4, &mut rng);
        for (form, opset) in [
            (Form::Portable, OLDEST_OPSET),
            (Form::Portable, 17),
            (Form::Opset20, 20),
            (Form::Attention23, 23),
            (Form::ContribAttention, 17),
        ] {
            for (batch, run) in BATCHES {
                let options = GraphOptions { sequence: Sequence::Dynamic, ..written(batch, form, opset) };
                let model = build(&space, &subnet, &weights, &options).expect("the weights fit");
                assert_eq!(macs(&model), Ok(space.cost(&subnet).macs), "{options:?}");
                for tokens in [1, 3, longest] {
                    let rows = || texts.data.chunks_exact(longest);
                    let cut = Array {
                        shape: vec![4, channels, height, tokens],
                        data: rows().flat_map(|row| &row[..tokens]).copied().collect(),
                    };
                    let mut padded = texts.clone();
                    padded.data.chunks_exact_mut(longest).for_each(|row| row[tokens..].fill(0.0));
                    let expected = reference(&space, &subnet, &weights, &padded);
                    for runtime in runtimes(form) {
                        let row = format!(
                            "{tokens} tokens, {form} {opset}, {batch:?} run with {run}, {}",
                            runtime.label()
                        );
                        let agreement = compare(&model, &runtime, &cut, &expected, run)
                            .unwrap_or_else(|error| panic!("{row}: {error}"));
                        assert!(agreement.holds(TOLERANCE), "{row}: {agreement:?}");
                    }
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
            let known = forms(&space);
            let form = known[index / 3 % known.len()];
            let opset = if form == Form::Portable { [13, 17, 22][index % 3] } else { form.opset() };
            let options = written(batch, form, opset);
            let weights = random_weights(&space, &subnet, &mut rng);
            let model = build(&space, &subnet, &weights, &options).expect("the weights fit");
            let cost = space.cost(&subnet);
            assert_eq!(params(&model), Ok(cost.params), "{subnet}, {options:?}");
            assert_eq!(macs(&model), Ok(cost.macs), "{subnet}, {options:?}");
            let size = file_size(&space, &subnet, &options);
            assert_eq!(size, model.len() as u64, "{subnet}, {options:?}");
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
    let options = GraphOptions { class_names: class_names.clone(), metadata, ..options(Batch::Fixed(1)) };
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
    let [class_token, mean, conv, _, swin, pooler, mean_text] = spaces();
    let portable = |name, space, batch| (name, space, options(batch));
    let of_form = |name, space, form: Form| (name, space, written(Batch::Fixed(1), form, form.opset()));
    for (name, space, options) in [
        portable("class_token", &class_token, Batch::Fixed(1)),
        portable("class_token_dynamic", &class_token, Batch::Dynamic),
        portable("mean_batch_3", &mean, Batch::Fixed(3)),
        portable("conv", &conv, Batch::Fixed(1)),
        portable("conv_dynamic", &conv, Batch::Dynamic),
        portable("swin", &swin, Batch::Fixed(1)),
        portable("swin_dynamic", &swin, Batch::Dynamic),
        portable("bert_pooler", &pooler, Batch::Fixed(1)),
        portable("bert_pooler_dynamic", &pooler, Batch::Dynamic),
        portable("bert_mean", &mean_text, Batch::Fixed(1)),
        portable("bert_mean_batch_3", &mean_text, Batch::Fixed(3)),
        of_form("bert_attention23", &mean_text, Form::Attention23),
        of_form("bert_contrib_attention", &mean_text, Form::ContribAttention),
        of_form("class_token_opset20", &class_token, Form::Opset20),
        of_form("class_token_attention23", &class_token, Form::Attention23),
        of_form("class_token_contrib_attention", &class_token, Form::ContribAttention),
        of_form("swin_attention23", &swin, Form::Attention23),
        of_form("swin_contrib_attention", &swin, Form::ContribAttention),
        ("swin_attention23_dynamic", &swin, written(Batch::Dynamic, Form::Attention23, 23)),
        ("class_token_dynamic_13", &class_token, written(Batch::Dynamic, Form::Portable, 13)),
        ("conv_13", &conv, written(Batch::Fixed(1), Form::Portable, 13)),
    ] {
        let subnet = space.smallest();
        let weights = random_weights(space, &subnet, &mut SEED.generator(Purpose::Candidates, 5));
        let model = build(space, &subnet, &weights, &options).expect("the weights fit");
        insta::assert_snapshot!(name, text(&model).expect("it is a model"));
    }
}

#[test]
fn the_file_tells_the_versions_of_its_operators() {
    let space = SearchSpace::Vit(space(Pooling::Mean));
    let subnet = space.smallest();
    let weights = random_weights(&space, &subnet, &mut SEED.generator(Purpose::Candidates, 8));
    for (form, opset, expected) in [
        (Form::Portable, 17, vec![("", 17)]),
        (Form::Portable, 13, vec![("", 13)]),
        (Form::Opset20, 21, vec![("", 21)]),
        (Form::Attention23, 23, vec![("", 23)]),
        (Form::ContribAttention, 17, vec![("", 17), (CONTRIB, 1)]),
    ] {
        let options = written(Batch::Fixed(1), form, opset);
        let model = build(&space, &subnet, &weights, &options).expect("the weights fit");
        let expected = expected.into_iter().map(|(domain, version)| (domain.to_owned(), version)).collect();
        assert_eq!(opsets(&model), Ok(expected), "{form} {opset}");
    }
}

#[test]
fn forms_and_opsets_that_are_refused() {
    let [vit, _, conv, ..] = spaces();
    for (space, form, opset, reason) in [
        (&vit, Form::Portable, 12, "opset 12: form `portable` is written in 13 to 23"),
        (&vit, Form::Portable, 24, "opset 24: form `portable` is written in 13 to 23"),
        (
            &vit,
            Form::Opset20,
            19,
            "form `opset20` is written in 20 to 23 (`Gelu`, as it is used, came with 20)",
        ),
        (&vit, Form::Attention23, 22, "form `attention23` is written in 23 to 23 (`Attention`"),
        (&conv, Form::ContribAttention, 17, "form `contrib-attention`: a conv network has portable"),
    ] {
        let error = form.check(space, opset).expect_err(reason).to_string();
        assert!(error.contains(reason), "{reason}: {error}");
        let options = written(Batch::Fixed(1), form, opset);
        let built = build(space, &space.smallest(), &Weights::new(), &options);
        assert_eq!(built.expect_err(reason).to_string(), error);
    }
    let error = "attention17".parse::<Form>().expect_err("no form").to_string();
    assert_eq!(
        error,
        "form `attention17` is unknown: there are portable, opset20, attention23, contrib-attention"
    );
    for form in Form::ALL {
        assert_eq!(form.name().parse(), Ok(form));
    }
}

#[test]
fn what_is_refused() {
    let space = SearchSpace::Vit(space(Pooling::ClassToken));
    let subnet = space.smallest();
    let weights = random_weights(&space, &subnet, &mut SEED.generator(Purpose::Candidates, 6));
    let good = options(Batch::Fixed(1));
    let dynamic = GraphOptions { sequence: Sequence::Dynamic, ..good.clone() };
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
        ("a sequence of images", weights.clone(), &dynamic, "a vit network reads images"),
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
