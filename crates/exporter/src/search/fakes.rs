//! Evaluators and spaces for the tests of the search.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::genome::draw;
use elastic_space::random::Purpose;
use elastic_space::vit::{Pooling, VitSpace};

use super::*;

/// Examples of a fake.
pub(super) const EXAMPLES: usize = 2000;

/// A formula for the accuracy and one for each cost, and a record of what was asked.
pub(super) struct Fake<'a> {
    pub(super) space: &'a SearchSpace,
    pub(super) accuracy: fn(&SearchSpace, &Subnet) -> f64,
    pub(super) cost: fn(&SearchSpace, &Subnet, Quantity) -> f64,
    pub(super) accuracies_asked: Vec<Subnet>,
    pub(super) costs_asked: Vec<(Subnet, Quantity)>,
}

impl<'a> Fake<'a> {
    pub(super) fn new(space: &'a SearchSpace, accuracy: fn(&SearchSpace, &Subnet) -> f64) -> Self {
        Self { space, accuracy, cost, accuracies_asked: Vec::new(), costs_asked: Vec::new() }
    }
}

impl Evaluator for Fake<'_> {
    type Error = Infallible;

    fn cost(&mut self, subnet: &Subnet, quantity: Quantity) -> Result<f64, Infallible> {
        self.costs_asked.push((subnet.clone(), quantity));
        Ok((self.cost)(self.space, subnet, quantity))
    }

    fn margins(&mut self, subnet: &Subnet, _: &dyn Fn(&Margins) -> bool) -> Result<Margins, Infallible> {
        self.accuracies_asked.push(subnet.clone());
        Ok(answers((self.accuracy)(self.space, subnet)))
    }
}

/// Examples each of which is right from another accuracy on, in an order in which hard ones are everywhere.
pub(super) fn answers(accuracy: f64) -> Margins {
    let difficulty = |example: usize| ((example * 617 % EXAMPLES) as f64 + 0.5) / EXAMPLES as f64;
    let above = |example: usize| (10.0 * (accuracy - difficulty(example))) as f32;
    Margins::new(&(0..EXAMPLES).map(above).collect::<Vec<f32>>())
}

/// What is measured where a formula gives this: a share of the examples.
pub(super) fn measured(accuracy: f64) -> f64 {
    (accuracy * EXAMPLES as f64).round() / EXAMPLES as f64
}

pub(super) fn cost(space: &SearchSpace, subnet: &Subnet, quantity: Quantity) -> f64 {
    let cost = space.cost(subnet);
    match quantity {
        Quantity::Flops => cost.flops() as f64,
        Quantity::Macs => cost.macs as f64,
        Quantity::Params => cost.params as f64,
        Quantity::FileSize => cost.weight_bytes() as f64 + 2000.0,
        Quantity::Memory => cost.weight_bytes() as f64 + 3e7,
        Quantity::Energy => 9.0 + cost.macs as f64 / 1e5,
        Quantity::Latency => 50.0 + cost.macs as f64 / 1e4,
    }
}

/// Grows with every size and saturates. Early layers gain more from heads, late ones from the MLP, which
/// gains more in a wide embedding.
pub(super) fn smooth(_: &SearchSpace, subnet: &Subnet) -> f64 {
    let Subnet::Vit(subnet) = subnet else { panic!("a vision transformer") };
    let width = subnet.embed_dim as f64 / 48.0;
    let gain: f64 = subnet
        .layers
        .iter()
        .map(|layer| {
            let place = layer.index as f64 / 6.0;
            let heads = (1.2 - place) * (layer.heads as f64).sqrt();
            0.5 + heads + (0.6 + place) * width * (layer.mlp_width as f64 / 16.0).ln_1p()
        })
        .sum();
    0.95 * (1.0 - (-0.8 * width - 0.12 * gain).exp())
}

