//! Proof that a model file computes what its supernet computes, and its accuracy on test data.

use elastic_data::{Examples, load_test};
use elastic_exporter::{Agreement, CONTRIB, Sequence, TOLERANCE, VerifyError, opsets};
use elastic_space::platform::Runtime;
use elastic_space::{Array, Subnet};
use schemars::JsonSchema;
use serde::Serialize;

use crate::digest::{Digest, digest};
use crate::exit::VerificationFailed;
use crate::judge::Validation;
use crate::model_file::Writing;
use crate::platforms::onnx_runtime_cpu;
use crate::progress::Reporter;
use crate::runs::Run;

/// Validation images on which logits are compared.
const COMPARED_IMAGES: usize = 256;
/// Inputs of one run of a model with dynamic batch.
pub(crate) const DYNAMIC_BATCH: usize = 64;

/// Why a model with operators of ONNX Runtime's own is compared in it alone.
const NOT_IN_TRACT: &str =
    "tract does not know ONNX Runtime's own operators: the file was compared in ONNX Runtime alone";

/// What was proven of a model.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Proof {
    /// One entry a runtime.
    pub(crate) agreement: Vec<Agreement>,
    /// Why a runtime is not among them, if one is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_compared: Option<&'static str>,
    /// The largest difference that is allowed.
    pub(crate) tolerance: f64,
    /// Accuracy of the file in ONNX Runtime on the test set, 0 to 1.
    pub(crate) test_accuracy: f64,
    /// Images of the test set.
    pub(crate) test_images: usize,
    /// What they are.
    pub(crate) test_digest: Digest,
}

/// Compares a model with its supernet in ONNX Runtime and in tract on the first of some validation
/// images, then reads the test accuracy of the file that is `written`: the same, or the same network in fewer bits.
///
/// # Errors
///
/// [`VerificationFailed`] if a runtime disagrees.
pub(crate) fn prove(
    run: &Run,
    subnet: &Subnet,
    [model, written]: [&[u8]; 2],
    writing: Writing,
    validation: &Examples,
    reporter: &Reporter,
) -> anyhow::Result<Proof> {
    let batch = writing.batch.unwrap_or(DYNAMIC_BATCH);
    let validation = Validation::new(run, validation, COMPARED_IMAGES);
    let logits = |images: &Array| run.loaded.supernet.logits(images, subnet);
    let agreement = compare(model, &validation.images, logits, (batch, writing.sequence))?;
    let test = load_test(&run.model.data, run.model.space.input(), &mut |line| reporter.say(line))?;
    let images = test.inputs(&run.model.data, 0..test.len());
    let mut session = elastic_runtime::open(&onnx_runtime_cpu(1), written)?;
    let test_accuracy = elastic_exporter::accuracy(session.as_mut(), &images, test.labels(), batch)?;
    let not_compared = not_compared(model)?;
    Ok(Proof {
        agreement,
        not_compared,
        tolerance: TOLERANCE,
        test_accuracy,
        test_images: test.len(),
        test_digest: digest(&test),
    })
}

/// Why a model is not compared in tract, if it is not.
///
/// # Errors
///
/// If the bytes are no ONNX file.
pub(crate) fn not_compared(model: &[u8]) -> anyhow::Result<Option<&'static str>> {
    Ok(opsets(model)?.contains_key(CONTRIB).then_some(NOT_IN_TRACT))
}

/// How far ONNX Runtime and, where it knows the model's operators, tract agree with the supernet's `logits` of some images, or
/// texts. Where a text may have any length, these also cut to half of it and to one token, against the same padded.
///
/// # Errors
///
/// [`VerificationFailed`] if one of them disagrees.
pub(crate) fn compare(
    model: &[u8],
    images: &Array,
    logits: impl Fn(&Array) -> Array,
    (batch, sequence): (usize, Sequence),
) -> anyhow::Result<Vec<Agreement>> {
    let mut runtimes = vec![onnx_runtime_cpu(1)];
    if not_compared(model)?.is_none() {
        runtimes.push(Runtime::Tract(Default::default()));
    }
    let mut cases = vec![(String::new(), images.clone(), logits(images))];
    if sequence == Sequence::Dynamic {
        let longest = images.shape[3];
        for tokens in [longest.div_ceil(2), 1] {
            let [cut, padded] = [tokens, longest].map(|width| first_tokens(images, tokens, width));
            cases.push((format!(", {tokens} tokens"), cut, logits(&padded)));
        }
    }
    let mut agreements = Vec::new();
    for (what, images, logits) in cases {
        for runtime in &runtimes {
            let agreement = agree(model, runtime, &images, &logits, batch)?;
            agreements.push(Agreement { runtime: agreement.runtime + &what, ..agreement });
        }
    }
    Ok(agreements)
}

/// The first tokens of each text, padded to a width.
fn first_tokens(texts: &Array, tokens: usize, width: usize) -> Array {
    let [samples, channels, height, longest] = texts.shape[..] else { unreachable!("texts have four axes") };
    let rows = texts.data.chunks_exact(longest);
    let padding = std::iter::repeat_n(0.0, width - tokens);
    let data = rows.flat_map(|row| row[..tokens].iter().copied().chain(padding.clone())).collect();
    Array { shape: vec![samples, channels, height, width], data }
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
