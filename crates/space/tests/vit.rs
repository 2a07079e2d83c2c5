//! The vision transformer's space: counts by hand, what is refused, and how a subnet is told.

use elastic_space::choices::{
    DepthChoices, DropPolicy, Granularity, MAX_LAYERS_DROP_ANY, TransformKind, WidthChoices,
};
use elastic_space::vit::{InvalidVitSpace, Pooling, VitLayer, VitSpace, VitSubnet};
use elastic_space::{Cost, Dimension, SearchSpace, Subnet};

fn space() -> VitSpace {
    VitSpace {
        image_size: 4,
        channels: 1,
        patch_size: 2,
        classes: 3,
        head_dim: 2,
        pooling: Pooling::ClassToken,
        embed_dim: vec![4, 6],
        depth: DepthChoices { choices: vec![1, 2, 3], drop: DropPolicy::Prefix },
        heads: WidthChoices { choices: vec![1, 2], per: Granularity::Layer },
        mlp_width: WidthChoices { choices: vec![8, 16], per: Granularity::Network },
        stages: Vec::new(),
        transforms: [].into(),
    }
}

fn subnet(embed_dim: usize, layers: &[(usize, usize, usize)]) -> Subnet {
    let layer = |&(index, heads, mlp_width): &(usize, usize, usize)| VitLayer { index, heads, mlp_width };
    Subnet::Vit(VitSubnet { embed_dim, layers: layers.iter().map(layer).collect() })
}

#[test]
fn parameters_and_macs_by_hand() {
    // Embedding 4, one layer with heads of 2 features, MLP 8; an image of 4 patches of 4 values; 3 classes.
    //
    //                class token, 2 heads          mean pooling, 1 head
    //                parameters       MACs         parameters       MACs
    // patch_embed    4*4 + 4  =  20   4*4*4 =  64  4*4 + 4  =  20   4*4*4 =  64
    // cls_token                   4                            0
    // pos_embed      5*4      =  20                4*4      =  16
    // norm1          2*4      =   8                2*4      =   8
    // qkv            4*12 + 12 = 60   5*48  = 240  4*6 + 6  =  30   4*24  =  96
    // q k'                            2*5*2*5=100                   1*4*2*4= 32
    // (q k') v                        2*5*5*2=100                   1*4*4*2= 32
    // proj           4*4 + 4  =  20   5*16  =  80  2*4 + 4  =  12   4*8   =  32
    // norm2          2*4      =   8                2*4      =   8
    // fc1            4*8 + 8  =  40   5*32  = 160  4*8 + 8  =  40   4*32  = 128
    // fc2            8*4 + 4  =  36   5*32  = 160  8*4 + 4  =  36   4*32  = 128
    // norm           2*4      =   8                2*4      =   8
    // head           4*3 + 3  =  15   1*12  =  12  4*3 + 3  =  15   1*12  =  12
    // sum                       239           916            193           524
    for (pooling, heads, params, macs) in [(Pooling::ClassToken, 2, 239, 916), (Pooling::Mean, 1, 193, 524)] {
        let space = SearchSpace::Vit(VitSpace { pooling, ..space() });
        let cost = space.cost(&subnet(4, &[(0, heads, 8)]));
        assert_eq!(cost, Cost { params, macs }, "{pooling:?}, {heads} heads");
        assert_eq!((cost.flops(), cost.weight_bytes()), (2 * macs, 4 * params));
    }
}

#[test]
fn the_cost_does_not_depend_on_which_layers_are_kept() {
    let space = SearchSpace::Vit(VitSpace {
        depth: DepthChoices { choices: vec![2, 3], drop: DropPolicy::Any },
        ..space()
    });
    let shapes =
        [[(0, 1, 8), (1, 2, 8)], [(1, 1, 8), (2, 2, 8)]].map(|layers| space.shape(&subnet(4, &layers)));
    assert_eq!(shapes[0], shapes[1], "layers of a standalone subnet are numbered anew");
}

