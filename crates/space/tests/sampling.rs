//! The sampling strategies: what is drawn, how often, and what is drawn together.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::random::Purpose;
use elastic_space::sampling::{Distribution, Empty, Law, Mixed};
use elastic_space::vit::{VitLayer, VitSpace, VitSubnet};
use elastic_space::{Dimension, Genome, Place, Sampling, SearchSpace, Seed, Slot, Subnet};

use common::{chi_square, left_out, limit, plain_vit};

const DRAWS: usize = 12_000;
const STEPS: u64 = 2000;

/// The numbers of choices by hand: 3 embeddings; 4 + 6 + 1 sets of layers; 3 numbers of heads and 2 MLP
/// widths a layer, in two stages of two layers.
fn vit() -> VitSpace {
    VitSpace {
        embed_dim: vec![2, 4, 8],
        depth: DepthChoices { choices: vec![1, 2, 4], drop: DropPolicy::Any },
        heads: WidthChoices { choices: vec![1, 2, 3], per: Granularity::Layer },
        mlp_width: WidthChoices { choices: vec![2, 4], per: Granularity::Layer },
        stages: vec![2, 2],
        ..plain_vit()
    }
}

fn space() -> SearchSpace {
    SearchSpace::Vit(vit())
}

fn layers(subnet: &Subnet) -> &[VitLayer] {
    let Subnet::Vit(subnet) = subnet else { panic!("a vision transformer") };
    &subnet.layers
}

fn embed_dim(subnet: &Subnet) -> usize {
    let Subnet::Vit(subnet) = subnet else { panic!("a vision transformer") };
    subnet.embed_dim
}

/// Two of four layers.
fn middle() -> Subnet {
    let layer = |index| VitLayer { index, heads: 2, mlp_width: 4 };
    Subnet::Vit(VitSubnet { embed_dim: 4, layers: vec![layer(0), layer(3)] })
}

fn draw(space: &SearchSpace, sampling: &Sampling, count: usize) -> Vec<Subnet> {
    let extra = space.encode(&middle()).map(|_| [("middle".to_owned(), middle())].into());
    let named = space.named(&extra.unwrap_or_default());
    let sampler = sampling.sampler(space, &named, None).expect("a strategy that fits");
    sampler.draw(count, &mut Seed(4).generator(Purpose::Subnets, 0))
}

fn mixed(fixed: &[&str], rest: Sampling) -> Sampling {
    let fixed = fixed.iter().map(|&name| name.to_owned()).collect();
    Sampling::Mixed(Mixed { fixed, rest: Box::new(rest) })
}

fn keep(name: &str) -> Sampling {
    Sampling::Empty(Empty { keep: name.to_owned() })
}

fn tables(rows: &[(&str, &[f64])]) -> Sampling {
    let tables = rows.iter().map(|&(field, table)| (field.to_owned(), table.to_vec())).collect();
    Sampling::Distribution(Distribution::Tables(tables))
}

/// What the uniform draw gives each choice: one of three depths, then one of the sets of that size.
fn uniform(slot: &Slot) -> Vec<f64> {
    match slot.dimension {
        Dimension::Depth => [vec![1.0 / 12.0; 4], vec![1.0 / 18.0; 6], vec![1.0 / 3.0]].concat(),
        _ => vec![1.0 / slot.choices.len() as f64; slot.choices.len()],
    }
}

/// Subnets as genomes, and whether they leave a slot out.
struct Drawn {
    space: SearchSpace,
    slots: Vec<Slot>,
    genomes: Vec<Genome>,
}

impl Drawn {
    fn new(space: &SearchSpace, subnets: &[Subnet]) -> Self {
        let genomes =
            subnets.iter().map(|subnet| space.encode(subnet).expect("it is in the space")).collect();
        Self { space: space.clone(), slots: space.slots(), genomes }
    }

