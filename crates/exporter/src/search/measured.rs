//! Accuracies by the evaluator's answers, and when fewer than all of them decide.
//!
//! A subnet can neither be chosen nor enter the front if one that costs no more is more accurate. Both answer the same
//! examples, so what counts are those that only one of the two answers rightly, as in
//! [McNemar, 1947](https://doi.org/10.1007/BF02295996): of two subnets that share their weights these are few, and a part of
//! the examples tells which is better.

use std::collections::BTreeMap;

use elastic_space::Subnet;
use elastic_space::budget::Quantity;

use super::archive::{Accuracy, Oracle};
use super::{Evaluator, Margins};

/// The examples after each of which it is looked at.
const LOOK: usize = 128;

/// So many standard deviations are examples that a subnet answers worse above those that it answers better, if both are as
/// accurate, once in 1,000 times.
const SURE: f64 = 3.0902;

/// What is taken from a difference of counts, after [Edwards, 1948](https://doi.org/10.1007/BF02289261): the normal distribution
/// is too sure of small ones.
const CONTINUITY: f64 = 1.0;

/// Asks the evaluator, and keeps its answers.
pub(super) struct Measured<'a, E> {
    evaluator: &'a mut E,
    early_stop: bool,
    /// Of all examples, or of the first ones that decided.
    margins: BTreeMap<Subnet, Margins>,
}

impl<'a, E> Measured<'a, E> {
    pub(super) fn new(evaluator: &'a mut E, early_stop: bool) -> Self {
        Self { evaluator, early_stop, margins: BTreeMap::new() }
    }

    /// Takes what a subnet answers to all examples.
    pub(super) fn know(&mut self, subnet: &Subnet, margins: Margins) {
        self.margins.insert(subnet.clone(), margins);
    }

    pub(super) fn margins(&self, subnet: &Subnet) -> &Margins {
        &self.margins[subnet]
    }
}

impl<E: Evaluator> Oracle for Measured<'_, E> {
    type Error = E::Error;

    fn cost(&mut self, subnet: &Subnet, quantity: Quantity) -> Result<f64, E::Error> {
        self.evaluator.cost(subnet, quantity)
    }

    fn accuracy(&mut self, subnet: &Subnet, rival: Option<&Subnet>) -> Result<Accuracy, E::Error> {
        let rival = rival.filter(|_| self.early_stop).map(|rival| &self.margins[rival]);
        let verdict = |margins: &Margins| rival.and_then(|rival| Verdict::of(margins, rival));
        let margins = self.evaluator.margins(subnet, &|margins| verdict(margins).is_some())?;
        let (accuracy, margins) = match (verdict(&margins), rival) {
            (Some(Verdict { examples, difference }), Some(rival)) => {
                let value = (rival.accuracy() + difference).clamp(0.0, 1.0);
                (Accuracy { value, stopped_after: Some(examples) }, margins.first(examples))
            }
            _ => (Accuracy { value: margins.accuracy(), stopped_after: None }, margins),
        };
        self.know(subnet, margins);
        Ok(accuracy)
    }
}

/// That a subnet is less accurate than another one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Verdict {
    /// After so many examples.
    examples: usize,
    /// By how much its share of right answers to them is above the other's: below zero.
    difference: f64,
}

