//! The convolutional network's space: counts by hand, what is refused, and how a subnet is told.

mod common;

use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, TransformKind, WidthChoices};
use elastic_space::conv::{
    Activation, BATCH_NORM_EPSILON, ConvLayer, ConvSpace, ConvStage, ConvStageChoices, ConvSubnet, Head,
    Padding, Stem, squeeze_width,
};
use elastic_space::{Cost, Dimension, SearchSpace, Subnet};

use common::plain_vit;

fn layers(choices: &[usize]) -> WidthChoices {
    WidthChoices { choices: choices.to_vec(), per: Granularity::Layer }
}

/// A stage that does not expand, and one of up to two layers that expands and squeezes.
fn space() -> ConvSpace {
    let plain = ConvStageChoices {
        width: vec![4],
        depth: DepthChoices { choices: vec![1], drop: DropPolicy::Prefix },
        stride: 1,
        kernel: layers(&[3]),
        hidden: None,
        squeeze_excite: false,
        activation: Some(Activation::Relu),
    };
    let rich = ConvStageChoices {
        width: vec![4, 6],
        depth: DepthChoices { choices: vec![1, 2], drop: DropPolicy::Any },
        stride: 2,
        kernel: layers(&[3, 5]),
        hidden: Some(layers(&[8, 12])),
        squeeze_excite: true,
        activation: None,
    };
    ConvSpace {
        image_size: 8,
        channels: 1,
        classes: 3,
        resolution: vec![4, 8],
        activation: Activation::HardSwish,
        padding: Padding::Centred,
        norm_epsilon: BATCH_NORM_EPSILON,
        stem: Stem { width: vec![2, 3], stride: 2 },
        stages: vec![plain, rich],
        head: Head { width: vec![6, 7], hidden: vec![5] },
        transforms: [].into(),
    }
}

/// Layers of the second stage as index, kernel, hidden channels.
fn subnet(resolution: usize, second: &[(usize, usize, usize)]) -> ConvSubnet {
    let layer =
        |&(index, kernel, hidden): &(usize, usize, usize)| ConvLayer { index, kernel, hidden: Some(hidden) };
    ConvSubnet {
        resolution,
        stem: 2,
        stages: vec![
            ConvStage { width: 4, layers: vec![ConvLayer { index: 0, kernel: 3, hidden: None }] },
            ConvStage { width: 4, layers: second.iter().map(layer).collect() },
        ],
        head: 6,
        head_hidden: Some(5),
    }
}

#[test]
fn parameters_and_macs_by_hand() {
    // One colour; stem 2 of stride 2; stage 4 without expansion; stage 4 of stride 2 with 8 hidden channels, of which
    // 8 features are squeezed, kernels 5 and 3; head 6, 5 features, 3 classes.
    //
    //                       parameters            MACs at 8 x 8      at 4 x 4
    // stem                  9*1*2 + 2 =  20       16 * 18 = 288      4 * 18 =  72
    // 0.0 depthwise         9*2 + 2   =  20       16 * 18 = 288      4 * 18 =  72
    // 0.0 project           2*4 + 4   =  12       16 *  8 = 128      4 *  8 =  32
    // 1.0 expand            4*8 + 8   =  40       16 * 32 = 512      4 * 32 = 128
    // 1.0 depthwise         25*8 + 8  = 208        4 * 200= 800      1 * 200= 200
    // 1.0 squeeze, excite   2 * 72    = 144        2 * 64 = 128      2 * 64 = 128
    // 1.0 project           8*4 + 4   =  36        4 * 32 = 128      1 * 32 =  32
    // 1.1 expand            4*8 + 8   =  40        4 * 32 = 128      1 * 32 =  32
    // 1.1 depthwise         9*8 + 8   =  80        4 * 72 = 288      1 * 72 =  72
    // 1.1 squeeze, excite   2 * 72    = 144        2 * 64 = 128      2 * 64 = 128
    // 1.1 project           8*4 + 4   =  36        4 * 32 = 128      1 * 32 =  32
    // head                  4*6 + 6   =  30        4 * 24 =  96      1 * 24 =  24
    // hidden                6*5 + 5   =  35                  30                30
    // classifier            5*3 + 3   =  18                  15                15
    // sum                               863                3085               997
    let space = SearchSpace::Conv(space());
    for (resolution, macs) in [(8, 3085), (4, 997)] {
        let cost = space.cost(&Subnet::Conv(subnet(resolution, &[(0, 5, 8), (1, 3, 8)])));
        assert_eq!(cost, Cost { params: 863, macs }, "{resolution}");
    }
}

