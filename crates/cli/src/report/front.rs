//! The Pareto front of points: what is reached at each price.

/// The places of the points to which no other is at least as good in cost and worth and better in one; from cheap to
/// dear. A point is its cost, to be small, and its worth, to be large; of equal ones the first.
pub(super) fn front(points: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| points[a].0.total_cmp(&points[b].0).then(points[b].1.total_cmp(&points[a].1)));
    let mut front: Vec<usize> = Vec::new();
    for place in order {
        if front.last().is_none_or(|&last| points[place].1 > points[last].1) {
            front.push(place);
        }
    }
    front
}

/// A line with corners through points from left to right: what is reached at so much at most.
pub(super) fn stairs(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        line.extend([(pair[1].0, pair[0].1), pair[1]]);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_by_hand() {
        for (points, expected) in [
            (vec![], vec![]),
            (vec![(5.0, 0.5)], vec![0]),
            (vec![(5.0, 0.5), (5.0, 0.6), (5.0, 0.6)], vec![1]),
            (vec![(9.0, 0.9), (1.0, 0.1), (5.0, 0.5)], vec![1, 2, 0]),
            // The second is dearer than the first and no better, the fourth dearer and worse.
            (vec![(1.0, 0.4), (2.0, 0.4), (3.0, 0.7), (4.0, 0.6), (6.0, 0.8)], vec![0, 2, 4]),
            (vec![(4.0, 0.9), (8.0, 0.1)], vec![0]),
        ] {
            assert_eq!(front(&points), expected, "{points:?}");
        }
    }

    #[test]
    fn a_front_is_drawn_with_corners() {
        assert_eq!(stairs(&[]), []);
        assert_eq!(stairs(&[(1.0, 9.0)]), [(1.0, 9.0)]);
        assert_eq!(stairs(&[(1.0, 9.0), (4.0, 3.0)]), [(1.0, 9.0), (4.0, 9.0), (4.0, 3.0)]);
    }
}
