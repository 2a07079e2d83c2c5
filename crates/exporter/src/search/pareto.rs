//! Pareto ranking for two or three objectives: accuracy up, costs down.
//!
//! Ranks and crowding distances are those of NSGA-II,
//! [Deb et al., 2002](https://ieeexplore.ieee.org/document/996017).

use std::cmp::Ordering;

use elastic_space::Budget;
use elastic_space::budget::Quantity;

/// What the search wants of a subnet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objectives {
    /// Validation accuracy, to be large.
    pub accuracy: f64,
    /// What is to be small; where that is one cost alone, the second is 0.
    pub costs: [f64; 2],
}

/// A member's standing: a lower rank is better, then a larger crowding distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    /// 0 on the Pareto front, 1 on the front that is left without it, and so on.
    pub(super) rank: usize,
    /// How far its neighbours on its front are; infinite at the ends.
    pub(super) crowding: f64,
}

/// The cost of a quantity, if it is among them.
pub(super) fn cost_of(costs: &[(Quantity, f64)], quantity: Quantity) -> Option<f64> {
    costs.iter().find(|(known, _)| *known == quantity).map(|(_, cost)| *cost)
}

/// The largest share of a budget that costs come to; none without budgets.
pub fn usage<'b>(costs: &[(Quantity, f64)], budgets: impl IntoIterator<Item = &'b Budget>) -> Option<f64> {
    let share = |budget: &Budget| Some(cost_of(costs, budget.quantity)? / budget.limit);
    budgets.into_iter().filter_map(share).max_by(f64::total_cmp)
}

impl Objectives {
    /// What is wanted of a subnet: that its costs of `quantities` are small, or without these its `usage`.
    ///
    /// # Panics
    ///
    /// If the cost of one of them is not given.
    pub fn new(accuracy: f64, costs: &[(Quantity, f64)], quantities: &[Quantity], usage: f64) -> Self {
        let cost = |quantity| cost_of(costs, quantity).expect("the cost of every objective was asked for");
        let costs = match *quantities {
            [] => [usage, 0.0],
            [only] => [cost(only), 0.0],
            [first, second, ..] => [cost(first), cost(second)],
        };
        Self { accuracy, costs }
    }

    /// Whether `self` is at least as good in all objectives and better in one.
    pub(super) fn dominates(self, other: Self) -> bool {
        self.accuracy >= other.accuracy && self.costs_no_more(other) && self != other
    }

    /// Whether it is as cheap in each cost.
    pub(super) fn costs_no_more(self, other: Self) -> bool {
        self.costs[0] <= other.costs[0] && self.costs[1] <= other.costs[1]
    }

    /// The cheaper first, by one cost after the other; of equally cheap ones the more accurate.
    pub fn cheaper(&self, other: &Self) -> Ordering {
        let [first, second] = [0, 1].map(|cost: usize| self.costs[cost].total_cmp(&other.costs[cost]));
        first.then(second).then(other.accuracy.total_cmp(&self.accuracy))
    }
}

impl Standing {
    /// The crowded comparison: the better standing is the lesser.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank).then(other.crowding.total_cmp(&self.crowding))
    }
}

/// The volume that `members` dominate and that lies above the reference's accuracy and below its costs; exact.
///
/// With one cost it is the area of accuracy and that cost, if the reference's second is 1.
pub fn hypervolume(members: &[Objectives], reference: Objectives) -> f64 {
    let inside = |member: &Objectives| {
        member.accuracy > reference.accuracy && (0..2).all(|cost| member.costs[cost] < reference.costs[cost])
    };
    let mut inside: Vec<Objectives> = members.iter().copied().filter(inside).collect();
    inside.sort_by(Objectives::cheaper);
    let mut slices: Vec<f64> = inside.iter().map(|member| member.costs[1]).collect();
    slices.sort_by(f64::total_cmp);
    slices.dedup();
    let ends = slices.iter().skip(1).copied().chain([reference.costs[1]]);
    let volume = |(begin, end): (&f64, f64)| {
        let within: Vec<Objectives> =
            inside.iter().copied().filter(|member| member.costs[1] <= *begin).collect();
        area(&within, reference) * (end - begin)
    };
    slices.iter().zip(ends).map(volume).sum()
}

