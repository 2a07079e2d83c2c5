//! Few subnets for many platforms: which of them, and which serves which platform.
//!
//! This is the [maximal covering of demands by few sites](https://doi.org/10.1287/mnsc.23.7.789) of Cornuejols, Fisher and
//! Nemhauser, 1977: greedy choice and exchange find a good answer, and branch and bound a best one where it ends in time.

/// Partial choices that branch and bound looks at before it leaves the best answer so far.
const MAX_NODES: usize = 200_000;

/// Sums of accuracies that are no further apart are equal.
const EQUAL: f64 = 1e-12;

/// A subnet that may serve some of the platforms.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its accuracy, the same on every platform.
    pub accuracy: f64,
    /// For each platform whether its budgets hold.
    pub serves: Vec<bool>,
}

/// The chosen subnets.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// For each platform the place of its subnet among the candidates.
    pub of_platform: Vec<usize>,
    /// Whether no other choice has a higher mean accuracy; else this is one that no exchange of a single subnet betters.
    pub exact: bool,
}

/// Of the candidates `most` at the most, so that every platform has one that holds its budgets and the mean accuracy is as high
/// as can be; of equal means the fewest. `None` if no such choice was found.
pub fn assign(candidates: &[Candidate], most: usize) -> Option<Assignment> {
    let platforms = candidates.first()?.serves.len();
    let useful = undominated(candidates);
    let problem = Problem::new(candidates, &useful, platforms);
    let most = most.min(platforms);
    let mut branching = Branching { chosen: Vec::new(), best: problem.greedy(most), nodes: 0 };
    let mut exact = true;
    for size in 1..=most {
        exact &= problem.branch(0, size, &vec![f64::NEG_INFINITY; platforms], &mut branching);
    }
    let best = branching.best?;
    let of_platform =
        (0..platforms).map(|platform| problem.server(&best.chosen, platform)).collect::<Option<_>>()?;
    Some(Assignment { of_platform, exact })
}

/// A choice and the sum of its platforms' accuracies.
#[derive(Debug, Clone)]
struct Choice {
    chosen: Vec<usize>,
    sum: f64,
}

/// Where branch and bound is.
struct Branching {
    chosen: Vec<usize>,
    best: Option<Choice>,
    nodes: usize,
}

struct Problem<'a> {
    candidates: &'a [Candidate],
    /// The candidates that a best choice needs to look at.
    useful: &'a [usize],
    /// For each place among the useful ones the most accurate that serve each platform from there on.
    best_from: Vec<Vec<f64>>,
}

/// The most accurate first, without those that another one replaces on every platform.
fn undominated(candidates: &[Candidate]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| candidates[b].accuracy.total_cmp(&candidates[a].accuracy).then(a.cmp(&b)));
    let mut useful: Vec<usize> = Vec::new();
    for index in order {
        let serves = &candidates[index].serves;
        let replaces = |other: &usize| {
            serves.iter().zip(&candidates[*other].serves).all(|(this, other)| !this || *other)
        };
        if !useful.iter().any(replaces) {
            useful.push(index);
        }
    }
    useful
}

impl<'a> Problem<'a> {
    fn new(candidates: &'a [Candidate], useful: &'a [usize], platforms: usize) -> Self {
        let mut best_from = vec![vec![f64::NEG_INFINITY; platforms]];
        for &index in useful.iter().rev() {
            let after = best_from.last().expect("there is one");
            let with = joined(after, &candidates[index]);
            best_from.push(with);
        }
        best_from.reverse();
        Self { candidates, useful, best_from }
    }

    /// The sum of accuracies, or minus infinity where a platform is not served.
    fn sum(&self, chosen: &[usize]) -> f64 {
        self.accuracies(chosen).iter().sum()
    }

    fn accuracies(&self, chosen: &[usize]) -> Vec<f64> {
        let none = vec![f64::NEG_INFINITY; self.best_from[0].len()];
        chosen.iter().fold(none, |best, &index| joined(&best, &self.candidates[index]))
    }

