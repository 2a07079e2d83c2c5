//! The law of weight sharing: a subnet inside the supernet is the standalone network of its weights.

use burn::tensor::{Device, Tensor, TensorData};
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::vit::{VitLayer, VitSpace, VitSubnet};
use elastic_space::{Array, SearchSpace, Seed, Subnet, Weights};
use elastic_trainer::evaluate::accuracy;
use elastic_trainer::supernet::Network;
use elastic_trainer::{Supernet, parameters};
use proptest::prelude::*;

use crate::reference;
use crate::support::{
    self, DROPS, GRANULARITIES, KINDS, POOLINGS, draw, families, images, origins, supernet, transformed,
    vit_space, worst,
};

/// A supernet that is exactly one network: every dimension has one choice, layer by layer the
/// subnet's. No slice in it leaves anything out.
fn standalone(space: &VitSpace, subnet: &VitSubnet, weights: &Weights) -> (Supernet, Subnet) {
    let exact = |layers: &[VitLayer]| {
        let one = |size: usize| WidthChoices { choices: vec![size], per: Granularity::Layer };
        SearchSpace::Vit(VitSpace {
            embed_dim: vec![subnet.embed_dim],
            depth: DepthChoices { choices: vec![layers.len()], drop: DropPolicy::Prefix },
            heads: one(layers[0].heads),
            mlp_width: one(layers[0].mlp_width),
            stages: Vec::new(),
            ..space.clone()
        })
    };
    let fresh = |layers: &[VitLayer]| Supernet::new(exact(layers), Seed(99), &Device::flex());
    let supernet = fresh(&subnet.layers);
    let Network::Vit(mut vit) = supernet.network else { panic!("a vision transformer") };
    for (block, layer) in vit.blocks.iter_mut().zip(&subnet.layers) {
        *block = support::vit(&fresh(&[*layer])).blocks[0].clone();
    }
    let network = Network::Vit(vit);
    // The supernet's fused projection has a dimension of its own for query, key and value.
    let mut weights = weights.clone();
    for (name, array) in &mut weights {
        if name.contains(".qkv.") {
            let inner = array.shape.pop().expect("a projection has features") / 3;
            array.shape.extend([3, inner]);
        }
    }
    let network =
        parameters::replace(network, &weights).expect("names and shapes are those of the extracted");
    let renumber = |(index, layer): (usize, &VitLayer)| VitLayer { index, ..*layer };
    let layers = subnet.layers.iter().enumerate().map(renumber).collect();
    let subnet = Subnet::Vit(VitSubnet { embed_dim: subnet.embed_dim, layers });
    (Supernet { network, ..supernet }, subnet)
}

#[test]
fn a_subnet_is_its_standalone_network() {
    let mut subnets = 0;
    for pooling in POOLINGS {
        for (drop, per) in DROPS.into_iter().flat_map(|drop| GRANULARITIES.map(|per| (drop, per))) {
            let vit = vit_space(pooling, drop, per);
            // Another kind of transform for each, and another for each granularity.
            let number = subnets as usize / 8;
            let space = transformed(vit.clone(), KINDS[(number + number / 3) % 3]);
            let shared = supernet(space.clone(), 5, &Device::flex());
            let images = images(&space, 3, 8);
            let random = draw(&space, 6, 21 + subnets);
            for subnet in random.into_iter().chain([space.smallest(), space.largest()]) {
                let row = format!("{pooling:?} {drop:?} {per:?} {subnet}");
                let inside = shared.logits(&images, &subnet);
                assert_eq!(inside.shape, [3, 3], "{row}");
                let weights = shared.extract(&subnet);
                let Subnet::Vit(sizes) = &subnet else { panic!("a vision transformer") };
                let (alone, whole) = standalone(&vit, sizes, &weights);
                let difference = worst(&inside.data, &alone.logits(&images, &whole).data);
                assert!(difference <= 1e-6, "{row}: {difference} from the standalone supernet");
                let by_loops = reference::logits(&vit, &reference::tensors(&weights), &images.data).concat();
                let difference = worst(&inside.data, &by_loops);
                assert!(difference <= 2e-6, "{row}: {difference} from the loops");
                subnets += 1;
            }
        }
    }
    assert!(subnets >= 50, "{subnets} subnets");
}

