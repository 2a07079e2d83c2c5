//! What fewer bits make of the latency that a profile predicts for the portable form in 32-bit floats.

use elastic_exporter::precision::Precision;
use serde::Serialize;

/// The latency in one precision, in the fastest of its forms: `fixed + factor * predicted`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Line {
    pub(crate) precision: Precision,
    pub(crate) fixed_us: f64,
    pub(crate) factor: f64,
    /// Mean of the errors on the subnets that it was fitted to, as a share of what was measured.
    pub(crate) mean_error: f64,
    /// Subnets that were measured.
    pub(crate) subnets: usize,
}

impl Line {
    /// The line with the least squares of relative errors through `(predicted, measured)`, in microseconds; through zero where
    /// the points have no slope upwards.
    ///
    /// # Panics
    ///
    /// Without a point.
    pub(crate) fn fit(precision: Precision, points: &[(f64, f64)]) -> Self {
        let sum = |term: fn(f64, f64) -> f64| points.iter().map(|&(x, y)| term(x, y) / (y * y)).sum::<f64>();
        let (one, x, y) = (sum(|_, _| 1.0), sum(|x, _| x), sum(|_, y| y));
        let (xx, xy) = (sum(|x, _| x * x), sum(|x, y| x * y));
        let (slope, determinant) = (one * xy - x * y, one * xx - x * x);
        let (fixed_us, factor) = if determinant > 1e-9 * one * xx && slope > 0.0 {
            ((xx * y - x * xy) / determinant, slope / determinant)
        } else {
            (0.0, xy / xx)
        };
        let error = |&(x, y): &(f64, f64)| (fixed_us + factor * x - y).abs() / y;
        let mean_error = points.iter().map(error).sum::<f64>() / points.len() as f64;
        Self { precision, fixed_us, factor, mean_error, subnets: points.len() }
    }

    fn at(&self, predicted_us: f64) -> f64 {
        // Far below the smallest subnet a line may go below nothing.
        (self.fixed_us + self.factor * predicted_us).max(0.0)
    }
}

/// The latency of a subnet in the precision in which it is the shortest; without a line as predicted.
pub(crate) fn fastest(lines: &[Line], predicted_us: f64) -> f64 {
    let fastest = lines.iter().map(|line| line.at(predicted_us)).fold(f64::INFINITY, f64::min);
    if lines.is_empty() { predicted_us } else { fastest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_through_points() {
        for (points, fixed, factor, error) in [
            (&[(10.0, 9.0), (20.0, 14.0), (40.0, 24.0)][..], 4.0, 0.5, 0.0),
            (&[(10.0, 5.0)], 0.0, 0.5, 0.0),
            // The larger is not slower: one ratio, between both, nearer to the one that is the smaller of the two.
            (&[(10.0, 10.0), (20.0, 10.0)], 0.0, 0.6, 0.3),
        ] {
            let line = Line::fit(Precision::Fp16, points);
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(near(line.fixed_us, fixed) && near(line.factor, factor), "{points:?}: {line:?}");
            assert!(near(line.mean_error, error), "{points:?}: {line:?}");
        }
    }

    #[test]
    fn the_shortest_counts() {
        let line = |fixed_us, factor| Line {
            precision: Precision::Fp32,
            fixed_us,
            factor,
            mean_error: 0.0,
            subnets: 2,
        };
        let lines = [line(0.0, 0.9), line(20.0, 0.4)];
        for (predicted, expected) in [(10.0, 9.0), (40.0, 36.0), (100.0, 60.0)] {
            assert!((fastest(&lines, predicted) - expected).abs() < 1e-9, "{predicted}");
        }
        assert!((fastest(&[], 7.0) - 7.0).abs() < 1e-9);
        assert!(fastest(&[line(-5.0, 1.0)], 2.0).abs() < 1e-9);
    }
}