    /// The platforms served, then the sum of their accuracies.
    fn progress(&self, chosen: &[usize]) -> (usize, f64) {
        let accuracies = self.accuracies(chosen);
        let served = accuracies.iter().filter(|accuracy| accuracy.is_finite());
        (served.clone().count(), served.sum())
    }

    /// The most accurate of the chosen that serves a platform.
    fn server(&self, chosen: &[usize], platform: usize) -> Option<usize> {
        let serve = chosen.iter().copied().filter(|&index| self.candidates[index].serves[platform]);
        serve.max_by(|&a, &b| {
            self.candidates[a].accuracy.total_cmp(&self.candidates[b].accuracy).then(b.cmp(&a))
        })
    }

    /// Adds what helps most, `most` times; then exchanges one for another for as long as that helps.
    fn greedy(&self, most: usize) -> Option<Choice> {
        let mut chosen: Vec<usize> = Vec::new();
        let better = |a: (usize, f64), b: (usize, f64)| a.0 > b.0 || a.0 == b.0 && a.1 > b.1 + EQUAL;
        for _ in 0..most {
            let before = self.progress(&chosen);
            let mut best: Option<(usize, (usize, f64))> = None;
            for &index in self.useful {
                let after = self.progress(&[&chosen[..], &[index]].concat());
                if better(after, best.map_or(before, |(_, progress)| progress)) {
                    best = Some((index, after));
                }
            }
            let Some((index, _)) = best else { break };
            chosen.push(index);
        }
        while let Some(exchanged) = self.exchange(&chosen, better) {
            chosen = exchanged;
        }
        let sum = self.sum(&chosen);
        sum.is_finite().then_some(Choice { chosen, sum })
    }

    fn exchange(
        &self,
        chosen: &[usize],
        better: impl Fn((usize, f64), (usize, f64)) -> bool,
    ) -> Option<Vec<usize>> {
        let before = self.progress(chosen);
        for place in 0..chosen.len() {
            for &index in self.useful {
                let mut other = chosen.to_vec();
                other[place] = index;
                if better(self.progress(&other), before) {
                    return Some(other);
                }
            }
        }
        None
    }

    /// Looks at every choice of `left` more from the place `from` on that can be better than the best. Whether it came to its
    /// end.
    fn branch(&self, from: usize, left: usize, accuracies: &[f64], at: &mut Branching) -> bool {
        at.nodes += 1;
        if at.nodes > MAX_NODES {
            return false;
        }
        if left == 0 {
            let (sum, size) = (accuracies.iter().sum(), at.chosen.len());
            if at.best.as_ref().map_or(f64::is_finite(sum), |best| best.is_worse(sum, size)) {
                at.best = Some(Choice { chosen: at.chosen.clone(), sum });
            }
            return true;
        }
        let mut ended = true;
        for place in from..self.useful.len() {
            let bound: f64 = accuracies.iter().zip(&self.best_from[place]).map(|(a, b)| a.max(*b)).sum();
            let can_be_best = at.best.as_ref().map_or(bound.is_finite(), |best| bound >= best.sum - EQUAL);
            if !can_be_best {
                break;
            }
            let candidate = self.useful[place];
            at.chosen.push(candidate);
            let with = joined(accuracies, &self.candidates[candidate]);
            ended &= self.branch(place + 1, left - 1, &with, at);
            at.chosen.pop();
        }
        ended
    }
}

impl Choice {
    /// Whether another choice, of so many subnets and this sum, is better: of equal sums the fewer subnets.
    fn is_worse(&self, sum: f64, size: usize) -> bool {
        sum > self.sum + EQUAL || sum >= self.sum - EQUAL && size < self.chosen.len()
    }
}

/// The accuracy of each platform's best subnet with one more.
fn joined(accuracies: &[f64], candidate: &Candidate) -> Vec<f64> {
    let of_platform =
        |(best, serves): (&f64, &bool)| if *serves { best.max(candidate.accuracy) } else { *best };
    accuracies.iter().zip(&candidate.serves).map(of_platform).collect()
}

#[cfg(test)]
mod tests {
    use elastic_space::Seed;
    use elastic_space::random::Purpose;
    use rand::Rng;

