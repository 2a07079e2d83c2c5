//! Compares what a runtime computes from an ONNX file with what the supernet computed.

use elastic_runtime::{OpenError, RunError, Session, spread};
use elastic_space::{Array, platform};
use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

/// The largest difference of a logit that counts as agreement.
pub const TOLERANCE: f64 = 1e-4;

/// How far a runtime agrees with the reference.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Agreement {
    /// The runtime, as tables show it.
    pub runtime: String,
    /// The largest absolute difference of any logit; infinite if any logit is not a number.
    pub max_abs_difference: f64,
    /// Samples whose largest logit is of the same class.
    pub same_top1: usize,
    /// Samples that were compared.
    pub samples: usize,
}

/// Why a comparison could not be made.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The runtime does not take the model.
    #[error("verify the model: {0}")]
    Open(#[from] OpenError),
    /// A run failed.
    #[error("verify the model: {0}")]
    Run(#[from] RunError),
    /// The images or what belongs to them do not fit each other.
    #[error(
        "verify the model: {images:?} images against {field} of shape {found:?}: bring one row for each image, at least one"
    )]
    Samples {
        /// Shape of the images.
        images: Vec<usize>,
        /// What does not fit: `logits` or `labels`.
        field: &'static str,
        /// Its shape.
        found: Vec<usize>,
    },
    /// The batch size is zero.
    #[error("verify the model with batch 0: it must be at least 1")]
    Batch,
    /// The model's output has another shape than one row for each input.
    #[error(
        "verify the model: it gave outputs of shape {found:?}, expected one output [{batch}, classes]: is it a classifier of elastic?"
    )]
    Output {
        /// Inputs of the run.
        batch: usize,
        /// Shapes of the outputs.
        found: Vec<Vec<usize>>,
    },
}

impl Agreement {
    /// Whether no logit differs by more than `tolerance` and every sample has the same top-1 class.
    pub fn holds(&self, tolerance: f64) -> bool {
        self.samples > 0 && self.same_top1 == self.samples && self.max_abs_difference <= tolerance
    }
}

/// Runs images through a model and compares its logits with a reference.
///
/// `batch` is the number of inputs of one run, which must be the model's if that is fixed. If it does not
/// divide the number of images, the last run is filled up with copies of the last image.
///
/// # Shapes
///
/// images `[samples, channels, height, width]`, reference logits `[samples, classes]`
///
/// # Errors
///
/// [`VerifyError`] if the runtime does not open or run the model, or shapes do not fit.
pub fn compare(
    model: &[u8],
    runtime: &platform::Runtime,
    images: &Array,
    reference_logits: &Array,
    batch: usize,
) -> Result<Agreement, VerifyError> {
    let mut session = elastic_runtime::open(runtime, model)?;
    compare_session(session.as_mut(), runtime.label(), images, reference_logits, batch)
}

/// The fraction of images whose largest logit is that of their label.
///
/// `batch` as in [`compare`].
///
/// # Shapes
///
/// images `[samples, channels, height, width]`, labels `[samples]`
///
/// # Errors
///
/// [`VerifyError`] if the runtime does not run the model, or shapes do not fit.
pub fn accuracy(
    session: &mut dyn Session,
    images: &Array,
    labels: &[u8],
    batch: usize,
) -> Result<f64, VerifyError> {
    check_samples(images, "labels", &[labels.len()])?;
    let logits = logits(session, images, batch)?;
    let right =
        logits.iter().zip(labels).filter(|(row, label)| top1(row) == Some(usize::from(**label))).count();
    Ok(right as f64 / labels.len() as f64)
}

