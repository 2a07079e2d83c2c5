//! Fewer models than platforms: one subnet for all, or a few that serve them between them.
//!
//! Each platform is searched for as if it were alone, and all share the accuracies that were measured. Of all subnets that any
//! search has seen, those are chosen that lose least. Platforms that are to share one are then searched for together, since
//! each alone had no reason to look for what suits all of them; then it is chosen again. What is chosen is measured on
//! each platform that it serves, and where it misses a budget it does not serve, and is chosen anew.

mod report;

use std::collections::{BTreeMap, BTreeSet};

use elastic_exporter::search::{Candidate, Evaluator, Point, SearchError, assign};
use elastic_space::budget::Quantity;
use elastic_space::{Budget, Subnet, file};

use super::candidates::{MEASURED_CANDIDATES, Tried, Winner};
use super::forms::Bench;
use super::job::{Found, Job, Knowledge};
use super::report::Report;
use crate::exit::NoneServesAll;
use crate::judge::Gauge;

pub(crate) use report::FleetReport;
use report::Served;
pub(super) use report::print;

/// Searches for platforms together, at most, in one call.
const JOINT_SEARCHES: usize = 16;

/// What a subnet costs of each budgeted quantity.
type Costs = Vec<(Quantity, f64)>;

/// What is known of the platforms, each by its place among the jobs.
struct Fleet<'a, 'k> {
    jobs: &'a [Job<'a>],
    most: usize,
    knowledge: &'a mut Knowledge<'k>,
    /// The search of each platform.
    found: Vec<Found>,
    /// The costs of each subnet on each platform, as predicted; none where they miss a budget.
    costs: BTreeMap<Subnet, Vec<Option<Costs>>>,
    /// What missed a budget of a platform when it was measured there.
    missed: BTreeSet<(Subnet, usize)>,
    /// What held them.
    held: BTreeMap<(Subnet, usize), Winner>,
    /// Platforms that were searched for together.
    together: BTreeSet<Vec<usize>>,
    /// Accuracies that all searches asked for, and how many of them had been measured before.
    evaluations: [usize; 2],
}

/// The subnet of each platform.
struct Choice {
    of_platform: Vec<Subnet>,
    /// Whether no other choice of known subnets has a higher mean accuracy.
    exact: bool,
}

