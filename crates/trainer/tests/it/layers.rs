//! Each elastic layer: its forward pass is the plain layer of the weights that it cuts out.

use burn::tensor::Device;
use elastic_space::random::Purpose;
use elastic_space::vit::LAYER_NORM_EPSILON;
use elastic_space::{Array, Seed};
use elastic_trainer::layers::{ElasticLayerNorm, ElasticLinear, ElasticQkv};
use elastic_trainer::parameters::{self, array};
use proptest::prelude::*;
use rand::Rng;

use crate::support::{tensor, worst};

const TOLERANCE: f64 = 2e-6;

fn random(shape: &[usize], seed: u64) -> Array {
    let mut rng = Seed(seed).generator(Purpose::Init, 0);
    let data = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Array { shape: shape.to_vec(), data }
}

/// A module with random parameters in place of its first ones.
fn filled<M: burn::module::Module>(module: M, seed: u64) -> M {
    let weights = parameters::collect(&module);
    let drawn =
        weights.iter().zip(seed..).map(|((name, array), seed)| (name.clone(), random(&array.shape, seed)));
    parameters::replace(module, &drawn.collect()).expect("the same names and shapes")
}

/// `x W + b` for the leading columns of W and b, cell by cell.
fn product(
    x: &Array,
    outputs: usize,
    weight: impl Fn(usize, usize) -> f32,
    bias: impl Fn(usize) -> f32,
) -> Vec<f64> {
    let cell = |row: &[f32], o: usize| {
        let products = row.iter().enumerate().map(|(i, &x)| f64::from(x) * f64::from(weight(i, o)));
        f64::from(bias(o)) + products.sum::<f64>()
    };
    x.data.chunks(x.shape[1]).flat_map(|row| (0..outputs).map(|o| cell(row, o)).collect::<Vec<_>>()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn linear(
        (largest, sizes) in (1_usize..18, 1_usize..18).prop_flat_map(|l| (Just(l), (1..=l.0, 1..=l.1))),
        rows in 1_usize..6,
        seed in 0..u64::MAX / 2,
    ) {
        let mut rng = Seed(seed).generator(Purpose::Init, 1);
        let layer = filled(ElasticLinear::new(largest.0, largest.1, &Device::flex(), &mut rng), seed);
        let (weight, bias) = (array(layer.weight.val()).data, array(layer.bias.val()).data);
        let (inputs, outputs) = sizes;
        let x = random(&[rows, inputs], seed + 9);
        let forward = array(layer.forward(tensor(&x), outputs));
        prop_assert_eq!(&forward.shape, &[rows, outputs]);
        let expected = product(&x, outputs, |i, o| weight[i * largest.1 + o], |o| bias[o]);
        prop_assert!(worst(&forward.data, &expected) < TOLERANCE);
        let (cut_weight, cut_bias) = layer.slice(inputs, outputs);
        let plain = array(tensor::<2>(&x).matmul(cut_weight) + cut_bias.unsqueeze());
        prop_assert!(worst(&forward.data, &plain.data) < 1e-6);
    }

    #[test]
    fn qkv(
        (largest, sizes) in (1_usize..14, 1_usize..10).prop_flat_map(|l| (Just(l), (1..=l.0, 1..=l.1))),
        rows in 1_usize..6,
        seed in 0..u64::MAX / 2,
    ) {
        let mut rng = Seed(seed).generator(Purpose::Init, 1);
        let layer = filled(ElasticQkv::new(largest.0, largest.1, &Device::flex(), &mut rng), seed);
        let (weight, bias) = (array(layer.weight.val()).data, array(layer.bias.val()).data);
        let (inputs, inner) = sizes;
        let x = random(&[rows, inputs], seed + 9);
        let forward = array(layer.forward(tensor(&x), inner));
        prop_assert_eq!(&forward.shape, &[rows, 3 * inner]);
        // Column o is feature o % inner of query, key or value.
        let column = |o: usize| o / inner * largest.1 + o % inner;
        let expected = product(&x, 3 * inner, |i, o| weight[i * 3 * largest.1 + column(o)], |o| bias[column(o)]);
        prop_assert!(worst(&forward.data, &expected) < TOLERANCE);
        let (cut_weight, cut_bias) = layer.slice(inputs, inner);
        let plain = array(tensor::<2>(&x).matmul(cut_weight) + cut_bias.unsqueeze());
        prop_assert!(worst(&forward.data, &plain.data) < 1e-6);
    }

    #[test]
    fn layer_norm(
        (largest, features) in (3_usize..40).prop_flat_map(|l| (Just(l), 3..=l)),
        rows in 1_usize..6,
        seed in 0..u64::MAX / 2,
    ) {
        let layer = filled(ElasticLayerNorm::new(largest, LAYER_NORM_EPSILON, &Device::flex()), seed);
        let (weight, bias) = (array(layer.weight.val()).data, array(layer.bias.val()).data);
        let x = random(&[rows, features], seed + 9);
        let forward = array(layer.forward(tensor(&x)));
        let normalise = |row: &[f32]| {
            let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
            let mean = row.iter().sum::<f64>() / features as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / features as f64;
            let scale = |f: usize| f64::from(weight[f]) / (variance + LAYER_NORM_EPSILON).sqrt();
            (0..features).map(|f| (row[f] - mean) * scale(f) + f64::from(bias[f])).collect::<Vec<_>>()
        };
        let expected: Vec<f64> = x.data.chunks(features).flat_map(normalise).collect();
        // Rows of three like values are divided by a small deviation.
        let highest = expected.iter().fold(1.0_f64, |highest, v| highest.max(v.abs()));
        prop_assert!(worst(&forward.data, &expected) < 1e-4 * highest);
        let (cut_weight, cut_bias) = layer.slice(features);
        prop_assert_eq!(array(cut_weight).data, &weight[..features]);
        prop_assert_eq!(array(cut_bias).data, &bias[..features]);
    }
}