fn compare_session(
    session: &mut dyn Session,
    runtime: String,
    images: &Array,
    reference: &Array,
    batch: usize,
) -> Result<Agreement, VerifyError> {
    check_samples(images, "logits", &reference.shape)?;
    let rows = logits(session, images, batch)?;
    let classes = reference.data.len() / rows.len();
    let mut agreement = Agreement { runtime, max_abs_difference: 0.0, same_top1: 0, samples: rows.len() };
    for (row, expected) in rows.iter().zip(reference.data.chunks(classes)) {
        if row.len() != classes {
            return Err(VerifyError::Output { batch, found: vec![vec![batch, row.len()]] });
        }
        for (a, b) in row.iter().zip(expected) {
            let difference = (f64::from(*a) - f64::from(*b)).abs();
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            agreement.max_abs_difference = agreement.max_abs_difference.max(difference);
        }
        agreement.same_top1 += usize::from(top1(row).is_some() && top1(row) == top1(expected));
    }
    Ok(agreement)
}

/// Whether `shape` has a row for each image, and there are any.
fn check_samples(images: &Array, field: &'static str, shape: &[usize]) -> Result<(), VerifyError> {
    let fits = images.shape.len() == 4
        && images.shape[0] > 0
        && shape.first() == images.shape.first()
        && shape.iter().all(|&size| size > 0);
    let refuse = || VerifyError::Samples { images: images.shape.clone(), field, found: shape.to_vec() };
    if fits { Ok(()) } else { Err(refuse()) }
}

/// The images in batches of one size; the last is filled up with copies of the last image.
///
/// # Panics
///
/// If the batch is 0.
pub(crate) fn batches(images: &Array, batch: usize) -> impl Iterator<Item = Array> {
    let values = images.shape[1..].iter().product::<usize>();
    images.data.chunks(batch * values).map(move |chunk| {
        let last = &chunk[chunk.len() - values..];
        let mut data = chunk.to_vec();
        while data.len() < batch * values {
            data.extend_from_slice(last);
        }
        Array { shape: [&[batch], &images.shape[1..]].concat(), data }
    })
}

/// The logits of every image, one row each.
fn logits(session: &mut dyn Session, images: &Array, batch: usize) -> Result<Vec<Vec<f32>>, VerifyError> {
    if batch == 0 {
        return Err(VerifyError::Batch);
    }
    let samples = images.shape[0];
    let mut rows = Vec::with_capacity(samples);
    for images in batches(images, batch) {
        let inputs = spread(images, session.inputs().len());
        let outputs = session.run(&inputs)?;
        match outputs.as_slice() {
            [logits] if logits.shape.len() == 2 && logits.shape[0] == batch && logits.shape[1] > 0 => {
                let missing = samples - rows.len();
                rows.extend(logits.data.chunks(logits.shape[1]).take(missing).map(<[f32]>::to_vec));
            }
            others => {
                let found = others.iter().map(|output| output.shape.clone()).collect();
                return Err(VerifyError::Output { batch, found });
            }
        }
    }
    Ok(rows)
}

/// The class of the largest logit; none if any is not a number.
fn top1(row: &[f32]) -> Option<usize> {
    if row.iter().any(|value| value.is_nan()) {
        return None;
    }
    row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class)
}

#[cfg(test)]
mod tests {
    use elastic_runtime::Input;

    use super::*;

    /// A classifier that answers with the first values of each image, and remembers the batches.
    struct Echo {
        classes: usize,
        batches: Vec<usize>,
    }

    impl Session for Echo {
        fn inputs(&self) -> &[Input] {
            &[]
        }

        fn run(&mut self, inputs: &[Array]) -> Result<Vec<Array>, RunError> {
            let batch = inputs[0].shape[0];
            self.batches.push(batch);
            let values = inputs[0].data.len() / batch;
            let data =
                inputs[0].data.chunks(values).flat_map(|image| image[..self.classes].to_vec()).collect();
            Ok(vec![Array { shape: vec![batch, self.classes], data }])
        }
    }

    fn images(data: &[f32]) -> Array {
        Array { shape: vec![data.len() / 2, 1, 1, 2], data: data.to_vec() }
    }

    fn rows(data: &[f32]) -> Array {
        Array { shape: vec![data.len() / 2, 2], data: data.to_vec() }
    }