    /// Every slot's choices come in these shares, among the subnets that keep what the slot decides for.
    fn follows(&self, row: &str, shares: impl Fn(&Slot) -> Vec<f64>) {
        for (number, slot) in self.slots.iter().enumerate() {
            let (shares, mut seen) = (shares(slot), vec![0; slot.choices.len()]);
            for genome in self.genomes.iter().filter(|g| !left_out(&self.space, &self.slots, g, number)) {
                seen[genome[number]] += 1;
            }
            assert!(seen.iter().sum::<usize>() > 3000, "{row}: {} was drawn too seldom", slot.name);
            let (found, limit) = (chi_square(&seen, &shares), limit(&shares));
            assert!(found <= limit, "{row}: {}: chi-square {found:.1}, limit {limit}: {seen:?}", slot.name);
        }
    }

    /// How often two slots have each pair of choices, among the subnets that keep both.
    fn pairs(&self, a: &str, b: &str) -> Vec<usize> {
        let find = |name: &str| self.slots.iter().position(|slot| slot.name == name).expect(name);
        let (a, b) = (find(a), find(b));
        let columns = self.slots[b].choices.len();
        let mut seen = vec![0; self.slots[a].choices.len() * columns];
        for genome in &self.genomes {
            if [a, b].iter().all(|&slot| !left_out(&self.space, &self.slots, genome, slot)) {
                seen[genome[a] * columns + genome[b]] += 1;
            }
        }
        seen
    }

    /// Two slots with uniform choices do not tell of each other.
    fn independent(&self, row: &str, a: &str, b: &str) {
        let seen = self.pairs(a, b);
        let shares = vec![1.0 / seen.len() as f64; seen.len()];
        let (found, limit) = (chi_square(&seen, &shares), limit(&shares));
        assert!(found <= limit, "{row}: {a} and {b}: chi-square {found:.1}, limit {limit}: {seen:?}");
    }
}

#[test]
fn random_is_uniform_and_independent() {
    let space = space();
    for sampling in [Sampling::Random, Sampling::Distribution(Distribution::Law(Law::Uniform))] {
        let (row, drawn) = (format!("{sampling:?}"), Drawn::new(&space, &draw(&space, &sampling, DRAWS)));
        drawn.follows(&row, uniform);
        drawn.independent(&row, "layers.0.heads", "layers.1.heads");
        drawn.independent(&row, "layers.2.heads", "layers.2.mlp-width");
        drawn.independent(&row, "embed-dim", "layers.3.heads");
    }
}

#[test]
fn a_stage_draws_once_for_its_layers() {
    let space = space();
    let subnets = draw(&space, &Sampling::PerStage, DRAWS);
    for subnet in &subnets {
        for pair in layers(subnet).windows(2) {
            if pair[0].index / 2 == pair[1].index / 2 {
                let sizes = |layer: &VitLayer| (layer.heads, layer.mlp_width);
                assert_eq!(sizes(&pair[0]), sizes(&pair[1]), "{subnet}");
            }
        }
    }
    let drawn = Drawn::new(&space, &subnets);
    drawn.follows("per-stage", uniform);
    drawn.independent("per-stage", "layers.0.heads", "layers.2.heads");
    drawn.independent("per-stage", "layers.1.mlp-width", "layers.3.mlp-width");
    // The heads of a stage do not follow its widths.
    drawn.independent("per-stage", "layers.0.heads", "layers.0.mlp-width");
    // Without stages all layers are one.
    let whole = SearchSpace::Vit(VitSpace { stages: Vec::new(), ..vit() });
    for subnet in draw(&whole, &Sampling::PerStage, 500) {
        let heads: BTreeSet<usize> = layers(&subnet).iter().map(|layer| layer.heads).collect();
        assert_eq!(heads.len(), 1, "{subnet}");
    }
}

#[test]
fn spaces_that_choose_per_stage_or_once_draw_so_by_themselves() {
    let with =
        |per| SearchSpace::Vit(VitSpace { heads: WidthChoices { choices: vec![1, 2, 3], per }, ..vit() });
    for sampling in [Sampling::Random, Sampling::PerStage] {
        let staged =
            Drawn::new(&with(Granularity::Stage), &draw(&with(Granularity::Stage), &sampling, DRAWS));
        staged.follows("per: stage", uniform);
        staged.independent("per: stage", "stages.0.heads", "stages.1.heads");
        let shared =
            Drawn::new(&with(Granularity::Network), &draw(&with(Granularity::Network), &sampling, DRAWS));
        shared.follows("per: network", uniform);
    }
}

