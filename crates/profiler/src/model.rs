//! The additive model of what subnets cost on a device: a line over a subnet's features, with its cross-validated error.

use elastic_regression::{Linear, Row, Standardised, choose_penalty, split};
use elastic_space::Seed;
use elastic_space::random::Purpose;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::boosted::Boosted;
use crate::statistics::{conformal, mean, quantile, sorted, spearman};

/// The least number of measured subnets for a model.
pub const MIN_ROWS: usize = 2;

/// Folds that estimate the error.
const OUTER_FOLDS: usize = 10;
/// Folds that choose the penalty, inside each training part.
const INNER_FOLDS: usize = 5;
/// The share of subnets whose cost stays below [`CostModel::predict_upper`].
const UPPER_SHARE: f64 = 0.9;
/// Fewer measured subnets than this have no residual model.
const MIN_ROWS_RESIDUAL: usize = 30;
/// A residual model earns its place if the mean error with it is less than this share of that without.
const EARNED: f64 = 0.9;
/// Larger magnitudes are refused: their squares leave the range of 64-bit floats.
const LARGEST_VALUE: f64 = 1e100;

/// cost = intercept + coefficients . features, in the unit of what was measured: microseconds of latency, bytes of memory, or
/// microjoules of energy.
///
/// Ridge regression on relative errors. The penalty is chosen by cross-validation among 23 values from
/// 1e-9 to 100, for standardised columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostModel {
    /// The name of each feature.
    pub feature_names: Vec<String>,
    /// The cost where every feature is 0.
    #[serde(alias = "intercept_us")]
    pub intercept: f64,
    /// The cost of one unit of each feature.
    #[serde(alias = "coefficients_us")]
    pub coefficients: Vec<f64>,
    /// Features that were equal in all measured subnets; their coefficient is 0, so the model knows
    /// nothing about other values.
    pub constant_features: Vec<String>,
    /// The ridge penalty.
    pub penalty: f64,
    /// Measured subnets that the model was fitted to.
    pub rows: usize,
    /// The least prediction: half the lowest measured cost. Below it the line is not to be trusted.
    #[serde(alias = "floor_us")]
    pub floor: f64,
    /// By how much [`Self::predict_upper`] exceeds [`Self::predict`], as a fraction.
    pub upper_relative: f64,
    /// What is added for what the line leaves over, as a share of the line; only where cross-validation says that it earns
    /// its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual: Option<Boosted>,
    /// The model of another platform that this one is scaled from, by its platform's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transferred_from: Option<String>,
    /// The error on subnets that the model was not fitted to.
    pub cv: CvError,
    /// Each measured subnet as cross-validation predicted it, in the order of the measurements.
    #[serde(default, alias = "cv_predictions_us")]
    pub cv_predictions: Vec<f64>,
}

/// What a model was fitted with besides the measurements.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// The other platform's name.
    pub name: &'a str,
    /// Its model, of the same search space.
    pub model: &'a CostModel,
}

/// Errors of cross-validation. Each fold is predicted by a model that saw nothing of it, neither for
/// its coefficients nor for its penalty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CvError {
    /// Number of folds.
    pub folds: usize,
    /// Mean of the absolute relative errors, in percent.
    pub mape_percent: f64,
    /// Root of the mean squared error, in the unit of what was measured.
    #[serde(alias = "rmse_us")]
    pub rmse: f64,
    /// 90th percentile of the absolute relative errors, in percent.
    pub p90_abs_percent: f64,
    /// Spearman's rank correlation of predicted and measured; 0 if either is all equal.
    pub spearman: f64,
}

/// Why no model can be fitted.
#[derive(Debug, Error, PartialEq)]
pub enum FitError {
    /// Too few measured subnets.
    #[error("a model needs at least {MIN_ROWS} measured subnets, here is {found}: measure more")]
    TooFew {
        /// How many there are.
        found: usize,
    },
    /// A subnet has another number of features than there are names.
    #[error("subnet {row} has {found} features, and there are {expected} names")]
    Features {
        /// The subnet's index.
        row: usize,
        /// Its features.
        found: usize,
        /// The names.
        expected: usize,
    },
    /// The other platform's model is of another search space.
    #[error("the model of {name} is of another search space: transfer from a profile of the same run")]
    OtherSpace {
        /// The other platform.
        name: String,
    },
    /// There are not as many costs as subnets.
    #[error("there are {costs} measured values for {subnets} subnets")]
    Costs {
        /// The measured values.
        costs: usize,
        /// The subnets.
        subnets: usize,
    },
    /// A feature is no usable number.
    #[error("feature `{feature}` of subnet {row} is {value}: it must be a number of at most 1e100")]
    Feature {
        /// The subnet's index.
        row: usize,
        /// The feature's name.
        feature: String,
        /// Its value.
        value: f64,
    },
    /// A cost is no usable number.
    #[error("what was measured of subnet {row} is {value}: it must be a number above 0 and at most 1e100")]
    Cost {
        /// The subnet's index.
        row: usize,
        /// Its value.
        value: f64,
    },
}

