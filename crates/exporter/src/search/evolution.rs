//! How genomes change: offspring, repair towards a budget, growth up to it, and a sweep over all.

use std::cmp::Ordering;

use elastic_space::genome::{crossover, mutate};
use elastic_space::{Genome, Slot};
use rand::Rng;

use super::pareto::Standing;

/// Those that may have children; neither list is empty.
#[derive(Debug, Clone)]
pub(super) struct Parents {
    /// The best by rank and crowding, from all along the Pareto front.
    pub(super) ranked: Vec<(Genome, Standing)>,
    /// The most accurate ones.
    pub(super) elite: Vec<Genome>,
}

/// One child of two parents by crossover and mutation.
pub(super) fn offspring(
    parents: &Parents,
    slots: &[Slot],
    mutation_probability: f64,
    rng: &mut impl Rng,
) -> Genome {
    let mother = parents.choose(rng);
    let father = parents.choose(rng);
    mutate(&crossover(mother, father, rng), slots, mutation_probability, rng)
}

/// Steps to smaller choices until `fits`; `None` if that does not happen within [`max_steps`].
///
/// # Errors
///
/// What `fits` returns.
pub(super) fn repair<E>(
    mut genome: Genome,
    slots: &[Slot],
    fits: &mut impl FnMut(&[usize]) -> Result<bool, E>,
    rng: &mut impl Rng,
) -> Result<Option<Genome>, E> {
    for _ in 0..max_steps(slots) {
        if fits(&genome)? {
            return Ok(Some(genome));
        }
        let shrinkable: Vec<usize> = (0..genome.len()).filter(|&slot| genome[slot] > 0).collect();
        if shrinkable.is_empty() {
            return Ok(None);
        }
        let slot = shrinkable[rng.random_range(0..shrinkable.len())];
        let index = genome[slot];
        genome[slot] = if rng.random_bool(0.5) { index - 1 } else { rng.random_range(0..index) };
    }
    Ok(fits(&genome)?.then_some(genome))
}

/// Steps to larger choices for as long as the genome `fits`; the given one must.
///
/// # Errors
///
/// What `fits` returns.
pub(super) fn grow<E>(
    mut genome: Genome,
    slots: &[Slot],
    fits: &mut impl FnMut(&[usize]) -> Result<bool, E>,
    rng: &mut impl Rng,
) -> Result<Genome, E> {
    let mut growable: Vec<usize> =
        (0..genome.len()).filter(|&slot| genome[slot] < slots[slot].largest()).collect();
    for _ in 0..max_steps(slots) {
        if growable.is_empty() {
            break;
        }
        let position = rng.random_range(0..growable.len());
        let slot = growable[position];
        let index = genome[slot];
        let largest = slots[slot].largest();
        genome[slot] = if rng.random_bool(0.5) { index + 1 } else { rng.random_range(index + 1..=largest) };
        let fitted = fits(&genome)?;
        // A jump that is too far may still leave room for a single step.
        let try_again = genome[slot] > index + 1;
        if !fitted {
            genome[slot] = index;
        }
        if genome[slot] == largest || !fitted && !try_again {
            growable.swap_remove(position);
        }
    }
    Ok(genome)
}

/// The bound on the steps of one [`repair`] or [`grow`].
pub(super) fn max_steps(slots: &[Slot]) -> usize {
    32 + 8 * slots.len()
}

/// Every genome in order, from all smallest choices to all largest; the last slot turns fastest.
#[derive(Debug, Clone)]
pub(super) struct Sweep {
    next: Option<Genome>,
    largest: Genome,
}

impl Sweep {
    /// Begins at the smallest choices.
    pub(super) fn new(slots: &[Slot]) -> Self {
        Self { next: Some(vec![0; slots.len()]), largest: slots.iter().map(Slot::largest).collect() }
    }
}

impl Iterator for Sweep {
    type Item = Genome;

    fn next(&mut self) -> Option<Genome> {
        let genome = self.next.take()?;
        if let Some(slot) = (0..genome.len()).rev().find(|&slot| genome[slot] < self.largest[slot]) {
            let mut following = genome.clone();
            following[slot] += 1;
            following[slot + 1..].fill(0);
            self.next = Some(following);
        }
        Some(genome)
    }
}