/// The largest subnet with another choice in one slot, without the space's own decoding.
fn largest_but(slot: &Slot, choice: usize) -> Subnet {
    let Subnet::Vit(mut subnet) = space().largest() else { panic!("a vision transformer") };
    match (slot.dimension, slot.place) {
        (Dimension::Embedding, _) => subnet.embed_dim = choice,
        (Dimension::Depth, _) => subnet.layers.retain(|layer| choice >> layer.index & 1 == 1),
        (Dimension::Heads, Place::Layer { layer, .. }) => subnet.layers[layer].heads = choice,
        (Dimension::Width, Place::Layer { layer, .. }) => subnet.layers[layer].mlp_width = choice,
        _ => panic!("{slot:?}"),
    }
    Subnet::Vit(subnet)
}

#[test]
fn laws_of_cost() {
    let space = space();
    for (law, power) in [(Law::Flops, 1), (Law::InverseFlops, -1)] {
        let sampling = Sampling::Distribution(Distribution::Law(law));
        let drawn = Drawn::new(&space, &draw(&space, &sampling, DRAWS));
        drawn.follows(&format!("{law:?}"), |slot| {
            let cost = |&choice: &usize| (space.cost(&largest_but(slot, choice)).macs as f64).powi(power);
            let weights: Vec<f64> =
                slot.choices.iter().zip(uniform(slot)).map(|(c, w)| w * cost(c)).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter().map(|weight| weight / sum).collect()
        });
    }
}

#[test]
fn laws_of_cost_by_hand() {
    // One layer with one head of 2 features, embedding 2, 4 tokens: patches 4*4*2 = 32, qkv 4*2*6 = 48,
    // scores and context 4*2*4 = 32 each, proj 4*2*2 = 16, head 2*2 = 4, MLP 2*4*2*width = 16 width.
    // Widths 1 and 12 cost 164 + 16 = 180 and 164 + 192 = 356, together 536.
    let one = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Network };
    let space = SearchSpace::Vit(VitSpace {
        embed_dim: vec![2],
        depth: DepthChoices { choices: vec![1], drop: DropPolicy::Prefix },
        heads: one(&[1]),
        mlp_width: one(&[1, 12]),
        stages: Vec::new(),
        ..vit()
    });
    for (law, small) in [(Law::Flops, 180.0), (Law::InverseFlops, 356.0)] {
        let drawn = draw(&space, &Sampling::Distribution(Distribution::Law(law)), DRAWS);
        let count = drawn.iter().filter(|subnet| **subnet == space.smallest()).count();
        let shares = [small / 536.0, 1.0 - small / 536.0];
        let found = chi_square(&[count, DRAWS - count], &shares);
        assert!(found <= limit(&shares), "{law:?}: {count} of {DRAWS}");
    }
}

#[test]
fn tables_of_probabilities() {
    let space = space();
    // Not scaled; a choice that is never drawn; the MLP width is left out.
    let sampling = tables(&[
        ("embed-dim", &[2.0, 1.0, 1.0]),
        ("depth", &[0.2, 0.5, 0.3]),
        ("heads", &[0.0, 0.25, 0.75]),
    ]);
    let shares = |slot: &Slot| match slot.field.as_str() {
        "embed-dim" => vec![0.5, 0.25, 0.25],
        // A number of layers has its share, each of its sets an equal part of it.
        "depth" => [vec![0.2 / 4.0; 4], vec![0.5 / 6.0; 6], vec![0.3]].concat(),
        "heads" => vec![0.0, 0.25, 0.75],
        _ => vec![0.5, 0.5],
    };
    Drawn::new(&space, &draw(&space, &sampling, DRAWS)).follows("tables", shares);
    let prefix = SearchSpace::Vit(VitSpace {
        depth: DepthChoices { choices: vec![1, 2, 4], drop: DropPolicy::Prefix },
        ..vit()
    });
    let subnets = draw(&prefix, &tables(&[("depth", &[0.0, 3.0, 1.0])]), DRAWS);
    let seen = [1, 2, 4].map(|depth| subnets.iter().filter(|subnet| layers(subnet).len() == depth).count());
    let shares = [0.0, 0.75, 0.25];
    assert!(chi_square(&seen, &shares) <= limit(&shares), "{seen:?}");
}

