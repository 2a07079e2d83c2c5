//! What the search has learnt: costs that were asked for and subnets that were evaluated.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use elastic_space::budget::Quantity;
use elastic_space::{Budget, Genome, SearchSpace, Slot, Subnet};

use super::evolution::Parents;
use super::measured::Measured;
use super::pareto::{self, Objectives, cost_of};
use super::{Evaluator, Margins, Outcome, Point, Progress, SearchError};

/// One in so many of a population is of the elite.
///
/// On the landscapes of the tests, 4 finds the optimum in 300 evaluations more often than 2 or 1.
const ELITE_DIVISOR: usize = 4;

/// Why the cost of a quantity that counts is known.
const ASKED: &str = "the cost of every quantity that counts was asked for";

/// Answers an archive's questions.
pub(super) trait Oracle {
    type Error;

    /// As [`Evaluator::cost`].
    fn cost(&mut self, subnet: &Subnet, quantity: Quantity) -> Result<f64, Self::Error>;

    /// `rival` is the most accurate of the subnets that cost no more and were measured in full: that this one is less accurate
    /// is all that needs to be known of it.
    fn accuracy(&mut self, subnet: &Subnet, rival: Option<&Subnet>) -> Result<Accuracy, Self::Error>;
}

/// What is known of a subnet's accuracy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Accuracy {
    pub(super) value: f64,
    /// As [`Point::stopped_after`].
    pub(super) stopped_after: Option<usize>,
}

/// Asks an oracle, each question once, and keeps the answers.
pub(super) struct Archive<'a, E> {
    pub(super) slots: Vec<Slot>,
    space: &'a SearchSpace,
    budgets: &'a [Budget],
    /// What is to be small; the use of the budget where there is none.
    objectives: &'a [Quantity],
    /// What these are, and the budgets.
    quantities: Vec<Quantity>,
    oracle: &'a mut E,
    progress: &'a mut dyn FnMut(Progress),
    max_evaluations: usize,
    evaluations: usize,
    largest_macs: f64,
    prices: BTreeMap<Subnet, Price>,
    /// Measured in full.
    candidates: Vec<Candidate>,
    /// Less accurate than a candidate that costs no more.
    stopped: Vec<Candidate>,
    seen: BTreeSet<Subnet>,
}

/// What a subnet costs, against the budgets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Price {
    /// The value of each quantity that has a budget or is to be small.
    pub(super) costs: Vec<(Quantity, f64)>,
    /// The largest share of a budget that is used; without budgets the first of what is to be small, or the MACs over the largest
    /// subnet's.
    pub(super) usage: f64,
    /// Whether every budget is met.
    pub(super) feasible: bool,
}

/// A feasible subnet whose accuracy is known.
#[derive(Debug, Clone)]
struct Candidate {
    /// Its place among all that were evaluated.
    place: usize,
    genome: Genome,
    point: Point,
    objectives: Objectives,
}

impl<E: Evaluator> Archive<'_, Measured<'_, E>> {
    /// Adds a subnet whose answers to all examples are known from before, unless it misses a budget.
    pub(super) fn admit_known(
        &mut self,
        subnet: &Subnet,
        margins: &Margins,
    ) -> Result<(), SearchError<E::Error>> {
        let genome = self.space.encode(subnet)?;
        if self.price(subnet)?.feasible && !self.holds(subnet) {
            self.oracle.know(subnet, margins.clone());
            let accuracy = Accuracy { value: margins.accuracy(), stopped_after: None };
            self.admit(genome, subnet.clone(), accuracy)?;
        }
        Ok(())
    }

    /// The evaluated subnets with their margins.
    pub(super) fn margins(&self) -> impl Iterator<Item = (&Subnet, &Margins)> {
        let subnets = self.evaluated().into_iter().map(|candidate| &candidate.point.subnet);
        subnets.map(|subnet| (subnet, self.oracle.margins(subnet)))
    }
}