#[test]
fn squeezed_widths() {
    // Torchvision's `_make_divisible(hidden // 4, 8)`.
    for (hidden, expected) in
        [(3, 8), (16, 8), (48, 16), (72, 24), (120, 32), (480, 120), (672, 168), (76, 24)]
    {
        assert_eq!(squeeze_width(hidden), expected, "{hidden}");
    }
}

#[test]
fn residuals_need_the_same_size_and_widths_that_are_meant_to_be_equal() {
    let residuals = |space: &ConvSpace, subnet: &ConvSubnet| -> Vec<bool> {
        space.blocks(subnet).iter().map(|block| block.residual).collect()
    };
    let space = space();
    let Subnet::Conv(largest) = SearchSpace::Conv(space.clone()).largest() else { panic!("a convolution") };
    // The first changes the width, the second the size.
    assert_eq!(residuals(&space, &largest), [false, false, true]);
    // Without the stride, a second stage of width 4 meets a first one of width 4, but it may be 6.
    let mut strided = space.clone();
    strided.stages[1].stride = 1;
    assert_eq!(residuals(&strided, &subnet(8, &[(0, 3, 8), (1, 3, 8)])), [false, false, true]);
    strided.stages[1].width = vec![3, 4];
    assert_eq!(residuals(&strided, &subnet(8, &[(0, 3, 8), (1, 3, 8)])), [false, true, true]);
}

#[test]
fn the_cost_does_not_depend_on_which_layers_are_kept() {
    let mut space = space();
    space.stages[1].depth.choices = vec![2, 3];
    let space = SearchSpace::Conv(space);
    let shapes = [[(0, 3, 8), (1, 5, 8)], [(0, 3, 8), (2, 5, 8)]]
        .map(|layers| space.shape(&Subnet::Conv(subnet(8, &layers))));
    assert_eq!(shapes[0], shapes[1], "layers of a standalone subnet are numbered anew");
}

#[test]
fn sizes_by_hand() {
    // 2 resolutions, 2 stems, 2 heads. The second stage: 2 widths, and 2 kernels and 2 hidden widths a layer: 4 with
    // one layer, which is always the first, 16 with two.
    assert_eq!(SearchSpace::Conv(space()).size(), 8 * 2 * (4 + 16));
    let mut shared = space();
    shared.stages[1].kernel.per = Granularity::Stage;
    assert_eq!(SearchSpace::Conv(shared).size(), 8 * 2 * (4 + 2 * 4));
    let mut deep = space();
    deep.stages[1].depth = DepthChoices { choices: vec![1, 2, 3], drop: DropPolicy::Any };
    // Two sets of two layers hold the first.
    assert_eq!(SearchSpace::Conv(deep).size(), 8 * 2 * (4 + 2 * 16 + 64));
}

