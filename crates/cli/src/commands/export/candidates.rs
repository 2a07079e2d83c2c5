//! The candidates of a search, measured on their platform until one holds the budgets.

use std::fmt;
use std::rc::Rc;

use anyhow::Context;
use elastic_exporter::precision::{Precision, with_metadata};
use elastic_exporter::search::{Outcome, Point};
use elastic_profiler::Measurement;
use elastic_space::budget::Quantity;
use elastic_space::{Budget, Platform, Subnet};

use super::finetune::{self, Tuned};
use super::forms::{Bench, File, FormReport};
use super::job::Job;
use super::precisions;
use crate::exit::BudgetMissed;
use crate::fewer_bits::{ACCURACY_KEY, AccuracyDropped, FewerBits};
use crate::metadata::{self, FINETUNED_KEY, VALIDATION_KEY};

/// Candidates of a search that are measured on the platform before it gives up.
pub(super) const MEASURED_CANDIDATES: usize = 8;
/// Candidates that are taken by what was predicted of them; from then on predictions are corrected by what they came to.
const TRUSTED_CANDIDATES: usize = 4;

/// A machine that is this much slower than when it was profiled is told of.
const SLOWER: f64 = 1.1;

/// A candidate that was measured.
pub(super) enum Tried {
    /// It holds every budget.
    Holds(Box<Winner>),
    /// It is over a budget.
    Misses {
        missed: Missed,
        p50_us: f64,
        /// How many times as long the reference takes as it did in the profile.
        slowdown: f64,
    },
}

/// A budget that a candidate was over when it was measured.
#[derive(Clone, Copy)]
pub(super) struct Missed {
    budget: Budget,
    measured: f64,
}

impl Missed {
    /// How much of the budget it takes; above 1.
    fn share(self) -> f64 {
        self.measured / self.budget.limit
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantity = self.budget.quantity;
        let verb = if quantity == Quantity::Latency { "took" } else { "needed" };
        write!(f, "{verb} {}", quantity.format(self.measured))
    }
}

/// A candidate that holds every budget.
#[derive(Clone)]
pub(super) struct Winner {
    pub(super) point: Point,
    pub(super) file: File,
    pub(super) measurement: Option<Measurement>,
    /// What a process needs on the platform that loads and runs it alone, where that was measured.
    pub(super) memory_bytes: Option<u64>,
    pub(super) forms: Vec<FormReport>,
    pub(super) fewer_bits: Option<FewerBits>,
    pub(super) tuned: Option<Rc<Tuned>>,
}

/// The fastest file that is accurate enough.
struct Chosen {
    /// Its place among the files.
    place: usize,
    measurement: Measurement,
    cost: Option<FewerBits>,
}

impl Winner {
    /// Microseconds of one run on the platform, where it was measured.
    pub(super) fn measured_us(&self) -> Option<f64> {
        self.measured(Quantity::Latency)
    }

    /// What was measured of the file, in the base unit of the quantity.
    pub(super) fn measured(&self, quantity: Quantity) -> Option<f64> {
        match quantity {
            Quantity::Latency => self.measurement.as_ref().map(|measurement| measurement.p50_us),
            Quantity::Energy => self.measurement.as_ref().and_then(|measurement| measurement.energy_uj),
            Quantity::Memory => self.memory_bytes.map(|bytes| bytes as f64),
            Quantity::FileSize => Some(self.file.bytes.len() as f64),
            Quantity::Flops | Quantity::Macs | Quantity::Params => None,
        }
    }

    /// Its accuracy as it is written.
    fn accuracy(&self) -> f64 {
        self.fewer_bits.as_ref().map_or(self.point.accuracy, |cost| cost.measured.accuracy)
    }

    /// With what was measured in the file's metadata; what fewer bits cost, so that the file can be verified.
    fn recorded(mut self, images: usize) -> anyhow::Result<Self> {
        let accuracy = metadata::validation(self.point.accuracy, images);
        self.file.bytes = with_metadata(&self.file.bytes, VALIDATION_KEY, &accuracy)?;
        if let Some(tuned) = &self.tuned {
            self.file.bytes = with_metadata(&self.file.bytes, FINETUNED_KEY, &tuned.entry())?;
        }
        if let Some(cost) = &self.fewer_bits {
            let measured = serde_json::to_string(&cost.measured)?;
            self.file.bytes = with_metadata(&self.file.bytes, ACCURACY_KEY, &measured)?;
        }
        Ok(self)
    }
}

/// What a user should know of a machine that has become slower; else nothing.
fn slowdown_note(slowdown: f64) -> String {
    if slowdown < SLOWER {
        return String::new();
    }
    format!(
        "; the machine is {slowdown:.1} times slower than when it was profiled: let it rest, or profile it again"
    )
}