impl<'a, E: Oracle> Archive<'a, E> {
    pub(super) fn new(
        space: &'a SearchSpace,
        (budgets, objectives): (&'a [Budget], &'a [Quantity]),
        oracle: &'a mut E,
        max_evaluations: usize,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let distinct: BTreeSet<Quantity> =
            budgets.iter().map(|budget| budget.quantity).chain(objectives.iter().copied()).collect();
        Self {
            slots: space.slots(),
            space,
            budgets,
            objectives,
            quantities: distinct.into_iter().collect(),
            oracle,
            progress,
            max_evaluations,
            evaluations: 0,
            largest_macs: space.cost(&space.largest()).macs as f64,
            prices: BTreeMap::new(),
            candidates: Vec::new(),
            stopped: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// The costs of a subnet; asked of the oracle at the first call only.
    pub(super) fn price(&mut self, subnet: &Subnet) -> Result<Price, SearchError<E::Error>> {
        if let Some(price) = self.prices.get(subnet) {
            return Ok(price.clone());
        }
        let mut costs = Vec::with_capacity(self.quantities.len());
        for &quantity in &self.quantities {
            let value = self.oracle.cost(subnet, quantity).map_err(SearchError::Evaluator)?;
            if !value.is_finite() {
                return Err(SearchError::Cost { subnet: subnet.to_string(), quantity, value });
            }
            costs.push((quantity, value));
        }
        let cost_of = |quantity| cost_of(&costs, quantity).expect(ASKED);
        let feasible = self.budgets.iter().all(|budget| cost_of(budget.quantity) <= budget.limit);
        let usage = pareto::usage(&costs, self.budgets).unwrap_or_else(|| match self.objectives {
            [first, ..] => cost_of(*first),
            [] => self.space.cost(subnet).macs as f64 / self.largest_macs,
        });
        let price = Price { costs, usage, feasible };
        self.prices.insert(subnet.clone(), price.clone());
        Ok(price)
    }

    /// What is wanted of a subnet of this accuracy and price.
    fn wanted(&self, accuracy: f64, price: &Price) -> Objectives {
        Objectives::new(accuracy, &price.costs, self.objectives, price.usage)
    }

    /// Whether a genome's subnet meets every budget and uses no more than `ceiling` of it.
    pub(super) fn fits(&mut self, genome: &[usize], ceiling: f64) -> Result<bool, SearchError<E::Error>> {
        let price = self.price(&self.space.decode_with(&self.slots, genome))?;
        Ok(price.feasible && price.usage <= ceiling)
    }

    /// Each budget that a subnet misses, with the subnet's cost.
    pub(super) fn misses(&mut self, subnet: &Subnet) -> Result<Vec<(Budget, f64)>, SearchError<E::Error>> {
        let price = self.price(subnet)?;
        let costs =
            self.budgets.iter().map(|budget| (*budget, cost_of(&price.costs, budget.quantity).expect(ASKED)));
        Ok(costs.filter(|(budget, cost)| cost > &budget.limit).collect())
    }

    /// Whether the accuracy of a subnet is known.
    pub(super) fn holds(&self, subnet: &Subnet) -> bool {
        self.seen.contains(subnet)
    }

    /// Whether no further evaluation is allowed.
    pub(super) fn is_full(&self) -> bool {
        self.evaluations >= self.max_evaluations
    }

    /// Measures the accuracy of a genome's subnet, once. Nothing happens if it is known, if the
    /// subnet misses a budget, or when the archive is full.
    pub(super) fn evaluate(
        &mut self,
        genome: &[usize],
        generation: usize,
    ) -> Result<(), SearchError<E::Error>> {
        let subnet = self.space.decode_with(&self.slots, genome);
        if self.is_full() || self.holds(&subnet) {
            return Ok(());
        }
        let price = self.price(&subnet)?;
        if !price.feasible {
            return Ok(());
        }
        let own = self.wanted(0.0, &price);
        let no_dearer = self.candidates.iter().filter(|candidate| candidate.objectives.costs_no_more(own));
        let rival = no_dearer.max_by(|a, b| a.point.accuracy.total_cmp(&b.point.accuracy));
        let rival = rival.map(|candidate| &candidate.point.subnet);
        let accuracy = self.oracle.accuracy(&subnet, rival).map_err(SearchError::Evaluator)?;
        self.evaluations += 1;
        self.admit(genome.to_vec(), subnet, accuracy)?;
        let best = self.candidates.iter().map(|c| c.point.accuracy).fold(0.0, f64::max);
        let (evaluations, max_evaluations) = (self.evaluations, self.max_evaluations);
        (self.progress)(Progress { evaluations, max_evaluations, generation, best });
        Ok(())
    }

    /// The candidates that may have children in a population of `count`.
    pub(super) fn parents(&self, count: usize) -> Parents {
        let genome = |index: usize| self.candidates[index].genome.clone();
        let survivors = pareto::survivors(&self.objectives(), count);
        Parents {
            ranked: survivors.into_iter().map(|(index, standing)| (genome(index), standing)).collect(),
            elite: self.ranked().into_iter().take(count.div_ceil(ELITE_DIVISOR)).map(genome).collect(),
        }
    }

    /// All subnets that were evaluated, in their order.
    fn evaluated(&self) -> Vec<&Candidate> {
        let mut all: Vec<&Candidate> = self.candidates.iter().chain(&self.stopped).collect();
        all.sort_by_key(|candidate| candidate.place);
        all
    }

    /// The genomes of all of them.
    pub(super) fn genomes(&self) -> Vec<Genome> {
        self.evaluated().into_iter().map(|candidate| candidate.genome.clone()).collect()
    }

    /// The genomes of the front.
    pub(super) fn front(&self) -> impl Iterator<Item = &Genome> {
        self.first_front().into_iter().map(|index| &self.candidates[index].genome)
    }

    pub(super) fn budgets(&self) -> &'a [Budget] {
        self.budgets
    }

    pub(super) fn to_be_small(&self) -> &'a [Quantity] {
        self.objectives
    }

