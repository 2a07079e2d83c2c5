//! What every subnet of a finished run's space answers to validation images, for `benches/search/search.py`.
//!
//! Takes the run's folder and a number of images. Prints a line of JSON for each genome of the space: `{"genome": [..],
//! "subnet": {..}, "accuracy": .., "margins": "..", "mega-macs": .., "kilo-params": ..}`. Genomes that differ in layers that are left out have
//! one subnet, which is evaluated once.

#[path = "../finished.rs"]
mod finished;

use std::collections::{BTreeMap, BTreeSet};

use elastic_exporter::search::Margins;
use elastic_space::{Genome, Slot, Subnet};
use elastic_trainer::evaluate::Answers;

use finished::Finished;

#[derive(serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    genome: &'a Genome,
    subnet: &'a Subnet,
    accuracy: f64,
    margins: &'a Margins,
    mega_macs: f64,
    kilo_params: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, run, count] = &arguments[..] else { panic!("usage: truth RUN IMAGES") };
    let Finished { model, supernet, images, labels } = Finished::open(run, count);
    let slots = model.space.slots();
    let genomes: Vec<(Genome, Subnet)> =
        all(&slots).into_iter().map(|genome| (genome.clone(), model.space.decode(&genome))).collect();
    let subnets: BTreeSet<&Subnet> = genomes.iter().map(|(_, subnet)| subnet).collect();
    let of = |subnet| {
        let margins = Answers::new(&supernet, subnet).margins(&images, &labels, 0..labels.len());
        (subnet, Margins::new(&margins))
    };
    let known: BTreeMap<&Subnet, Margins> = subnets.into_iter().map(of).collect();
    for (genome, subnet) in &genomes {
        let cost = model.space.cost(subnet);
        let (mega_macs, kilo_params) = (cost.macs as f64 / 1e6, cost.params as f64 / 1e3);
        let margins = &known[subnet];
        let line = Line { genome, subnet, accuracy: margins.accuracy(), margins, mega_macs, kilo_params };
        println!("{}", serde_json::to_string(&line).expect("plain data"));
    }
}

/// Every genome.
fn all(slots: &[Slot]) -> Vec<Genome> {
    slots.iter().fold(vec![Genome::new()], |genomes, slot| {
        let longer = |genome: Genome| {
            (0..slot.choices.len()).map(move |choice| genome.iter().copied().chain([choice]).collect())
        };
        genomes.into_iter().flat_map(longer).collect()
    })
}
