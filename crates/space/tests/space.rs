//! The search space's laws: what is drawn, changed, written as a genome and counted.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::genome::{crossover, draw, mutate};
use elastic_space::random::Purpose;
use elastic_space::vit::VitSpace;
use elastic_space::{Dimension, Genome, SearchSpace, Seed, Slot, Subnet};
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use common::{chi_square, left_out, limit, plain_vit, spaces};

/// Every genome, by counting.
fn enumerate(slots: &[Slot]) -> Vec<Genome> {
    slots.iter().fold(vec![Genome::new()], |genomes, slot| {
        let extend = |genome: &Genome, choice| genome.iter().copied().chain([choice]).collect();
        genomes.iter().flat_map(|genome| (0..slot.choices.len()).map(move |c| extend(genome, c))).collect()
    })
}

proptest! {
    #[test]
    fn every_generated_space_is_valid(space in spaces(5)) {
        prop_assert_eq!(space.validate(), Ok(()));
    }

    #[test]
    fn a_drawn_subnet_is_in_its_space(space in spaces(5), seed: u64) {
        let subnet = space.draw(&mut Seed(seed).generator(Purpose::Candidates, 0));
        let genome = space.encode(&subnet).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(space.decode(&genome), subnet);
    }

    #[test]
    fn decode_of_encode_is_the_subnet_and_encode_is_canonical(space in spaces(5), seed: u64) {
        let slots = space.slots();
        let drawn = draw(&slots, &mut Seed(seed).generator(Purpose::Candidates, 0));
        let encoded = space.encode(&space.decode(&drawn)).expect("it is in the space");
        for (slot, (&drawn_choice, &choice)) in drawn.iter().zip(&encoded).enumerate() {
            let expected = if left_out(&space, &slots, &drawn, slot) { slots[slot].largest() } else { drawn_choice };
            prop_assert_eq!(choice, expected, "{}", &slots[slot].name);
        }
    }

    #[test]
    fn mutation_and_crossover_stay_in_the_space(space in spaces(5), seed: u64, probability in 0.0..=1.0) {
        let slots = space.slots();
        let mut rng = Seed(seed).generator(Purpose::Search, 0);
        let (a, b) = (draw(&slots, &mut rng), draw(&slots, &mut rng));
        let crossed = crossover(&a, &b, &mut rng);
        prop_assert!(crossed.iter().zip(a.iter().zip(&b)).all(|(c, (a, b))| c == a || c == b));
        for child in [mutate(&crossed, &slots, probability, &mut rng), crossed] {
            prop_assert_eq!(child.len(), slots.len());
            let subnet = space.decode(&child);
            prop_assert!(space.encode(&subnet).is_ok(), "{}", subnet);
        }
        prop_assert_eq!(mutate(&a, &slots, 0.0, &mut rng), a);
    }

    #[test]
    fn equal_networks_are_equal_subnets(space in spaces(5), seed: u64, slot: Index, choice: Index) {
        let slots = space.slots();
        let genome = draw(&slots, &mut Seed(seed).generator(Purpose::Candidates, 0));
        let slot = slot.index(slots.len());
        let mut other = genome.clone();
        other[slot] = choice.index(slots[slot].choices.len());
        let same = other == genome || left_out(&space, &slots, &genome, slot);
        let (a, b) = (space.decode(&genome), space.decode(&other));
        prop_assert_eq!(a == b, same, "{} and {}", a, b);
    }

    #[test]
    fn the_size_is_the_number_of_different_subnets(space in spaces(3)) {
        let distinct: BTreeSet<Subnet> = enumerate(&space.slots()).iter().map(|g| space.decode(g)).collect();
        prop_assert_eq!(space.size(), distinct.len() as u128);
    }

    #[test]
    fn a_larger_choice_of_a_kept_layer_costs_more(space in spaces(5), seed: u64, slot: Index) {
        let slots = space.slots();
        let genome = draw(&slots, &mut Seed(seed).generator(Purpose::Candidates, 0));
        let slot = slot.index(slots.len());
        prop_assume!(genome[slot] < slots[slot].largest() && !left_out(&space, &slots, &genome, slot));
        let mut larger = genome.clone();
        larger[slot] += 1;
        let (small, large) = (space.cost(&space.decode(&genome)), space.cost(&space.decode(&larger)));
        // Another set of as many layers may be as dear, or cheaper: only more layers must cost more.
        if slots[slot].dimension == Dimension::Depth {
            larger[slot] = slots[slot].largest();
            let largest = space.cost(&space.decode(&larger));
            prop_assert!(small.params < largest.params && small.macs < largest.macs);
        } else if slots[slot].dimension == Dimension::Resolution {
            prop_assert!(small.params == large.params && small.macs < large.macs);
        } else {
            prop_assert!(small.params < large.params && small.macs < large.macs);
        }
    }

    #[test]
    fn smallest_and_largest_bound_every_cost(space in spaces(5), seed: u64) {
        let (smallest, largest) = (space.cost(&space.smallest()), space.cost(&space.largest()));
        let cost = space.cost(&space.draw(&mut Seed(seed).generator(Purpose::Candidates, 0)));
        prop_assert!(smallest.params <= cost.params && cost.params <= largest.params);
        prop_assert!(smallest.macs <= cost.macs && cost.macs <= largest.macs);
    }

    #[test]
    fn sizes_are_shares_of_the_largest_and_the_logarithm_of_the_macs(space in spaces(5), seed: u64) {
        let subnet = space.draw(&mut Seed(seed).generator(Purpose::Candidates, 0));
        let (sizes, largest) = (space.sizes(&subnet), space.sizes(&space.largest()));
        let (macs, shares) = sizes.split_last().expect("the MACs");
        prop_assert_eq!(*macs, (space.cost(&subnet).macs as f64).ln());
        prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{:?}", shares);
        prop_assert!(largest[..shares.len()].iter().all(|share| *share == 1.0), "{:?}", largest);
    }

    #[test]
    fn features_are_one_indicator_a_choice_and_the_macs(space in spaces(5), seed: u64) {
        let slots = space.slots();
        let genome = draw(&slots, &mut Seed(seed).generator(Purpose::Candidates, 0));
        let subnet = space.decode(&genome);
        let (names, features) = (space.feature_names(), space.features(&subnet));
        prop_assert_eq!(names.len(), features.len());
        prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "names repeat");
        let by_name: BTreeMap<&str, f64> = names.iter().map(String::as_str).zip(features).collect();
        let mut indicators = 0;
        for (number, slot) in slots.iter().enumerate() {
            let value = slot.choices[genome[number]];
            let labels: Vec<usize> = match slot.dimension {
                Dimension::Depth => (0..5).filter(|layer| slot.choices[slot.largest()] >> layer & 1 == 1).collect(),
                _ => slot.choices.clone(),
            };
            for label in labels {
                let on = match slot.dimension {
                    Dimension::Depth => value >> label & 1 == 1,
                    _ => value == label && !left_out(&space, &slots, &genome, number),
                };
                let name = format!("{}={label}", slot.name);
                prop_assert_eq!(by_name.get(name.as_str()), Some(&f64::from(u8::from(on))), "{}", name);
                indicators += 1;
            }
        }
        prop_assert_eq!(names.len(), indicators + 1);
        prop_assert_eq!(by_name["mega-macs"], space.cost(&subnet).macs as f64 / 1e6);
    }

    #[test]
    fn cost_features_have_the_macs_of_each_layer_too(space in spaces(5), seed: u64) {
        let subnet = space.draw(&mut Seed(seed).generator(Purpose::Candidates, 0));
        let cost_features = space.cost_features();
        let (names, features) = (cost_features.names(), cost_features.of(&subnet));
        let first = space.features(&subnet);
        prop_assert_eq!(names.len(), features.len());
        prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "names repeat");
        prop_assert_eq!(&features[..first.len()], &first[..]);
        let sum: f64 = features[first.len()..].iter().sum();
        prop_assert!((sum - space.cost(&subnet).macs as f64 / 1e6).abs() < 1e-9 * sum.max(1.0));
    }

    #[test]
    fn a_subnet_shares_the_largest_ones_tensors(space in spaces(5), seed: u64) {
        let subnet = space.draw(&mut Seed(seed).generator(Purpose::Candidates, 0));
        let largest: BTreeMap<String, Vec<usize>> = space.shape(&space.largest()).tensors().into_iter().collect();
        let tensors = space.shape(&subnet).tensors();
        prop_assert_eq!(tensors.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), tensors.len());
        for (name, shape) in tensors {
            let full = &largest[&name];
            prop_assert!(shape.len() == full.len() && shape.iter().zip(full).all(|(a, b)| a <= b), "{}", name);
        }
    }

    #[test]
    fn distinct_draws_are_distinct_and_repeatable(space in spaces(4), seed: u64, count in 0_usize..40) {
        let drawn = space.draw_distinct(count, &mut Seed(seed).generator(Purpose::Measure, 1));
        prop_assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), drawn.len());
        prop_assert!(drawn.len() <= count && drawn.len() as u128 <= space.size());
        prop_assert_eq!(&space.draw_distinct(count, &mut Seed(seed).generator(Purpose::Measure, 1)), &drawn);
    }
}

