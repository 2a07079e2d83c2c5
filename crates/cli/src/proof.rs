//! Proof that a model file computes what its supernet computes, and its accuracy on test data.

use elastic_data::{Images, load_test, normalise};
use elastic_exporter::{Agreement, TOLERANCE, VerifyError};
use elastic_space::platform::Runtime;
use elastic_space::{Array, Subnet};
use serde::Serialize;

use crate::exit::VerificationFailed;
use crate::judge::Validation;
use crate::platforms::onnx_runtime_cpu;
use crate::progress::Reporter;
use crate::runs::Run;

/// Validation images on which logits are compared.
const COMPARED_IMAGES: usize = 256;
/// Inputs of one run of a model with dynamic batch.
const DYNAMIC_BATCH: usize = 64;

/// What was proven of a model.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Proof {
    /// One entry a runtime.
    pub(crate) agreement: Vec<Agreement>,
    /// The largest difference that is allowed.
    pub(crate) tolerance: f64,
    /// Accuracy of the file in ONNX Runtime on the test set, 0 to 1.
    pub(crate) test_accuracy: f64,
    /// Images of the test set.
    pub(crate) test_images: usize,
}

/// Compares a model with its supernet in ONNX Runtime and in tract on the first of some validation
/// images, then reads its test accuracy.
///
/// # Errors
///
/// [`VerificationFailed`] if a runtime disagrees.
pub(crate) fn prove(
    run: &Run,
    subnet: &Subnet,
    model: &[u8],
    batch: Option<usize>,
    validation: &Images,
    reporter: &Reporter,
) -> anyhow::Result<Proof> {
    let batch = batch.unwrap_or(DYNAMIC_BATCH);
    let validation = Validation::new(run, validation, COMPARED_IMAGES);
    let reference = run.loaded.supernet.logits(&validation.images, subnet);
    let agreement = compare(model, &validation.images, &reference, batch)?;
    let test = load_test(&run.model.data, run.model.space.input(), &mut |line| reporter.say(line))?;
    let images = normalise(&run.model.data.normalisation(), &test, 0..test.len());
    let mut session = elastic_runtime::open(&onnx_runtime_cpu(1), model)?;
    let test_accuracy = elastic_exporter::accuracy(session.as_mut(), &images, &test.labels, batch)?;
    Ok(Proof { agreement, tolerance: TOLERANCE, test_accuracy, test_images: test.len() })
}

/// How far ONNX Runtime and tract agree with the logits of some images.
///
/// # Errors
///
/// [`VerificationFailed`] if one of them disagrees.
pub(crate) fn compare(
    model: &[u8],
    images: &Array,
    logits: &Array,
    batch: usize,
) -> anyhow::Result<Vec<Agreement>> {
    let runtimes = [onnx_runtime_cpu(1), Runtime::Tract(Default::default())];
    runtimes.iter().map(|runtime| agree(model, runtime, images, logits, batch)).collect()
}

fn agree(
    model: &[u8],
    runtime: &Runtime,
    images: &Array,
    reference: &Array,
    batch: usize,
) -> anyhow::Result<Agreement> {
    let agreement =
        elastic_exporter::compare(model, runtime, images, reference, batch).map_err(|error| match error {
            // The inner error tells the exit code apart.
            VerifyError::Open(error) => anyhow::Error::new(error).context("verify the model"),
            error => anyhow::Error::new(error),
        })?;
    if agreement.holds(TOLERANCE) {
        return Ok(agreement);
    }
    Err(VerificationFailed {
        runtime: agreement.runtime,
        difference: agreement.max_abs_difference,
        tolerance: TOLERANCE,
        same: agreement.same_top1,
        samples: agreement.samples,
    }
    .into())
}
