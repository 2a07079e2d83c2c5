//! Order statistics and rank correlation.

/// The `q`-quantile of ascending values, linear between neighbours (Hyndman and Fan's type 7, which
/// numpy uses too).
///
/// # Panics
///
/// If there are no values.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// The value that a new draw stays within with the probability `share`, by the rank of split conformal prediction
/// (<https://arxiv.org/abs/1604.04173>): one more than the share asks for, since the new one is one more draw. With too few values
/// for that it is the largest.
pub(crate) fn conformal(sorted: &[f64], share: f64) -> f64 {
    let rank = ((sorted.len() + 1) as f64 * share).ceil() as usize;
    sorted[rank.min(sorted.len()) - 1]
}

/// The values in ascending order.
pub(crate) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The median of values in any order.
///
/// # Panics
///
/// If there are no values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// The arithmetic mean.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// An interval of order statistics that holds the median of independent values with at least 95 %
/// confidence, whatever their distribution; `None` below six values, where there is none.
pub(crate) fn median_interval(sorted: &[f64]) -> Option<[f64; 2]> {
    quantile_interval(sorted, 0.5)
}

/// The same for the `q`-quantile, 0 < q < 1; `None` where there are too few values.
///
/// The k-th smallest is above the quantile if fewer than k values are below it, which has the
/// probability P(B < k) for B binomial(n, q). The interval runs from the k-th smallest with the largest k for which that
/// is at most 2.5 % to the k-th smallest with the least k for which P(B >= k) is at most 2.5 %.
pub(crate) fn quantile_interval(sorted: &[f64], q: f64) -> Option<[f64; 2]> {
    let n = sorted.len();
    let below = tail_rank(n, q);
    // Counted from the largest, the quantile is that of 1 - q.
    let above = tail_rank(n, 1.0 - q);
    (below > 0 && above > 0).then(|| [sorted[below - 1], sorted[n - above]])
}

/// The largest k for which P(B < k) is at most 2.5 %, for B binomial(n, q).
fn tail_rank(n: usize, q: f64) -> usize {
    // The probability of B = 0, in logarithms since it may leave the range of f64.
    let mut log_probability = n as f64 * (1.0 - q).ln();
    let odds = (q / (1.0 - q)).ln();
    let mut below = 0.0;
    for rank in 0..n {
        below += log_probability.exp();
        if below > 0.025 {
            return rank;
        }
        log_probability += ((n - rank) as f64 / (rank + 1) as f64).ln() + odds;
    }
    n
}

/// Spearman's rank correlation, equal values sharing their mean rank; 0 if either side is all equal,
/// since then there is no order to compare.
pub(crate) fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let (mean_a, mean_b) = (mean(&a), mean(&b));
    let product = |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum()
    };
    let spread = (product(&a, mean_a, &a, mean_a) * product(&b, mean_b, &b, mean_b)).sqrt();
    if spread > 0.0 { product(&a, mean_a, &b, mean_b) / spread } else { 0.0 }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for group in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let shared = start as f64 + (group.len() - 1) as f64 / 2.0;
        for &index in group {
            ranks[index] = shared;
        }
        start += group.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conformal_ranks_by_hand() {
        let nine: Vec<f64> = (1..=9).map(f64::from).collect();
        let nineteen: Vec<f64> = (1..=19).map(f64::from).collect();
        // 10 x 0.9 = 9, 20 x 0.9 = 18; with fewer than nine the rank is one that there is not.
        assert_eq!(conformal(&nine, 0.9), 9.0);
        assert_eq!(conformal(&nineteen, 0.9), 18.0);
        assert_eq!(conformal(&[1.0, 2.0], 0.9), 2.0);
    }

    #[test]
    fn quantiles_by_hand() {
        let ten: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
        for (values, q, expected) in [
            (&[7.0][..], 0.5, 7.0),
            (&[7.0], 0.9, 7.0),
            (&[1.0, 3.0], 0.5, 2.0),
            (&[1.0, 2.0, 10.0], 0.5, 2.0),
            // Position 0.9 x 9 = 8.1: a tenth of the way from the ninth to the tenth.
            (ten, 0.9, 9.1),
            (ten, 0.0, 1.0),
            (ten, 1.0, 10.0),
        ] {
            assert!((quantile(values, q) - expected).abs() < 1e-12, "{values:?} at {q}");
        }
        assert_eq!(median([9.0, 1.0, 4.0]), 4.0);
    }

    #[test]
    fn median_intervals_of_the_published_ranks() {
        // Ranks from the table in Conover, Practical Nonparametric Statistics: n = 6 has 1 and 6
        // (confidence 96.9 %), n = 10 has 2 and 9 (97.9 %), n = 20 has 6 and 15 (95.9 %).
        for (n, expected) in [
            (0, None),
            (1, None),
            (5, None),
            (6, Some([1.0, 6.0])),
            (10, Some([2.0, 9.0])),
            (20, Some([6.0, 15.0])),
            (25, Some([8.0, 18.0])),
            (200, Some([86.0, 115.0])),
            // Normal approximation: 1000 -+ 1.96 x sqrt(2000) / 2 = 956.2 and 1043.8.
            (2000, Some([956.0, 1045.0])),
        ] {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            assert_eq!(median_interval(&values), expected, "{n} values");
        }
    }

    #[test]
    fn intervals_of_other_quantiles() {
        // Binomial(100, 0.9): P(B <= 83) = 2.06 %, P(B <= 84) = 4.0 %; P(B >= 96) = 2.4 %, P(B >= 95) = 5.8 %
        // (scipy.stats.binom). So the 84th and the 96th smallest.
        for (n, q, expected) in [
            (100, 0.9, Some([84.0, 96.0])),
            (100, 0.1, Some([5.0, 17.0])),
            // 0.9^n is at most 2.5 % from n = 36 on.
            (35, 0.9, None),
            (36, 0.9, Some([29.0, 36.0])),
        ] {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            assert_eq!(quantile_interval(&values, q), expected, "{n} values, {q}");
        }
    }

    #[test]
    fn spearman_by_hand() {
        for (a, b, expected) in [
            (&[1.0, 2.0, 3.0][..], &[10.0, 20.0, 90.0][..], 1.0),
            (&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0], -1.0),
            // Ranks 0 1 2 3 and 1 0 2 3: 1 - 6 x 2 / (4 x 15) = 0.8.
            (&[1.0, 2.0, 3.0, 4.0], &[2.0, 1.0, 3.0, 4.0], 0.8),
            (&[1.0, 1.0], &[1.0, 2.0], 0.0),
            // Ranks 0.5 0.5 2 and 0 1 2: covariance 1.5, spreads 1.5 and 2, so 1.5 / sqrt(3).
            (&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0], 1.5 / 3.0_f64.sqrt()),
        ] {
            assert!((spearman(a, b) - expected).abs() < 1e-12, "{a:?} {b:?}: {}", spearman(a, b));
        }
    }
}
