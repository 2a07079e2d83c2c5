//! What fewer bits make of a network's logits, on both runtimes, and what is refused.

use elastic_space::platform::{Runtime, Tract};
use elastic_space::random::Purpose;
use elastic_space::{Array, SearchSpace, Subnet, Weights as Tensors};

use super::quantise::{Affine, Weights};
use super::*;
use crate::graph::read::{macs, params, read_metadata, text};
use crate::graph::tests::{SEED, onnx_runtime, random_array, random_weights, reference, spaces, written};
use crate::graph::{Batch, Form, build};
use crate::verify::compare;

/// A network of each family with its file, images, and the logits of its weights.
struct Case {
    space: SearchSpace,
    subnet: Subnet,
    file: Vec<u8>,
    images: Array,
    logits: Array,
}

fn case(space: SearchSpace, batch: Batch, form: Form) -> Case {
    let mut rng = SEED.generator(Purpose::Candidates, 9);
    let subnet = space.largest();
    let weights: Tensors = random_weights(&space, &subnet, &mut rng);
    let images = random_array(&[24, 2, 15, 15], 2.0, &mut rng);
    let logits = reference(&space, &subnet, &weights, &images);
    let file =
        build(&space, &subnet, &weights, &written(batch, form, form.opset())).expect("the weights fit");
    Case { space, subnet, file, images, logits }
}

/// One space of each family.
fn families() -> [SearchSpace; 3] {
    let [vit, _, conv, _, swin, ..] = spaces();
    [vit, conv, swin]
}

fn ranges(case: &Case, batch: usize, method: Method) -> BTreeMap<String, Range> {
    calibrate(&case.file, &onnx_runtime(), &case.images, batch, method).expect("it runs")
}

fn spread(logits: &Array) -> f64 {
    f64::from(logits.data.iter().fold(0.0_f32, |most, value| most.max(value.abs())))
}

#[test]
fn the_length_in_fewer_bits_is_known_before() {
    for space in families() {
        let case = case(space, Batch::Fixed(1), Form::Portable);
        for precision in [Precision::Fp16, Precision::Int8Dynamic, Precision::Int8DynamicPerChannel] {
            let expected = reduce(&case.file, precision, &BTreeMap::new()).ok().map(|file| file.len() as u64);
            let options = written(Batch::Fixed(1), Form::Portable, Form::Portable.opset());
            let found = reduced_size(&case.space, &case.subnet, &options, precision);
            assert_eq!(found, expected, "{} {precision}", case.space.family());
        }
    }
}

#[test]
fn logits_stay_close_on_every_runtime() {
    for space in families() {
        let case = case(space, Batch::Fixed(1), Form::Portable);
        let calibrated = ranges(&case, 1, Method::MinMax);
        for (precision, share) in [
            (Precision::Fp32, 1e-4),
            (Precision::Fp16, 0.01),
            (Precision::Int8Dynamic, 0.1),
            (Precision::Int8DynamicPerChannel, 0.1),
            (Precision::Int8Static, 0.15),
        ] {
            let file = reduce(&case.file, precision, &calibrated).expect("it can be reduced");
            // tract 0.23 has no product of 16-bit floats.
            let tract = (precision != Precision::Fp16).then_some(Runtime::Tract(Tract {}));
            for runtime in std::iter::once(onnx_runtime()).chain(tract) {
                let row = format!("{}, {precision}, {}", case.subnet, runtime.label());
                let found = compare(&file, &runtime, &case.images, &case.logits, 1)
                    .unwrap_or_else(|error| panic!("{row}: {error}"));
                let limit = share * spread(&case.logits);
                assert!(found.max_abs_difference <= limit, "{row}: {found:?}, allowed {limit}");
                assert!(
                    precision == Precision::Fp32 || found.max_abs_difference > 0.0,
                    "{row}: nothing changed"
                );
            }
        }
    }
}

#[test]
fn every_batch_and_form_can_be_reduced() {
    for (space, form) in families().into_iter().zip([Form::Attention23, Form::Portable, Form::Opset20]) {
        for (batch, run) in [(Batch::Fixed(3), 3), (Batch::Dynamic, 4)] {
            let case = case(space.clone(), batch, form);
            let calibrated = ranges(&case, run, Method::Percentile);
            for precision in Precision::ALL {
                let file = reduce(&case.file, precision, &calibrated).expect("it can be reduced");
                let row = format!("{}, {precision}, {batch:?}", case.subnet);
                let found = compare(&file, &onnx_runtime(), &case.images, &case.logits, run)
                    .unwrap_or_else(|error| panic!("{row}: {error}"));
                assert!(found.max_abs_difference <= 0.2 * spread(&case.logits), "{row}: {found:?}");
            }
        }
    }
}

#[test]
fn counts_metadata_and_bytes_stay() {
    for space in families() {
        let case = case(space, Batch::Fixed(1), Form::Portable);
        let calibrated = ranges(&case, 1, Method::Entropy);
        for precision in Precision::ALL {
            let file = reduce(&case.file, precision, &calibrated).expect("it can be reduced");
            assert!(file == reduce(&case.file, precision, &calibrated).expect("again"), "{precision}");
            let cost = case.space.cost(&case.subnet);
            assert_eq!(params(&file), Ok(cost.params), "{}, {precision}", case.subnet);
            assert_eq!(macs(&file), Ok(cost.macs), "{}, {precision}", case.subnet);
            let metadata = read_metadata(&file).expect("it is a model");
            assert_eq!(metadata[PRECISION_KEY], precision.name());
        }
    }
}