#[test]
fn a_table_of_a_closed_field_has_no_effect() {
    let closed = space().restricted(&[Dimension::Width].into());
    let sampling = tables(&[("heads", &[1.0, 2.0, 3.0]), ("mlp-width", &[1.0, 0.0])]);
    let sampler = sampling.sampler(&closed, &closed.named(&BTreeMap::new()), None).expect("a strategy");
    let mut rng = Seed(1).generator(Purpose::Subnets, 0);
    assert_eq!(sampler.draw(3, &mut rng), vec![closed.smallest(); 3]);
}

#[test]
fn fixed_ones_are_always_the_same() {
    let space = space();
    let names = ["smallest", "middle", "largest"].map(str::to_owned).to_vec();
    let expected = [space.smallest(), middle(), space.largest()];
    for count in 0..=3 {
        assert_eq!(draw(&space, &Sampling::Fixed(names.clone()), count), expected[..count]);
    }
}

#[test]
fn mixed_begins_with_the_fixed_ones() {
    let space = space();
    let fixed = ["largest", "smallest", "middle"];
    let expected = [space.largest(), space.smallest(), middle()];
    for rest in
        [Sampling::Random, Sampling::PerStage, keep("smallest"), tables(&[("depth", &[1.0, 0.0, 0.0])])]
    {
        let sampling = mixed(&fixed, rest.clone());
        for count in 0..=3 {
            assert_eq!(draw(&space, &sampling, count), expected[..count], "{rest:?}");
        }
        // The others are what the strategy draws alone: the fixed ones take nothing from the generator.
        let drawn = draw(&space, &sampling, 40);
        assert_eq!(drawn[..3], expected, "{rest:?}");
        assert_eq!(drawn[3..], draw(&space, &rest, 37), "{rest:?}");
    }
    Drawn::new(&space, &draw(&space, &mixed(&fixed, Sampling::Random), DRAWS)[3..]).follows("mixed", uniform);
}

#[test]
fn empty_keeps_the_choice_of_a_named_subnet() {
    let space = space();
    for (name, expected) in
        [("largest", space.largest()), ("smallest", space.smallest()), ("middle", middle())]
    {
        assert_eq!(draw(&space, &keep(name), 20), vec![expected; 20], "{name}");
    }
}

#[test]
fn each_dimension_has_its_own_strategy() {
    let space = space();
    let sampling = Sampling::ByDimension(BTreeMap::from([
        (Dimension::Heads, Sampling::PerStage),
        (Dimension::Width, tables(&[("mlp-width", &[0.9, 0.1])])),
        (Dimension::Depth, keep("middle")),
    ]));
    let subnets = draw(&space, &sampling, DRAWS);
    for subnet in &subnets {
        let kept: Vec<usize> = layers(subnet).iter().map(|layer| layer.index).collect();
        assert_eq!(kept, [0, 3], "{subnet}");
    }
    // Layers 0 and 3 lie in two stages; the embedding is left out, so it is random.
    let drawn = Drawn::new(&space, &subnets);
    drawn.independent("by-dimension", "layers.0.heads", "layers.3.heads");
    drawn.independent("by-dimension", "embed-dim", "layers.0.heads");
    for (slot, shares) in [("embed-dim", vec![1.0 / 3.0; 3]), ("layers.3.mlp-width", vec![0.9, 0.1])] {
        let number = drawn.slots.iter().position(|s| s.name == slot).expect(slot);
        let count = |choice| drawn.genomes.iter().filter(|genome| genome[number] == choice).count();
        let seen: Vec<usize> = (0..shares.len()).map(count).collect();
        assert!(chi_square(&seen, &shares) <= limit(&shares), "{slot}: {seen:?}");
    }
    // With all layers the heads of a stage are seen to agree, and the widths not to.
    let sampling = Sampling::ByDimension(BTreeMap::from([
        (Dimension::Heads, Sampling::PerStage),
        (Dimension::Depth, keep("largest")),
        (Dimension::Embedding, Sampling::Distribution(Distribution::Law(Law::Uniform))),
    ]));
    let subnets = draw(&space, &sampling, DRAWS);
    for subnet in &subnets {
        let heads: Vec<usize> = layers(subnet).iter().map(|layer| layer.heads).collect();
        assert!(heads.len() == 4 && heads[0] == heads[1] && heads[2] == heads[3], "{subnet}");
    }
    let drawn = Drawn::new(&space, &subnets);
    drawn.independent("by-dimension", "layers.1.heads", "layers.2.heads");
    drawn.independent("by-dimension", "layers.0.mlp-width", "layers.1.mlp-width");
}