/// The area of accuracy and the first cost, by which `members` are sorted.
fn area(members: &[Objectives], reference: Objectives) -> f64 {
    let ends = members.iter().skip(1).map(|member| member.costs[0]).chain([reference.costs[0]]);
    let mut best = reference.accuracy;
    let strip = |(member, end): (&Objectives, f64)| {
        best = best.max(member.accuracy);
        (best - reference.accuracy) * (end - member.costs[0])
    };
    members.iter().zip(ends).map(strip).sum()
}

/// The places of at most `most` members of a Pareto front, the cheapest first: the most accurate, the cheapest by each cost, and
/// others that keep as much of the hypervolume as can be, found by leaving out the one that adds least, again and again.
pub fn thin(front: &[Objectives], most: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..front.len()).collect();
    kept.sort_by(|&a, &b| front[a].cheaper(&front[b]));
    let by = |value: fn(&Objectives) -> f64| {
        let value = |index: &&usize| value(&front[**index]);
        kept.iter().min_by(|a, b| value(a).total_cmp(&value(b))).copied()
    };
    let ends = [by(|one| -one.accuracy), by(|one| one.costs[0]), by(|one| one.costs[1])];
    let mut protected: Vec<usize> = Vec::new();
    for end in ends.into_iter().flatten().take(most) {
        if !protected.contains(&end) {
            protected.push(end);
        }
    }
    let reference = beyond(front);
    while kept.len() > most {
        let without = |place: usize| {
            let others = kept.iter().enumerate().filter(|(other, _)| *other != place);
            let others: Vec<Objectives> = others.map(|(_, index)| front[*index]).collect();
            hypervolume(&others, reference)
        };
        let free = (0..kept.len()).filter(|place| !protected.contains(&kept[*place]));
        let left: Vec<(usize, f64)> = free.map(|place| (place, without(place))).collect();
        let least = left.iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        kept.remove(least.expect("no more are protected than are kept").0);
    }
    kept
}

/// A reference that is beyond all members by their span in each objective, or by 1 where they have none.
pub(super) fn beyond(members: &[Objectives]) -> Objectives {
    let worst = |value: &dyn Fn(&Objectives) -> f64| {
        let values = || members.iter().map(value);
        let (low, high) =
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        high + if high > low { high - low } else { 1.0 }
    };
    if members.is_empty() {
        return Objectives { accuracy: 0.0, costs: [1.0; 2] };
    }
    let costs = [0, 1].map(|cost: usize| worst(&|member| member.costs[cost]));
    Objectives { accuracy: -worst(&|member| -member.accuracy), costs }
}

/// Indices of `members` by front, the Pareto front first; ascending within a front.
///
/// In the order of costs nothing is dominated by what follows, and what a front dominates all fronts before it dominate too: the
/// efficient sort by binary search of [Zhang et al., 2015](https://doi.org/10.1109/TEVC.2014.2308305).
pub(super) fn fronts(members: &[Objectives]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&a, &b| members[a].cheaper(&members[b]));
    let mut fronts: Vec<Vec<usize>> = Vec::new();
    for index in order {
        let dominates =
            |front: &Vec<usize>| front.iter().rev().any(|other| members[*other].dominates(members[index]));
        let rank = fronts.partition_point(dominates);
        if rank == fronts.len() {
            fronts.push(Vec::new());
        }
        fronts[rank].push(index);
    }
    fronts.iter_mut().for_each(|front| front.sort_unstable());
    fronts
}

