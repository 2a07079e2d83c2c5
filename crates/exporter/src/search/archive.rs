//! What the search has learnt: costs that were asked for and subnets that were evaluated.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use elastic_space::budget::Quantity;
use elastic_space::{Budget, Genome, SearchSpace, Slot, Subnet};

use super::evolution::Parents;
use super::pareto::{self, Objectives};
use super::{Answering, Evaluator, Margins, Outcome, Point, Progress, SearchError};

/// One in so many of a population is of the elite.
///
/// On the landscapes of the tests, 4 finds the optimum in 300 evaluations more often than 2 or 1.
const ELITE_DIVISOR: usize = 4;

/// Asks the evaluator, each question once, and keeps the answers.
pub(super) struct Archive<'a, E> {
    pub(super) slots: Vec<Slot>,
    space: &'a SearchSpace,
    budgets: &'a [Budget],
    quantities: Vec<Quantity>,
    evaluator: &'a mut E,
    progress: &'a mut dyn FnMut(Progress),
    max_evaluations: usize,
    evaluations: usize,
    largest_macs: f64,
    prices: BTreeMap<Subnet, Price>,
    candidates: Vec<Candidate>,
    seen: BTreeSet<Subnet>,
}

/// What a subnet costs, against the budgets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Price {
    /// The value of each budgeted quantity.
    pub(super) costs: Vec<(Quantity, f64)>,
    /// The largest share of a budget that is used; without budgets the MACs over the largest subnet's.
    pub(super) usage: f64,
    /// Whether every budget is met.
    pub(super) feasible: bool,
}

/// A feasible subnet whose accuracy is known.
#[derive(Debug, Clone)]
struct Candidate {
    genome: Genome,
    point: Point,
    usage: f64,
}

impl<E: Answering> Archive<'_, E> {
    /// The evaluated subnets with their margins.
    pub(super) fn margins(&self) -> impl Iterator<Item = (&Subnet, Margins)> {
        let subnets = self.candidates.iter().map(|candidate| &candidate.point.subnet);
        subnets.map(|subnet| (subnet, self.evaluator.margins(subnet)))
    }
}

