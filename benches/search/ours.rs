//! Runs the search on accuracies that are known, for `benches/search/search.py`.
//!
//! Takes a model file and what `truth.rs` has printed. Reads one line of JSON a time, `{"strategy": .., "seed": ..,
//! "evaluations": .., "population": ..}`, and answers with `[[accuracy, mega-MACs], ..]` of the subnets in the
//! order in which they were evaluated.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{BufRead, Write};

use elastic_exporter::search::{Answering, Evaluator, Margins, Settings, search};
use elastic_space::budget::Quantity;
use elastic_space::{SearchSpace, Seed, Subnet};

#[derive(serde::Deserialize)]
struct Order {
    strategy: String,
    seed: u64,
    evaluations: usize,
    population: usize,
}

#[derive(serde::Deserialize)]
struct Truth {
    subnet: Subnet,
    margins: Margins,
}

struct Known<'a> {
    space: &'a SearchSpace,
    margins: &'a BTreeMap<Subnet, Margins>,
}

impl Evaluator for Known<'_> {
    type Error = Infallible;

    fn cost(&mut self, subnet: &Subnet, _: Quantity) -> Result<f64, Infallible> {
        Ok(self.space.cost(subnet).macs as f64)
    }

    fn accuracy(&mut self, subnet: &Subnet) -> Result<f64, Infallible> {
        Ok(self.margins[subnet].accuracy())
    }
}

impl Answering for Known<'_> {
    fn margins(&self, subnet: &Subnet) -> Margins {
        self.margins[subnet].clone()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, space, truth] = &arguments[..] else { panic!("usage: ours SPACE TRUTH") };
    let space: SearchSpace =
        serde_json::from_slice(&std::fs::read(space).expect("a file")).expect("a search space");
    let margins: BTreeMap<Subnet, Margins> = std::fs::read_to_string(truth)
        .expect("a file")
        .lines()
        .map(|line| serde_json::from_str::<Truth>(line).expect("a line of truth"))
        .map(|truth| (truth.subnet, truth.margins))
        .collect();
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line.expect("a line")).expect("an order");
        let settings = Settings {
            strategy: order.strategy.parse().expect("a strategy"),
            population: order.population,
            max_evaluations: order.evaluations,
            mutation_probability: 0.1,
            seed: Seed(order.seed),
            known: Vec::new(),
        };
        let mut known = Known { space: &space, margins: &margins };
        let outcome =
            search(&space, &[], &mut known, &settings, &mut |_| ()).expect("a search without budgets");
        let points: Vec<[f64; 2]> = outcome
            .evaluated
            .iter()
            .map(|point| [point.accuracy, space.cost(&point.subnet).macs as f64 / 1e6])
            .collect();
        println!("{}", serde_json::to_string(&points).expect("plain data"));
        std::io::stdout().flush().expect("an open pipe");
    }
}