    #[test]
    fn differences_and_top1() {
        let nan = f32::NAN;
        let inf = f32::INFINITY;
        for (name, found, expected, difference, same, holds) in [
            ("equal", [1.0, 2.0, 4.0, 3.0], [1.0, 2.0, 4.0, 3.0], 0.0, 2, true),
            ("within", [1.0, 2.0, 4.0, 3.0], [1.0, 2.0, 4.0, 3.25], 0.25, 2, true),
            ("beyond", [1.0, 2.0, 4.0, 3.0], [1.0, 4.0, 4.0, 3.0], 2.0, 2, false),
            ("another class", [1.0, 1.125, 4.0, 3.0], [1.0, 0.875, 4.0, 3.0], 0.25, 1, false),
            ("found is not a number", [1.0, 2.0, nan, 3.0], [1.0, 2.0, 4.0, 3.0], f64::INFINITY, 1, false),
            ("expected is not a number", [1.0, 2.0, 4.0, 3.0], [1.0, nan, 4.0, 3.0], f64::INFINITY, 1, false),
            ("both are not numbers", [1.0, 2.0, nan, 3.0], [1.0, 2.0, nan, 3.0], f64::INFINITY, 1, false),
            ("both are infinite", [1.0, 2.0, inf, 3.0], [1.0, 2.0, inf, 3.0], f64::INFINITY, 2, false),
        ] {
            for batch in [1, 2, 3] {
                let mut session = Echo { classes: 2, batches: vec![] };
                let found =
                    compare_session(&mut session, "echo".into(), &images(&found), &rows(&expected), batch)
                        .unwrap_or_else(|error| panic!("{name}: {error}"));
                let max_abs_difference = difference;
                let expected =
                    Agreement { runtime: "echo".into(), max_abs_difference, same_top1: same, samples: 2 };
                assert_eq!(found, expected, "{name}, batch {batch}");
                assert_eq!(found.holds(0.5), holds, "{name}, batch {batch}");
                assert!(session.batches.iter().all(|&ran| ran == batch), "{name}: {:?}", session.batches);
            }
        }
    }

    #[test]
    fn nothing_compared_does_not_hold() {
        let agreement =
            Agreement { runtime: "none".into(), max_abs_difference: 0.0, same_top1: 0, samples: 0 };
        assert!(!agreement.holds(TOLERANCE));
    }

    #[test]
    fn fraction_of_right_labels() {
        let data = [1.0, 2.0, 4.0, 3.0, 0.0, 1.0, f32::NAN, 1.0];
        for (labels, expected) in [([1, 0, 1, 1], 0.75), ([0, 1, 0, 0], 0.0), ([1, 1, 1, 9], 0.5)] {
            for batch in [1, 3, 4, 7] {
                let mut session = Echo { classes: 2, batches: vec![] };
                let found = accuracy(&mut session, &images(&data), &labels, batch).expect("it runs");
                assert!((found - expected).abs() < 1e-12, "{labels:?}, batch {batch}: {found}");
            }
        }
    }

    #[test]
    fn what_is_refused() {
        let two = images(&[1.0, 2.0, 3.0, 4.0]);
        for (name, images, logits, batch, reason) in [
            ("fewer logits", &two, rows(&[1.0, 2.0]), 1, "against logits of shape [1, 2]"),
            ("no images", &images(&[]), rows(&[]), 1, "at least one"),
            ("not images", &rows(&[1.0, 2.0]), rows(&[1.0, 2.0]), 1, "[1, 2] images"),
            ("no batch", &two, rows(&[0.0; 4]), 0, "batch 0"),
            (
                "other classes",
                &two,
                Array { shape: vec![2, 3], data: vec![0.0; 6] },
                1,
                "outputs of shape [[1, 2]]",
            ),
        ] {
            let mut session = Echo { classes: 2, batches: vec![] };
            let error = compare_session(&mut session, "echo".into(), images, &logits, batch).expect_err(name);
            assert!(error.to_string().contains(reason), "{name}: {error}");
        }
        let mut session = Echo { classes: 2, batches: vec![] };
        let error = accuracy(&mut session, &two, &[0], 1).expect_err("one label for two images").to_string();
        assert!(error.contains("against labels of shape [1]"), "{error}");
    }
}