fn open() -> impl Strategy<Value = BTreeSet<Dimension>> {
    subsequence(Dimension::ALL.to_vec(), 0..=6).prop_map(|open| open.into_iter().collect())
}

proptest! {
    #[test]
    fn a_restricted_space_is_a_part_of_the_space(space in spaces(5), open in open(), seed: u64) {
        let restricted = space.restricted(&open);
        prop_assert_eq!(restricted.validate(), Ok(()));
        prop_assert_eq!(restricted.dimensions(), space.dimensions().intersection(&open).copied().collect());
        prop_assert_eq!(restricted.largest(), space.largest());
        let subnet = restricted.draw(&mut Seed(seed).generator(Purpose::Candidates, 0));
        let genome = space.encode(&subnet).map_err(|error| TestCaseError::fail(error.to_string()))?;
        for (slot, choice) in space.slots().iter().zip(genome) {
            prop_assert!(open.contains(&slot.dimension) || choice == slot.largest(), "{}", slot.name);
        }
        // The parameters of the largest, and so the whole supernet, stay the same.
        prop_assert_eq!(restricted.shape(&restricted.largest()), space.shape(&space.largest()));
    }

    #[test]
    fn a_restricted_subnet_keeps_what_is_open(space in spaces(5), open in open(), seed: u64) {
        let slots = space.slots();
        let subnet = space.draw(&mut Seed(seed).generator(Purpose::Candidates, 0));
        let restricted = space.restrict(&subnet, &open).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(space.restricted(&open).encode(&restricted).is_ok(), "{}", restricted);
        let [before, after] = [&subnet, &restricted].map(|subnet| space.encode(subnet).expect("it is in the space"));
        for (number, slot) in slots.iter().enumerate() {
            let kept = open.contains(&slot.dimension) && !left_out(&space, &slots, &after, number);
            let expected = if kept { before[number] } else { slot.largest() };
            prop_assert_eq!(after[number], expected, "{}", &slot.name);
        }
        prop_assert_eq!(space.restrict(&subnet, &Dimension::ALL.into()), Ok(subnet));
        prop_assert_eq!(space.restrict(&restricted, &open), Ok(restricted));
    }

    #[test]
    fn restricting_every_subnet_gives_the_restricted_space(space in spaces(3), open in open()) {
        let restrict = |genome: &Genome| space.restrict(&space.decode(genome), &open).expect("it is in the space");
        let restricted: BTreeSet<Subnet> = enumerate(&space.slots()).iter().map(restrict).collect();
        prop_assert_eq!(space.restricted(&open).size(), restricted.len() as u128);
    }
}