    use super::*;

    fn candidate(accuracy: f64, serves: &str) -> Candidate {
        Candidate { accuracy, serves: serves.chars().map(|letter| letter == 'x').collect() }
    }

    fn sum(candidates: &[Candidate], assignment: &Assignment) -> f64 {
        assignment.of_platform.iter().map(|&index| candidates[index].accuracy).sum()
    }

    #[test]
    fn assignments_by_hand() {
        let nested = [candidate(0.9, "x--"), candidate(0.8, "xx-"), candidate(0.7, "xxx")];
        let crossed =
            [candidate(0.9, "x-x"), candidate(0.88, "-x-"), candidate(0.6, "xxx"), candidate(0.95, "---")];
        for (case, candidates, most, expected) in [
            ("one for all", &nested[..], 1, Some(vec![2, 2, 2])),
            ("one for each", &nested, 3, Some(vec![0, 1, 2])),
            ("more than platforms", &nested, 9, Some(vec![0, 1, 2])),
            ("the accurate one serves none", &crossed, 1, Some(vec![2, 2, 2])),
            ("two are as good as three", &crossed, 3, Some(vec![0, 1, 0])),
            ("a platform without any", &[candidate(0.9, "x-")], 2, None),
            ("two that one cannot replace", &[candidate(0.9, "x-"), candidate(0.8, "-x")], 1, None),
            ("no candidate", &[], 1, None),
        ] {
            let found = assign(candidates, most);
            assert_eq!(found.as_ref().map(|found| found.of_platform.clone()), expected, "{case}");
            assert!(found.is_none_or(|found| found.exact), "{case}");
        }
    }

    #[test]
    fn no_choice_is_better() {
        for seed in 0..60 {
            let mut rng = Seed(seed).generator(Purpose::Search, 0);
            let platforms = rng.random_range(1..6);
            let candidates: Vec<Candidate> = (0..rng.random_range(1..10))
                .map(|_| Candidate {
                    accuracy: f64::from(rng.random_range(0..50_u32)) / 50.0,
                    serves: (0..platforms).map(|_| rng.random_bool(0.5)).collect(),
                })
                .collect();
            for most in 1..4 {
                let mut best: Option<f64> = None;
                for set in 1_u32..1 << candidates.len() {
                    if set.count_ones() as usize > most {
                        continue;
                    }
                    let of_platform = |platform: usize| {
                        let chosen = candidates.iter().enumerate().filter(|(index, _)| set >> index & 1 == 1);
                        let serve = chosen.filter(|(_, candidate)| candidate.serves[platform]);
                        serve.map(|(_, candidate)| candidate.accuracy).max_by(f64::total_cmp)
                    };
                    let sum = (0..platforms).map(of_platform).sum::<Option<f64>>();
                    best = best.into_iter().chain(sum).max_by(f64::total_cmp);
                }
                let found = assign(&candidates, most);
                let value = found.as_ref().map(|found| sum(&candidates, found));
                match (value, best) {
                    (Some(value), Some(best)) => {
                        assert!((value - best).abs() < 1e-9, "seed {seed}, {most}: {value}, {best}");
                    }
                    (value, best) => assert_eq!(value, best, "seed {seed}, {most}"),
                }
                if let Some(Assignment { of_platform, exact }) = found {
                    assert!(exact);
                    for (platform, index) in of_platform.into_iter().enumerate() {
                        assert!(candidates[index].serves[platform], "seed {seed}, {most}");
                    }
                }
            }
        }
    }

    #[test]
    fn many_candidates_end_in_time() {
        let mut rng = Seed(3).generator(Purpose::Search, 0);
        let candidates: Vec<Candidate> = (0..3000)
            .map(|_| Candidate {
                accuracy: rng.random(),
                serves: (0..24).map(|_| rng.random_bool(0.3)).collect(),
            })
            .collect();
        let found = assign(&candidates, 6).expect("there is a choice");
        assert!(
            found.of_platform.iter().enumerate().all(|(platform, &index)| candidates[index].serves[platform])
        );
    }
}
