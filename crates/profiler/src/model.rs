//! The additive latency model: a line over a subnet's features, with its cross-validated error.

use std::time::Duration;

use elastic_regression::{Linear, Row, Standardised, choose_penalty, split};
use elastic_space::Seed;
use elastic_space::random::Purpose;
use rand::seq::SliceRandom;
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
/// The share of subnets whose latency stays below [`LatencyModel::predict_upper`].
const UPPER_SHARE: f64 = 0.9;
/// Fewer measured subnets than this have no residual model.
const MIN_ROWS_RESIDUAL: usize = 30;
/// A residual model earns its place if the mean error with it is less than this share of that without.
const EARNED: f64 = 0.9;
/// Larger magnitudes are refused: their squares leave the range of 64-bit floats.
const LARGEST_VALUE: f64 = 1e100;

/// latency = intercept + coefficients . features, in microseconds.
///
/// Ridge regression on relative errors. The penalty is chosen by cross-validation among 23 values from
/// 1e-9 to 100, for standardised columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyModel {
    /// The name of each feature.
    pub feature_names: Vec<String>,
    /// Microseconds where every feature is 0.
    pub intercept_us: f64,
    /// Microseconds per unit of each feature.
    pub coefficients_us: Vec<f64>,
    /// Features that were equal in all measured subnets; their coefficient is 0, so the model knows
    /// nothing about other values.
    pub constant_features: Vec<String>,
    /// The ridge penalty.
    pub penalty: f64,
    /// Measured subnets that the model was fitted to.
    pub rows: usize,
    /// The least prediction: half the lowest measured latency. Below it the line is not to be trusted.
    pub floor_us: f64,
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
    /// Each measured subnet as cross-validation predicted it, in microseconds, in the order of the measurements.
    #[serde(default)]
    pub cv_predictions_us: Vec<f64>,
}

/// What a model was fitted with besides the measurements.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// The other platform's name.
    pub name: &'a str,
    /// Its model, of the same search space.
    pub model: &'a LatencyModel,
}

/// Errors of cross-validation. Each fold is predicted by a model that saw nothing of it, neither for
/// its coefficients nor for its penalty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CvError {
    /// Number of folds.
    pub folds: usize,
    /// Mean of the absolute relative errors, in percent.
    pub mape_percent: f64,
    /// Root of the mean squared error, in microseconds.
    pub rmse_us: f64,
    /// 90th percentile of the absolute relative errors, in percent.
    pub p90_abs_percent: f64,
    /// Spearman's rank correlation of predicted and measured; 0 if either is all equal.
    pub spearman: f64,
}

/// Why no model can be fitted.
#[derive(Debug, Error, PartialEq)]
pub enum FitError {
    /// Too few measured subnets.
    #[error("a latency model needs at least {MIN_ROWS} measured subnets, here is {found}: measure more")]
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
    /// There are not as many latencies as subnets.
    #[error("there are {latencies} latencies for {subnets} subnets")]
    Latencies {
        /// The latencies.
        latencies: usize,
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
    /// A latency is no usable number.
    #[error("the latency of subnet {row} is {value} us: it must be a number above 0 and at most 1e100")]
    Latency {
        /// The subnet's index.
        row: usize,
        /// Its value.
        value: f64,
    },
}

impl LatencyModel {
    /// Fits a model to measured subnets.
    ///
    /// # Shapes
    ///
    /// `features` is `[subnets][feature_names]`, `latencies_us` is `[subnets]`, in microseconds. `seed`
    /// deals the subnets into folds.
    ///
    /// # Errors
    ///
    /// [`FitError`] if there is nothing to learn from, or a value is not a number.
    pub fn fit(
        feature_names: &[String],
        features: &[Vec<f64>],
        latencies_us: &[f64],
        seed: Seed,
    ) -> Result<Self, FitError> {
        Self::fit_from(None, feature_names, features, latencies_us, seed)
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
        latencies_us: &[f64],
        seed: Seed,
    ) -> Result<Self, FitError> {
        check(feature_names, features, latencies_us)?;
        if let Some(base) = base
            && base.model.feature_names != feature_names
        {
            return Err(FitError::OtherSpace { name: base.name.to_owned() });
        }
        let mut order: Vec<usize> = (0..features.len()).collect();
        order.shuffle(&mut seed.generator(Purpose::Split, 0));
        let rows: Vec<Row<'_>> =
            order.iter().map(|&row| Row { features: &features[row], target: latencies_us[row] }).collect();
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
        let mut cv_predictions_us = vec![0.0; rows.len()];
        for (&row, prediction) in order.iter().zip(predictions) {
            cv_predictions_us[row] = prediction;
        }
        Ok(Self {
            feature_names: feature_names.to_vec(),
            intercept_us: fitted.line.intercept,
            coefficients_us: fitted.line.coefficients,
            constant_features: constant,
            penalty: fitted.penalty,
            rows: rows.len(),
            floor_us: fitted.floor,
            upper_relative,
            residual: fitted.residual,
            transferred_from: match kind {
                Kind::Scaled(base) => Some(base.name.to_owned()),
                _ => None,
            },
            cv,
            cv_predictions_us,
        })
    }