impl<'a, E: Evaluator> Archive<'a, E> {
    pub(super) fn new(
        space: &'a SearchSpace,
        budgets: &'a [Budget],
        evaluator: &'a mut E,
        max_evaluations: usize,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let distinct: BTreeSet<Quantity> = budgets.iter().map(|budget| budget.quantity).collect();
        Self {
            slots: space.slots(),
            space,
            budgets,
            quantities: distinct.into_iter().collect(),
            evaluator,
            progress,
            max_evaluations,
            evaluations: 0,
            largest_macs: space.cost(&space.largest()).macs as f64,
            prices: BTreeMap::new(),
            candidates: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// The costs of a subnet; asked of the evaluator at the first call only.
    pub(super) fn price(&mut self, subnet: &Subnet) -> Result<Price, SearchError<E::Error>> {
        if let Some(price) = self.prices.get(subnet) {
            return Ok(price.clone());
        }
        let mut costs = Vec::with_capacity(self.quantities.len());
        for &quantity in &self.quantities {
            let value = self.evaluator.cost(subnet, quantity).map_err(SearchError::Evaluator)?;
            if !value.is_finite() {
                return Err(SearchError::Cost { subnet: subnet.to_string(), quantity, value });
            }
            costs.push((quantity, value));
        }
        let shares = || self.budgets.iter().map(|budget| cost_of(&costs, budget) / budget.limit);
        let feasible = self.budgets.iter().all(|budget| cost_of(&costs, budget) <= budget.limit);
        let usage = shares()
            .max_by(f64::total_cmp)
            .unwrap_or_else(|| self.space.cost(subnet).macs as f64 / self.largest_macs);
        let price = Price { costs, usage, feasible };
        self.prices.insert(subnet.clone(), price.clone());
        Ok(price)
    }

    /// Whether a genome's subnet meets every budget and uses no more than `ceiling` of it.
    pub(super) fn fits(&mut self, genome: &[usize], ceiling: f64) -> Result<bool, SearchError<E::Error>> {
        let price = self.price(&self.space.decode_with(&self.slots, genome))?;
        Ok(price.feasible && price.usage <= ceiling)
    }

    /// Each budget that a subnet misses, with the subnet's cost.
    pub(super) fn misses(&mut self, subnet: &Subnet) -> Result<Vec<(Budget, f64)>, SearchError<E::Error>> {
        let price = self.price(subnet)?;
        let costs = self.budgets.iter().map(|budget| (*budget, cost_of(&price.costs, budget)));
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

    /// Adds a subnet whose accuracy is known from before, unless it misses a budget.
    pub(super) fn admit_known(
        &mut self,
        subnet: &Subnet,
        accuracy: f64,
    ) -> Result<(), SearchError<E::Error>> {
        let genome = self.space.encode(subnet)?;
        if self.price(subnet)?.feasible && !self.holds(subnet) {
            self.admit(genome, subnet.clone(), accuracy)?;
        }
        Ok(())
    }

    /// Measures the accuracy of a genome's subnet, once. Nothing happens if it is known, if the
    /// subnet misses a budget, or when the archive is full.
    pub(super) fn evaluate(
        &mut self,
        genome: &[usize],
        generation: usize,
    ) -> Result<(), SearchError<E::Error>> {
        let subnet = self.space.decode_with(&self.slots, genome);
        if self.is_full() || self.holds(&subnet) || !self.price(&subnet)?.feasible {
            return Ok(());
        }
        let accuracy = self.evaluator.accuracy(&subnet).map_err(SearchError::Evaluator)?;
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

    /// The genomes of the evaluated subnets.
    pub(super) fn genomes(&self) -> Vec<Genome> {
        self.candidates.iter().map(|candidate| candidate.genome.clone()).collect()
    }

    pub(super) fn budgets(&self) -> &'a [Budget] {
        self.budgets
    }

    /// The genomes of the evaluated subnets and their objectives.
    pub(super) fn members(&self) -> impl Iterator<Item = (&Genome, Objectives)> {
        self.candidates.iter().map(|candidate| &candidate.genome).zip(self.objectives())
    }

    /// The result of the search.
    pub(super) fn outcome(&self) -> Outcome {
        let ranked = self.ranked();
        let points = |indices: &[usize]| indices.iter().map(|&i| self.candidates[i].point.clone()).collect();
        let first: BTreeSet<usize> =
            pareto::fronts(&self.objectives()).into_iter().next().unwrap_or_default().into_iter().collect();
        let front: Vec<usize> = ranked.iter().copied().filter(|index| first.contains(index)).collect();
        Outcome {
            evaluated: self.candidates.iter().map(|c| c.point.clone()).collect(),
            ranking: points(&ranked),
            front: points(&front),
            evaluations: self.evaluations,
        }
    }

    fn admit(&mut self, genome: Genome, subnet: Subnet, accuracy: f64) -> Result<(), SearchError<E::Error>> {
        if !(0.0..=1.0).contains(&accuracy) {
            return Err(SearchError::Accuracy { subnet: subnet.to_string(), value: accuracy });
        }
        let Price { costs, usage, .. } = self.price(&subnet)?;
        self.seen.insert(subnet.clone());
        self.candidates.push(Candidate { genome, point: Point { subnet, accuracy, costs }, usage });
        Ok(())
    }

    pub(super) fn objectives(&self) -> Vec<Objectives> {
        self.candidates.iter().map(|c| Objectives { accuracy: c.point.accuracy, usage: c.usage }).collect()
    }

    /// Indices of the candidates, best accuracy first; equal ones by usage, then MACs, then subnet.
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
            .then_with(|| a.usage.total_cmp(&b.usage))
            .then_with(|| macs(a).cmp(&macs(b)))
            .then_with(|| a.point.subnet.cmp(&b.point.subnet))
    }
}

fn cost_of(costs: &[(Quantity, f64)], budget: &Budget) -> f64 {
    let cost = costs.iter().find(|(quantity, _)| *quantity == budget.quantity);
    cost.expect("the cost of every budgeted quantity was asked for").1
}