#[test]
fn a_subnet_of_another_space_is_not_restricted() {
    let space =
        |embed_dim: &[usize]| SearchSpace::Vit(VitSpace { embed_dim: embed_dim.to_vec(), ..plain_vit() });
    let error =
        space(&[2, 4]).restrict(&space(&[3]).largest(), &BTreeSet::new()).expect_err("3 is no choice");
    assert_eq!(error.reason, "embed-dim is 3, the choices are [2, 4]");
}

#[test]
fn sizes_by_hand() {
    let staged = |depths: &[usize], drop, per, stages: &[usize]| {
        SearchSpace::Vit(VitSpace {
            embed_dim: vec![2, 4],
            depth: DepthChoices { choices: depths.to_vec(), drop },
            heads: WidthChoices { choices: vec![1, 2, 3], per },
            mlp_width: WidthChoices { choices: vec![2, 4], per: Granularity::Network },
            stages: stages.to_vec(),
            ..plain_vit()
        })
    };
    let space = |depths: &[usize], drop, per| staged(depths, drop, per, &[]);
    let (prefix, any) = (DropPolicy::Prefix, DropPolicy::Any);
    let (layer, network) = (Granularity::Layer, Granularity::Network);
    for (depths, drop, per, expected) in [
        (vec![3], prefix, network, 2 * 3 * 2),
        (vec![1, 3], prefix, network, 2 * 2 * 3 * 2),
        (vec![1, 3], prefix, layer, 2 * 2 * (3 + 27)),
        // Three sets of one layer, one of three.
        (vec![1, 3], any, network, 2 * (3 + 1) * 3 * 2),
        (vec![1, 3], any, layer, 2 * 2 * (3 * 3 + 27)),
        // Four sets of one layer, six of two, one of four.
        (vec![1, 2, 4], any, layer, 2 * 2 * (4 * 3 + 6 * 9 + 81)),
    ] {
        assert_eq!(space(&depths, drop, per).size(), expected, "{depths:?} {drop:?} heads per {per:?}");
    }
    for (depths, drop, stages, expected) in [
        // The first layer alone is one stage with three choices of heads; all three are two stages.
        (vec![1, 3], prefix, &[1, 2][..], 2 * 2 * (3 + 9)),
        // Without stages all layers are one.
        (vec![1, 3], prefix, &[], 2 * 2 * (3 + 3)),
        // Of the three sets of two layers one lies in the second stage alone.
        (vec![2, 3], any, &[1, 2], 2 * 2 * (9 + 9 + 3 + 9)),
    ] {
        let size = staged(&depths, drop, Granularity::Stage, stages).size();
        assert_eq!(size, expected, "{depths:?} {drop:?} in stages {stages:?}");
    }
    // 2 embeddings, 2 MLP widths, and 3^63 choices of heads, beyond 64 bits.
    assert_eq!(space(&[63], prefix, layer).size(), 2 * 2 * 3_u128.pow(63));
}

