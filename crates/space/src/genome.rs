//! A subnet as one index per slot: what samplers and searches work on, whatever the family.

use rand::Rng;
use rand::seq::SliceRandom;

use crate::slot::Slot;

/// The index of the chosen value, per slot.
pub type Genome = Vec<usize>;

/// Draws each slot by its weights.
pub fn draw(slots: &[Slot], rng: &mut impl Rng) -> Genome {
    slots.iter().map(|slot| draw_weighted(&slot.weights, rng)).collect()
}

/// Draws each slot anew with the given probability.
///
/// # Panics
///
/// If the probability is not from 0 to 1.
pub fn mutate(genome: &[usize], slots: &[Slot], probability: f64, rng: &mut impl Rng) -> Genome {
    genome
        .iter()
        .zip(slots)
        .map(
            |(&index, slot)| {
                if rng.random_bool(probability) { draw_weighted(&slot.weights, rng) } else { index }
            },
        )
        .collect()
}

/// Takes each slot from one of the parents, with equal chance.
pub fn crossover(a: &[usize], b: &[usize], rng: &mut impl Rng) -> Genome {
    a.iter().zip(b).map(|(&a, &b)| if rng.random_bool(0.5) { a } else { b }).collect()
}

/// So many indices in random order, each as often as its weight says, give or take one.
pub(crate) fn balanced(weights: &[f64], count: usize, rng: &mut impl Rng) -> Vec<usize> {
    // One point in each of as many equal parts of 0 to 1 as there are indices to draw.
    let mut drawn: Vec<usize> = (0..count)
        .map(|part| at_weight(weights, (part as f64 + rng.random_range(0.0..1.0)) / count as f64))
        .collect();
    drawn.shuffle(rng);
    drawn
}

/// An index by weights whose sum is 1.
pub(crate) fn draw_weighted(weights: &[f64], rng: &mut impl Rng) -> usize {
    at_weight(weights, rng.random_range(0.0..1.0))
}

/// The index in whose part of 0 to 1 a point lies, if each has a part as long as its weight.
fn at_weight(weights: &[f64], mut point: f64) -> usize {
    for (index, weight) in weights.iter().enumerate() {
        point -= weight;
        if point < 0.0 {
            return index;
        }
    }
    // Rounding has left a rest: it goes to the last choice that can be drawn.
    weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(weights.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use crate::random::Purpose;

    #[test]
    fn balanced_draws_follow_the_weights() {
        let mut rng = Seed(1).generator(Purpose::Candidates, 0);
        for (weights, count) in [
            (&[0.25; 4][..], 40),
            (&[0.5, 0.25, 0.25], 24),
            (&[0.1, 0.0, 0.9], 30),
            (&[1.0], 5),
            (&[0.5, 0.5], 0),
        ] {
            let drawn = balanced(weights, count, &mut rng);
            assert_eq!(drawn.len(), count);
            for (index, weight) in weights.iter().enumerate() {
                let times = drawn.iter().filter(|&&found| found == index).count() as f64;
                assert!((times - weight * count as f64).abs() <= 1.0, "{weights:?}, {index}: {times}");
            }
            assert!(count < 20 || !drawn.is_sorted() || weights.len() == 1, "{weights:?}: {drawn:?}");
        }
    }
}