    /// The expected latency of a subnet.
    ///
    /// # Panics
    ///
    /// If `features` has another length than the features that the model was fitted to.
    pub fn predict(&self, features: &[f64]) -> Duration {
        Duration::from_secs_f64(self.predict_us(features) / 1e6)
    }

    /// A latency that nine of ten subnets like the measured ones do not exceed, by the errors of
    /// cross-validation.
    ///
    /// A search that hunts for fast subnets also hunts for this model's errors; so its winner must be
    /// measured.
    ///
    /// # Panics
    ///
    /// If `features` has another length than the features that the model was fitted to.
    pub fn predict_upper(&self, features: &[f64]) -> Duration {
        Duration::from_secs_f64(self.predict_us(features) * (1.0 + self.upper_relative) / 1e6)
    }

    /// The line alone.
    fn line_us(&self, features: &[f64]) -> f64 {
        self.intercept_us + self.coefficients_us.iter().zip(features).map(|(c, x)| c * x).sum::<f64>()
    }

    fn predict_us(&self, features: &[f64]) -> f64 {
        assert_eq!(features.len(), self.coefficients_us.len(), "features of the space that was profiled");
        let residual = self.residual.as_ref().map_or(0.0, |residual| residual.evaluate(features));
        (self.line_us(features) * (1.0 + residual)).max(self.floor_us)
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
    fn scaled(rows: &[Row<'_>], base: &LatencyModel) -> Self {
        let predictions: Vec<[f64; 1]> = rows.iter().map(|row| [base.line_us(row.features)]).collect();
        let one: Vec<Row<'_>> = rows
            .iter()
            .zip(&predictions)
            .map(|(row, prediction)| Row { features: &prediction[..], target: row.target })
            .collect();
        let penalty = choose_penalty(&one, INNER_FOLDS);
        let scale = Standardised::new(&one).solve(penalty);
        let factor = scale.coefficients[0];
        let line = Linear {
            intercept: scale.intercept + factor * base.intercept_us,
            coefficients: base.coefficients_us.iter().map(|coefficient| factor * coefficient).collect(),
        };
        Self { line, penalty, residual: base.residual.clone(), floor: floor(rows) }
    }

    fn evaluate(&self, features: &[f64]) -> f64 {
        let residual = self.residual.as_ref().map_or(0.0, |residual| residual.evaluate(features));
        (self.line.evaluate(features) * (1.0 + residual)).max(self.floor)
    }
}

fn check(names: &[String], features: &[Vec<f64>], latencies_us: &[f64]) -> Result<(), FitError> {
    if latencies_us.len() != features.len() {
        return Err(FitError::Latencies { latencies: latencies_us.len(), subnets: features.len() });
    }
    if features.len() < MIN_ROWS {
        return Err(FitError::TooFew { found: features.len() });
    }
    for (row, (values, &latency)) in features.iter().zip(latencies_us).enumerate() {
        if values.len() != names.len() {
            return Err(FitError::Features { row, found: values.len(), expected: names.len() });
        }
        if let Some((feature, &value)) =
            names.iter().zip(values).find(|(_, v)| v.is_nan() || v.abs() > LARGEST_VALUE)
        {
            return Err(FitError::Feature { row, feature: feature.clone(), value });
        }
        if !(latency > 0.0 && latency <= LARGEST_VALUE) {
            return Err(FitError::Latency { row, value: latency });
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
        rmse_us: mean(&squares).sqrt(),
        p90_abs_percent: quantile(&sorted(relative), 0.9),
        spearman: spearman(&measured, predictions),
    };
    let excess = sorted(pairs().map(|(y, guess)| y / guess - 1.0));
    (cv, conformal(&excess, UPPER_SHARE).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::Rng;
    use rand::rngs::StdRng;

    const SEED: Seed = Seed(7);

    /// Random subnets of 6 slots with 3 choices as one-hot features, and a size in millions.
    struct Planted {
        names: Vec<String>,
        features: Vec<Vec<f64>>,
        latencies_us: Vec<f64>,
    }

    fn planted(rows: usize, noise: f64, random: &mut StdRng) -> Planted {
        let effects: Vec<f64> = (0..18).map(|_| random.random_range(0.0..60.0)).collect();
        let mut names: Vec<String> = (0..18).map(|i| format!("slot{}={}", i / 3, i % 3)).collect();
        names.push("mega-macs".into());
        let mut planted = Planted { names, features: Vec::new(), latencies_us: Vec::new() };
        for _ in 0..rows {
            let mut row = vec![0.0; 19];
            for slot in 0..6 {
                row[3 * slot + random.random_range(0..3)] = 1.0;
            }
            row[18] = random.random_range(1.0..30.0);
            let exact = 80.0 + 20.0 * row[18] + row.iter().zip(&effects).map(|(x, e)| x * e).sum::<f64>();
            planted.features.push(row);
            planted.latencies_us.push(exact * (1.0 + noise * random.random_range(-1.0..1.0)));
        }
        planted
    }

    fn generator(seed: u64) -> StdRng {
        rand::SeedableRng::seed_from_u64(seed)
    }

    fn fit(data: &Planted, rows: std::ops::Range<usize>) -> LatencyModel {
        LatencyModel::fit(&data.names, &data.features[rows.clone()], &data.latencies_us[rows], SEED)
            .expect("clean data can be fitted")
    }

    fn us(duration: Duration) -> f64 {
        duration.as_secs_f64() * 1e6
    }

    #[test]
    fn a_planted_function_is_recovered() {
        let data = planted(200, 0.0, &mut generator(1));
        let model = fit(&data, 0..60);
        for (features, latency) in data.features.iter().zip(&data.latencies_us) {
            let predicted = us(model.predict(features));
            assert!((predicted / latency - 1.0).abs() < 1e-5, "{predicted} for {latency}");
        }
        assert!((model.coefficients_us[18] - 20.0).abs() < 1e-3, "{}", model.coefficients_us[18]);
        assert!(model.cv.mape_percent < 1e-3 && model.cv.spearman > 0.9999, "{:?}", model.cv);
        assert!(model.upper_relative < 1e-5, "{}", model.upper_relative);
    }

    #[test]
    fn the_stated_error_is_the_error_on_fresh_subnets() {
        for (rows, noise) in [(24, 0.0), (24, 0.05), (60, 0.05), (300, 0.05), (300, 0.2)] {
            let (mut stated, mut true_error, mut below) = (0.0, 0.0, 0.0);
            for trial in 0..8 {
                let data = planted(rows + 500, noise, &mut generator(100 + trial));
                let model = fit(&data, 0..rows);
                stated += model.cv.mape_percent / 8.0;
                for (features, latency) in data.features[rows..].iter().zip(&data.latencies_us[rows..]) {
                    true_error += 100.0 * (us(model.predict(features)) / latency - 1.0).abs() / 4000.0;
                    // Predictions are whole nanoseconds, which matters where there is no noise.
                    let upper = us(model.predict_upper(features)) * (1.0 + 1e-5);
                    below += f64::from(u8::from(*latency <= upper)) / 4000.0;
                }
            }
            // Folds train on fewer rows, so the stated error may be above; it must not flatter.
            assert!(true_error < stated * 1.15 + 0.01, "{rows} rows, noise {noise}: {true_error} {stated}");
            assert!(stated < true_error * 1.6 + 0.01, "{rows} rows, noise {noise}: {true_error} {stated}");
            assert!(below > 0.82, "{rows} rows, noise {noise}: {below} under the upper bound");
        }
    }

    #[test]
    fn noise_leaves_the_error_near_the_noise() {
        // Uniform noise of +-5 % has a mean absolute value of 2.5 %.
        let model = fit(&planted(300, 0.05, &mut generator(3)), 0..300);
        assert!((2.2..3.0).contains(&model.cv.mape_percent), "{:?}", model.cv);
        assert!((0.04..0.06).contains(&model.upper_relative), "{}", model.upper_relative);
        assert!(model.cv.spearman > 0.98 && model.cv.folds == 10, "{:?}", model.cv);
    }

    #[test]
    fn unrelated_features_do_not_seem_to_help() {
        let mut data = planted(100, 0.0, &mut generator(4));
        let mut random = generator(5);
        data.latencies_us = (0..100).map(|_| random.random_range(100.0..200.0)).collect();
        let model = fit(&data, 0..100);
        // The best constant misses uniform 100..200 by about 16 % on average.
        assert!(model.cv.mape_percent > 14.0 && model.cv.spearman.abs() < 0.3, "{:?}", model.cv);
    }

    #[test]
    fn constant_features_are_named_and_left_out() {
        let names = ["always", "size", "never"].map(String::from);
        let features: Vec<Vec<f64>> = (1..=12).map(|i| vec![1.0, f64::from(i), 0.0]).collect();
        let latencies: Vec<f64> = (1..=12).map(|i| 50.0 + 10.0 * f64::from(i)).collect();
        let model = LatencyModel::fit(&names, &features, &latencies, SEED).expect("fits");
        assert_eq!(model.constant_features, ["always", "never"]);
        assert_eq!((model.coefficients_us[0], model.coefficients_us[2]), (0.0, 0.0));
        assert!((us(model.predict(&[1.0, 20.0, 5.0])) - 250.0).abs() < 0.01);
    }

    #[test]
    fn few_rows_and_equal_rows() {
        let names = vec!["size".to_owned()];
        let two = LatencyModel::fit(&names, &[vec![1.0], vec![2.0]], &[100.0, 120.0], SEED).expect("fits");
        // Each is predicted by the other alone: 20 / 120 and 20 / 100 off.
        assert_eq!(two.cv.folds, 2);
        assert!((two.cv.mape_percent - (100.0 / 6.0 + 20.0) / 2.0).abs() < 1e-9, "{:?}", two.cv);
        assert!((two.upper_relative - 0.2).abs() < 1e-9, "{}", two.upper_relative);

        let equal = vec![vec![1.0]; 5];
        let mean = LatencyModel::fit(&names, &equal, &[100.0; 5], SEED).expect("fits");
        assert_eq!(mean.predict(&[9.0]), Duration::from_micros(100));
        assert_eq!((mean.cv.mape_percent, mean.cv.spearman, mean.upper_relative), (0.0, 0.0, 0.0));
    }

    #[test]
    fn extrapolation_stops_at_half_the_fastest() {
        let names = vec!["size".to_owned()];
        let features: Vec<Vec<f64>> = (10..20).map(|i| vec![f64::from(i)]).collect();
        let latencies: Vec<f64> = (10..20).map(|i| 20.0 * f64::from(i) - 100.0).collect();
        let model = LatencyModel::fit(&names, &features, &latencies, SEED).expect("fits");
        assert!((us(model.predict(&[30.0])) - 500.0).abs() < 0.01);
        assert_eq!(model.predict(&[-50.0]), Duration::from_micros(50));
    }

    #[test]
    fn data_that_is_refused() {
        let names = vec!["size".to_owned()];
        let two = [vec![1.0], vec![2.0]];
        for (features, latencies, text) in [
            (&two[..0], &[][..], "needs at least 2 measured subnets, here is 0"),
            (&two[..1], &[1.0], "needs at least 2 measured subnets, here is 1: measure more"),
            (&two, &[1.0], "there are 1 latencies for 2 subnets"),
            (&two, &[1.0, f64::NAN], "the latency of subnet 1 is NaN us"),
            (&two, &[0.0, 1.0], "the latency of subnet 0 is 0 us"),
            (&two, &[1.0, f64::INFINITY], "the latency of subnet 1 is inf us"),
            (&[vec![1.0], vec![f64::NAN]], &[1.0, 1.0], "feature `size` of subnet 1 is NaN"),
            (&[vec![1e200], vec![1.0]], &[1.0, 1.0], "feature `size` of subnet 0 is 1"),
            (&[vec![1.0], vec![1.0, 2.0]], &[1.0, 1.0], "subnet 1 has 2 features, and there are 1 names"),
        ] {
            let error = LatencyModel::fit(&names, features, latencies, SEED).expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    /// Latencies of 60 subnets of two layers' choices where the second costs more if the first is on.
    fn interacting() -> (Vec<String>, Vec<Vec<f64>>, Vec<f64>) {
        let names = ["first", "second", "size"].map(String::from).to_vec();
        let features: Vec<Vec<f64>> =
            (0..60).map(|i| vec![f64::from(i % 2), f64::from(i / 2 % 2), f64::from(i % 7)]).collect();
        let latency = |row: &Vec<f64>| 100.0 + 5.0 * row[2] + 80.0 * row[0] * row[1];
        let latencies = features.iter().map(latency).collect();
        (names, features, latencies)
    }

    #[test]
    fn a_residual_model_must_earn_its_place() {
        let (names, features, latencies) = interacting();
        let model = LatencyModel::fit(&names, &features, &latencies, SEED).expect("fits");
        assert!(model.residual.is_some(), "{:?}", model.cv);
        assert!(model.cv.mape_percent < 5.0, "{:?}", model.cv);
        // Of a sum of costs it would only learn noise.
        let sum: Vec<f64> =
            features.iter().map(|row| 100.0 + 5.0 * row[2] + 60.0 * row[0] + 20.0 * row[1]).collect();
        let model = LatencyModel::fit(&names, &features, &sum, SEED).expect("fits");
        assert_eq!(model.residual, None, "{:?}", model.cv);
        // Too few to tell.
        let model = LatencyModel::fit(&names, &features[..20], &latencies[..20], SEED).expect("fits");
        assert_eq!(model.residual, None);
    }

    #[test]
    fn predictions_of_cross_validation_stand_in_the_order_of_the_measurements() {
        let data = planted(60, 0.02, &mut generator(7));
        let model = fit(&data, 0..60);
        assert_eq!(model.cv_predictions_us.len(), 60);
        let relative =
            model.cv_predictions_us.iter().zip(&data.latencies_us).map(|(guess, y)| (guess / y - 1.0).abs());
        let mape = 100.0 * relative.sum::<f64>() / 60.0;
        assert!((mape - model.cv.mape_percent).abs() < 1e-9, "{mape} {:?}", model.cv);
    }

    #[test]
    fn a_similar_platforms_model_needs_few_measurements() {
        let data = planted(300, 0.0, &mut generator(8));
        let base = fit(&data, 0..300);
        let base = Base { name: "similar", model: &base };
        // The other platform takes 2.5 times as long, and 30 us more.
        let other: Vec<f64> = data.latencies_us.iter().map(|us| 2.5 * us + 30.0).collect();
        let (few, all) = (&data.features[..12], &data.features);
        let names = &base.model.feature_names;
        let transferred = LatencyModel::fit_from(Some(base), names, few, &other[..12], SEED).expect("fits");
        let alone = LatencyModel::fit(names, few, &other[..12], SEED).expect("fits");
        let error = |model: &LatencyModel| {
            let relative = all.iter().zip(&other).map(|(row, y)| (us(model.predict(row)) / y - 1.0).abs());
            100.0 * relative.sum::<f64>() / 300.0
        };
        assert_eq!(transferred.transferred_from.as_deref(), Some("similar"));
        assert!(error(&transferred) < 1.0, "{}", error(&transferred));
        assert!(error(&alone) > 3.0 * error(&transferred), "{}", error(&alone));
        // One that has nothing to do with it is not used.
        let mut random = generator(9);
        let unrelated: Vec<f64> = (0..60).map(|_| random.random_range(100.0..200.0)).collect();
        let noise = LatencyModel::fit(names, &data.features[..60], &unrelated, SEED).expect("fits");
        let base = Base { name: "unrelated", model: &noise };
        let fitted = LatencyModel::fit_from(Some(base), names, all, &other, SEED).expect("fits");
        assert_eq!(fitted.transferred_from, None);
        let names: Vec<String> = names.iter().map(|name| format!("{name}'")).collect();
        let error = LatencyModel::fit_from(Some(base), &names, all, &other, SEED).expect_err("another space");
        assert!(
            error.to_string().starts_with("the model of unrelated is of another search space"),
            "{error}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever finite data is given, predictions are positive and the model survives its file.
        #[test]
        fn any_finite_data_gives_a_usable_model(
            rows in prop::collection::vec((prop::collection::vec(-1e6..1e6_f64, 5), 1.0..1e6_f64), 2..20),
        ) {
            let names: Vec<String> = (0..5).map(|i| format!("f{i}")).collect();
            let (features, latencies): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            let model = LatencyModel::fit(&names, &features, &latencies, SEED).expect("fits");
            for row in &features {
                prop_assert!(model.predict(row) > Duration::ZERO);
                prop_assert!(model.predict_upper(row) >= model.predict(row));
            }
            let text = serde_json::to_string(&model).expect("writes");
            prop_assert_eq!(serde_json::from_str::<LatencyModel>(&text).expect("reads"), model);
        }
    }
}