/// [`smooth`] with a fixed error of up to half a percent either way for each subnet, as a small validation set makes it.
pub(super) fn rugged(space: &SearchSpace, subnet: &Subnet) -> f64 {
    let error = subnet
        .to_string()
        .bytes()
        .fold(7_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    smooth(space, subnet) + ((error >> 20) % 1001) as f64 / 1e5 - 0.005
}

pub(super) fn vit(
    embed_dim: &[usize],
    depth: &[usize],
    heads: &[usize],
    mlp_width: &[usize],
    per: Granularity,
) -> VitSpace {
    VitSpace {
        image_size: 16,
        channels: 1,
        patch_size: 4,
        classes: 10,
        head_dim: 8,
        pooling: Pooling::Mean,
        embed_dim: embed_dim.to_vec(),
        depth: DepthChoices { choices: depth.to_vec(), drop: DropPolicy::Prefix },
        heads: WidthChoices { choices: heads.to_vec(), per },
        mlp_width: WidthChoices { choices: mlp_width.to_vec(), per },
        stages: Vec::new(),
        transforms: [].into(),
    }
}

/// 29,484 subnets: 4 (9^2 + 9^3 + 9^4).
pub(super) fn per_layer() -> SearchSpace {
    SearchSpace::Vit(vit(&[16, 24, 32, 48], &[2, 3, 4], &[1, 2, 3], &[16, 32, 64], Granularity::Layer))
}

/// 55,584 subnets: 386 sets of at least 6 of 10 layers, 6 embeddings, 4 heads, 6 MLP widths.
pub(super) fn any_layers() -> SearchSpace {
    let mut space = vit(
        &[16, 20, 24, 32, 40, 48],
        &[6, 7, 8, 9, 10],
        &[1, 2, 3, 4],
        &[16, 24, 32, 48, 64, 80],
        Granularity::Network,
    );
    space.depth.drop = DropPolicy::Any;
    SearchSpace::Vit(space)
}

/// 8 subnets.
pub(super) fn small() -> SearchSpace {
    SearchSpace::Vit(vit(&[16, 24], &[1, 2], &[2], &[16, 32], Granularity::Network))
}

pub(super) const STRATEGIES: [Strategy; 3] = [Strategy::Random, Strategy::Nsga2, Strategy::Predictor];

pub(super) fn settings(max_evaluations: usize, seed: u64) -> Settings {
    Settings {
        strategy: Strategy::Nsga2,
        population: 16,
        max_evaluations,
        mutation_probability: 0.1,
        seed: Seed(seed),
        objectives: Vec::new(),
        early_stop: true,
        known: Vec::new(),
    }
}

pub(super) fn cost_of_largest(space: &SearchSpace, quantity: Quantity) -> f64 {
    cost(space, &space.largest(), quantity)
}

pub(super) fn share_of_largest(space: &SearchSpace, quantity: Quantity, share: f64) -> Budget {
    Budget { quantity, limit: cost_of_largest(space, quantity) * share }
}

pub(super) fn run(
    fake: &mut Fake<'_>,
    budgets: &[Budget],
    settings: &Settings,
) -> Result<Outcome, SearchError<Infallible>> {
    search(fake.space, budgets, fake, settings, &mut |_| ())
}

/// Every subnet with its MACs, by brute force.
pub(super) fn enumerate(space: &SearchSpace) -> BTreeMap<Subnet, f64> {
    let slots = space.slots();
    let subnets: BTreeSet<Subnet> =
        Sweep::new(&slots).map(|genome| space.decode_with(&slots, &genome)).collect();
    assert_eq!(subnets.len() as u128, space.size());
    subnets.into_iter().map(|subnet| (subnet.clone(), cost(space, &subnet, Quantity::Macs))).collect()
}

pub(super) fn random_search(fake: &mut Fake<'_>, budget: Budget, evaluations: usize, seed: u64) -> f64 {
    let mut rng = Seed(seed).generator(Purpose::Candidates, 0);
    let slots = fake.space.slots();
    let mut best: f64 = 0.0;
    let mut evaluated = 0;
    while evaluated < evaluations {
        let subnet = fake.space.decode_with(&slots, &draw(&slots, &mut rng));
        if cost(fake.space, &subnet, budget.quantity) <= budget.limit {
            best = best.max(measured((fake.accuracy)(fake.space, &subnet)));
            evaluated += 1;
        }
    }
    best
}