    /// The genomes of the candidates and their objectives.
    pub(super) fn members(&self) -> impl Iterator<Item = (&Genome, Objectives)> {
        self.candidates.iter().map(|candidate| &candidate.genome).zip(self.objectives())
    }

    /// The result of the search.
    pub(super) fn outcome(&self) -> Outcome {
        let ranked = self.ranked();
        let points = |indices: &[usize]| indices.iter().map(|&i| self.candidates[i].point.clone()).collect();
        let first: BTreeSet<usize> = self.first_front().into_iter().collect();
        let front: Vec<usize> = ranked.iter().copied().filter(|index| first.contains(index)).collect();
        Outcome {
            evaluated: self.evaluated().into_iter().map(|c| c.point.clone()).collect(),
            ranking: points(&ranked),
            front: points(&front),
            evaluations: self.evaluations,
        }
    }

    fn admit(
        &mut self,
        genome: Genome,
        subnet: Subnet,
        Accuracy { value: accuracy, stopped_after }: Accuracy,
    ) -> Result<(), SearchError<E::Error>> {
        if accuracy.is_nan() {
            return Err(SearchError::NoAnswers { subnet: subnet.to_string() });
        }
        let price = self.price(&subnet)?;
        let objectives = self.wanted(accuracy, &price);
        let place = self.seen.len();
        self.seen.insert(subnet.clone());
        let list = if stopped_after.is_none() { &mut self.candidates } else { &mut self.stopped };
        list.push(Candidate {
            place,
            genome,
            point: Point { subnet, accuracy, stopped_after, costs: price.costs },
            objectives,
        });
        Ok(())
    }

    pub(super) fn objectives(&self) -> Vec<Objectives> {
        self.candidates.iter().map(|candidate| candidate.objectives).collect()
    }

    /// Indices of the candidates that no other beats.
    fn first_front(&self) -> Vec<usize> {
        pareto::fronts(&self.objectives()).into_iter().next().unwrap_or_default()
    }

    /// Indices of the candidates, best accuracy first; equal ones by costs, then MACs, then subnet.
    fn ranked(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.candidates.len()).collect();
        order.sort_by(|&a, &b| self.compare(&self.candidates[a], &self.candidates[b]));
        order
    }

    fn compare(&self, a: &Candidate, b: &Candidate) -> Ordering {
        let macs = |c: &Candidate| self.space.cost(&c.point.subnet).macs;
        b.point
            .accuracy
            .total_cmp(&a.point.accuracy)
            .then_with(|| a.objectives.cheaper(&b.objectives))
            .then_with(|| macs(a).cmp(&macs(b)))
            .then_with(|| a.point.subnet.cmp(&b.point.subnet))
    }
}