/// The crowding distance of each member of `front`, in its order: per objective in which it differs the gap between its
/// two neighbours over the front's span, summed; infinite at the ends.
pub(super) fn crowding(members: &[Objectives], front: &[usize]) -> Vec<f64> {
    let mut distance = vec![0.0; front.len()];
    for objective in [|o: Objectives| o.accuracy, |o: Objectives| o.costs[0], |o: Objectives| o.costs[1]] {
        let value = |position: usize| objective(members[front[position]]);
        let mut order: Vec<usize> = (0..front.len()).collect();
        order.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
        let (Some(&first), Some(&last)) = (order.first(), order.last()) else { continue };
        let span = value(last) - value(first);
        if span > 0.0 {
            distance[first] = f64::INFINITY;
            distance[last] = f64::INFINITY;
            for three in order.windows(3) {
                distance[three[1]] += (value(three[2]) - value(three[0])) / span;
            }
        }
    }
    distance
}

/// The `count` best members by the crowded comparison, best first, with their standing.
pub(super) fn survivors(members: &[Objectives], count: usize) -> Vec<(usize, Standing)> {
    let mut kept = Vec::new();
    for (rank, front) in fronts(members).into_iter().enumerate() {
        if kept.len() >= count {
            break;
        }
        let standings = crowding(members, &front).into_iter().map(|crowding| Standing { rank, crowding });
        kept.extend(front.into_iter().zip(standings));
    }
    kept.sort_by(|a, b| a.1.compare(&b.1));
    kept.truncate(count);
    kept
}

#[cfg(test)]
pub(super) mod tests {
    use elastic_space::Seed;
    use elastic_space::random::Purpose;
    use rand::Rng;

    use super::*;

    pub(in crate::search) fn members(pairs: &[(f64, f64)]) -> Vec<Objectives> {
        pairs.iter().map(|&(accuracy, cost)| Objectives { accuracy, costs: [cost, 0.0] }).collect()
    }

    pub(in crate::search) fn of_three(triples: &[(f64, f64, f64)]) -> Vec<Objectives> {
        let member = |&(accuracy, first, second)| Objectives { accuracy, costs: [first, second] };
        triples.iter().map(member).collect()
    }

    #[test]
    fn domination() {
        for (a, b, expected) in [
            ((0.9, 0.5), (0.8, 0.5), true),
            ((0.9, 0.5), (0.9, 0.6), true),
            ((0.9, 0.5), (0.9, 0.5), false),
            ((0.9, 0.5), (0.8, 0.4), false),
            ((0.8, 0.4), (0.9, 0.5), false),
            ((0.8, 0.6), (0.9, 0.5), false),
        ] {
            let pair = members(&[a, b]);
            assert_eq!(pair[0].dominates(pair[1]), expected, "{a:?} over {b:?}");
        }
        for (a, b, expected) in [
            ((0.9, 0.5, 0.3), (0.9, 0.5, 0.4), true),
            ((0.9, 0.5, 0.4), (0.8, 0.5, 0.3), false),
            ((0.9, 0.5, 0.3), (0.9, 0.5, 0.3), false),
        ] {
            let pair = of_three(&[a, b]);
            assert_eq!(pair[0].dominates(pair[1]), expected, "{a:?} over {b:?}");
        }
    }

