//! The search for the most accurate subnets within budgets.
//!
//! Three strategies share what a search knows: a subnet's costs are asked before its accuracy, and one that misses a budget
//! is shrunk until it fits or dropped: accuracy, which is dear, is only measured within the budgets, and never twice.
//!
//! - `Random` draws subnets: what every other strategy has to beat.
//! - `Nsga2` is [Deb et al., 2002](https://ieeexplore.ieee.org/document/996017), on genomes: two objectives, accuracy
//!   up and use of the budget down; tournaments by rank and crowding; crossover and mutation per slot. The most accurate
//!   subnets tend to use the budget up, so most children grow until nothing larger fits, and half of the parents come from
//!   the most accurate ones, wherever they are on the front.
//! - `Predictor` measures a few subnets at a time, chosen by `Nsga2` on a model of the accuracy that is fitted anew to the
//!   answers of all that were measured before, after LINAS, [Cummings et al., 2022](https://arxiv.org/abs/2205.10358).
//!
//! The search knows slots and genomes of `elastic_space`, and no family.

mod archive;
mod assign;
mod evolution;
#[cfg(test)]
mod fakes;
mod generation;
mod margins;
mod measured;
mod pareto;
mod predictor;
mod process;
mod promise;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use elastic_space::budget::Quantity;
use elastic_space::search_space::NotInSpace;
use elastic_space::{Budget, Genome, SearchSpace, Seed, Subnet};
use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

pub use assign::{Assignment, Candidate, assign};
pub use margins::Margins;
pub use pareto::thin;

use archive::{Archive, Oracle};
use evolution::Sweep;
use generation::{breed, draw, seed};
use measured::Measured;
pub use pareto::{Objectives, hypervolume, usage};

/// Generations in a row without a new subnet after which the search ends.
const MAX_STALE_GENERATIONS: usize = 3;

/// Genomes that a generation without a new child looks through, in the sweep over the space.
const SWEEP_GENOMES: usize = 2048;

/// How the next subnets are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Uniform draws.
    Random,
    /// Evolution on measured accuracies.
    Nsga2,
    /// Evolution on accuracies that a model predicts, of which the most promising are measured.
    #[default]
    Predictor,
}

/// A name that is no strategy's.
#[derive(Debug, Error)]
#[error("unknown strategy `{0}`: choose random, nsga2 or predictor")]
pub struct UnknownStrategy(String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        match name {
            "random" => Ok(Self::Random),
            "nsga2" => Ok(Self::Nsga2),
            "predictor" => Ok(Self::Predictor),
            _ => Err(UnknownStrategy(name.to_owned())),
        }
    }
}

/// How a search is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How the next subnets are chosen.
    pub strategy: Strategy,
    /// Subnets of one generation, at least 2.
    pub population: usize,
    /// The bound on accuracies that are measured, at least 1.
    pub max_evaluations: usize,
    /// The probability that a child draws a slot anew, from 0 to 1.
    pub mutation_probability: f64,
    /// The source of all randomness: the same seed gives the same outcome.
    pub seed: Seed,
    /// What is to be small besides an accuracy that is to be large: up to two quantities. If none is named it is the use of the budget,
    /// the largest share of any, and without budgets the MACs.
    pub objectives: Vec<Quantity>,
    /// Whether an evaluation ends as soon as it is clear that a subnet that costs no more is more accurate.
    pub early_stop: bool,
    /// What subnets answered to all examples in an earlier search of the same checkpoint. They are not asked again, and
    /// not counted as evaluations.
    pub known: Vec<(Subnet, Margins)>,
}

/// What the search asks about a subnet.
pub trait Evaluator {
    /// Why a question has no answer; it ends the search.
    type Error;

    /// The value of a budgeted quantity in the budget's base unit (operations, values, bytes,
    /// microseconds), exact or predicted. Asked often: it should take far less than an accuracy.
    ///
    /// # Errors
    ///
    /// The evaluator's own.
    fn cost(&mut self, subnet: &Subnet, quantity: Quantity) -> Result<f64, Self::Error>;

    /// The answers to all validation examples, of which the accuracy is the share of right ones: to the same examples in the
    /// same order for each subnet, and in an order that was drawn. Asked once for a subnet, and only for one that meets
    /// every budget.
    ///
    /// The first of them do, as soon as they are `decided`; more of them change nothing.
    ///
    /// # Errors
    ///
    /// The evaluator's own.
    fn margins(
        &mut self,
        subnet: &Subnet,
        decided: &dyn Fn(&Margins) -> bool,
    ) -> Result<Margins, Self::Error>;
}

/// How far a search is; reported after each evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Accuracies that were measured.
    pub evaluations: usize,
    /// The bound on them; the search may end earlier.
    pub max_evaluations: usize,
    /// The generation, counted from 0, the seeds.
    pub generation: usize,
    /// The best accuracy so far.
    pub best: f64,
}

/// One evaluated subnet.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Point {
    /// The subnet.
    pub subnet: Subnet,
    /// Its accuracy on validation data, from 0 to 1.
    pub accuracy: f64,
    /// The validation examples after which it was clear that a subnet that costs no more is more accurate, where its evaluation
    /// was ended then. The accuracy is then a guess: the other's, and the difference on these examples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_after: Option<usize>,
    /// Its value of each quantity that has a budget or is to be small, in the quantity's base unit.
    pub costs: Vec<(Quantity, f64)>,
}

