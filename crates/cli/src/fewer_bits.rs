//! Models in fewer bits than 32, and what that costs in accuracy.

use std::str::FromStr;

use elastic_data::Examples;
use elastic_exporter::accuracy;
use elastic_exporter::precision::{Method, Precision};
use elastic_space::Array;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::judge::Validation;
use crate::platforms::onnx_runtime_cpu;
use crate::proof::DYNAMIC_BATCH;
use crate::runs::Run;

/// The key of the measured accuracies in the metadata, as JSON.
pub(crate) const ACCURACY_KEY: &str = "elastic.accuracy";
/// Images whose class a runtime of another version may see otherwise, as a share.
const WITHIN: f64 = 0.005;

/// Accuracy that may be lost, as a share of all images; the command line writes it in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AccuracyDrop(pub(crate) f64);

/// A text that is no drop.
#[derive(Debug, Error)]
#[error("accuracy drop `{text}` is no percentage from 0% to 100%, such as 0.5%")]
pub(crate) struct InvalidDrop {
    text: String,
}

/// How fewer bits are made, and what they may cost.
pub(crate) struct Settings {
    pub(crate) allowed: AccuracyDrop,
    pub(crate) method: Method,
    /// Training images on which the ranges of values are observed; none where no precision needs them.
    pub(crate) observed: Option<Array>,
}

/// What fewer bits cost a model, measured through ONNX Runtime on validation images.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FewerBits {
    #[serde(flatten)]
    pub(crate) measured: Accuracies,
    /// What was lost, as a share of the images; below 0 if it was won.
    pub(crate) accuracy_drop: f64,
    /// What may be lost.
    pub(crate) allowed_drop: f64,
    /// How the ranges of values were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) calibration: Option<Calibration>,
}

/// Accuracies of the same network in 32-bit floats and as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Accuracies {
    /// Validation images, the first ones.
    pub(crate) images: usize,
    pub(crate) accuracy_fp32: f64,
    pub(crate) accuracy: f64,
}

/// How the ranges of values were found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Calibration {
    method: Method,
    /// Training images.
    images: usize,
}

/// Fewer bits lose more than is allowed.
#[derive(Debug, Error)]
#[error(
    "{precision} loses {:.2} % of accuracy ({:.2} % to {:.2} % on {} validation images), {:.2} % is allowed: raise --max-accuracy-drop, or \
     choose another --precision", 100.0 * cost.accuracy_drop, 100.0 * cost.measured.accuracy_fp32, 100.0 * cost.measured.accuracy,
    cost.measured.images, 100.0 * cost.allowed_drop
)]
pub(crate) struct AccuracyDropped {
    pub(crate) precision: Precision,
    pub(crate) cost: FewerBits,
}

/// A model in fewer bits is not as accurate as it says itself.
#[derive(Debug, Error)]
#[error(
    "verification failed in {}: accuracy {:.2} % on {images} validation images, the file says {:.2} %; export it again",
    onnx_runtime_cpu(1).label(), 100.0 * found, 100.0 * recorded
)]
pub(crate) struct AccuracyChanged {
    images: usize,
    found: f64,
    recorded: f64,
}

impl Settings {
    /// What a model in fewer bits costs, if it is one. Both files take the batch; `None` is dynamic.
    pub(crate) fn cost(
        &self,
        precision: Precision,
        [fp32, written]: [&[u8]; 2],
        batch: Option<usize>,
        validation: &Validation,
    ) -> anyhow::Result<Option<FewerBits>> {
        if precision == Precision::Fp32 {
            return Ok(None);
        }
        let accuracy_fp32 = accuracy_of(fp32, batch, validation)?;
        let accuracy = accuracy_of(written, batch, validation)?;
        let images = self.observed.as_ref().map_or(0, |images| images.shape[0]);
        let calibration = Calibration { method: self.method, images };
        Ok(Some(FewerBits {
            measured: Accuracies { images: validation.labels.len(), accuracy_fp32, accuracy },
            accuracy_drop: accuracy_fp32 - accuracy,
            allowed_drop: self.allowed.0,
            calibration: (precision == Precision::Int8Static).then_some(calibration),
        }))
    }
}

impl FewerBits {
    /// Whether no more is lost than is allowed.
    pub(crate) fn holds(&self) -> bool {
        // Both are counts of images over their number: what is equal may differ in the last bit.
        self.accuracy_drop <= self.allowed_drop + 1e-9
    }
}

/// Measures the accuracy again that a file in fewer bits says of itself.
///
/// # Errors
///
/// [`AccuracyChanged`] if it is another.
pub(crate) fn verify(
    recorded: &Accuracies,
    model: &[u8],
    batch: Option<usize>,
    run: &Run,
    validation: &Examples,
) -> anyhow::Result<()> {
    let validation = Validation::new(run, validation, recorded.images);
    let (images, found) = (validation.labels.len(), accuracy_of(model, batch, &validation)?);
    if (found - recorded.accuracy).abs() > WITHIN.max(1.5 / images as f64) {
        return Err(AccuracyChanged { images, found, recorded: recorded.accuracy }.into());
    }
    Ok(())
}

fn accuracy_of(model: &[u8], batch: Option<usize>, validation: &Validation) -> anyhow::Result<f64> {
    let mut session = elastic_runtime::open(&onnx_runtime_cpu(1), model)?;
    let batch = batch.unwrap_or(DYNAMIC_BATCH);
    Ok(accuracy(session.as_mut(), &validation.images, &validation.labels, batch)?)
}

impl FromStr for AccuracyDrop {
    type Err = InvalidDrop;

    fn from_str(text: &str) -> Result<Self, InvalidDrop> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match percent {
            Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Self(percent / 100.0)),
            _ => Err(InvalidDrop { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops() {
        for (text, expected) in [
            ("0.5%", Some(0.005)),
            ("1 %", Some(0.01)),
            ("0%", Some(0.0)),
            ("100%", Some(1.0)),
            ("0.5", None),
            ("-1%", None),
            ("101%", None),
            ("x%", None),
            ("nan%", None),
        ] {
            assert_eq!(text.parse().ok(), expected.map(AccuracyDrop), "{text}");
        }
    }

    #[test]
    fn what_holds_and_what_is_told_else() {
        let cost = |accuracy: f64| FewerBits {
            measured: Accuracies { images: 200, accuracy_fp32: 0.9, accuracy },
            accuracy_drop: 0.9 - accuracy,
            allowed_drop: 0.01,
            calibration: None,
        };
        for (accuracy, holds) in [(0.95, true), (0.9, true), (0.89, true), (0.885, false)] {
            assert_eq!(cost(accuracy).holds(), holds, "{accuracy}");
        }
        let error =
            anyhow::Error::from(AccuracyDropped { precision: Precision::Int8Static, cost: cost(0.885) });
        assert_eq!(crate::exit::of(&error), crate::exit::Exit::Infeasible);
        assert_eq!(
            error.to_string(),
            "int8-static loses 1.50 % of accuracy (90.00 % to 88.50 % on 200 validation images), 1.00 % is allowed: raise \
             --max-accuracy-drop, or choose another --precision"
        );
    }
}
