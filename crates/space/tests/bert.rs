//! The BERT encoder's space: counts by hand, what is refused, and how a subnet is told.

mod common;

use common::plain_vit;
use elastic_space::bert::{BertLayer, BertPooling, BertSpace, BertSubnet};
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, TransformKind, WidthChoices};
use elastic_space::{Cost, Dimension, SearchSpace, Subnet};

fn space() -> BertSpace {
    BertSpace {
        vocabulary: 10,
        length: 5,
        segments: 2,
        classes: 3,
        head_dim: 2,
        pooling: BertPooling::Pooler,
        embed_dim: vec![4, 6],
        depth: DepthChoices { choices: vec![1, 2, 3], drop: DropPolicy::Prefix },
        heads: WidthChoices { choices: vec![1, 2], per: Granularity::Layer },
        mlp_width: WidthChoices { choices: vec![8, 16], per: Granularity::Network },
        stages: Vec::new(),
        transforms: [].into(),
    }
}

fn subnet(embed_dim: usize, layers: &[(usize, usize, usize)]) -> Subnet {
    let layer = |&(index, heads, mlp_width): &(usize, usize, usize)| BertLayer { index, heads, mlp_width };
    Subnet::Bert(BertSubnet { embed_dim, layers: layers.iter().map(layer).collect() })
}

#[test]
fn parameters_and_macs_by_hand() {
    // Embedding 4, one layer with heads of 2 features, MLP 8; texts of 5 tokens out of 10; 3 classes.
    //
    //                pooler, 2 heads               mean pooling, 1 head
    //                parameters       MACs         parameters       MACs
    // tokens         10*4     =  40                10*4     =  40
    // positions      5*4      =  20                5*4      =  20
    // segments       2*4      =   8                2*4      =   8
    // norm           2*4      =   8                2*4      =   8
    // qkv            4*12 + 12 = 60   5*48  = 240  4*6 + 6  =  30   5*24  = 120
    // q k'                            2*5*2*5=100                   1*5*2*5= 50
    // (q k') v                        2*5*5*2=100                   1*5*5*2= 50
    // proj           4*4 + 4  =  20   5*16  =  80  2*4 + 4  =  12   5*8   =  40
    // norm1          2*4      =   8                2*4      =   8
    // fc1            4*8 + 8  =  40   5*32  = 160  4*8 + 8  =  40   5*32  = 160
    // fc2            8*4 + 4  =  36   5*32  = 160  8*4 + 4  =  36   5*32  = 160
    // norm2          2*4      =   8                2*4      =   8
    // pooler, mean   4*4 + 4  =  20   1*16  =  16                   5*4   =  20
    // head           4*3 + 3  =  15   1*12  =  12  4*3 + 3  =  15   1*12  =  12
    // sum                       283           868            225           612
    for (pooling, heads, params, macs) in
        [(BertPooling::Pooler, 2, 283, 868), (BertPooling::Mean, 1, 225, 612)]
    {
        let space = SearchSpace::Bert(BertSpace { pooling, ..space() });
        let cost = space.cost(&subnet(4, &[(0, heads, 8)]));
        assert_eq!(cost, Cost { params, macs }, "{pooling:?}, {heads} heads");
    }
}

#[test]
fn every_different_network_is_counted_once() {
    // Two embeddings; a shared MLP width, and heads for each of the layers that are kept.
    assert_eq!(SearchSpace::Bert(space()).size(), 2 * 2 * (2 + 4 + 8));
    let any = DepthChoices { choices: vec![2, 3], drop: DropPolicy::Any };
    assert_eq!(SearchSpace::Bert(BertSpace { depth: any, ..space() }).size(), 2 * 2 * (3 * 4 + 8));
}

#[test]
fn spaces_that_are_refused() {
    type Change = fn(&mut BertSpace);
    let rows: [(&str, Change); 12] = [
        ("vocabulary is 0: it must be at least 1", |s| s.vocabulary = 0),
        ("vocabulary is 65537: it must be at most 65536", |s| s.vocabulary = 65_537),
        ("length is 0: it must be at least 1", |s| s.length = 0),
        ("segments is 0: it must be at least 1", |s| s.segments = 0),
        ("classes is 0: it must be at least 1", |s| s.classes = 0),
        ("head-dim is 0: it must be at least 1", |s| s.head_dim = 0),
        ("embed-dim is [6, 4]: list each choice once, smallest first", |s| s.embed_dim = vec![6, 4]),
        ("depth 64 is too deep: at most 63 layers", |s| s.depth.choices = vec![64]),
        ("heads.choices has no choices: list at least one", |s| s.heads.choices.clear()),
        ("mlp-width.choices is [8, 8]: list each choice once, smallest first", |s| {
            s.mlp_width.choices = vec![8, 8];
        }),
        ("stages [1, 1] hold 2 layers, the supernet has 3: let them add up, each at least 1", |s| {
            s.stages = vec![1, 1];
        }),
        ("transforms: kernel has none in this family; width, heads and embedding have", |s| {
            s.transforms = [(Dimension::Kernel, TransformKind::Linear)].into();
        }),
    ];
    for (expected, change) in rows {
        let mut space = space();
        change(&mut space);
        let whole = SearchSpace::Bert(space).validate().map_err(|error| error.to_string());
        assert_eq!(whole, Err(format!("space.bert: {expected}")));
    }
}

#[test]
fn subnets_that_are_not_in_the_space() {
    let space = SearchSpace::Bert(space());
    let disagree = "its layers differ where the space shares one choice, or are out of order";
    for (subnet, reason) in [
        (subnet(5, &[(0, 1, 8)]), "embed-dim is 5, the choices are [4, 6]"),
        (subnet(4, &[(1, 1, 8)]), "the kept layers [1] are not a choice of depth"),
        (subnet(4, &[(0, 3, 8)]), "layers.0.heads is 3, the choices are [1, 2]"),
        (subnet(4, &[(0, 1, 9)]), "mlp-width is 9, the choices are [8, 16]"),
        (subnet(4, &[(0, 1, 8), (1, 1, 16)]), disagree),
        (SearchSpace::Vit(plain_vit()).largest(), "it is of another family than bert"),
    ] {
        let error = space.encode(&subnet).map_err(|error| error.to_string());
        assert_eq!(error, Err(format!("subnet `{subnet}` is not in the search space: {reason}")));
    }
}

#[test]
fn a_subnet_as_text() {
    assert_eq!(
        subnet(6, &[(0, 1, 16), (2, 2, 8)]).to_string(),
        "embed 6 depth 2 (layers 0,2) heads 1,2 mlp 16,8"
    );
}
