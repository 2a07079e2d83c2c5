//! Small spaces, and what the laws of sampling are checked with.

#![allow(dead_code, reason = "not every test file uses all of it")]

use elastic_space::bert::{BertPooling, BertSpace};
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::conv::{Activation, BATCH_NORM_EPSILON, ConvSpace, ConvStageChoices, Head, Padding, Stem};
use elastic_space::swin::{SwinSpace, SwinStageChoices};
use elastic_space::vit::{Pooling, VitSpace};
use elastic_space::{Dimension, Place, SearchSpace, Slot};
use proptest::prelude::*;
use proptest::sample::subsequence;

fn granularity() -> impl Strategy<Value = Granularity> {
    prop_oneof![Just(Granularity::Layer), Just(Granularity::Stage), Just(Granularity::Network)]
}

fn widths(values: Vec<usize>) -> impl Strategy<Value = WidthChoices> {
    let count = 1..=values.len();
    (subsequence(values, count), granularity()).prop_map(|(choices, per)| WidthChoices { choices, per })
}

/// Spaces of every family, of up to `layers` layers with up to three choices a slot.
pub(crate) fn spaces(layers: usize) -> impl Strategy<Value = SearchSpace> {
    prop_oneof![vit_spaces(layers), conv_spaces(layers), swin_spaces(layers), bert_spaces(layers)]
}

/// Swin transformers of one stage, or of two of which the first has one layer. Maps of 5 and 3 tokens a side.
fn swin_spaces(layers: usize) -> impl Strategy<Value = SearchSpace> {
    let stages = prop_oneof![
        swin_stages(layers).prop_map(|stage| vec![stage]),
        (swin_stages(1), swin_stages(layers.saturating_sub(1).max(1))).prop_map(|(a, b)| vec![a, b]),
    ];
    (stages, 1..=6_usize).prop_map(|(stages, window_size)| {
        SearchSpace::Swin(SwinSpace {
            image_size: 10,
            channels: 3,
            patch_size: 2,
            classes: 7,
            window_size,
            head_dim: 4,
            stages,
            transforms: [].into(),
        })
    })
}

fn swin_stages(layers: usize) -> impl Strategy<Value = SwinStageChoices> {
    let depths = subsequence((1..=layers).collect::<Vec<usize>>(), 1..=layers);
    let drop = prop_oneof![Just(DropPolicy::Prefix), Just(DropPolicy::Any)];
    let per = || prop_oneof![Just(Granularity::Layer), Just(Granularity::Stage)];
    let widths = move |values: [usize; 2]| {
        (subsequence(values.to_vec(), 1..=2), per()).prop_map(|(choices, per)| WidthChoices { choices, per })
    };
    (subsequence(vec![6, 9], 1..=2), depths, drop, widths([1, 3]), widths([5, 8])).prop_map(
        |(embed_dim, choices, drop, heads, mlp_width)| SwinStageChoices {
            embed_dim,
            depth: DepthChoices { choices, drop },
            heads,
            mlp_width,
        },
    )
}

/// Convolutional networks of one stage, or of two of which the first has one layer.
fn conv_spaces(layers: usize) -> impl Strategy<Value = SearchSpace> {
    let stages = prop_oneof![
        conv_stages(layers).prop_map(|stage| vec![stage]),
        (conv_stages(1), conv_stages(layers.saturating_sub(1).max(1))).prop_map(|(a, b)| vec![a, b]),
    ];
    let resolution = prop_oneof![Just(vec![12]), Just(vec![8, 12])];
    let two = |values: [usize; 2]| subsequence(values.to_vec(), 1..=2);
    let hidden = prop_oneof![Just(vec![]), two([6, 9])];
    (resolution, two([3, 5]), 1..=2_usize, stages, two([10, 14]), hidden).prop_map(
        |(resolution, stem, stride, stages, width, hidden)| {
            SearchSpace::Conv(ConvSpace {
                image_size: 12,
                channels: 3,
                classes: 7,
                resolution,
                activation: Activation::HardSwish,
                padding: Padding::Centred,
                norm_epsilon: BATCH_NORM_EPSILON,
                stem: Stem { width: stem, stride },
                stages,
                head: Head { width, hidden },
                transforms: [].into(),
            })
        },
    )
}

fn conv_stages(layers: usize) -> impl Strategy<Value = ConvStageChoices> {
    let depths = subsequence((1..=layers).collect::<Vec<usize>>(), 1..=layers);
    let drop = prop_oneof![Just(DropPolicy::Prefix), Just(DropPolicy::Any)];
    let per = || prop_oneof![Just(Granularity::Layer), Just(Granularity::Stage)];
    let widths = move |values: [usize; 2]| {
        (subsequence(values.to_vec(), 1..=2), per()).prop_map(|(choices, per)| WidthChoices { choices, per })
    };
    let width = subsequence(vec![4, 6], 1..=2);
    let hidden = prop::option::of(widths([8, 40]));
    (width, depths, drop, 1..=2_usize, widths([3, 5]), hidden, any::<bool>()).prop_map(
        |(width, choices, drop, stride, kernel, hidden, squeeze_excite)| ConvStageChoices {
            width,
            depth: DepthChoices { choices, drop },
            stride,
            kernel,
            hidden,
            squeeze_excite,
            activation: None,
        },
    )
}

