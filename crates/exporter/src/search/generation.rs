//! The members of a generation: the first one, later ones, and the search for any feasible subnet.

use std::collections::BTreeSet;

use elastic_space::genome;
use elastic_space::random::Purpose;
use elastic_space::{Genome, SearchSpace, Slot, Subnet};
use rand::Rng;

use super::archive::{Archive, Oracle};
use super::evolution;
use super::{SearchError, Settings};

/// The share of children that grow up to the budget.
const GROWN_SHARE: f64 = 0.75;

/// Tries per child to make a subnet that was not seen before.
const TRIES_PER_CHILD: usize = 10;

/// Subnets from which a feasible one is looked for when the smallest misses a budget.
const RESCUE_STARTS: usize = 32;

/// Steps from each of them.
const RESCUE_STEPS: usize = 48;

/// The usage of the cheapest and of the dearest subnet that may be evaluated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct UsageRange {
    pub(super) low: f64,
    pub(super) high: f64,
    /// Whether the largest subnet is within the budgets.
    pub(super) holds_largest: bool,
}

impl UsageRange {
    /// The usage at a place from 0, the cheapest subnet, to 1, the dearest that is allowed.
    fn at(self, place: f64) -> f64 {
        if self.low < self.high { self.low + (self.high - self.low) * place } else { f64::INFINITY }
    }
}

/// Evaluates the first generation: the largest subnet if it is feasible, the smallest, and random ones
/// spread along the budget, more of them near its end.
pub(super) fn seed<E: Oracle>(
    archive: &mut Archive<'_, E>,
    space: &SearchSpace,
    settings: &Settings,
) -> Result<UsageRange, SearchError<E::Error>> {
    let mut rng = settings.seed.generator(Purpose::Search, 0);
    let largest = archive.price(&space.largest())?;
    let smallest: Genome = vec![0; archive.slots.len()];
    let first = if archive.fits(&smallest, f64::INFINITY)? {
        smallest
    } else {
        match rescue(archive, space, &mut rng)? {
            Some(genome) => genome,
            None => {
                let subnet = space.smallest();
                let misses = archive.misses(&subnet)?;
                return Err(SearchError::Infeasible { smallest: subnet.to_string(), misses });
            }
        }
    };
    let low = archive.price(&space.decode_with(&archive.slots, &first))?.usage;
    let high = if largest.feasible { largest.usage } else { 1.0 };
    let range = UsageRange { low, high, holds_largest: largest.feasible };
    let everything: Genome = archive.slots.iter().map(Slot::largest).collect();
    for genome in [everything, first] {
        archive.evaluate(&genome, 0)?;
    }
    for number in 0..settings.population.saturating_sub(2) {
        let place = (number + 1) as f64 / (settings.population - 1) as f64;
        let ceiling =
            if number % 2 == 0 && !range.holds_largest { f64::INFINITY } else { range.at(place.sqrt()) };
        let drawn = genome::draw(&archive.slots, &mut rng);
        if let Some(genome) = shrink(archive, drawn, ceiling, &mut rng)? {
            let genome = expand(archive, genome, ceiling, &mut rng)?;
            archive.evaluate(&genome, 0)?;
        }
    }
    Ok(range)
}

/// Up to `settings.population` new feasible genomes, drawn.
pub(super) fn draw<E: Oracle>(
    archive: &mut Archive<'_, E>,
    space: &SearchSpace,
    settings: &Settings,
    generation: u64,
) -> Result<Vec<Genome>, SearchError<E::Error>> {
    let mut rng = settings.seed.generator(Purpose::Search, generation);
    let mut children = New::default();
    for _ in 0..TRIES_PER_CHILD * settings.population {
        if children.genomes.len() == settings.population {
            break;
        }
        let child = genome::draw(&archive.slots, &mut rng);
        if let Some(child) = shrink(archive, child, f64::INFINITY, &mut rng)? {
            children.add(archive, space, child);
        }
    }
    Ok(children.genomes)
}

