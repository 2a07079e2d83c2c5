//! What the measurement of a subnet can be expected to bring.

use std::f64::consts::PI;

use super::pareto::{Objectives, fronts};
use super::process::cumulative;

/// How far the reference of the hypervolume is beyond the front, in its spans.
const REFERENCE: f64 = 1.0;

/// What is expected of a subnet: its accuracy is normally distributed, its usage is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) objectives: Objectives,
    /// The standard deviation of the accuracy.
    pub(super) deviation: f64,
}

/// The front of what was measured, and up to where its hypervolume counts.
pub(super) struct Promise {
    /// Cheapest first, and so the least accurate.
    front: Vec<Objectives>,
    reference: Objectives,
}

impl Promise {
    pub(super) fn new(members: &[Objectives]) -> Self {
        let front = front(members);
        Self { reference: reference(&front), front }
    }

    /// The expected growth of the hypervolume, exactly, after
    /// [Emmerich, Giannakoglou and Naujoks, 2006](https://doi.org/10.1109/TEVC.2005.859463).
    ///
    /// As the usage is known, it is a sum over the steps of the front that are not cheaper: the width of a step times the
    /// expected improvement on its accuracy.
    pub(super) fn of_the_front(&self, expected: Expected) -> f64 {
        let usage = expected.objectives.usage;
        let below = Objectives { usage: f64::NEG_INFINITY, ..self.reference };
        let steps = [below].into_iter().chain(self.front.iter().copied());
        let ends = self.front.iter().map(|member| member.usage).chain([self.reference.usage]);
        let growth = |(step, end): (Objectives, f64)| {
            let width = end - step.usage.max(usage);
            if width > 0.0 { width * improvement(expected, step.accuracy) } else { 0.0 }
        };
        steps.zip(ends).map(growth).sum()
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
        self.front.push(objectives);
        self.front = front(&self.front);
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
    front.sort_by(|a, b| a.usage.total_cmp(&b.usage));
    front
}

/// [`REFERENCE`] times the spans of the front beyond its worst accuracy and its highest usage.
///
/// The farther it is, the more the ends count against the middle, and the dear end is where the most accurate subnets are yet to
/// be found: a tenth of the spans, as hypervolumes are often reported with, leaves the search at what it found there first.
fn reference(front: &[Objectives]) -> Objectives {
    let (Some(cheapest), Some(dearest)) = (front.first(), front.last()) else {
        return Objectives { accuracy: 0.0, usage: 1.0 };
    };
    Objectives {
        accuracy: cheapest.accuracy - REFERENCE * (dearest.accuracy - cheapest.accuracy),
        usage: dearest.usage + REFERENCE * (dearest.usage - cheapest.usage),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pareto::hypervolume;
    use super::super::pareto::tests::members;
    use super::*;

    #[test]
    fn the_expected_growth_is_the_mean_over_the_distribution() {
        let measured = members(&[(0.5, 0.2), (0.6, 0.4), (0.55, 0.5), (0.8, 0.9)]);
        let promise = Promise::new(&measured);
        let before = hypervolume(&measured, promise.reference);
        let best = 0.8;
        for (accuracy, usage, deviation) in [
            (0.7, 0.3, 0.05),
            (0.45, 0.1, 0.1),
            (0.7, 0.92, 0.1),
            (0.6, 0.4, 0.01),
            (0.9, 0.95, 0.0),
            (0.3, 0.5, 0.02),
        ] {
            let expected = Expected { objectives: Objectives { accuracy, usage }, deviation };
            let (mut growth, mut gain, mut weights) = (0.0, 0.0, 0.0);
            for step in -8000..=8000 {
                let z = f64::from(step) / 1000.0;
                let weight = (-z * z / 2.0).exp();
                let drawn = Objectives { accuracy: accuracy + z * deviation, usage };
                let with: Vec<Objectives> = measured.iter().copied().chain([drawn]).collect();
                growth += weight * (hypervolume(&with, promise.reference) - before);
                gain += weight * (drawn.accuracy - best).max(0.0);
                weights += weight;
            }
            let case = format!("{accuracy} +- {deviation} at {usage}");
            let (found, sought) = (promise.of_the_front(expected), growth / weights);
            assert!((found - sought).abs() < 1e-7, "{case}: {found}, expected {sought}");
            let (found, sought) = (promise.of_the_best(expected), gain / weights);
            assert!((found - sought).abs() < 1e-7, "{case}: {found}, expected {sought}");
        }
    }

    #[test]
    fn what_was_added_is_not_promised_again() {
        let mut promise = Promise::new(&members(&[(0.5, 0.2), (0.8, 0.9)]));
        let certain = Expected { objectives: Objectives { accuracy: 0.7, usage: 0.5 }, deviation: 0.0 };
        assert!(promise.of_the_front(certain) > 0.0);
        promise.add(certain.objectives);
        assert_eq!(promise.of_the_front(certain), 0.0);
    }
}