fn vit_spaces(layers: usize) -> impl Strategy<Value = SearchSpace> {
    let depths = subsequence((1..=layers).collect::<Vec<usize>>(), 1..=layers);
    let drop = prop_oneof![Just(DropPolicy::Prefix), Just(DropPolicy::Any)];
    let pooling = prop_oneof![Just(Pooling::ClassToken), Just(Pooling::Mean)];
    let embed = subsequence(vec![8_usize, 12, 20], 1..=3);
    let borders = prop::option::of(prop::collection::vec(any::<bool>(), layers));
    (embed, depths, drop, widths(vec![1, 2, 5]), widths(vec![6, 16, 30]), pooling, borders).prop_map(
        |(embed_dim, choices, drop, heads, mlp_width, pooling, borders)| {
            let layers = choices[choices.len() - 1];
            SearchSpace::Vit(VitSpace {
                image_size: 12,
                channels: 3,
                patch_size: 4,
                classes: 7,
                head_dim: 4,
                pooling,
                embed_dim,
                depth: DepthChoices { choices, drop },
                heads,
                mlp_width,
                stages: borders.map_or_else(Vec::new, |borders| stages(layers, &borders)),
                transforms: [].into(),
            })
        },
    )
}

/// Texts of 9 tokens out of 30.
fn bert_spaces(layers: usize) -> impl Strategy<Value = SearchSpace> {
    let depths = subsequence((1..=layers).collect::<Vec<usize>>(), 1..=layers);
    let drop = prop_oneof![Just(DropPolicy::Prefix), Just(DropPolicy::Any)];
    let pooling = prop_oneof![Just(BertPooling::Pooler), Just(BertPooling::Mean)];
    let embed = subsequence(vec![8_usize, 12, 20], 1..=3);
    let borders = prop::option::of(prop::collection::vec(any::<bool>(), layers));
    (embed, depths, drop, widths(vec![1, 2, 5]), widths(vec![6, 16, 30]), pooling, borders).prop_map(
        |(embed_dim, choices, drop, heads, mlp_width, pooling, borders)| {
            let layers = choices[choices.len() - 1];
            SearchSpace::Bert(BertSpace {
                vocabulary: 30,
                length: 9,
                segments: 2,
                classes: 7,
                head_dim: 4,
                pooling,
                embed_dim,
                depth: DepthChoices { choices, drop },
                heads,
                mlp_width,
                stages: borders.map_or_else(Vec::new, |borders| stages(layers, &borders)),
                transforms: [].into(),
            })
        },
    )
}

/// Images of 1 x 4 x 4 in four patches and two classes; one choice of everything else. For tests that look at
/// some of the choices only.
pub(crate) fn plain_vit() -> VitSpace {
    let one = || WidthChoices { choices: vec![1], per: Granularity::Network };
    VitSpace {
        image_size: 4,
        channels: 1,
        patch_size: 2,
        classes: 2,
        head_dim: 2,
        pooling: Pooling::Mean,
        embed_dim: vec![2],
        depth: DepthChoices { choices: vec![1], drop: DropPolicy::Prefix },
        heads: one(),
        mlp_width: one(),
        stages: Vec::new(),
        transforms: [].into(),
    }
}

/// The layers of each stage, where a new stage begins after each layer whose flag is set.
fn stages(layers: usize, borders: &[bool]) -> Vec<usize> {
    let mut stages = vec![0];
    for &border in &borders[..layers] {
        if stages[stages.len() - 1] > 0 && border {
            stages.push(0);
        }
        *stages.last_mut().expect("there is one") += 1;
    }
    stages
}

/// Whether a genome leaves out every layer that a slot decides for.
pub(crate) fn left_out(space: &SearchSpace, slots: &[Slot], genome: &[usize], slot: usize) -> bool {
    let stages = match space {
        SearchSpace::Vit(vit) => &vit.stages,
        SearchSpace::Bert(bert) => &bert.stages,
        SearchSpace::Conv(_) | SearchSpace::Swin(_) => {
            let Place::Layer { layer, stage } = slots[slot].place else { return false };
            let depth = |s: &Slot| s.dimension == Dimension::Depth && s.place == Place::Stage(stage);
            let depth = slots.iter().position(depth).expect("a depth slot of the stage");
            return slots[depth].choices[genome[depth]] >> layer & 1 == 0;
        }
    };
    let depth = slots.iter().position(|s| s.dimension == Dimension::Depth).expect("a depth slot");
    let mask = slots[depth].choices[genome[depth]];
    match slots[slot].place {
        Place::Network => false,
        Place::Layer { layer, .. } => mask >> layer & 1 == 0,
        Place::Stage(_) if stages.is_empty() => false,
        Place::Stage(stage) => {
            let first: usize = stages[..stage].iter().sum();
            (first..first + stages[stage]).all(|layer| mask >> layer & 1 == 0)
        }
    }
}

/// Pearson's statistic of counts against the shares that are expected; infinite if what has no share
/// was seen.
pub(crate) fn chi_square(seen: &[usize], shares: &[f64]) -> f64 {
    assert_eq!(seen.len(), shares.len(), "cells");
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "shares that add up: {shares:?}");
    let draws = seen.iter().sum::<usize>() as f64;
    let cell = |(&seen, share): (&usize, &f64)| match (seen, share * draws) {
        (0, 0.0) => 0.0,
        (seen, expected) => (seen as f64 - expected).powi(2) / expected,
    };
    seen.iter().zip(shares).map(cell).sum()
}

/// The 99.9 % point of chi-square for the degrees of freedom of shares.
pub(crate) fn limit(shares: &[f64]) -> f64 {
    const POINTS: [f64; 16] = [
        0.0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88, 29.59, 31.26, 32.91, 34.53,
        36.12, 37.70,
    ];
    POINTS[shares.iter().filter(|share| **share > 0.0).count() - 1]
}