#[test]
fn spaces_that_are_refused() {
    type Change = fn(&mut ConvSpace);
    let rows: [(&str, Change); 26] = [
        ("image-size is 0: it must be at least 1", |s| s.image_size = 0),
        ("channels is 0: it must be at least 1", |s| s.channels = 0),
        ("classes is 65537: it must be at most 65536", |s| s.classes = 65_537),
        ("resolution has no choices: list at least one", |s| s.resolution.clear()),
        ("resolution ends with 7: the last choice must be image-size 8", |s| s.resolution = vec![4, 7]),
        ("resolution 3 is less than half of image-size 8: pixels would be skipped, choose at least 4", |s| {
            s.resolution = vec![3, 8];
        }),
        ("norm-epsilon is 0: it must be above 0 and at most 0.1", |s| s.norm_epsilon = 0.0),
        ("norm-epsilon is NaN: it must be above 0 and at most 0.1", |s| s.norm_epsilon = f64::NAN),
        ("stem.width is [3, 2]: list each choice once, smallest first", |s| s.stem.width = vec![3, 2]),
        ("stem.stride is 3: it must be 1 or 2", |s| s.stem.stride = 3),
        ("stages is empty: list at least one", |s| s.stages.clear()),
        ("stages.1.width is 0: it must be at least 1", |s| s.stages[1].width = vec![0]),
        ("stages.0.depth.choices has no choices: list at least one", |s| s.stages[0].depth.choices.clear()),
        ("stages.0.depth 64 is too deep: at most 63 layers", |s| s.stages[0].depth.choices = vec![64]),
        (
            "stages.1.depth 13 with `drop: any` has too many sets of layers: at most 12 layers, or `drop: prefix`",
            |s| s.stages[1].depth.choices = vec![13],
        ),
        ("stages.1.stride is 0: it must be 1 or 2", |s| s.stages[1].stride = 0),
        ("stages.1.kernel.choices has no choices: list at least one", |s| s.stages[1].kernel.choices.clear()),
        ("stages.1.kernel.choices has 4: a kernel is odd and at most 15", |s| {
            s.stages[1].kernel.choices = vec![3, 4];
        }),
        ("stages.1.kernel.choices has 17: a kernel is odd and at most 15", |s| {
            s.stages[1].kernel.choices = vec![17];
        }),
        (
            "stages.1.kernel.per is `network`, but every stage lists choices of its own: choose `layer` or `stage`",
            |s| s.stages[1].kernel.per = Granularity::Network,
        ),
        (
            "stages.1.hidden.per is `network`, but every stage lists choices of its own: choose `layer` or `stage`",
            |s| s.stages[1].hidden = Some(WidthChoices { choices: vec![8], per: Granularity::Network }),
        ),
        ("stages.1.hidden.choices is 0: it must be at least 1", |s| s.stages[1].hidden = Some(layers(&[0]))),
        ("head.width has no choices: list at least one", |s| s.head.width.clear()),
        ("head.hidden is [5, 5]: list each choice once, smallest first", |s| s.head.hidden = vec![5, 5]),
        (
            "transforms: depth has no `linear` in this family; kernel has identity and linear, width has all",
            |s| s.transforms = [(Dimension::Depth, TransformKind::Linear)].into(),
        ),
        (
            "transforms: kernel has no `nonlinear` in this family; kernel has identity and linear, width has all",
            |s| s.transforms = [(Dimension::Kernel, TransformKind::Nonlinear)].into(),
        ),
    ];
    for (expected, change) in rows {
        let mut space = space();
        change(&mut space);
        let whole = SearchSpace::Conv(space).validate().map_err(|error| error.to_string());
        assert_eq!(whole, Err(format!("space.conv: {expected}")));
    }
}

#[test]
fn subnets_that_are_not_in_the_space() {
    let space = SearchSpace::Conv(space());
    let changed = |change: fn(&mut ConvSubnet)| {
        let mut subnet = subnet(8, &[(0, 3, 8), (1, 5, 12)]);
        change(&mut subnet);
        Subnet::Conv(subnet)
    };
    let disagree = "its layers differ where the space shares one choice, or are out of order";
    for (subnet, reason) in [
        (changed(|s| s.resolution = 6), "resolution is 6, the choices are [4, 8]"),
        (changed(|s| s.stages[1].width = 5), "stages.1.width is 5, the choices are [4, 6]"),
        (
            changed(|s| s.stages[1].layers.retain(|layer| layer.index > 0)),
            "the kept layers [1] are not a choice of stages.1.depth",
        ),
        (
            changed(|s| s.stages[1].layers[1].kernel = 7),
            "stages.1.layers.1.kernel is 7, the choices are [3, 5]",
        ),
        (
            changed(|s| s.stages[1].layers[1].hidden = Some(9)),
            "stages.1.layers.1.hidden is 9, the choices are [8, 12]",
        ),
        (changed(|s| s.stages[1].layers[1].hidden = None), disagree),
        (changed(|s| s.stages[0].layers[0].hidden = Some(8)), disagree),
        (changed(|s| s.head_hidden = None), disagree),
        (changed(|s| drop(s.stages.pop())), disagree),
        (changed(|s| s.stages[1].layers.swap(0, 1)), disagree),
        (SearchSpace::Vit(plain_vit()).largest(), "it is of another family than conv"),
    ] {
        let error = space.encode(&subnet).map_err(|error| error.to_string());
        assert_eq!(error, Err(format!("subnet `{subnet}` is not in the search space: {reason}")));
    }
}

#[test]
fn subnets_as_text() {
    for (second, expected) in [
        (&[(0, 3, 8)][..], "resolution 8 stem 2 4(k3) 4(k3-8) head 6-5"),
        (&[(0, 3, 8), (1, 5, 12)], "resolution 8 stem 2 4(k3) 4(k3-8 k5-12) head 6-5"),
        (&[(0, 3, 8), (2, 5, 12)], "resolution 8 stem 2 4(k3) 4(k3-8 2:k5-12) head 6-5"),
    ] {
        assert_eq!(subnet(8, second).to_string(), expected);
    }
}