/// The genomes of the next generation.
type Next<'n, 'a, E> =
    dyn FnMut(&mut Archive<'a, E>, u64) -> Result<Vec<Genome>, SearchError<<E as Oracle>::Error>> + 'n;

/// What a search found. Every point meets every budget.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// All points: the known ones first, then in the order of their evaluation.
    pub evaluated: Vec<Point>,
    /// The points that were measured in full, best accuracy first; of equal ones the cheaper first.
    pub ranking: Vec<Point>,
    /// Of these the points that no other beats in accuracy and in what is to be small, [`Settings::objectives`], best accuracy
    /// first.
    pub front: Vec<Point>,
    /// Accuracies that were measured, in full or not.
    pub evaluations: usize,
}

/// Why a search failed.
#[derive(Debug, Error)]
pub enum SearchError<E> {
    /// A setting is out of its range.
    #[error("search setting {field} is {value}: it must be {rule}")]
    Setting {
        /// The field of [`Settings`].
        field: &'static str,
        /// What was given.
        value: f64,
        /// What it may be.
        rule: &'static str,
    },
    /// No subnet meets the budgets.
    #[error(
        "no subnet meets the budget: the smallest ({smallest}) costs {}; raise the budget, or train a search space with smaller choices",
        Misses(misses)
    )]
    Infeasible {
        /// The smallest subnet.
        smallest: String,
        /// Each budget that it misses, with its cost in the quantity's base unit.
        misses: Vec<(Budget, f64)>,
    },
    /// A known subnet is of another space.
    #[error("use known accuracies: {0}")]
    Known(#[from] NotInSpace),
    /// A cost is infinite or not a number.
    #[error("{quantity:?} of subnet `{subnet}` is {value}: a cost must be finite")]
    Cost {
        /// The subnet.
        subnet: String,
        /// The quantity.
        quantity: Quantity,
        /// What was given.
        value: f64,
    },
    /// There is nothing to count.
    #[error("subnet `{subnet}` has answered no example")]
    NoAnswers {
        /// The subnet.
        subnet: String,
    },
    /// The evaluator failed.
    #[error("evaluate a subnet: {0:#}")]
    Evaluator(E),
}

/// Searches `space` for the most accurate subnets within `budgets`, and those between them and the cheapest.
///
/// It ends after `settings.max_evaluations`, when every subnet of the space was seen, or when some
/// generations in a row brought nothing new. With no budget, or one that the largest subnet meets, the largest
/// is among the evaluated ones.
///
/// # Errors
///
/// [`SearchError::Infeasible`] if neither the smallest subnet nor any of a bounded number of
/// others meets the budgets; the other kinds for settings out of range and an evaluator that fails.
pub fn search<E: Evaluator>(
    space: &SearchSpace,
    budgets: &[Budget],
    evaluator: &mut E,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome, SearchError<E::Error>> {
    settings.validate()?;
    let mut measured = Measured::new(evaluator, settings.early_stop);
    let mut archive = Archive::new(
        space,
        (budgets, &settings.objectives),
        &mut measured,
        settings.max_evaluations,
        progress,
    );
    for (subnet, margins) in &settings.known {
        archive.admit_known(subnet, margins)?;
    }
    let range = match settings.strategy {
        Strategy::Random | Strategy::Nsga2 => seed(&mut archive, space, settings)?,
        Strategy::Predictor => seed(&mut archive, space, &predictor::first(settings))?,
    };
    evolve(&mut archive, space, &mut |archive, generation| match settings.strategy {
        Strategy::Random => draw(archive, space, settings, generation),
        Strategy::Nsga2 => breed(archive, space, settings, generation, range),
        Strategy::Predictor => predictor::propose(archive, space, settings, generation, range),
    })?;
    Ok(archive.outcome())
}

/// Evaluates generation after generation, of genomes that `next` gives, until the archive is full or nothing is new.
fn evolve<'a, E: Oracle>(
    archive: &mut Archive<'a, E>,
    space: &SearchSpace,
    next: &mut Next<'_, 'a, E>,
) -> Result<(), SearchError<E::Error>> {
    let mut sweep = Sweep::new(&archive.slots);
    let mut stale = 0;
    for generation in 1.. {
        if archive.is_full() || stale == MAX_STALE_GENERATIONS {
            break;
        }
        let mut children = next(archive, generation)?;
        if children.is_empty() {
            let mut looked_at = 0;
            for genome in sweep.by_ref().take(SWEEP_GENOMES) {
                looked_at += 1;
                if !archive.holds(&space.decode_with(&archive.slots, &genome))
                    && archive.fits(&genome, f64::INFINITY)?
                {
                    children.push(genome);
                }
            }
            if children.is_empty() && looked_at < SWEEP_GENOMES {
                break;
            }
        }
        stale = if children.is_empty() { stale + 1 } else { 0 };
        for child in children {
            archive.evaluate(&child, generation as usize)?;
        }
    }
    Ok(())
}

impl Settings {
    fn validate<E>(&self) -> Result<(), SearchError<E>> {
        let refuse = |field, value, rule| Err(SearchError::Setting { field, value, rule });
        if self.population < 2 {
            return refuse("population", self.population as f64, "at least 2");
        }
        if self.max_evaluations == 0 {
            return refuse("max-evaluations", 0.0, "at least 1");
        }
        if self.objectives.len() > 2 {
            return refuse("objectives", self.objectives.len() as f64, "at most 2");
        }
        if !(0.0..=1.0).contains(&self.mutation_probability) {
            return refuse("mutation-probability", self.mutation_probability, "from 0 to 1");
        }
        Ok(())
    }
}

/// `1.23 MFLOPs (budget 1mflops), 1.2 kB (budget 1KB)`.
struct Misses<'a>(&'a [(Budget, f64)]);

impl fmt::Display for Misses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (budget, cost)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{} (budget {budget})", budget.quantity.format(*cost))?;
        }
        Ok(())
    }
}