/// Genomes of subnets that are not in the archive, each once.
#[derive(Default)]
pub(super) struct New {
    pub(super) genomes: Vec<Genome>,
    subnets: BTreeSet<Subnet>,
}

impl New {
    pub(super) fn add<E: Oracle>(&mut self, archive: &Archive<'_, E>, space: &SearchSpace, genome: Genome) {
        let subnet = space.decode_with(&archive.slots, &genome);
        if !archive.holds(&subnet) && self.subnets.insert(subnet) {
            self.genomes.push(genome);
        }
    }
}

/// Up to `settings.population` new feasible genomes, bred from the best candidates.
pub(super) fn breed<E: Oracle>(
    archive: &mut Archive<'_, E>,
    space: &SearchSpace,
    settings: &Settings,
    generation: u64,
    range: UsageRange,
) -> Result<Vec<Genome>, SearchError<E::Error>> {
    let mut rng = settings.seed.generator(Purpose::Search, generation);
    let parents = archive.parents(settings.population);
    let tries = TRIES_PER_CHILD * settings.population;
    let mut children = New::default();
    for attempt in 0..tries {
        if children.genomes.len() == settings.population {
            break;
        }
        // Parents that are too much alike bring nothing new: then fresh blood.
        let child = if attempt < tries / 2 && !parents.ranked.is_empty() {
            evolution::offspring(&parents, &archive.slots, settings.mutation_probability, &mut rng)
        } else {
            genome::draw(&archive.slots, &mut rng)
        };
        let Some(mut child) = shrink(archive, child, f64::INFINITY, &mut rng)? else { continue };
        if rng.random_bool(GROWN_SHARE) {
            let ceiling = if range.holds_largest { range.at(rng.random()) } else { f64::INFINITY };
            child = expand(archive, child, ceiling, &mut rng)?;
        }
        children.add(archive, space, child);
    }
    Ok(children.genomes)
}

/// Looks for a feasible genome when the smallest subnet is not one: quantities that are predicted need
/// not grow with the choices. Walks downhill from the smallest, the largest and random genomes.
fn rescue<E: Oracle>(
    archive: &mut Archive<'_, E>,
    space: &SearchSpace,
    rng: &mut impl Rng,
) -> Result<Option<Genome>, SearchError<E::Error>> {
    for start in 0..RESCUE_STARTS {
        let mut genome = match start {
            0 => vec![0; archive.slots.len()],
            1 => archive.slots.iter().map(Slot::largest).collect(),
            _ => genome::draw(&archive.slots, rng),
        };
        let mut price = archive.price(&space.decode_with(&archive.slots, &genome))?;
        for _ in 0..RESCUE_STEPS {
            if price.feasible {
                break;
            }
            let mut step = genome.clone();
            let slot = rng.random_range(0..step.len());
            step[slot] = rng.random_range(0..archive.slots[slot].choices.len());
            let other = archive.price(&space.decode_with(&archive.slots, &step))?;
            if other.feasible || other.usage <= price.usage {
                (genome, price) = (step, other);
            }
        }
        if price.feasible {
            return Ok(Some(genome));
        }
    }
    Ok(None)
}

fn shrink<E: Oracle>(
    archive: &mut Archive<'_, E>,
    genome: Genome,
    ceiling: f64,
    rng: &mut impl Rng,
) -> Result<Option<Genome>, SearchError<E::Error>> {
    let slots = archive.slots.clone();
    evolution::repair(genome, &slots, &mut |genome| archive.fits(genome, ceiling), rng)
}

fn expand<E: Oracle>(
    archive: &mut Archive<'_, E>,
    genome: Genome,
    ceiling: f64,
    rng: &mut impl Rng,
) -> Result<Genome, SearchError<E::Error>> {
    if !archive.fits(&genome, ceiling)? {
        return Ok(genome);
    }
    let slots = archive.slots.clone();
    evolution::grow(genome, &slots, &mut |genome| archive.fits(genome, ceiling), rng)
}