impl Verdict {
    /// At the first look at which the first answers of a subnet decide; `rival` has all of them.
    fn of(margins: &Margins, rival: &Margins) -> Option<Self> {
        let all = rival.examples();
        let (mut better, mut worse) = (0.0, 0.0);
        for example in 0..margins.examples() {
            match (margins.is_right(example), rival.is_right(example)) {
                (true, false) => better += 1.0,
                (false, true) => worse += 1.0,
                _ => {}
            }
            let examples = example + 1;
            if examples == all || !examples.is_multiple_of(LOOK) {
                continue;
            }
            // What is left of a finite number of examples.
            let left = (all - examples) as f64 / (all - 1) as f64;
            if worse - better - CONTINUITY > SURE * ((better + worse) * left).sqrt() {
                let difference = (better - worse) / examples as f64;
                return Some(Self { examples, difference });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use elastic_space::SearchSpace;

    use super::super::fakes::per_layer;
    use super::*;

    /// Right but for the examples of which `wrong` is true.
    fn margins(examples: usize, wrong: impl Fn(usize) -> bool) -> Margins {
        let margin = |example| if wrong(example) { -1.0 } else { 1.0 };
        Margins::new(&(0..examples).map(margin).collect::<Vec<f32>>())
    }

    #[test]
    fn a_verdict_by_hand() {
        let rival = margins(1000, |_| false);
        // 10 of 128: 10 - 0 - 1 < 3.0902 sqrt(10 * 872 / 999) = 9.13; 11: 10 > 9.58.
        for (wrong, decided) in [(0, false), (10, false), (11, true), (12, true)] {
            let verdict = Verdict::of(&margins(128, |example| example < wrong), &rival);
            let expected = Verdict { examples: 128, difference: -(wrong as f64) / 128.0 };
            assert_eq!(verdict, decided.then_some(expected), "{wrong} of 128");
        }
        let stops = |margins: &Margins| Verdict::of(margins, &rival).map(|verdict| verdict.examples);
        assert_eq!(stops(&margins(127, |_| true)), None, "not looked at yet");
        assert_eq!(stops(&margins(1000, |_| true)), Some(128));
        assert_eq!(stops(&margins(1000, |example| example >= 500)), Some(512));
        // After the last one there is nothing to leave out.
        assert_eq!(stops(&margins(1000, |example| example >= 990)), None);
        // Both are as accurate, and a subnet that is better is not stopped.
        let [even, odd] = [0, 1].map(|parity| margins(1000, |example| example % 2 == parity));
        assert_eq!(Verdict::of(&even, &odd), None);
        assert_eq!(Verdict::of(&rival, &even), None);
    }

    /// Answers in portions, as long as it is asked to.
    struct Portions {
        margins: Margins,
        portion: usize,
        asked: usize,
    }

    impl Evaluator for Portions {
        type Error = Infallible;

        fn cost(&mut self, _: &Subnet, _: Quantity) -> Result<f64, Infallible> {
            Ok(1.0)
        }

        fn margins(&mut self, _: &Subnet, decided: &dyn Fn(&Margins) -> bool) -> Result<Margins, Infallible> {
            self.asked = 0;
            loop {
                self.asked = (self.asked + self.portion).min(self.margins.examples());
                let margins = self.margins.first(self.asked);
                if self.asked == self.margins.examples() || decided(&margins) {
                    return Ok(margins);
                }
            }
        }
    }

    #[test]
    fn what_is_measured_in_vain_changes_nothing() {
        let space: SearchSpace = per_layer();
        let (subnet, rival) = (space.smallest(), space.largest());
        let half = margins(2000, |example| example % 2 == 0);
        let mut outcomes = Vec::new();
        for (portion, asked) in [(64, 128), (128, 128), (400, 400), (2000, 2000)] {
            let mut evaluator = Portions { margins: half.clone(), portion, asked: 0 };
            let mut measured = Measured::new(&mut evaluator, true);
            measured.know(&rival, margins(2000, |_| false));
            let Ok(accuracy) = measured.accuracy(&subnet, Some(&rival));
            assert_eq!((accuracy.value, accuracy.stopped_after), (0.5, Some(128)), "portions of {portion}");
            outcomes.push(measured.margins(&subnet).clone());
            assert_eq!(evaluator.asked, asked);
        }
        assert!(outcomes.iter().all(|margins| *margins == outcomes[0]));
        assert_eq!(outcomes[0], half.first(128));
        for (early_stop, rival) in [(false, Some(&rival)), (true, None)] {
            let mut evaluator = Portions { margins: half.clone(), portion: 250, asked: 0 };
            let mut measured = Measured::new(&mut evaluator, early_stop);
            if let Some(rival) = rival {
                measured.know(rival, margins(2000, |_| false));
            }
            let Ok(accuracy) = measured.accuracy(&subnet, rival);
            assert_eq!((accuracy.value, accuracy.stopped_after), (0.5, None));
            assert_eq!(*measured.margins(&subnet), half);
            assert_eq!(evaluator.asked, 2000);
        }
    }
}