#[test]
fn a_supernet_holds_no_active_subnet() {
    let devices = [(Device::flex(), "plain"), (Device::flex().autodiff(), "with gradients")];
    for (space, (device, kind)) in
        families().into_iter().flat_map(|space| devices.clone().map(|d| (space.clone(), d)))
    {
        let shared = supernet(space.clone(), 6, &device);
        let images = images(&space, 2, 1);
        let data = TensorData::new(images.data, images.shape);
        let logits = |subnet: &Subnet| {
            parameters::array(shared.forward(Tensor::from_data(data.clone(), &device), subnet))
        };
        let (before, subnets) = (parameters::collect(&shared.network), draw(&space, 12, 2));
        let first: Vec<Array> = subnets.iter().map(logits).collect();
        for (a, expected) in subnets.iter().zip(&first) {
            for b in &subnets {
                logits(b);
                shared.extract(b);
                assert_eq!(logits(a), *expected, "{kind}: {a} after {b}");
            }
        }
        assert_eq!(parameters::collect(&shared.network), before, "{kind}");
    }
}

#[test]
fn a_supernet_without_gradients_is_the_same() {
    for space in families() {
        let shared = supernet(space.clone(), 7, &Device::flex().autodiff());
        let plain = supernet(space.clone(), 7, &Device::flex());
        let images = images(&space, 4, 3);
        for subnet in draw(&space, 10, 4) {
            let expected = plain.logits(&images, &subnet);
            assert_eq!(shared.valid().logits(&images, &subnet), expected, "{subnet}");
            assert_eq!(shared.valid().extract(&subnet), plain.extract(&subnet), "{subnet}");
        }
    }
}

#[test]
fn accuracy_by_hand() {
    // A head without weights has its bias as logits: [0.1, 0.7, 0.3], so class 1 for every image. More
    // images than one pass takes; the last pass is a part.
    let space = support::space();
    let shared = supernet(space.clone(), 8, &Device::flex());
    let mut weights = parameters::collect(&shared.network);
    weights.get_mut("head.weight").expect("there is a head").data.fill(0.0);
    weights.get_mut("head.bias").expect("there is a head").data = vec![0.1, 0.7, 0.3];
    let shared = Supernet::from_weights(space.clone(), &weights).expect("the same names and shapes");
    for (count, ones) in [(1, 1), (4, 1), (250, 100), (501, 3)] {
        let labels: Vec<u8> = (0..count).map(|i| if i >= count - ones { 1 } else { 2 }).collect();
        let images = images(&space, count, 9);
        let found = accuracy(&shared, &space.smallest(), &images, &labels);
        assert_eq!(found, ones as f64 / count as f64, "{ones} of {count}");
    }
}

fn ascending(most: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::btree_set(1..=most, 1..=3).prop_map(|set| set.into_iter().collect())
}

fn any_space() -> impl Strategy<Value = SearchSpace> {
    let policies = (prop::sample::select(&POOLINGS), prop::sample::select(&DROPS));
    let width = |most| (ascending(most), prop::sample::select(&GRANULARITIES));
    (policies, 1_usize..4, ascending(9), ascending(4), width(3), width(9)).prop_map(
        |((pooling, drop), head_dim, embed_dim, depth, (heads, per_heads), (mlp, per_mlp))| {
            let layers = depth[depth.len() - 1];
            SearchSpace::Vit(VitSpace {
                head_dim,
                embed_dim,
                stages: if layers > 1 { vec![1, layers - 1] } else { vec![1] },
                depth: DepthChoices { choices: depth, drop },
                heads: WidthChoices { choices: heads, per: per_heads },
                mlp_width: WidthChoices { choices: mlp, per: per_mlp },
                ..vit_space(pooling, drop, per_heads)
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn extracted_tensors_are_those_of_the_shape(space in any_space(), seed: u64) {
        let shared = supernet(space.clone(), seed, &Device::flex());
        let full = parameters::collect(&shared.network);
        for subnet in draw(&space, 3, seed) {
            let extracted = shared.extract(&subnet);
            let mut found: Vec<_> = extracted.iter().map(|(name, array)| (name.clone(), array.shape.clone())).collect();
            let mut expected = space.shape(&subnet).tensors();
            found.sort();
            expected.sort();
            prop_assert_eq!(found, expected, "{}", subnet);
            for (name, origin) in origins(&full, &space, &subnet) {
                let values: Vec<f32> = origin.offsets.iter().map(|&at| full[&origin.name].data[at]).collect();
                prop_assert_eq!(&extracted[&name].data, &values, "{}: {}", subnet, name);
            }
        }
    }
}