impl CostModel {
    /// Fits a model to measured subnets.
    ///
    /// # Shapes
    ///
    /// `features` is `[subnets][feature_names]`, `costs` is `[subnets]`, in any unit. `seed`
    /// deals the subnets into folds.
    ///
    /// # Errors
    ///
    /// [`FitError`] if there is nothing to learn from, or a value is not a number.
    pub fn fit(
        feature_names: &[String],
        features: &[Vec<f64>],
        costs: &[f64],
        seed: Seed,
    ) -> Result<Self, FitError> {
        Self::fit_from(None, feature_names, features, costs, seed)
    }

    /// [`Self::fit`], with the model of a similar platform to begin with: where cross-validation says that scaling it predicts
    /// better than a model of these measurements alone, that is what is done. Ten to twenty measurements are enough for that.
    ///
    /// # Errors
    ///
    /// [`FitError`]
    pub fn fit_from(
        base: Option<Base<'_>>,
        feature_names: &[String],
        features: &[Vec<f64>],
        costs: &[f64],
        seed: Seed,
    ) -> Result<Self, FitError> {
        check(feature_names, features, costs)?;
        if let Some(base) = base
            && base.model.feature_names != feature_names
        {
            return Err(FitError::OtherSpace { name: base.name.to_owned() });
        }
        let mut order: Vec<usize> = (0..features.len()).collect();
        order.shuffle(&mut seed.generator(Purpose::Split, 0));
        let rows: Vec<Row<'_>> =
            order.iter().map(|&row| Row { features: &features[row], target: costs[row] }).collect();
        let additive = cross_validate(&rows, &|train| Fitted::additive(train));
        let mut chosen = (Kind::Additive, additive);
        if rows.len() >= MIN_ROWS_RESIDUAL {
            let boosted = cross_validate(&rows, &|train| Fitted::additive(train).boosted(train));
            if mape(&rows, &boosted) < EARNED * mape(&rows, &chosen.1) {
                chosen = (Kind::Boosted, boosted);
            }
        }
        if let Some(base) = base {
            let scaled = cross_validate(&rows, &|train| Fitted::scaled(train, base.model));
            if mape(&rows, &scaled) < mape(&rows, &chosen.1) {
                chosen = (Kind::Scaled(base), scaled);
            }
        }
        let (kind, predictions) = chosen;
        let fitted = match kind {
            Kind::Additive => Fitted::additive(&rows),
            Kind::Boosted => Fitted::additive(&rows).boosted(&rows),
            Kind::Scaled(base) => Fitted::scaled(&rows, base.model),
        };
        let constant = match kind {
            Kind::Scaled(base) => base.model.constant_features.clone(),
            _ => {
                let columns = Standardised::new(&rows).constant_columns();
                columns.into_iter().map(|index| feature_names[index].clone()).collect()
            }
        };
        let (cv, upper_relative) = errors(&rows, &predictions);
        let mut cv_predictions = vec![0.0; rows.len()];
        for (&row, prediction) in order.iter().zip(predictions) {
            cv_predictions[row] = prediction;
        }
        Ok(Self {
            feature_names: feature_names.to_vec(),
            intercept: fitted.line.intercept,
            coefficients: fitted.line.coefficients,
            constant_features: constant,
            penalty: fitted.penalty,
            rows: rows.len(),
            floor: fitted.floor,
            upper_relative,
            residual: fitted.residual,
            transferred_from: match kind {
                Kind::Scaled(base) => Some(base.name.to_owned()),
                _ => None,
            },
            cv,
            cv_predictions,
        })
    }

    /// The expected cost of a subnet, in the unit of what was measured.
    ///
    /// # Panics
    ///
    /// If `features` has another length than the features that the model was fitted to.
    pub fn predict(&self, features: &[f64]) -> f64 {
        assert_eq!(features.len(), self.coefficients.len(), "features of the space that was profiled");
        let residual = self.residual.as_ref().map_or(0.0, |residual| residual.evaluate(features));
        (self.line(features) * (1.0 + residual)).max(self.floor)
    }

    /// A cost that nine of ten subnets like the measured ones do not exceed, by the errors of
    /// cross-validation.
    ///
    /// A search that hunts for cheap subnets also hunts for this model's errors; so its winner must be
    /// measured.
    ///
    /// # Panics
    ///
    /// If `features` has another length than the features that the model was fitted to.
    pub fn predict_upper(&self, features: &[f64]) -> f64 {
        self.predict(features) * (1.0 + self.upper_relative)
    }

    /// The line alone.
    fn line(&self, features: &[f64]) -> f64 {
        self.intercept + self.coefficients.iter().zip(features).map(|(c, x)| c * x).sum::<f64>()
    }
}

/// The kinds of model that are compared.
enum Kind<'a> {
    Additive,
    Boosted,
    Scaled(Base<'a>),
}

