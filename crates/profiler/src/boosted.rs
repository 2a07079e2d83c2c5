//! Gradient boosting of small regression trees, for what a line leaves over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Trees that are fitted one after the other.
const TREES: usize = 60;
/// What each tree adds of what it has found.
const RATE: f64 = 0.1;
/// Splits from the root to a leaf.
const DEPTH: usize = 2;
/// The least number of rows in a leaf.
const MIN_LEAF: usize = 5;

/// A sum of small trees: [Friedman's gradient boosting](https://doi.org/10.1214/aos/1013203451) of squared errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boosted {
    /// The trees; their values are added.
    pub trees: Vec<Node>,
}

/// A tree, from its root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Node {
    /// Two ways on.
    Split {
        /// The feature's place.
        feature: usize,
        /// Lower values go to `low`.
        below: f64,
        /// Where lower values go.
        low: Box<Node>,
        /// Where the others go.
        high: Box<Node>,
    },
    /// The end.
    Leaf(f64),
}

impl Boosted {
    /// Fits trees to targets.
    ///
    /// # Shapes
    ///
    /// `features` is `[rows][features]`, `targets` is `[rows]`.
    pub(crate) fn fit(features: &[&[f64]], targets: &[f64]) -> Self {
        let mut left = targets.to_vec();
        let all: Vec<usize> = (0..targets.len()).collect();
        let mut trees = Vec::with_capacity(TREES);
        for _ in 0..TREES {
            let tree = grow(features, &left, &all, DEPTH);
            for (left, row) in left.iter_mut().zip(features) {
                *left -= tree.evaluate(row);
            }
            trees.push(tree);
        }
        Self { trees }
    }

    /// The sum of the trees' values.
    pub(crate) fn evaluate(&self, row: &[f64]) -> f64 {
        self.trees.iter().map(|tree| tree.evaluate(row)).sum()
    }
}

impl Node {
    fn evaluate(&self, row: &[f64]) -> f64 {
        match self {
            Self::Leaf(value) => *value,
            Self::Split { feature, below, low, high } => {
                if row[*feature] < *below {
                    low.evaluate(row)
                } else {
                    high.evaluate(row)
                }
            }
        }
    }
}

/// The tree that takes most of the squares away; its values are already times [`RATE`].
fn grow(features: &[&[f64]], targets: &[f64], rows: &[usize], depth: usize) -> Node {
    let leaf = || {
        let sum: f64 = rows.iter().map(|&row| targets[row]).sum();
        Node::Leaf(if rows.is_empty() { 0.0 } else { RATE * sum / rows.len() as f64 })
    };
    let Some((feature, below)) = (depth > 0).then(|| best_split(features, targets, rows)).flatten() else {
        return leaf();
    };
    let (low, high): (Vec<usize>, Vec<usize>) = rows.iter().partition(|&&row| features[row][feature] < below);
    Node::Split {
        feature,
        below,
        low: Box::new(grow(features, targets, &low, depth - 1)),
        high: Box::new(grow(features, targets, &high, depth - 1)),
    }
}

/// The feature and the value between two of its values that part the rows best; none where nothing is gained.
fn best_split(features: &[&[f64]], targets: &[f64], rows: &[usize]) -> Option<(usize, f64)> {
    let total: f64 = rows.iter().map(|&row| targets[row]).sum();
    let count = rows.len() as f64;
    let mut best: Option<(f64, usize, f64)> = None;
    let columns = features.first().map_or(0, |row| row.len());
    for feature in 0..columns {
        let value = |row: usize| value_of(features[row], feature);
        let mut order = rows.to_vec();
        order.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
        let mut sum = 0.0;
        for (place, pair) in order.windows(2).enumerate() {
            sum += targets[pair[0]];
            let (low, high) = (value(pair[0]), value(pair[1]));
            let (left, right) = (place + 1, order.len() - place - 1);
            if low == high || left < MIN_LEAF || right < MIN_LEAF {
                continue;
            }
            // How much less the squares around two means are than around one.
            let (left, right) = (left as f64, right as f64);
            let gain = sum * sum / left + (total - sum).powi(2) / right - total * total / count;
            if gain > 1e-12 && best.is_none_or(|(most, ..)| gain > most) {
                best = Some((gain, feature, f64::midpoint(low, high)));
            }
        }
    }
    best.map(|(_, feature, below)| (feature, below))
}

fn value_of(row: &[f64], feature: usize) -> f64 {
    row[feature]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interaction_is_learned() {
        // More where both of two features are on: a sum of the two leaves squares of 1/16 over.
        let rows: Vec<Vec<f64>> =
            (0..80).map(|i| vec![f64::from(i % 2), f64::from(i / 2 % 2), f64::from(i)]).collect();
        let features: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let targets: Vec<f64> = rows.iter().map(|row| row[0] * row[1] - 0.25).collect();
        let boosted = Boosted::fit(&features, &targets);
        let error = |boosted: &Boosted| -> f64 {
            let squares =
                features.iter().zip(&targets).map(|(row, target)| (boosted.evaluate(row) - target).powi(2));
            squares.sum::<f64>() / targets.len() as f64
        };
        assert!(error(&boosted) < 1.0 / 64.0, "{}", error(&boosted));
        assert_eq!(boosted.trees.len(), TREES);
    }

    #[test]
    fn nothing_to_learn_gives_nothing() {
        let rows = vec![vec![1.0]; 20];
        let features: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let boosted = Boosted::fit(&features, &[0.0; 20]);
        assert_eq!(boosted.evaluate(&[1.0]), 0.0);
        assert!(boosted.trees.iter().all(|tree| matches!(tree, Node::Leaf(_))));
        assert_eq!(Boosted::fit(&[], &[]).evaluate(&[]), 0.0);
    }
}
