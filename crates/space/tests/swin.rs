//! The Swin transformer's space: counts by hand, windows, what is refused, and how a subnet is told.

mod common;

use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, TransformKind, WidthChoices};
use elastic_space::swin::{
    MASKED, SwinLayer, SwinSpace, SwinStage, SwinStageChoices, SwinSubnet, Windows, merged,
};
use elastic_space::{Cost, Dimension, SearchSpace, Subnet};

use common::plain_vit;

fn space() -> SwinSpace {
    let per_layer = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Layer };
    let stage = |embed_dim: &[usize], depth: &[usize]| SwinStageChoices {
        embed_dim: embed_dim.to_vec(),
        depth: DepthChoices { choices: depth.to_vec(), drop: DropPolicy::Prefix },
        heads: per_layer(&[1, 2]),
        mlp_width: per_layer(&[8, 12]),
    };
    SwinSpace {
        image_size: 6,
        channels: 1,
        patch_size: 2,
        classes: 3,
        window_size: 2,
        head_dim: 2,
        stages: vec![stage(&[4, 5], &[1]), stage(&[6], &[1, 2])],
        transforms: [].into(),
    }
}

fn subnet(second: &[(usize, usize, usize)]) -> SwinSubnet {
    let layer = |&(index, heads, mlp_width): &(usize, usize, usize)| SwinLayer { index, heads, mlp_width };
    let stage = |embed_dim: usize, layers: &[(usize, usize, usize)]| SwinStage {
        embed_dim,
        layers: layers.iter().map(layer).collect(),
    };
    SwinSubnet { stages: vec![stage(4, &[(0, 1, 8)]), stage(6, second)] }
}

#[test]
fn parameters_and_macs_by_hand() {
    // 3 x 3 patches of 4 values; heads of 2 features, windows of 2 x 2 with 9 relative positions. The map of 9 tokens
    // is padded to 16 in 4 windows; merged it has 4 in one window. Stage 0: embedding 4, 1 head, MLP 8; stage 1:
    // embedding 6, 2 heads, MLP 8; 3 classes.
    //
    //                      parameters           MACs
    // patch_embed.proj     4*4 + 4   =  20      9 * 16     = 144
    // patch_embed.norm     2*4       =   8
    // 0 norm1, norm2       2 * 2*4   =  16
    // 0 table              9*1       =   9
    // 0 qkv                4*6 + 6   =  30      16 * 24    = 384
    // 0 q k', (q k') v                          2 * 16*2*4 = 256
    // 0 proj               2*4 + 4   =  12      9 * 8      =  72
    // 0 fc1, fc2           40 + 36   =  76      2 * 9 * 32 = 576
    // downsample.norm      2*16      =  32
    // downsample.reduction 16*6      =  96      4 * 96     = 384
    // 1 norm1, norm2       2 * 2*6   =  24
    // 1 table              9*2       =  18
    // 1 qkv                6*12 + 12 =  84      4 * 72     = 288
    // 1 q k', (q k') v                          2 * 4*2*2*4 = 128
    // 1 proj               4*6 + 6   =  30      4 * 24     =  96
    // 1 fc1, fc2           56 + 54   = 110      2 * 4 * 48 = 384
    // norm                 2*6       =  12
    // head                 6*3 + 3   =  21      18         =  18
    // sum                              598                  2730
    let space = SearchSpace::Swin(space());
    let cost = space.cost(&Subnet::Swin(subnet(&[(0, 2, 8)])));
    assert_eq!(cost, Cost { params: 598, macs: 2730 });
}

#[test]
fn windows_by_hand() {
    // A map of 3 x 3 in windows of 2 x 2 is padded to 4 x 4 and shifted by one.
    let windows = Windows::new(3, 2);
    assert_eq!((windows.count(), windows.tokens(), windows.entries()), (4, 4, 9));
    let rows = |all: Vec<Option<usize>>| -> Vec<String> {
        let digit = |token: Option<usize>| token.map_or("-".to_owned(), |token| token.to_string());
        all.chunks(4).map(|window| window.iter().map(|&token| digit(token)).collect()).collect()
    };
    assert_eq!(rows(windows.cut(false)), ["0134", "2-5-", "67--", "8---"]);
    assert_eq!(rows(windows.cut(true)), ["4578", "-3-6", "--12", "---0"]);
    assert_eq!(windows.join(true), [15, 10, 11, 5, 0, 1, 7, 2, 3]);
    // The first window lies within the map; in the second the columns have come round, in the third the rows, in the
    // last both.
    let mask = windows.mask();
    let kept = |window: usize| -> Vec<String> {
        let sign = |value: &f32| if *value == 0.0 { '1' } else { '0' };
        mask[16 * window..][..16].chunks(4).map(|row| row.iter().map(sign).collect()).collect()
    };
    assert!(mask.iter().all(|value| [0.0, MASKED].contains(value)));
    assert_eq!(kept(0), ["1111"; 4]);
    assert_eq!(kept(1), ["1010", "0101", "1010", "0101"]);
    assert_eq!(kept(2), ["1100", "1100", "0011", "0011"]);
    assert_eq!(kept(3), ["1000", "0100", "0010", "0001"]);
    // From (0, 0) the entries of (0, 0), (0, 1), (1, 0), (1, 1) lie before the middle, 4.
    assert_eq!(windows.relative_positions(), [4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4]);
    // Left above, left below, right above, right below.
    assert_eq!(
        rows(merged(3)),
        ["0314", "2-5-", "67--", "8---"].map(|row| {
            if row == "2-5-" {
                "25--".to_owned()
            } else if row == "67--" {
                "6-7-".to_owned()
            } else {
                row.to_owned()
            }
        })
    );
}