/// A model without its errors.
struct Fitted {
    line: Linear,
    penalty: f64,
    residual: Option<Boosted>,
    floor: f64,
}

impl Fitted {
    fn additive(rows: &[Row<'_>]) -> Self {
        let penalty = choose_penalty(rows, INNER_FOLDS);
        Self { line: Standardised::new(rows).solve(penalty), penalty, residual: None, floor: floor(rows) }
    }

    fn boosted(self, rows: &[Row<'_>]) -> Self {
        let features: Vec<&[f64]> = rows.iter().map(|row| row.features).collect();
        let left: Vec<f64> = rows
            .iter()
            .map(|row| row.target / self.line.evaluate(row.features).max(self.floor) - 1.0)
            .collect();
        Self { residual: Some(Boosted::fit(&features, &left)), ..self }
    }

    /// The base's predictions times a factor plus a constant. The sum of lines is a line again.
    fn scaled(rows: &[Row<'_>], base: &CostModel) -> Self {
        let predictions: Vec<[f64; 1]> = rows.iter().map(|row| [base.line(row.features)]).collect();
        let one: Vec<Row<'_>> = rows
            .iter()
            .zip(&predictions)
            .map(|(row, prediction)| Row { features: &prediction[..], target: row.target })
            .collect();
        let penalty = choose_penalty(&one, INNER_FOLDS);
        let scale = Standardised::new(&one).solve(penalty);
        let factor = scale.coefficients[0];
        let line = Linear {
            intercept: scale.intercept + factor * base.intercept,
            coefficients: base.coefficients.iter().map(|coefficient| factor * coefficient).collect(),
        };
        Self { line, penalty, residual: base.residual.clone(), floor: floor(rows) }
    }

    fn evaluate(&self, features: &[f64]) -> f64 {
        let residual = self.residual.as_ref().map_or(0.0, |residual| residual.evaluate(features));
        (self.line.evaluate(features) * (1.0 + residual)).max(self.floor)
    }
}

fn check(names: &[String], features: &[Vec<f64>], costs: &[f64]) -> Result<(), FitError> {
    if costs.len() != features.len() {
        return Err(FitError::Costs { costs: costs.len(), subnets: features.len() });
    }
    if features.len() < MIN_ROWS {
        return Err(FitError::TooFew { found: features.len() });
    }
    for (row, (values, &cost)) in features.iter().zip(costs).enumerate() {
        if values.len() != names.len() {
            return Err(FitError::Features { row, found: values.len(), expected: names.len() });
        }
        if let Some((feature, &value)) =
            names.iter().zip(values).find(|(_, v)| v.is_nan() || v.abs() > LARGEST_VALUE)
        {
            return Err(FitError::Feature { row, feature: feature.clone(), value });
        }
        if !(cost > 0.0 && cost <= LARGEST_VALUE) {
            return Err(FitError::Cost { row, value: cost });
        }
    }
    Ok(())
}

fn floor(rows: &[Row<'_>]) -> f64 {
    rows.iter().map(|row| row.target).fold(f64::INFINITY, f64::min) / 2.0
}

/// Each row as a model predicts it that saw nothing of its fold.
fn cross_validate(rows: &[Row<'_>], fit: &dyn Fn(&[Row<'_>]) -> Fitted) -> Vec<f64> {
    let folds = OUTER_FOLDS.min(rows.len());
    let mut predictions = vec![0.0; rows.len()];
    for fold in 0..folds {
        let (train, _) = split(rows, folds, fold);
        let fitted = fit(&train);
        for row in (fold..rows.len()).step_by(folds) {
            predictions[row] = fitted.evaluate(rows[row].features);
        }
    }
    predictions
}

/// Mean absolute relative error in percent.
fn mape(rows: &[Row<'_>], predictions: &[f64]) -> f64 {
    let relative: Vec<f64> =
        rows.iter().zip(predictions).map(|(row, guess)| 100.0 * (guess / row.target - 1.0).abs()).collect();
    mean(&relative)
}

/// The errors of predictions, and the relative upper bound that they support.
fn errors(rows: &[Row<'_>], predictions: &[f64]) -> (CvError, f64) {
    let measured: Vec<f64> = rows.iter().map(|row| row.target).collect();
    let pairs = || measured.iter().zip(predictions);
    let relative: Vec<f64> = pairs().map(|(y, guess)| 100.0 * (guess / y - 1.0).abs()).collect();
    let squares: Vec<f64> = pairs().map(|(y, guess)| (guess - y).powi(2)).collect();
    let cv = CvError {
        folds: OUTER_FOLDS.min(rows.len()),
        mape_percent: mean(&relative),
        rmse: mean(&squares).sqrt(),
        p90_abs_percent: quantile(&sorted(relative), 0.9),
        spearman: spearman(&measured, predictions),
    };
    let excess = sorted(pairs().map(|(y, guess)| y / guess - 1.0));
    (cv, conformal(&excess, UPPER_SHARE).max(0.0))
}

#[cfg(test)]
mod tests;