#[test]
fn graph_as_text() {
    let [vit, conv, _] = families();
    for (name, space, precision) in [
        ("vit_fp16", &vit, Precision::Fp16),
        ("vit_int8_dynamic_per_channel", &vit, Precision::Int8DynamicPerChannel),
        ("vit_int8_static", &vit, Precision::Int8Static),
        ("conv_int8_static", &conv, Precision::Int8Static),
    ] {
        let subnet = space.smallest();
        let mut rng = SEED.generator(Purpose::Candidates, 9);
        let weights = random_weights(space, &subnet, &mut rng);
        let options = written(Batch::Fixed(1), Form::Portable, Form::Portable.opset());
        let file = build(space, &subnet, &weights, &options).expect("the weights fit");
        let images = random_array(&[2, 2, 15, 15], 2.0, &mut rng);
        let calibrated = calibrate(&file, &onnx_runtime(), &images, 1, Method::MinMax).expect("it runs");
        let file = reduce(&file, precision, &calibrated).expect("it can be reduced");
        insta::assert_snapshot!(name, text(&file).expect("it is a model"));
    }
}

#[test]
fn integers_of_a_range() {
    for (low, high, scale, zero_point) in [
        (0.0, 2.55, 0.01, 0),
        (-1.0, 1.55, 0.01, 100),
        // 0 must be exact, so the range grows to it.
        (1.0, 2.55, 0.01, 0),
        (-2.55, -1.0, 0.01, 255),
        (0.0, 0.0, 1.0, 0),
        (f32::INFINITY, f32::NEG_INFINITY, 1.0, 0),
    ] {
        let found = Affine::of(Range { low, high });
        assert!((found.scale - scale).abs() < 1e-6, "{low} to {high}: {}", found.scale);
        assert_eq!(found.zero_point, zero_point, "{low} to {high}");
    }
}

#[test]
fn integers_of_weights() {
    // Two inputs, three outputs.
    let values = [1.27, 0.0, 2.0, -0.635, 0.0, -4.0];
    for (axis, integers, scales) in [
        (None, [40, 0, 64, -20, 0, -127], vec![4.0 / 127.0]),
        (Some(1), [127, 0, 64, -64, 0, -127], vec![0.01, 1.0, 4.0 / 127.0]),
        (Some(0), [81, 0, 127, -20, 0, -127], vec![2.0 / 127.0, 4.0 / 127.0]),
    ] {
        let found = Weights::of(&values, &[2, 3], axis);
        assert_eq!(found.values, integers, "{axis:?}");
        assert_eq!(found.scales, scales, "{axis:?}");
    }
}

#[test]
fn ranges_of_a_histogram() {
    let observed = Range { low: -20.48, high: 10.0 };
    let mut histogram = vec![0_u64; 2048];
    // Fewer and fewer up to 4, and one far away.
    for (bin, count) in histogram[..400].iter_mut().enumerate() {
        *count = 5 * (400 - bin as u64) / 2;
    }
    histogram[2047] = 1;
    for (method, least, most) in
        [(Method::MinMax, 20.48, 20.48), (Method::Percentile, 3.9, 4.01), (Method::Entropy, 3.0, 5.0)]
    {
        let found = method.range(observed, &histogram);
        assert!((-most..=-least).contains(&found.low), "{method}: {found:?}");
        assert!(found.high <= 10.0_f32.min(most) && found.high >= 10.0_f32.min(least), "{method}: {found:?}");
    }
}

#[test]
fn what_is_refused() {
    let [vit, ..] = families();
    let case = case(vit, Batch::Fixed(1), Form::Portable);
    let none = BTreeMap::new();
    let error = reduce(&case.file, Precision::Int8Static, &none).expect_err("no ranges").to_string();
    assert!(error.contains("the range of `patch_embed.rows` is not known"), "{error}");
    assert!(matches!(reduce(b"no model", Precision::Fp16, &none), Err(ReduceError::Read(_))));
    let empty = Array { shape: vec![0, 2, 15, 15], data: vec![] };
    let error = calibrate(&case.file, &onnx_runtime(), &empty, 1, Method::MinMax).expect_err("no images");
    assert!(error.to_string().contains("no images"), "{error}");
    let mut damaged = case.images.clone();
    damaged.data[7] = f32::NAN;
    let error = calibrate(&case.file, &onnx_runtime(), &damaged, 1, Method::MinMax).expect_err("no number");
    assert!(error.to_string().contains("holds NaN"), "{error}");
    let (mut model, mut graph) = decode(&case.file).expect("it is a model");
    let head = graph.initializer.iter_mut().find(|tensor| tensor.name() == "head.bias").expect("it is there");
    *head = proto::floats_tensor("head.bias", &[7], &[1e5; 7]);
    model.graph = Some(graph);
    let error = reduce(&model.encode_to_vec(), Precision::Fp16, &none).expect_err("too large").to_string();
    assert!(error.contains("`head.bias` holds 100000, a 16-bit float is at most 65504"), "{error}");
    let error = "int4".parse::<Precision>().expect_err("unknown").to_string();
    assert!(error.starts_with("precision `int4` is unknown: there are fp32, fp16, int8-dynamic"), "{error}");
}