#[test]
fn draws_are_uniform_over_depth_then_over_the_sets_of_layers() {
    let space = SearchSpace::Vit(VitSpace {
        embed_dim: vec![2, 4, 8],
        depth: DepthChoices { choices: vec![1, 2, 4], drop: DropPolicy::Any },
        heads: WidthChoices { choices: vec![1, 2, 3, 4], per: Granularity::Layer },
        mlp_width: WidthChoices { choices: vec![2, 4], per: Granularity::Network },
        ..plain_vit()
    });
    const DRAWS: usize = 20_000;
    let slots = space.slots();
    let mut rng = Seed(2).generator(Purpose::Candidates, 0);
    let genomes: Vec<Genome> = (0..DRAWS).map(|_| draw(&slots, &mut rng)).collect();
    for (number, slot) in slots.iter().enumerate() {
        let cells = slot.choices.len();
        let expected: Vec<f64> = match slot.dimension {
            // One of three depths; then one of 4 sets of one layer, of 6 of two, the one of four.
            Dimension::Depth => [vec![1.0 / 12.0; 4], vec![1.0 / 18.0; 6], vec![1.0 / 3.0]].concat(),
            _ => vec![1.0 / cells as f64; cells],
        };
        assert_eq!(cells, expected.len(), "{}", slot.name);
        let seen: Vec<usize> = (0..cells)
            .map(|choice| genomes.iter().filter(|genome| genome[number] == choice).count())
            .collect();
        let (found, limit) = (chi_square(&seen, &expected), limit(&expected));
        assert!(found <= limit, "{}: chi-square {found:.1}, limit {limit}", slot.name);
    }
}

#[test]
fn streams_of_one_seed_differ_and_repeat() {
    let first = |seed: u64, purpose, index| {
        let mut rng = Seed(seed).generator(purpose, index);
        (rng.random::<u64>(), rng.random::<u64>())
    };
    use Purpose::{Candidates, Search};
    use rand::Rng;
    let streams = [(0, Search, 0), (1, Search, 0), (0, Candidates, 0), (0, Search, 1), (0, Search, 1 << 40)];
    let distinct: BTreeSet<_> =
        streams.iter().map(|&(seed, purpose, index)| first(seed, purpose, index)).collect();
    assert_eq!(distinct.len(), streams.len());
    for (seed, purpose, index) in streams {
        assert_eq!(first(seed, purpose, index), first(seed, purpose, index), "{seed} {purpose:?} {index}");
    }
}
