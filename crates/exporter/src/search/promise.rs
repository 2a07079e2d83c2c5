//! What the measurement of a subnet can be expected to bring.

use std::f64::consts::PI;

use super::pareto::{Objectives, beyond, fronts};
use super::process::cumulative;

/// What is expected of a subnet: its accuracy is normally distributed, its costs are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) objectives: Objectives,
    /// The standard deviation of the accuracy.
    pub(super) deviation: f64,
}

/// The front of what was measured, and up to where its hypervolume counts.
///
/// The farther that is, the more the ends count against the middle, and the dear end is where the most accurate subnets are yet
/// to be found: a tenth of the spans, as hypervolumes are often reported with, leaves the search at what it found there first.
pub(super) struct Promise {
    /// Cheapest first.
    front: Vec<Objectives>,
    reference: Objectives,
    /// Of each cost the values where the front changes, from below all of them on.
    steps: [Vec<f64>; 2],
    /// From each of the first cost's steps and of the second's on: the place in the front of the most accurate that costs no more.
    best: Vec<Vec<Option<usize>>>,
}

impl Promise {
    pub(super) fn new(members: &[Objectives]) -> Self {
        let front = front(members);
        let reference = beyond(&front);
        let steps = [0, 1].map(|cost: usize| {
            let mut steps: Vec<f64> =
                front.iter().map(|member| member.costs[cost]).chain([f64::NEG_INFINITY]).collect();
            steps.sort_by(f64::total_cmp);
            steps.dedup();
            steps
        });
        let best_from = |first: f64, second: f64| {
            let corner = Objectives { accuracy: 0.0, costs: [first, second] };
            let no_dearer = (0..front.len()).filter(|&index| front[index].costs_no_more(corner));
            no_dearer.max_by(|&a, &b| front[a].accuracy.total_cmp(&front[b].accuracy))
        };
        let best = steps[0]
            .iter()
            .map(|&first| steps[1].iter().map(|&second| best_from(first, second)).collect())
            .collect();
        Self { front, reference, steps, best }
    }

    /// The expected growth of the hypervolume, exactly, after
    /// [Emmerich, Giannakoglou and Naujoks, 2006](https://doi.org/10.1109/TEVC.2005.859463).
    ///
    /// As the costs are known, it is a sum over the members of the front: the area of the costs that are no lower and where the member
    /// is the best, times the expected improvement on its accuracy.
    pub(super) fn of_the_front(&self, expected: Expected) -> f64 {
        let widths = |cost: usize| -> Vec<f64> {
            let steps = &self.steps[cost];
            let ends = steps.iter().skip(1).copied().chain([self.reference.costs[cost]]);
            let own = expected.objectives.costs[cost];
            steps.iter().zip(ends).map(|(begin, end)| (end - begin.max(own)).max(0.0)).collect()
        };
        let [first, second] = [widths(0), widths(1)];
        let mut areas = vec![0.0; self.front.len()];
        let mut nowhere = 0.0;
        for (best, width) in self.best.iter().zip(first) {
            for (best, height) in best.iter().zip(&second) {
                match best {
                    Some(best) => areas[*best] += width * height,
                    None => nowhere += width * height,
                }
            }
        }
        let areas = areas.into_iter().zip(&self.front).map(|(area, member)| (area, member.accuracy));
        let all = [(nowhere, self.reference.accuracy)].into_iter().chain(areas);
        all.filter(|(area, _)| *area > 0.0)
            .map(|(area, accuracy)| area * improvement(expected, accuracy))
            .sum()
    }

    /// The expected growth of the best accuracy, after
    /// [Jones, Schonlau and Welch, 1998](https://doi.org/10.1023/A:1008306431147).
    pub(super) fn of_the_best(&self, expected: Expected) -> f64 {
        let best = self.front.iter().map(|member| member.accuracy).fold(0.0, f64::max);
        // Where nothing is expected, the nearest is the best.
        improvement(expected, best) + 1e-9 * (expected.objectives.accuracy - best)
    }

