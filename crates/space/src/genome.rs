//! A subnet as one index per slot: what samplers and searches work on, whatever the family.

use rand::Rng;

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

/// An index by weights whose sum is 1.
pub(crate) fn draw_weighted(weights: &[f64], rng: &mut impl Rng) -> usize {
    let mut point = rng.random_range(0.0..1.0);
    for (index, weight) in weights.iter().enumerate() {
        point -= weight;
        if point < 0.0 {
            return index;
        }
    }
    // Rounding has left a rest: it goes to the last choice that can be drawn.
    weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(weights.len() - 1)
}