#[test]
fn windows_of_any_map() {
    for side in 1..12 {
        for largest in 1..8 {
            let row = format!("a side of {side} in windows of {largest}");
            let windows = Windows::new(side, largest);
            assert_eq!(windows.size, side.min(largest), "{row}");
            // A map of one window is not shifted, nor are windows of one token.
            assert_eq!(windows.shifted(1), side > largest && largest > 1, "{row}");
            assert!(!windows.shifted(0) && !windows.shifted(2), "{row}");
            for shifted in [false, windows.shifted(1)] {
                let cut = windows.cut(shifted);
                assert_eq!(cut.len(), windows.count() * windows.tokens(), "{row}");
                let mut tokens: Vec<usize> = cut.iter().flatten().copied().collect();
                tokens.sort_unstable();
                assert_eq!(tokens, (0..side * side).collect::<Vec<_>>(), "{row}: each token once");
                for (token, place) in windows.join(shifted).into_iter().enumerate() {
                    assert_eq!(cut[place], Some(token), "{row}");
                }
            }
            assert_eq!(windows.mask().len(), windows.count() * windows.tokens().pow(2), "{row}");
            assert!(windows.relative_positions().iter().all(|&entry| entry < windows.entries()), "{row}");
        }
        let mut tokens: Vec<usize> = merged(side).into_iter().flatten().collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..side * side).collect::<Vec<_>>(), "{side} merged");
    }
}

#[test]
fn the_cost_does_not_depend_on_which_layers_are_kept() {
    let mut space = space();
    space.stages[1].depth = DepthChoices { choices: vec![2, 3], drop: DropPolicy::Any };
    let space = SearchSpace::Swin(space);
    let shapes = [[(0, 1, 8), (1, 2, 8)], [(1, 1, 8), (2, 2, 8)]]
        .map(|layers| space.shape(&Subnet::Swin(subnet(&layers))));
    assert_eq!(shapes[0], shapes[1], "layers of a standalone subnet are numbered anew");
}

#[test]
fn sizes_by_hand() {
    // First stage: 2 embeddings, 2 heads, 2 widths. Second: 2 heads and 2 widths a layer, one layer or two.
    assert_eq!(SearchSpace::Swin(space()).size(), 8 * (4 + 16));
    let mut shared = space();
    shared.stages[1].heads.per = Granularity::Stage;
    assert_eq!(SearchSpace::Swin(shared).size(), 8 * (4 + 2 * 4));
    let mut deep = space();
    deep.stages[1].depth = DepthChoices { choices: vec![1, 2, 3], drop: DropPolicy::Any };
    // Three sets of one layer, three of two, one of three.
    assert_eq!(SearchSpace::Swin(deep).size(), 8 * (3 * 4 + 3 * 16 + 64));
}

#[test]
fn slots_in_their_order() {
    let mut space = space();
    space.stages[1].heads.per = Granularity::Stage;
    let names: Vec<String> = SearchSpace::Swin(space).slots().into_iter().map(|slot| slot.name).collect();
    assert_eq!(
        names,
        [
            "stages.0.embed-dim",
            "stages.0.depth",
            "stages.0.layers.0.heads",
            "stages.0.layers.0.mlp-width",
            "stages.1.embed-dim",
            "stages.1.depth",
            "stages.1.heads",
            "stages.1.layers.0.mlp-width",
            "stages.1.layers.1.mlp-width",
        ]
    );
}