    /// Takes a subnet for as good as it is expected to be.
    pub(super) fn add(&mut self, objectives: Objectives) {
        let reference = self.reference;
        self.front.push(objectives);
        *self = Self { reference, ..Self::new(&self.front) };
    }
}

/// E max(0, accuracy - level).
fn improvement(expected: Expected, level: f64) -> f64 {
    let above = expected.objectives.accuracy - level;
    if expected.deviation == 0.0 {
        return above.max(0.0);
    }
    let z = above / expected.deviation;
    let density = (-z * z / 2.0).exp() / (2.0 * PI).sqrt();
    (above * cumulative(z) + expected.deviation * density).max(0.0)
}

/// The Pareto front of `members`, cheapest first.
fn front(members: &[Objectives]) -> Vec<Objectives> {
    let first = fronts(members).into_iter().next().unwrap_or_default();
    let mut front: Vec<Objectives> = first.iter().map(|&index| members[index]).collect();
    front.sort_by(Objectives::cheaper);
    front
}

#[cfg(test)]
mod tests {
    use super::super::pareto::hypervolume;
    use super::super::pareto::tests::{members, of_three};
    use super::*;

    #[test]
    fn the_expected_growth_is_the_mean_over_the_distribution() {
        let two = members(&[(0.5, 0.2), (0.6, 0.4), (0.55, 0.5), (0.8, 0.9)]);
        let three =
            of_three(&[(0.5, 0.2, 0.7), (0.6, 0.4, 0.2), (0.55, 0.5, 0.1), (0.8, 0.9, 0.3), (0.7, 0.9, 0.2)]);
        for (measured, second) in [(two, 0.0), (three, 0.25)] {
            the_growth_is_the_mean(&measured, second);
        }
    }

    fn the_growth_is_the_mean(measured: &[Objectives], second: f64) {
        let promise = Promise::new(measured);
        let before = hypervolume(measured, promise.reference);
        let best = 0.8;
        for (accuracy, first, deviation) in [
            (0.7, 0.3, 0.05),
            (0.45, 0.1, 0.1),
            (0.7, 0.92, 0.1),
            (0.6, 0.4, 0.01),
            (0.9, 0.95, 0.0),
            (0.3, 0.5, 0.02),
        ] {
            let costs = [first, second];
            let expected = Expected { objectives: Objectives { accuracy, costs }, deviation };
            let (mut growth, mut gain, mut weights) = (0.0, 0.0, 0.0);
            for step in -8000..=8000 {
                let z = f64::from(step) / 1000.0;
                let weight = (-z * z / 2.0).exp();
                let drawn = Objectives { accuracy: accuracy + z * deviation, costs };
                let with: Vec<Objectives> = measured.iter().copied().chain([drawn]).collect();
                growth += weight * (hypervolume(&with, promise.reference) - before);
                gain += weight * (drawn.accuracy - best).max(0.0);
                weights += weight;
            }
            let case = format!("{accuracy} +- {deviation} at {costs:?}");
            let (found, sought) = (promise.of_the_front(expected), growth / weights);
            assert!((found - sought).abs() < 1e-7, "{case}: {found}, expected {sought}");
            let (found, sought) = (promise.of_the_best(expected), gain / weights);
            assert!((found - sought).abs() < 1e-7, "{case}: {found}, expected {sought}");
        }
    }

    #[test]
    fn what_was_added_is_not_promised_again() {
        let mut promise = Promise::new(&members(&[(0.5, 0.2), (0.8, 0.9)]));
        let certain =
            Expected { objectives: Objectives { accuracy: 0.7, costs: [0.5, 0.0] }, deviation: 0.0 };
        assert!(promise.of_the_front(certain) > 0.0);
        promise.add(certain.objectives);
        assert_eq!(promise.of_the_front(certain), 0.0);
    }
}