#[test]
fn spaces_that_are_refused() {
    type Change = fn(&mut VitSpace);
    let rows: [(&str, Change); 26] = [
        ("image-size is 0: it must be at least 1", |s| s.image_size = 0),
        ("channels is 0: it must be at least 1", |s| s.channels = 0),
        ("patch-size is 0: it must be at least 1", |s| s.patch_size = 0),
        ("classes is 0: it must be at least 1", |s| s.classes = 0),
        ("head-dim is 0: it must be at least 1", |s| s.head_dim = 0),
        ("classes is 65537: it must be at most 65536", |s| s.classes = 65_537),
        ("image-size 4 is not a multiple of patch-size 3: choose sizes that divide", |s| s.patch_size = 3),
        ("image-size 4 is not a multiple of patch-size 8: choose sizes that divide", |s| s.patch_size = 8),
        ("embed-dim has no choices: list at least one", |s| s.embed_dim.clear()),
        ("depth.choices has no choices: list at least one", |s| s.depth.choices.clear()),
        ("heads.choices has no choices: list at least one", |s| s.heads.choices.clear()),
        ("mlp-width.choices has no choices: list at least one", |s| s.mlp_width.choices.clear()),
        ("embed-dim is 0: it must be at least 1", |s| s.embed_dim = vec![0, 4]),
        ("depth.choices is 0: it must be at least 1", |s| s.depth.choices = vec![0, 1]),
        ("heads.choices is [2, 1]: list each choice once, smallest first", |s| s.heads.choices = vec![2, 1]),
        ("mlp-width.choices is [8, 8]: list each choice once, smallest first", |s| {
            s.mlp_width.choices = vec![8, 8];
        }),
        ("embed-dim is 1920000000: it must be at most 65536", |s| s.embed_dim = vec![192, 1_920_000_000]),
        ("depth 64 is too deep: at most 63 layers", |s| s.depth.choices = vec![12, 64]),
        (
            "depth 13 with `drop: any` has too many sets of layers: at most 12 layers, or `drop: prefix`",
            |s| s.depth = DepthChoices { choices: vec![13], drop: DropPolicy::Any },
        ),
        ("depth 64 is too deep: at most 63 layers", |s| {
            s.depth = DepthChoices { choices: vec![64], drop: DropPolicy::Any };
        }),
        ("stages [1, 1] hold 2 layers, the supernet has 3: let them add up, each at least 1", |s| {
            s.stages = vec![1, 1];
        }),
        ("stages [4] hold 4 layers, the supernet has 3: let them add up, each at least 1", |s| {
            s.stages = vec![4];
        }),
        ("stages [3, 0] hold 3 layers, the supernet has 3: let them add up, each at least 1", |s| {
            s.stages = vec![3, 0];
        }),
        (
            "stages [18446744073709551615, 4] hold 18446744073709551615 layers, the supernet has 3: let them add up, each at least 1",
            |s| {
                s.stages = vec![usize::MAX, 4];
            },
        ),
        ("transforms: depth has none in this family; width, heads and embedding have", |s| {
            s.transforms = [(Dimension::Depth, TransformKind::Linear)].into();
        }),
        ("transforms: kernel has none in this family; width, heads and embedding have", |s| {
            s.transforms =
                [(Dimension::Kernel, TransformKind::Identity), (Dimension::Width, TransformKind::Linear)]
                    .into();
        }),
    ];
    for (expected, change) in rows {
        let mut space = space();
        change(&mut space);
        assert_eq!(space.validate().map_err(|error| error.to_string()), Err(expected.to_owned()));
        let whole = SearchSpace::Vit(space).validate().map_err(|error| error.to_string());
        assert_eq!(whole, Err(format!("space.vit: {expected}")));
    }
}

#[test]
fn spaces_at_their_limits_are_accepted() {
    for (case, depth) in [
        ("the deepest prefix", DepthChoices { choices: vec![1, 63], drop: DropPolicy::Prefix }),
        ("all sets", DepthChoices { choices: (1..=MAX_LAYERS_DROP_ANY).collect(), drop: DropPolicy::Any }),
    ] {
        let space = VitSpace { depth, ..space() };
        assert_eq!(space.validate(), Ok::<(), InvalidVitSpace>(()), "{case}");
        let layers = space.layers();
        let space = SearchSpace::Vit(space);
        let Subnet::Vit(largest) = space.largest() else { panic!("a vision transformer") };
        let Subnet::Vit(smallest) = space.smallest() else { panic!("a vision transformer") };
        assert_eq!((largest.layers.len(), smallest.layers.len()), (layers, 1), "{case}");
        for subnet in [largest, smallest].map(Subnet::Vit) {
            let again = space.encode(&subnet).map(|genome| space.decode(&genome));
            assert_eq!(again, Ok(subnet), "{case}");
        }
    }
}

#[test]
fn subnets_that_are_not_in_the_space() {
    let space = SearchSpace::Vit(VitSpace {
        depth: DepthChoices { choices: vec![1, 3], drop: DropPolicy::Any },
        ..space()
    });
    let disagree = "its layers differ where the space shares one choice, or are out of order";
    for (subnet, reason) in [
        (subnet(5, &[(0, 1, 8)]), "embed-dim is 5, the choices are [4, 6]"),
        (subnet(4, &[]), "the kept layers [] are not a choice of depth"),
        (subnet(4, &[(0, 1, 8), (2, 1, 8)]), "the kept layers [0, 2] are not a choice of depth"),
        (subnet(4, &[(3, 1, 8)]), "the kept layers [3] are not a choice of depth"),
        (subnet(4, &[(70, 1, 8)]), "the kept layers [] are not a choice of depth"),
        (subnet(4, &[(2, 3, 8)]), "layers.2.heads is 3, the choices are [1, 2]"),
        (subnet(4, &[(1, 1, 9)]), "mlp-width is 9, the choices are [8, 16]"),
        (subnet(4, &[(0, 1, 8), (1, 1, 16), (2, 1, 8)]), disagree),
        (subnet(4, &[(1, 1, 8), (0, 1, 8), (2, 1, 8)]), disagree),
        (subnet(4, &[(1, 1, 8), (1, 1, 8)]), disagree),
    ] {
        let error = space.encode(&subnet).map_err(|error| error.to_string());
        assert_eq!(error, Err(format!("subnet `{subnet}` is not in the search space: {reason}")));
    }
}

#[test]
fn subnets_as_text() {
    for (layers, expected) in [
        (vec![(0, 2, 16)], "embed 6 depth 1 heads 2 mlp 16"),
        (vec![(0, 2, 16), (1, 2, 16)], "embed 6 depth 2 heads 2 mlp 16"),
        (vec![(0, 1, 16), (1, 2, 8)], "embed 6 depth 2 heads 1,2 mlp 16,8"),
        (vec![(0, 1, 8), (2, 1, 8)], "embed 6 depth 2 (layers 0,2) heads 1 mlp 8"),
    ] {
        assert_eq!(subnet(6, &layers).to_string(), expected);
    }
}
