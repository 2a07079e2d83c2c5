//! The manifest: digests of everything that went into a model.

use elastic_space::Subnet;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::report::Report;
use super::Origin;
use crate::digest::Digest;

/// `NAME.manifest.json`
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Manifest<'a> {
    schema: &'static str,
    file: &'a str,
    sha256: &'a str,
    subnet: &'a Subnet,
    form: String,
    opset: i64,
    precision: String,
    platform: Option<&'a str>,
    /// SHA-256 of the supernet.
    checkpoint_sha256: &'a str,
    /// SHA-256 of the weights beside the model, where the subnet was trained alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    finetuned_sha256: Option<&'a str>,
    #[serde(flatten)]
    origin: &'a Origin,
    test_images: &'a Digest,
    seed: u64,
    elastic_version: &'static str,
    command: &'a [String],
}

pub(super) fn of<'a>(report: &'a Report, origin: &'a Origin) -> Manifest<'a> {
    Manifest {
        schema: "elastic.manifest/v1",
        file: &report.file,
        sha256: &report.sha256,
        subnet: &report.subnet,
        form: report.form.to_string(),
        opset: report.opset,
        precision: report.precision.to_string(),
        platform: report.platform.as_deref(),
        checkpoint_sha256: &report.checkpoint,
        finetuned_sha256: report.finetune.as_ref().and_then(|tuned| tuned.weights_sha256.as_deref()),
        origin,
        test_images: &report.proof.test_digest,
        seed: report.search.seed,
        elastic_version: report.elastic_version,
        command: &report.command,
    }
}