/// How much of a budget a subnet is predicted to take.
fn predicted_share(point: &Point, budget: &Budget) -> f64 {
    let cost = point.costs.iter().find(|(quantity, _)| *quantity == budget.quantity);
    cost.map_or(0.0, |(_, cost)| cost / budget.limit)
}

/// Of candidates by the shares of a budget that they are predicted to take, best accuracy first: the first that holds it if all take so many times
/// as much; where there is none, the one that takes least.
fn most_promising(shares: &[f64], correction: f64) -> usize {
    let least = || (0..shares.len()).min_by(|&a, &b| shares[a].total_cmp(&shares[b]));
    shares.iter().position(|share| share * correction <= 1.0).or_else(least).unwrap_or_default()
}

impl Job<'_> {
    /// The best candidate that holds the budgets when it is measured on its platform, in its fastest form.
    pub(super) fn choose(&self, outcome: &Outcome) -> anyhow::Result<Winner> {
        let (mut closest, mut slowest): (Option<Missed>, f64) = (None, 1.0);
        let mut bench = self.bench()?;
        // What is the most accurate may change with the precision.
        let wanted = if self.has_precisions() && bench.is_some() { precisions::JUDGED } else { 1 };
        let mut held: Vec<Winner> = Vec::new();
        let mut left: Vec<&Point> = outcome.ranking.iter().collect();
        let (mut tried, mut excess) = (0, 1.0_f64);
        while tried < MEASURED_CANDIDATES && held.len() < wanted && !left.is_empty() {
            let correction = if tried < TRUSTED_CANDIDATES { 1.0 } else { excess };
            let shares: Vec<f64> = left.iter().map(|point| self.share(point)).collect();
            let point = left.remove(most_promising(&shares, correction));
            tried += 1;
            match self.try_on(point, bench.as_mut())? {
                Tried::Holds(winner) => held.push(*winner),
                Tried::Misses { missed, slowdown, .. } => {
                    excess = excess.max(missed.share() / predicted_share(point, &missed.budget));
                    let is_closer = closest.is_none_or(|closest| missed.share() < closest.share());
                    closest = if is_closer { Some(missed) } else { closest };
                    slowest = slowest.max(slowdown);
                }
            }
        }
        // Of equal ones the first, as the search ranks them.
        let best_written = held.into_iter().rev().max_by(|a, b| a.accuracy().total_cmp(&b.accuracy()));
        match (best_written, closest) {
            (Some(winner), _) => Ok(winner),
            (None, Some(closest)) => Err(self.missed(tried, closest, slowest).into()),
            (None, None) => anyhow::bail!("the search found no subnet to measure"),
        }
    }

    /// The largest share of a budget of what the platform measures, as it is predicted.
    fn share(&self, point: &Point) -> f64 {
        let measured = self.budgets.iter().filter(|budget| budget.quantity.is_measured());
        measured.map(|budget| predicted_share(point, budget)).fold(0.0, f64::max)
    }

    /// What is said where none of so many candidates holds the budgets when it is measured.
    pub(super) fn missed(&self, tried: usize, closest: Missed, slowdown: f64) -> BudgetMissed {
        let budgets: Vec<String> = self.budgets.iter().map(ToString::to_string).collect();
        BudgetMissed {
            budget: budgets.join(" and "),
            platform: self.platform_name().unwrap_or_default().to_owned(),
            tried,
            closest: closest.to_string(),
            unstable: slowdown >= SLOWER && closest.budget.quantity != Quantity::Memory,
            note: slowdown_note(slowdown),
        }
    }

    /// Measures a candidate on the platform in every form, and takes the fastest file that is accurate enough. Without a
    /// platform nothing is measured.
    pub(super) fn try_on(&self, point: &Point, bench: Option<&mut Bench<'_>>) -> anyhow::Result<Tried> {
        let (mut point, images) = (point.clone(), self.validation.labels.len());
        let mut files = self.files(&point.subnet)?;
        let Some(bench) = bench else {
            let tuned = self.tune(&mut point, &mut files)?;
            let file = files.swap_remove(0);
            let cost = self.with(tuned.as_deref()).cost(&file, &point.subnet)?;
            if let Some(cost) = cost.clone().filter(|cost| !cost.holds()) {
                return Err(AccuracyDropped { precision: file.writing.precision, cost }.into());
            }
            let winner = Winner {
                point,
                file,
                measurement: None,
                memory_bytes: None,
                forms: Vec::new(),
                fewer_bits: cost,
                tuned,
            };
            return Ok(Tried::Holds(Box::new(winner.recorded(images)?)));
        };
        let at_platform = self.at_platform(&point.subnet, &files)?;
        let timed = bench.time(&at_platform)?;
        let fastest = timed.fastest_first.first().map_or(f64::INFINITY, |(_, measured)| measured.p50_us);
        // Weights change no latency: what is too slow is not trained.
        let tuned = if self.is_fast(fastest) { self.tune(&mut point, &mut files)? } else { None };
        let Chosen { place, measurement, cost } =
            self.with(tuned.as_deref()).accurate(&files, &point.subnet, timed.fastest_first)?;
        let p50_us = measurement.p50_us;
        let weighed = self.is_fast(p50_us) && self.is_weighed(&bench.profile.platform);
        let memory_bytes = if weighed { bench.memory(&at_platform[place])? } else { None };
        let winner = Winner {
            point,
            file: files.swap_remove(place),
            measurement: Some(measurement),
            memory_bytes,
            forms: timed.forms,
            fewer_bits: cost,
            tuned,
        };
        let Some(missed) = self.over(&winner)? else {
            return Ok(Tried::Holds(Box::new(winner.recorded(images)?)));
        };
        self.reporter.say(&format!(
            "{} {missed} on {}: over the budget, the next candidate is taken{}",
            winner.point.subnet,
            bench.profile.name,
            slowdown_note(timed.slowdown)
        ));
        Ok(Tried::Misses { missed, p50_us, slowdown: timed.slowdown })
    }

    /// Whether the memory of what is written is measured.
    fn is_weighed(&self, platform: &Platform) -> bool {
        platform.measure.memory || self.budgets.iter().any(|budget| budget.quantity == Quantity::Memory)
    }

    /// The first budget that a measured candidate is over. What is too slow was not weighed, and need not be.
    fn over(&self, winner: &Winner) -> anyhow::Result<Option<Missed>> {
        let mut unknown = None;
        for &budget in self.budgets.iter().filter(|budget| budget.quantity.is_measured()) {
            match winner.measured(budget.quantity) {
                Some(measured) if measured > budget.limit => return Ok(Some(Missed { budget, measured })),
                Some(_) => {}
                None => unknown = Some(budget.quantity.name()),
            }
        }
        match unknown {
            Some(name) => anyhow::bail!("the platform does not tell the {name} of a run"),
            None => Ok(None),
        }
    }

    /// Whether a latency in microseconds holds the budgets.
    fn is_fast(&self, p50_us: f64) -> bool {
        let mut limits = self.budgets.iter().filter(|budget| budget.quantity == Quantity::Latency);
        limits.all(|budget| p50_us <= budget.limit)
    }

    /// Trains a candidate alone, where that is asked for: its accuracy and its files are then by the weights that are better.
    fn tune(&self, point: &mut Point, files: &mut Vec<File>) -> anyhow::Result<Option<Rc<Tuned>>> {
        let Some(train) = self.train else { return Ok(None) };
        let tuned = finetune::tune(self, train, point)?;
        *files = self.with(Some(&tuned)).files(&point.subnet)?;
        Ok(Some(Rc::new(tuned)))
    }

    /// The fastest of the files that lose no more accuracy than is allowed.
    fn accurate(
        &self,
        files: &[File],
        subnet: &Subnet,
        fastest_first: Vec<(usize, Measurement)>,
    ) -> anyhow::Result<Chosen> {
        let mut closest: Option<AccuracyDropped> = None;
        for (place, measurement) in fastest_first {
            let precision = files[place].writing.precision;
            let cost = self.cost(&files[place], subnet)?;
            let Some(lossy) = cost.clone().filter(|cost| !cost.holds()) else {
                return Ok(Chosen { place, measurement, cost });
            };
            let dropped = AccuracyDropped { precision, cost: lossy };
            self.reporter.detail(&dropped.to_string());
            if closest.as_ref().is_none_or(|least| dropped.cost.accuracy_drop < least.cost.accuracy_drop) {
                closest = Some(dropped);
            }
        }
        Err(closest.context("the device measured no form of the subnet")?.into())
    }

    /// What fewer bits cost a file, if it has fewer.
    fn cost(&self, file: &File, subnet: &Subnet) -> anyhow::Result<Option<FewerBits>> {
        let File { writing, bytes } = file;
        if writing.precision == Precision::Fp32 {
            return Ok(None);
        }
        let fp32 = self.build(subnet, *writing)?;
        self.fewer_bits.cost(writing.precision, [&fp32, bytes], writing.batch, self.validation)
    }
}

#[cfg(test)]
mod tests {
    use super::most_promising;

    #[test]
    fn predictions_are_trusted_first_and_corrected_then() {
        for (shares, correction, expected) in [
            (&[0.9, 0.8, 0.3][..], 1.0, 0),
            (&[0.9, 0.8, 0.3], 1.2, 1),
            (&[0.9, 0.8, 0.3], 3.0, 2),
            (&[0.9, 0.3, 0.8], 9.0, 1),
            // Where nothing is measured the first is taken, and where nothing was promised the least.
            (&[0.0, 0.0], 1.0, 0),
            (&[0.2, 0.0], f64::INFINITY, 1),
        ] {
            assert_eq!(most_promising(shares, correction), expected, "{shares:?} x {correction}");
        }
    }
}
