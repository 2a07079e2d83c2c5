//! Weighted ridge regression by Cholesky decomposition and its choice of penalty, and the decomposition by itself.
//!
//! The regression is the model of a latency; the decomposition is for that of an accuracy too. They belong to crates side by side.

/// The penalties that cross-validation chooses from, largest first so that a tie takes the larger:
/// 100 to 1e-9 in half decades, for columns of unit variance.
pub fn penalties() -> impl Iterator<Item = f64> {
    (-18..=4).rev().map(|half_decades| 10_f64.powf(f64::from(half_decades) / 2.0))
}

/// Rows of features with the value to be predicted, which is above zero.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The features.
    pub features: &'a [f64],
    /// The value.
    pub target: f64,
}

/// y = intercept + coefficients . x
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Where every feature is zero.
    pub intercept: f64,
    /// One for each feature.
    pub coefficients: Vec<f64>,
}

impl Linear {
    /// The value at some features.
    pub fn evaluate(&self, features: &[f64]) -> f64 {
        self.intercept + self.coefficients.iter().zip(features).map(|(c, x)| c * x).sum::<f64>()
    }
}

/// Rows brought to the form in which every penalty is solved: columns of zero mean and unit variance
/// under the weights, constant columns left out, rows scaled by the square root of their weights.
///
/// A row's weight is the inverse square of its target, so that the sum of squares is one of relative
/// errors: a network of 0.2 ms counts as much as one of 2 ms.
#[derive(Debug)]
pub struct Standardised {
    columns: Vec<Column>,
    width: usize,
    target_mean: f64,
    /// `[rows][columns]`
    matrix: Vec<Vec<f64>>,
    targets: Vec<f64>,
    /// Products of the columns, or of the rows where they are fewer.
    gram: Vec<Vec<f64>>,
}

#[derive(Debug)]
struct Column {
    index: usize,
    mean: f64,
    deviation: f64,
}

impl Standardised {
    /// Of rows of equal width.
    ///
    /// # Panics
    ///
    /// If there are no rows.
    pub fn new(rows: &[Row<'_>]) -> Self {
        let weight_sum: f64 = rows.iter().map(|row| row.target.powi(-2)).sum();
        let weights: Vec<f64> = rows.iter().map(|row| row.target.powi(-2) / weight_sum).collect();
        let weighted = |value: &dyn Fn(&Row<'_>) -> f64| -> f64 {
            rows.iter().zip(&weights).map(|(row, weight)| weight * value(row)).sum()
        };
        let width = rows[0].features.len();
        let columns: Vec<Column> = (0..width)
            .filter(|&index| rows.iter().any(|row| row.features[index] != rows[0].features[index]))
            .map(|index| {
                let mean = weighted(&|row| row.features[index]);
                let deviation = weighted(&|row| (row.features[index] - mean).powi(2)).sqrt();
                Column { index, mean, deviation }
            })
            .filter(|column| column.deviation > 0.0)
            .collect();
        let target_mean = weighted(&|row| row.target);
        let roots: Vec<f64> = weights.iter().map(|weight| weight.sqrt()).collect();
        let matrix: Vec<Vec<f64>> = rows
            .iter()
            .zip(&roots)
            .map(|(row, root)| {
                columns.iter().map(|c| root * (row.features[c.index] - c.mean) / c.deviation).collect()
            })
            .collect();
        let targets = rows.iter().zip(&roots).map(|(row, root)| root * (row.target - target_mean)).collect();
        let gram = if columns.len() <= rows.len() {
            products(&transpose(&matrix, columns.len()))
        } else {
            products(&matrix)
        };
        Self { columns, width, target_mean, matrix, targets, gram }
    }

    /// Indices of the columns that do not vary.
    pub fn constant_columns(&self) -> Vec<usize> {
        (0..self.width).filter(|index| self.columns.iter().all(|column| column.index != *index)).collect()
    }

    /// The line that minimises the weighted squares plus `penalty` times the squared coefficients of
    /// the standardised columns.
    pub fn solve(&self, penalty: f64) -> Linear {
        let lower = cholesky(&self.gram, penalty);
        let columns = self.columns.len();
        let standardised = if columns <= self.matrix.len() {
            substitute(&lower, &combine(&self.matrix, &self.targets, columns))
        } else {
            // (X'X + p)^-1 X'y = X'(XX' + p)^-1 y, and the right side has the smaller matrix.
            combine(&self.matrix, &substitute(&lower, &self.targets), columns)
        };
        let mut linear = Linear { intercept: self.target_mean, coefficients: vec![0.0; self.width] };
        for (column, value) in self.columns.iter().zip(standardised) {
            linear.coefficients[column.index] = value / column.deviation;
            linear.intercept -= value / column.deviation * column.mean;
        }
        linear
    }
}

/// The penalty with the least mean squared relative error over `folds` folds of `rows`, of which fold
/// k holds rows k, k + folds and so on.
pub fn choose_penalty(rows: &[Row<'_>], folds: usize) -> f64 {
    let folds = folds.min(rows.len());
    let mut errors: Vec<(f64, f64)> = penalties().map(|penalty| (penalty, 0.0)).collect();
    if folds < 2 {
        return errors[0].0;
    }
    for fold in 0..folds {
        let (train, held_out) = split(rows, folds, fold);
        let train = Standardised::new(&train);
        for (penalty, error) in &mut errors {
            let linear = train.solve(*penalty);
            *error += held_out
                .iter()
                .map(|row| (linear.evaluate(row.features) / row.target - 1.0).powi(2))
                .sum::<f64>();
        }
    }
    let best = errors.into_iter().reduce(|best, next| if next.1 < best.1 { next } else { best });
    best.expect("the grid of penalties is not empty").0
}

/// The rows outside and inside a fold.
pub fn split<'a>(rows: &[Row<'a>], folds: usize, fold: usize) -> (Vec<Row<'a>>, Vec<Row<'a>>) {
    let mut parts = (Vec::new(), Vec::new());
    for (position, row) in rows.iter().enumerate() {
        if position % folds == fold { parts.1.push(*row) } else { parts.0.push(*row) }
    }
    parts
}