    #[test]
    fn fronts_by_hand() {
        for (case, pairs, expected) in [
            ("none", vec![], vec![]),
            ("one", vec![(0.5, 0.5)], vec![vec![0]]),
            ("a chain", vec![(0.7, 0.5), (0.9, 0.5), (0.8, 0.5)], vec![vec![1], vec![2], vec![0]]),
            ("one front", vec![(0.9, 1.0), (0.7, 0.2), (0.8, 0.5)], vec![vec![0, 1, 2]]),
            ("equal members share a front", vec![(0.9, 1.0), (0.9, 1.0)], vec![vec![0, 1]]),
            // 2 and 3 lie behind 0 and 1; 4 lies behind 3 as well.
            (
                "three fronts",
                vec![(0.9, 0.8), (0.8, 0.3), (0.85, 0.9), (0.7, 0.4), (0.6, 0.5)],
                vec![vec![0, 1], vec![2, 3], vec![4]],
            ),
        ] {
            assert_eq!(fronts(&members(&pairs)), expected, "{case}");
        }
        let three =
            of_three(&[(0.9, 1.0, 0.5), (0.9, 0.5, 1.0), (0.8, 0.6, 1.0), (0.8, 0.9, 0.9), (0.7, 1.0, 1.0)]);
        assert_eq!(fronts(&three), [vec![0, 1, 3], vec![2], vec![4]]);
    }

    #[test]
    fn fronts_as_they_are_defined() {
        let mut rng = Seed(1).generator(Purpose::Search, 0);
        for members in 0..60 {
            let mut value = || f64::from(rng.random_range(0..6_u8));
            let members: Vec<Objectives> =
                (0..members).map(|_| Objectives { accuracy: value(), costs: [value(), value()] }).collect();
            let mut left: Vec<usize> = (0..members.len()).collect();
            for front in fronts(&members) {
                let beaten =
                    |index: &usize| left.iter().any(|other| members[*other].dominates(members[*index]));
                let (behind, expected): (Vec<usize>, Vec<usize>) =
                    left.iter().partition(|index| beaten(index));
                assert_eq!(front, expected);
                left = behind;
            }
            assert_eq!(left, [0; 0]);
        }
    }

    #[test]
    fn hypervolumes_by_hand() {
        let reference = Objectives { accuracy: 0.5, costs: [1.0, 1.0] };
        for (case, pairs, expected) in [
            ("none", vec![], 0.0),
            ("one", vec![(0.8, 0.4)], 0.3 * 0.6),
            ("a dominated one adds nothing", vec![(0.8, 0.4), (0.7, 0.5)], 0.3 * 0.6),
            ("two", vec![(0.9, 0.8), (0.7, 0.2)], 0.2 * 0.6 + 0.4 * 0.2),
            ("outside of the reference", vec![(0.4, 0.1), (0.9, 1.0), (0.8, 0.4)], 0.3 * 0.6),
            ("of equal usage the better counts", vec![(0.7, 0.4), (0.8, 0.4), (0.6, 0.4)], 0.3 * 0.6),
        ] {
            let volume = hypervolume(&members(&pairs), reference);
            assert!((volume - expected).abs() < 1e-12, "{case}: {volume}, expected {expected}");
        }
        for (case, triples, expected) in [
            ("one", vec![(0.8, 0.4, 0.5)], 0.3 * 0.6 * 0.5),
            ("a dominated one adds nothing", vec![(0.8, 0.4, 0.5), (0.7, 0.4, 0.6)], 0.3 * 0.6 * 0.5),
            // They share 0.2 of accuracy, from 0.4 and from 0.8 on.
            (
                "two",
                vec![(0.8, 0.4, 0.5), (0.7, 0.2, 0.8)],
                0.3 * 0.6 * 0.5 + 0.2 * 0.8 * 0.2 - 0.2 * 0.6 * 0.2,
            ),
            ("outside of the reference", vec![(0.8, 0.4, 0.5), (0.9, 0.2, 1.0)], 0.3 * 0.6 * 0.5),
        ] {
            let volume = hypervolume(&of_three(&triples), reference);
            assert!((volume - expected).abs() < 1e-12, "{case}: {volume}, expected {expected}");
        }
    }

