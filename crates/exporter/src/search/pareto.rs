//! Pareto ranking for two objectives: accuracy up, usage down.
//!
//! Ranks and crowding distances are those of NSGA-II,
//! [Deb et al., 2002](https://ieeexplore.ieee.org/document/996017).

use std::cmp::Ordering;

/// What the search wants of a subnet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objectives {
    /// Validation accuracy, to be large.
    pub accuracy: f64,
    /// Share of the budget that is used, to be small.
    pub usage: f64,
}

/// A member's standing: a lower rank is better, then a larger crowding distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    /// 0 on the Pareto front, 1 on the front that is left without it, and so on.
    pub(super) rank: usize,
    /// How far its neighbours on its front are; infinite at the ends.
    pub(super) crowding: f64,
}

impl Objectives {
    /// Whether `self` is at least as good in both objectives and better in one.
    pub(super) fn dominates(self, other: Self) -> bool {
        self.accuracy >= other.accuracy
            && self.usage <= other.usage
            && (self.accuracy > other.accuracy || self.usage < other.usage)
    }
}

impl Standing {
    /// The crowded comparison: the better standing is the lesser.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank).then(other.crowding.total_cmp(&self.crowding))
    }
}

/// The area that `members` dominate and that lies above the reference's accuracy and below its usage.
pub fn hypervolume(members: &[Objectives], reference: Objectives) -> f64 {
    let inside =
        |member: &&Objectives| member.accuracy > reference.accuracy && member.usage < reference.usage;
    let mut inside: Vec<&Objectives> = members.iter().filter(inside).collect();
    inside.sort_by(|a, b| a.usage.total_cmp(&b.usage));
    let ends = inside.iter().skip(1).map(|member| member.usage).chain([reference.usage]);
    let mut best = reference.accuracy;
    let strip = |(member, end): (&&Objectives, f64)| {
        best = best.max(member.accuracy);
        (best - reference.accuracy) * (end - member.usage)
    };
    inside.iter().zip(ends).map(strip).sum()
}

/// The places of at most `most` members of a Pareto front, each given as its accuracy and its use of the budget: both ends, and
/// between them those that keep as much of the hypervolume as can be, found by leaving out the one that adds least, again and
/// again. One alone is the most accurate. The cheapest comes first.
pub fn thin(front: &[(f64, f64)], most: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..front.len()).collect();
    kept.sort_by(|&a, &b| front[a].1.total_cmp(&front[b].1).then(front[a].0.total_cmp(&front[b].0)));
    while kept.len() > most.max(2) {
        let adds = |three: &[usize]| {
            let [before, this, after] = [three[0], three[1], three[2]].map(|index| front[index]);
            (this.0 - before.0) * (after.1 - this.1)
        };
        let added: Vec<f64> = kept.windows(3).map(adds).collect();
        let least = (0..added.len()).min_by(|&a, &b| added[a].total_cmp(&added[b])).expect("three are left");
        kept.remove(least + 1);
    }
    if most < kept.len() {
        kept.drain(..kept.len() - most);
    }
    kept
}

/// Indices of `members` by front, the Pareto front first; ascending within a front.
///
/// In the order of usage, a front dominates a member if the most accurate of those that it has so far does, and then so do
/// all fronts before it: [Jensen, 2003](https://doi.org/10.1109/TEVC.2003.817234).
pub(super) fn fronts(members: &[Objectives]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (members[a], members[b]);
        a.usage.total_cmp(&b.usage).then(b.accuracy.total_cmp(&a.accuracy))
    });
    let mut best: Vec<Objectives> = Vec::new();
    let mut fronts: Vec<Vec<usize>> = Vec::new();
    for index in order {
        let member = members[index];
        let rank = best.partition_point(|best| best.dominates(member));
        if rank == fronts.len() {
            best.push(member);
            fronts.push(Vec::new());
        } else if member.accuracy > best[rank].accuracy {
            best[rank] = member;
        }
        fronts[rank].push(index);
    }
    fronts.iter_mut().for_each(|front| front.sort_unstable());
    fronts
}

/// The crowding distance of each member of `front`, in its order: per objective the gap between its
/// two neighbours over the front's span, summed; infinite at the ends.
pub(super) fn crowding(members: &[Objectives], front: &[usize]) -> Vec<f64> {
    let mut distance = vec![0.0; front.len()];
    for objective in [|o: Objectives| o.accuracy, |o: Objectives| o.usage] {
        let value = |position: usize| objective(members[front[position]]);
        let mut order: Vec<usize> = (0..front.len()).collect();
        order.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
        let (Some(&first), Some(&last)) = (order.first(), order.last()) else { continue };
        distance[first] = f64::INFINITY;
        distance[last] = f64::INFINITY;
        let span = value(last) - value(first);
        if span > 0.0 {
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
    use super::*;

    pub(in crate::search) fn members(pairs: &[(f64, f64)]) -> Vec<Objectives> {
        pairs.iter().map(|&(accuracy, usage)| Objectives { accuracy, usage }).collect()
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
    }

    #[test]
    fn hypervolumes_by_hand() {
        let reference = Objectives { accuracy: 0.5, usage: 1.0 };
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
            assert_eq!(thin(&front, most), expected, "{most}");
        }
        assert_eq!(thin(&[], 3), [0; 0]);
    }

    #[test]
    fn crowding_by_hand() {
        let inf = f64::INFINITY;
        for (case, pairs, expected) in [
            ("one", vec![(0.5, 0.5)], vec![inf]),
            ("two", vec![(0.5, 0.5), (0.6, 0.7)], vec![inf, inf]),
            // Spans: accuracy 0.4, usage 0.8. The middle ones: (0.6 - 0.4)/0.4 + (0.4 - 0.1)/0.8 and
            // (0.8 - 0.5)/0.4 + (0.9 - 0.2)/0.8.
            (
                "four",
                vec![(0.4, 0.1), (0.5, 0.2), (0.6, 0.4), (0.8, 0.9)],
                vec![inf, 0.5 + 0.375, 0.75 + 0.875, inf],
            ),
            // No span in either objective: nothing is added between the ends.
            ("equal", vec![(0.5, 0.5), (0.5, 0.5), (0.5, 0.5)], vec![inf, 0.0, inf]),
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
