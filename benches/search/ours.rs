//! Runs the search on accuracies that are known, for `benches/search/search.py`.
//!
//! Takes a model file and what `truth.rs` has printed. Reads one line of JSON a time, `{"strategy": .., "seed": ..,
//! "evaluations": .., "population": .., "early-stop": .., "objectives": [..]}`, and answers with `[[accuracy, mega-MACs,
//! kilo-parameters, examples], ..]` of the subnets in the order in which they were evaluated, with so many examples of each.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{BufRead, Write};

use elastic_exporter::search::{Evaluator, Margins, Settings, search};
use elastic_space::budget::Quantity;
use elastic_space::{SearchSpace, Seed, Subnet};

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Order {
    strategy: String,
    seed: u64,
    evaluations: usize,
    population: usize,
    early_stop: bool,
    objectives: Vec<Quantity>,
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

    fn cost(&mut self, subnet: &Subnet, quantity: Quantity) -> Result<f64, Infallible> {
        let cost = self.space.cost(subnet);
        Ok(if quantity == Quantity::Params { cost.params as f64 } else { cost.macs as f64 })
    }

    fn margins(&mut self, subnet: &Subnet, _: &dyn Fn(&Margins) -> bool) -> Result<Margins, Infallible> {
        Ok(self.margins[subnet].clone())
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
            objectives: order.objectives,
            early_stop: order.early_stop,
            known: Vec::new(),
        };
        let mut known = Known { space: &space, margins: &margins };
        let outcome =
            search(&space, &[], &mut known, &settings, &mut |_| ()).expect("a search without budgets");
        let points: Vec<[f64; 4]> = outcome
            .evaluated
            .iter()
            .map(|point| {
                let examples = point.stopped_after.unwrap_or(margins[&point.subnet].examples());
                let cost = space.cost(&point.subnet);
                [
                    margins[&point.subnet].accuracy(),
                    cost.macs as f64 / 1e6,
                    cost.params as f64 / 1e3,
                    examples as f64,
                ]
            })
            .collect();
        println!("{}", serde_json::to_string(&points).expect("plain data"));
        std::io::stdout().flush().expect("an open pipe");
    }
}