/// The draws of many steps of eight subnets, the first of which is fixed.
fn steps(vary: Option<Dimension>, rest: Sampling) -> Vec<Vec<Subnet>> {
    let space = space();
    let sampler =
        mixed(&["smallest"], rest).sampler(&space, &space.named(&[].into()), vary).expect("it fits");
    let rng = |step| Seed(9).generator(Purpose::Subnets, step);
    (0..STEPS).map(|step| sampler.draw(8, &mut rng(step))).collect()
}

/// Whether two subnets agree in all that both have but the set of layers.
fn same_widths(a: &Subnet, b: &Subnet) -> bool {
    let shared = |layer: &&VitLayer| {
        layers(b).iter().find(|other| other.index == layer.index).is_none_or(|o| o == *layer)
    };
    embed_dim(a) == embed_dim(b) && layers(a).iter().all(|layer| shared(&layer))
}

/// The subnets of a step that differ in more than the set of layers, and the steps with one set alone.
fn agreement(steps: &[Vec<Subnet>]) -> (usize, usize) {
    let sets = |step: &[Subnet]| {
        step.iter().map(|s| layers(s).iter().map(|layer| layer.index).collect()).collect::<BTreeSet<Vec<_>>>()
    };
    let differ = |step: &&Vec<Subnet>| step[1..].iter().any(|a| step[1..].iter().any(|b| !same_widths(a, b)));
    (steps.iter().filter(differ).count(), steps.iter().filter(|step| sets(&step[1..]).len() == 1).count())
}

#[test]
fn a_depth_step_shares_its_widths() {
    let space = space();
    for rest in [Sampling::Random, Sampling::PerStage] {
        let varied = steps(Some(Dimension::Depth), rest.clone());
        assert!(varied.iter().all(|step| step.len() == 8 && step[0] == space.smallest()), "{rest:?}");
        let (differ, alike) = agreement(&varied);
        assert_eq!(differ, 0, "{rest:?}: widths differ within a step");
        // Seven draws, of which one in three has all layers, are alike about once in 2000 steps.
        assert!(alike <= 8, "{rest:?}: {alike} steps with one set of layers");
        // Over the steps each choice comes as often as without sharing.
        let second: Vec<Subnet> = varied.iter().flat_map(|step| step[1..].to_vec()).collect();
        let depths = Drawn::new(&space, &second);
        let depth = depths.slots.iter().position(|slot| slot.dimension == Dimension::Depth).expect("depth");
        let seen: Vec<usize> =
            (0..11).map(|c| depths.genomes.iter().filter(|genome| genome[depth] == c).count()).collect();
        let shares = uniform(&depths.slots[depth]);
        assert!(chi_square(&seen, &shares) <= limit(&shares), "{rest:?}: {seen:?}");
        let seen = [2, 4, 8].map(|embed| varied.iter().filter(|step| embed_dim(&step[1]) == embed).count());
        assert!(chi_square(&seen, &[1.0 / 3.0; 3]) <= limit(&[1.0 / 3.0; 3]), "{rest:?}: {seen:?}");
    }
    let (differ, _) = agreement(&steps(None, Sampling::Random));
    assert!(differ > 1950, "without sharing the widths differ: {differ} of {STEPS}");
    // A width step shares the set of layers, and the embedding.
    let (differ, alike) = agreement(&steps(Some(Dimension::Width), Sampling::Random));
    assert_eq!(alike as u64, STEPS);
    assert!(differ > 1500, "the widths differ: {differ} of {STEPS}");
    for step in steps(Some(Dimension::Width), Sampling::Random) {
        assert!(step[2..].iter().all(|subnet| embed_dim(subnet) == embed_dim(&step[1])), "{step:?}");
    }
}