fn transpose(matrix: &[Vec<f64>], columns: usize) -> Vec<Vec<f64>> {
    (0..columns).map(|column| matrix.iter().map(|row| row[column]).collect()).collect()
}

/// The sum of the products of two vectors of one length.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Sums side by side, as one alone would wait for each addition.
    const LANES: usize = 8;
    let ((a, rest_of_a), (b, rest_of_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = rest_of_a.iter().zip(rest_of_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// The products of every two vectors.
fn products(vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
    vectors.iter().map(|a| vectors.iter().map(|b| dot(a, b)).collect()).collect()
}

/// The sum of the rows, each times its factor.
fn combine(matrix: &[Vec<f64>], factors: &[f64], columns: usize) -> Vec<f64> {
    let mut sum = vec![0.0; columns];
    for (row, factor) in matrix.iter().zip(factors) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += factor * value;
        }
    }
    sum
}

/// The lower triangle L with L L' = `gram` + `penalty` on the diagonal.
pub fn cholesky(gram: &[Vec<f64>], penalty: f64) -> Vec<Vec<f64>> {
    let size = gram.len();
    let mut lower = vec![vec![0.0; size]; size];
    for i in 0..size {
        let (done, rest) = lower.split_at_mut(i);
        let row = &mut rest[0];
        for j in 0..i {
            row[j] = (gram[i][j] - dot(&row[..j], &done[j][..j])) / done[j][j];
        }
        // A gram matrix has no negative eigenvalue, so exact arithmetic leaves at least the penalty.
        row[i] = (gram[i][i] + penalty - dot(&row[..i], &row[..i])).max(penalty).sqrt();
    }
    lower
}

/// The solution of L x = `right`.
pub fn forward(lower: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    let mut x: Vec<f64> = Vec::with_capacity(right.len());
    for (i, (row, value)) in lower.iter().zip(right).enumerate() {
        x.push((value - dot(&row[..i], &x)) / row[i]);
    }
    x
}

/// The solution of L' x = `right`.
pub fn backward(lower: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    let mut x = right.to_vec();
    for (i, row) in lower.iter().enumerate().rev() {
        x[i] /= row[i];
        let (others, known) = x.split_at_mut(i);
        others.iter_mut().zip(row).for_each(|(other, factor)| *other -= factor * known[0]);
    }
    x
}

/// The solution of L L' x = `right`.
fn substitute(lower: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    backward(lower, &forward(lower, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cholesky_and_substitution_by_hand() {
        // [[4, 2], [2, 3]] = L L' with L = [[2, 0], [1, sqrt 2]]; x = (1, 2) gives (8, 8).
        let lower = cholesky(&[vec![3.0, 2.0], vec![2.0, 2.0]], 1.0);
        assert_eq!(lower, [vec![2.0, 0.0], vec![1.0, 2.0_f64.sqrt()]]);
        let x = substitute(&lower, &[8.0, 8.0]);
        assert!((x[0] - 1.0).abs() < 1e-12 && (x[1] - 2.0).abs() < 1e-12, "{x:?}");
    }

    #[test]
    fn products_of_any_length() {
        for length in [0, 1, 7, 8, 9, 20] {
            let a: Vec<f64> = (0..length).map(f64::from).collect();
            let squares: i32 = (0..length).map(|value| value * value).sum();
            assert_eq!(dot(&a, &a), f64::from(squares), "{length}");
        }
    }

    #[test]
    fn a_penalty_shrinks_towards_the_weighted_mean() {
        // Equal targets weigh equally. x = -1, 1 is already standardised; y = 9, 11 has slope 1,
        // nearly equal weights, and with penalty 1 the slope halves.
        let features = [[-1.0], [1.0]];
        let rows =
            [Row { features: &features[0], target: 9.0 }, Row { features: &features[1], target: 11.0 }];
        let slope = |penalty: f64| Standardised::new(&rows).solve(penalty).coefficients[0];
        assert!((slope(1e-12) - 1.0).abs() < 1e-9);
        assert!((slope(1.0) - 0.5).abs() < 1e-9, "{}", slope(1.0));
    }

    #[test]
    fn rows_and_columns_give_the_same_line() {
        // Three columns and two rows are solved through the rows; with the rows doubled, through the
        // columns. Doubled rows have the same weighted sums, so the line is the same.
        let features = [[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]];
        let row = |index: usize| Row { features: &features[index], target: [5.0, 8.0][index] };
        let wide = Standardised::new(&[row(0), row(1)]).solve(0.1);
        let tall = Standardised::new(&[row(0), row(1), row(0), row(1)]).solve(0.1);
        for (a, b) in wide.coefficients.iter().zip(&tall.coefficients) {
            assert!((a - b).abs() < 1e-12, "{wide:?} {tall:?}");
        }
        assert!((wide.intercept - tall.intercept).abs() < 1e-12);
    }
}