impl Parents {
    /// One of the elite, or the winner of a tournament of two of the ranked, with equal chance.
    fn choose(&self, rng: &mut impl Rng) -> &[usize] {
        if rng.random_bool(0.5) {
            return &self.elite[rng.random_range(0..self.elite.len())];
        }
        let a = &self.ranked[rng.random_range(0..self.ranked.len())];
        let b = &self.ranked[rng.random_range(0..self.ranked.len())];
        if b.1.compare(&a.1) == Ordering::Less { &b.0 } else { &a.0 }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use elastic_space::random::{Purpose, Seed};
    use elastic_space::{Dimension, Genome, Place, Slot};

    use super::*;

    fn slots(sizes: &[usize]) -> Vec<Slot> {
        let slot = |(number, &size): (usize, &usize)| Slot {
            name: format!("slot {number}"),
            field: "width".to_owned(),
            dimension: Dimension::Width,
            place: Place::Network,
            choices: (1..=size).collect(),
            weights: vec![1.0 / size as f64; size],
        };
        sizes.iter().enumerate().map(slot).collect()
    }

    fn sum_at_most(limit: usize) -> impl FnMut(&[usize]) -> Result<bool, Infallible> {
        move |genome| Ok(genome.iter().sum::<usize>() <= limit)
    }

    #[test]
    fn repair_only_shrinks_and_ends_within_the_limit() {
        let slots = slots(&[4, 7, 1, 12, 3]);
        let start: Genome = slots.iter().map(Slot::largest).collect();
        for limit in [0, 1, 5, 21, 22] {
            for seed in 0..20 {
                let mut rng = Seed(seed).generator(Purpose::Search, 0);
                let Ok(repaired) = repair(start.clone(), &slots, &mut sum_at_most(limit), &mut rng);
                let repaired =
                    repaired.unwrap_or_else(|| panic!("limit {limit}, seed {seed}: nothing found"));
                assert!(repaired.iter().sum::<usize>() <= limit, "limit {limit}, seed {seed}: {repaired:?}");
                assert!(repaired.iter().zip(&start).all(|(a, b)| a <= b), "limit {limit}, seed {seed}");
            }
        }
    }

    #[test]
    fn repair_gives_up() {
        let slots = slots(&[4, 7, 3]);
        let mut asked = 0;
        let mut never = |_: &[usize]| -> Result<bool, Infallible> {
            asked += 1;
            Ok(false)
        };
        let mut rng = Seed(1).generator(Purpose::Search, 0);
        let Ok(repaired) = repair(vec![3, 6, 2], &slots, &mut never, &mut rng);
        assert_eq!(repaired, None);
        assert!(asked <= max_steps(&slots) + 1, "asked {asked} times");
    }

    #[test]
    fn grow_only_grows_and_leaves_no_room() {
        let slots = slots(&[4, 7, 1, 12, 3]);
        for limit in [2, 9, 20, 22, 40] {
            for seed in 0..20 {
                let mut rng = Seed(seed).generator(Purpose::Search, 0);
                let start = vec![1, 0, 0, 1, 0];
                let Ok(grown) = grow(start.clone(), &slots, &mut sum_at_most(limit), &mut rng);
                let sum: usize = grown.iter().sum();
                assert_eq!(sum, limit.min(22), "limit {limit}, seed {seed}: {grown:?}");
                assert!(grown.iter().zip(&start).all(|(a, b)| a >= b), "limit {limit}, seed {seed}");
            }
        }
    }

    #[test]
    fn the_sweep_sees_every_genome_once() {
        for (sizes, count) in [(vec![1], 1), (vec![3], 3), (vec![2, 3, 2], 12), (vec![1, 1, 4], 4)] {
            let slots = slots(&sizes);
            let genomes: Vec<Genome> = Sweep::new(&slots).collect();
            let distinct: std::collections::BTreeSet<&Genome> = genomes.iter().collect();
            assert_eq!((genomes.len(), distinct.len()), (count, count), "{sizes:?}");
            assert!(genomes.is_sorted(), "{sizes:?}");
        }
    }

    #[test]
    fn children_have_their_parents_genes_unless_they_mutate() {
        let slots = slots(&[9, 9, 9, 9, 9, 9]);
        let standing = Standing { rank: 0, crowding: 1.0 };
        let ranked = vec![(vec![0; 6], standing), (vec![8; 6], standing)];
        let parents = Parents { ranked, elite: vec![vec![8; 6]] };
        for seed in 0..20 {
            let mut rng = Seed(seed).generator(Purpose::Search, 0);
            let child = offspring(&parents, &slots, 0.0, &mut rng);
            assert!(child.iter().all(|gene| [0, 8].contains(gene)), "seed {seed}: {child:?}");
        }
    }

    #[test]
    fn tournaments_prefer_the_better_standing() {
        let better = Standing { rank: 0, crowding: 1.0 };
        let worse = Standing { rank: 1, crowding: f64::INFINITY };
        let parents = Parents { ranked: vec![(vec![0], worse), (vec![1], better)], elite: vec![vec![2]] };
        let mut rng = Seed(3).generator(Purpose::Search, 0);
        let mut chosen = [0; 3];
        for _ in 0..4000 {
            chosen[parents.choose(&mut rng)[0]] += 1;
        }
        // Half are of the elite; of the rest the worse wins one time in four, against itself.
        for (genome, expected) in [(0, 500), (1, 1500), (2, 2000)] {
            assert!(i32::abs(chosen[genome] - expected) < 120, "{chosen:?}");
        }
    }
}