/// Searches, chooses at most so many subnets, proves and writes them.
pub(super) fn export(
    jobs: &[Job<'_>],
    most: usize,
    knowledge: &mut Knowledge<'_>,
) -> anyhow::Result<FleetReport> {
    let mut fleet = Fleet {
        jobs,
        most,
        knowledge,
        found: Vec::new(),
        costs: BTreeMap::new(),
        missed: BTreeSet::new(),
        held: BTreeMap::new(),
        together: BTreeSet::new(),
        evaluations: [0, 0],
    };
    for job in jobs {
        let found = job.search(&[], fleet.knowledge)?;
        fleet.count(&found);
        fleet.found.push(found);
    }
    let mut benches = jobs.iter().map(Job::bench).collect::<anyhow::Result<Vec<_>>>()?;
    loop {
        let choice = fleet.choose()?;
        if fleet.measure(&choice, &mut benches)? {
            return fleet.write(&choice);
        }
    }
}

impl Fleet<'_, '_> {
    fn count(&mut self, found: &Found) {
        self.evaluations[0] += found.outcome.evaluations;
        self.evaluations[1] += found.cached;
    }

    /// Chooses, searches for platforms together that are to share a subnet, and chooses again, until there is nothing to search.
    fn choose(&mut self) -> anyhow::Result<Choice> {
        loop {
            let choice = self.assigned()?;
            let groups = match &choice {
                Some(choice) => groups(&choice.of_platform),
                None => vec![(0..self.jobs.len()).collect()],
            };
            let open: Vec<Vec<usize>> = groups
                .into_iter()
                .filter(|group| group.len() > 1 && !self.together.contains(group))
                .take(JOINT_SEARCHES.saturating_sub(self.together.len()))
                .collect();
            if open.is_empty() {
                return choice.ok_or_else(|| self.none_serves_all().into());
            }
            for group in open {
                self.search_together(&group)?;
                self.together.insert(group);
            }
        }
    }

    /// The choice among all known subnets.
    fn assigned(&mut self) -> anyhow::Result<Option<Choice>> {
        self.price()?;
        let subnets: Vec<&Subnet> = self.costs.keys().collect();
        let candidates: Vec<Candidate> = subnets
            .iter()
            .map(|subnet| Candidate {
                accuracy: self.knowledge.known[*subnet],
                serves: (0..self.jobs.len()).map(|platform| self.serves(subnet, platform)).collect(),
            })
            .collect();
        Ok(assign(&candidates, self.most).map(|assignment| Choice {
            of_platform: assignment.of_platform.iter().map(|&index| subnets[index].clone()).collect(),
            exact: assignment.exact,
        }))
    }

    /// Whether a subnet holds a platform's budgets, as far as is known.
    fn serves(&self, subnet: &Subnet, platform: usize) -> bool {
        self.costs[subnet][platform].is_some() && !self.missed.contains(&(subnet.clone(), platform))
    }

    /// Asks for the costs of subnets that are new.
    fn price(&mut self) -> anyhow::Result<()> {
        let Knowledge { known, accuracies } = &mut *self.knowledge;
        let new: Vec<&Subnet> = known.keys().filter(|subnet| !self.costs.contains_key(*subnet)).collect();
        let mut prices: Vec<Vec<Option<Costs>>> = vec![Vec::new(); new.len()];
        for job in self.jobs {
            let gauges = job.gauges(|_| Some(1.0));
            let mut judge = job.judge(&gauges, accuracies);
            for (subnet, prices) in new.iter().zip(&mut prices) {
                let mut costs = Vec::with_capacity(job.budgets.len());
                let mut holds = true;
                for budget in job.budgets {
                    let cost = judge.cost(subnet, budget.quantity)?;
                    holds &= cost <= budget.limit;
                    costs.push((budget.quantity, cost));
                }
                prices.push(holds.then_some(costs));
            }
        }
        self.costs.extend(new.into_iter().cloned().zip(prices));
        Ok(())
    }

    /// Searches for subnets that hold the budgets of all platforms of a group. That there are none is no error: then they
    /// share none.
    fn search_together(&mut self, group: &[usize]) -> anyhow::Result<()> {
        let all = self.jobs;
        let jobs = || group.iter().map(|&platform| &all[platform]);
        let limit = |job: &Job<'_>, quantity| {
            let limits = job.budgets.iter().filter(|budget| budget.quantity == quantity);
            limits.map(|budget| budget.limit).min_by(f64::total_cmp)
        };
        let gauges: Vec<Gauge<'_>> =
            jobs().flat_map(|job| job.gauges(|quantity| limit(job, quantity))).collect();
        let mut budgets: BTreeMap<Quantity, Budget> = BTreeMap::new();
        for &asked in jobs().flat_map(|job| job.budgets) {
            // Of what platforms measure the largest share of a platform's limit counts.
            let limit = if asked.quantity.is_measured() { 1.0 } else { asked.limit };
            let budget = budgets.entry(asked.quantity).or_insert(Budget { limit, ..asked });
            budget.limit = budget.limit.min(limit);
        }
        let budgets: Vec<Budget> = budgets.into_values().collect();
        let title = format!("search {} platforms", group.len());
        match all[group[0]].search_by(&title, (&budgets, &[]), &gauges, self.knowledge) {
            Ok(found) => {
                self.count(&found);
                Ok(())
            }
            Err(error) => match error.downcast_ref() {
                Some(SearchError::<anyhow::Error>::Infeasible { .. }) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Measures what is chosen on the platforms that it serves, unless that is known. Whether all of it holds.
    fn measure(&mut self, choice: &Choice, benches: &mut [Option<Bench<'_>>]) -> anyhow::Result<bool> {
        let mut all_hold = true;
        for (platform, subnet) in choice.of_platform.iter().enumerate() {
            let key = (subnet.clone(), platform);
            if self.held.contains_key(&key) {
                continue;
            }
            let costs = self.costs[subnet][platform].clone().expect("what is chosen holds the budgets");
            let accuracy = self.knowledge.known[subnet];
            let point = Point { subnet: subnet.clone(), accuracy, stopped_after: None, costs };
            match self.jobs[platform].try_on(&point, benches[platform].as_mut())? {
                Tried::Holds(winner) => {
                    self.held.insert(key, *winner);
                }
                Tried::Misses { missed, slowdown, .. } => {
                    self.missed.insert(key);
                    let tried = self.missed.iter().filter(|(_, at)| *at == platform).count();
                    if tried == MEASURED_CANDIDATES {
                        return Err(self.jobs[platform].missed(tried, missed, slowdown).into());
                    }
                    all_hold = false;
                }
            }
        }
        Ok(all_hold)
    }

    /// Why there is no choice, by the smallest subnet.
    fn none_serves_all(&self) -> NoneServesAll {
        let names = self.jobs.iter().filter_map(|job| job.platform_name());
        let misses = self.missed.iter().map(|(subnet, platform)| {
            format!("{subnet} on {}", self.jobs[*platform].platform_name().unwrap_or_default())
        });
        NoneServesAll {
            most: self.most,
            platforms: names.collect::<Vec<_>>().join(", "),
            measured: misses.collect(),
        }
    }

    /// Proves and writes each subnet once in each way in which a platform runs it fastest.
    fn write(self, choice: &Choice) -> anyhow::Result<FleetReport> {
        let winners: Vec<&Winner> = choice
            .of_platform
            .iter()
            .enumerate()
            .map(|(platform, subnet)| &self.held[&(subnet.clone(), platform)])
            .collect();
        let subnets = groups(&choice.of_platform);
        let request = self.jobs[0].request;
        let kind = if self.most == 1 { "shared".to_owned() } else { format!("at-most-{}", self.most) };
        let mut models: Vec<Report> = Vec::new();
        let mut files = vec![String::new(); self.jobs.len()];
        for (number, group) in subnets.iter().enumerate() {
            let mut left: Vec<usize> = group.clone();
            let forms: BTreeSet<String> = group.iter().map(|&platform| form(winners[platform])).collect();
            while let Some(&first) = left.first() {
                let is_same = |platform: &usize| form(winners[*platform]) == form(winners[first]);
                let (same, others): (Vec<usize>, Vec<usize>) =
                    left.iter().partition(|platform| is_same(platform));
                let mut name = Vec::new();
                if self.most > 1 {
                    name.push((number + 1).to_string());
                }
                if forms.len() > 1 {
                    name.push(form(winners[first]));
                }
                let job = &self.jobs[first];
                let shared_with = same[1..].iter().filter_map(|&other| self.jobs[other].platform_name());
                let report = job.write(
                    &request.name(job.run, Some(&kind), &name.join("-")),
                    &self.found[first],
                    winners[first].clone(),
                    shared_with.map(str::to_owned).collect(),
                )?;
                same.into_iter().for_each(|platform| files[platform] = report.file.clone());
                models.push(report);
                left = others;
            }
        }
        let own = |platform: usize| {
            let known = self.costs.keys().filter(|subnet| self.serves(subnet, platform));
            known.map(|subnet| self.knowledge.known[subnet]).fold(0.0, f64::max)
        };
        let served = (0..self.jobs.len()).map(|platform| {
            let (job, winner) = (&self.jobs[platform], winners[platform]);
            Served::new(job, winner, files[platform].clone(), own(platform))
        });
        let file = request.name(self.jobs[0].run, Some(&kind), "") + ".fleet.json";
        let [evaluations, cached] = self.evaluations;
        let report = FleetReport::new(file, self.most, choice.exact, served.collect(), models)
            .searched([evaluations, cached], self.knowledge.known.len());
        file::write_json(&request.out.join(&report.file), &report)?;
        Ok(report)
    }
}

/// How a platform runs its subnet fastest, for a file's name.
fn form(winner: &Winner) -> String {
    let writing = winner.file.writing;
    format!("{}-{}", writing.form, writing.precision)
}

/// The platforms of each subnet, in the order of their first.
fn groups(of_platform: &[Subnet]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(&Subnet, Vec<usize>)> = Vec::new();
    for (platform, subnet) in of_platform.iter().enumerate() {
        match groups.iter_mut().find(|(other, _)| *other == subnet) {
            Some((_, group)) => group.push(platform),
            None => groups.push((subnet, vec![platform])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}