    #[test]
    fn the_hypervolume_is_what_random_points_say() {
        let mut rng = Seed(2).generator(Purpose::Search, 0);
        let mut point = || Objectives { accuracy: rng.random(), costs: [rng.random(), rng.random()] };
        let members: Vec<Objectives> = (0..12).map(|_| point()).collect();
        const POINTS: usize = 200_000;
        let dominated = (0..POINTS).filter(|_| {
            let point = point();
            members.iter().any(|member| member.dominates(point))
        });
        let share = dominated.count() as f64 / POINTS as f64;
        let volume = hypervolume(&members, Objectives { accuracy: 0.0, costs: [1.0, 1.0] });
        assert!((volume - share).abs() < 0.005, "{volume}, of the points {share}");
    }

    #[test]
    fn thinned_fronts_by_hand() {
        // Each step adds 0.1 of accuracy, the steps in use are 1, 3, 1 and 3.
        let front = [(0.9, 9.0), (0.5, 1.0), (0.6, 2.0), (0.7, 5.0), (0.8, 6.0)];
        for (most, expected) in [
            (9, vec![1, 2, 3, 4, 0]),
            (5, vec![1, 2, 3, 4, 0]),
            (4, vec![1, 2, 4, 0]),
            (3, vec![1, 4, 0]),
            (2, vec![1, 0]),
            (1, vec![0]),
        ] {
            assert_eq!(thin(&members(&front), most), expected, "{most}");
        }
        assert_eq!(thin(&[], 3), [0; 0]);
        // The most accurate, the cheapest by each cost, and of the others the one that is far from them.
        let three =
            of_three(&[(0.9, 9.0, 9.0), (0.5, 1.0, 8.0), (0.5, 8.0, 1.0), (0.51, 1.1, 7.9), (0.7, 4.0, 4.0)]);
        for (most, expected) in
            [(5, vec![1, 3, 4, 2, 0]), (4, vec![1, 4, 2, 0]), (3, vec![1, 2, 0]), (2, vec![1, 0])]
        {
            assert_eq!(thin(&three, most), expected, "{most} of three objectives");
        }
    }

    #[test]
    fn crowding_by_hand() {
        let inf = f64::INFINITY;
        for (case, pairs, expected) in [
            ("one", vec![(0.5, 0.5)], vec![0.0]),
            ("two", vec![(0.5, 0.5), (0.6, 0.7)], vec![inf, inf]),
            // Spans: accuracy 0.4, usage 0.8. The middle ones: (0.6 - 0.4)/0.4 + (0.4 - 0.1)/0.8 and
            // (0.8 - 0.5)/0.4 + (0.9 - 0.2)/0.8.
            (
                "four",
                vec![(0.4, 0.1), (0.5, 0.2), (0.6, 0.4), (0.8, 0.9)],
                vec![inf, 0.5 + 0.375, 0.75 + 0.875, inf],
            ),
            // No span in either objective: there are no ends.
            ("equal", vec![(0.5, 0.5), (0.5, 0.5), (0.5, 0.5)], vec![0.0, 0.0, 0.0]),
        ] {
            let members = members(&pairs);
            let front: Vec<usize> = (0..members.len()).collect();
            let distances = crowding(&members, &front);
            assert_eq!(distances.len(), expected.len(), "{case}");
            for (distance, expected) in distances.iter().zip(expected) {
                assert!(
                    *distance == expected || (distance - expected).abs() < 1e-12,
                    "{case}: {distances:?}"
                );
            }
        }
    }

    #[test]
    fn the_rank_decides_then_the_wider_gap() {
        // The front is 0, 1, 2, 3 with 1 more crowded than 2; 4 is dominated.
        let members = members(&[(0.4, 0.1), (0.5, 0.2), (0.6, 0.4), (0.8, 0.9), (0.3, 0.5)]);
        for (count, expected) in [(3, vec![0, 3, 2]), (4, vec![0, 3, 2, 1]), (9, vec![0, 3, 2, 1, 4])] {
            let kept: Vec<usize> = survivors(&members, count).into_iter().map(|(member, _)| member).collect();
            assert_eq!(kept, expected, "{count} survivors");
        }
    }
}