#[test]
fn spaces_that_are_refused() {
    type Change = fn(&mut SwinSpace);
    let network = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Network };
    let rows: [(&str, Change); 19] = [
        ("image-size is 0: it must be at least 1", |s| s.image_size = 0),
        ("channels is 0: it must be at least 1", |s| s.channels = 0),
        ("patch-size is 0: it must be at least 1", |s| s.patch_size = 0),
        ("classes is 65537: it must be at most 65536", |s| s.classes = 65_537),
        ("window-size is 0: it must be at least 1", |s| s.window_size = 0),
        ("head-dim is 0: it must be at least 1", |s| s.head_dim = 0),
        ("image-size 6 is not a multiple of patch-size 4: choose sizes that divide", |s| s.patch_size = 4),
        ("stages is empty: list at least one", |s| s.stages.clear()),
        (
            "stages.1 has nothing to merge: the stage before it has one token; list fewer stages or choose a smaller patch-size",
            |s| s.patch_size = 6,
        ),
        ("stages.0.embed-dim is [5, 4]: list each choice once, smallest first", |s| {
            s.stages[0].embed_dim = vec![5, 4];
        }),
        ("stages.1.embed-dim has no choices: list at least one", |s| s.stages[1].embed_dim.clear()),
        ("stages.1.depth.choices is 0: it must be at least 1", |s| s.stages[1].depth.choices = vec![0, 1]),
        ("stages.1.depth 64 is too deep: at most 63 layers", |s| s.stages[1].depth.choices = vec![64]),
        (
            "stages.1.depth 13 with `drop: any` has too many sets of layers: at most 12 layers, or `drop: prefix`",
            |s| s.stages[1].depth = DepthChoices { choices: vec![13], drop: DropPolicy::Any },
        ),
        ("stages.0.heads.choices is [2, 2]: list each choice once, smallest first", |s| {
            s.stages[0].heads.choices = vec![2, 2];
        }),
        ("stages.0.mlp-width.choices has no choices: list at least one", |s| {
            s.stages[0].mlp_width.choices.clear();
        }),
        (
            "stages.0.heads.per is `network`, but every stage lists choices of its own: choose `layer` or `stage`",
            |s| s.stages[0].heads.per = Granularity::Network,
        ),
        (
            "stages.1.mlp-width.per is `network`, but every stage lists choices of its own: choose `layer` or `stage`",
            |s| s.stages[1].mlp_width.per = Granularity::Network,
        ),
        ("transforms: depth has none in this family; width, heads and embedding have", |s| {
            s.transforms = [(Dimension::Depth, TransformKind::Linear)].into();
        }),
    ];
    for (expected, change) in rows {
        let mut space = space();
        change(&mut space);
        let whole = SearchSpace::Swin(space).validate().map_err(|error| error.to_string());
        assert_eq!(whole, Err(format!("space.swin: {expected}")));
    }
    let mut space = space();
    space.stages[0].heads = network(&[1]);
    assert!(space.validate().is_err(), "one choice for the network is told by no stage");
}

#[test]
fn subnets_that_are_not_in_the_space() {
    let space = SearchSpace::Swin(space());
    let changed = |change: fn(&mut SwinSubnet)| {
        let mut subnet = subnet(&[(0, 1, 8), (1, 2, 12)]);
        change(&mut subnet);
        Subnet::Swin(subnet)
    };
    let disagree = "its layers differ where the space shares one choice, or are out of order";
    for (subnet, reason) in [
        (changed(|s| s.stages[0].embed_dim = 6), "stages.0.embed-dim is 6, the choices are [4, 5]"),
        (
            changed(|s| s.stages[1].layers.retain(|layer| layer.index > 0)),
            "the kept layers [1] are not a choice of stages.1.depth",
        ),
        (changed(|s| s.stages[1].layers.clear()), "the kept layers [] are not a choice of stages.1.depth"),
        (
            changed(|s| s.stages[1].layers[1].heads = 3),
            "stages.1.layers.1.heads is 3, the choices are [1, 2]",
        ),
        (
            changed(|s| s.stages[1].layers[0].mlp_width = 9),
            "stages.1.layers.0.mlp-width is 9, the choices are [8, 12]",
        ),
        (changed(|s| drop(s.stages.pop())), disagree),
        (changed(|s| s.stages.push(s.stages[1].clone())), disagree),
        (changed(|s| s.stages[1].layers.swap(0, 1)), disagree),
        (SearchSpace::Vit(plain_vit()).largest(), "it is of another family than swin"),
    ] {
        let error = space.encode(&subnet).map_err(|error| error.to_string());
        assert_eq!(error, Err(format!("subnet `{subnet}` is not in the search space: {reason}")));
    }
}

#[test]
fn subnets_as_text() {
    for (second, expected) in [
        (&[(0, 1, 8)][..], "embed 4 depth 1 heads 1 mlp 8 / embed 6 depth 1 heads 1 mlp 8"),
        (&[(0, 1, 8), (1, 2, 8)], "embed 4 depth 1 heads 1 mlp 8 / embed 6 depth 2 heads 1,2 mlp 8"),
        (
            &[(0, 1, 8), (2, 1, 12)],
            "embed 4 depth 1 heads 1 mlp 8 / embed 6 depth 2 (layers 0,2) heads 1 mlp 8,12",
        ),
    ] {
        assert_eq!(subnet(second).to_string(), expected);
    }
}
