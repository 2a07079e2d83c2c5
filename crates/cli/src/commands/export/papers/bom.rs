//! The bill of materials, in CycloneDX 1.6 (<https://cyclonedx.org/docs/1.6/json/>) with its model card for machine
//! learning. Nothing in it changes from one export of the same file to the next.

use elastic_data::DataConfig;
use serde_json::{Value, json};

use super::super::report::Report;
use super::Origin;
use crate::digest::Digest;

pub(super) fn of(report: &Report, origin: &Origin, data: &DataConfig) -> Value {
    let source = data.source.path().display().to_string();
    let dataset = |part: &str, digest: &Digest| {
        json!({
            "type": "data",
            "bom-ref": format!("data-{part}"),
            "name": format!("{source}, {part}"),
            "version": &digest.sha256[..12],
            "hashes": [sha256(&digest.sha256)],
            "data": [{
                "type": "dataset",
                "name": format!("{source}, {part}"),
                "contents": { "properties": [{ "name": "images", "value": digest.images.to_string() }] },
            }],
        })
    };
    let metric =
        |slice: &str, value: f64| json!({ "type": "accuracy", "value": value.to_string(), "slice": slice });
    let name = report.file.trim_end_matches(".onnx");
    let subnet = report.subnet.to_string();
    let parts = [
        ("train", &origin.train_images),
        ("validation", &origin.validation_images),
        ("test", &report.proof.test_digest),
    ];
    let supernet = json!({
        "type": "machine-learning-model",
        "bom-ref": "supernet",
        "name": "supernet.safetensors",
        "version": &report.checkpoint[..12],
        "hashes": [sha256(&report.checkpoint)],
    });
    let components: Vec<Value> =
        std::iter::once(supernet).chain(parts.map(|(part, digest)| dataset(part, digest))).collect();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial_number(&report.sha256),
        "version": 1,
        "metadata": {
            "tools": { "components": [{
                "type": "application",
                "name": "elastic",
                "version": report.elastic_version,
                "hashes": [sha256(&origin.program_sha256)],
            }] },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": name,
                "version": &report.sha256[..12],
                "hashes": [sha256(&report.sha256)],
                "modelCard": {
                    "modelParameters": {
                        "approach": { "type": "supervised" },
                        "task": "image-classification",
                        "architectureFamily": report.family,
                        "modelArchitecture": subnet,
                        "datasets": parts.map(|(part, _)| json!({ "ref": format!("data-{part}") })),
                        "inputs": [{ "format": "32-bit floats, [batch, channels, height, width]" }],
                        "outputs": [{ "format": "32-bit floats, [batch, classes]" }],
                    },
                    "quantitativeAnalysis": { "performanceMetrics": [
                        metric("validation", report.validation_accuracy),
                        metric("test", report.proof.test_accuracy),
                    ] },
                },
                "properties": [
                    { "name": "elastic:precision", "value": report.precision.to_string() },
                    { "name": "elastic:form", "value": report.form.to_string() },
                    { "name": "elastic:parameters", "value": report.cost.params.to_string() },
                    { "name": "elastic:macs", "value": report.cost.macs.to_string() },
                ],
            },
        },
        "components": components,
        "dependencies": [
            { "ref": "model", "dependsOn": ["supernet", "data-validation", "data-test"] },
            { "ref": "supernet", "dependsOn": ["data-train"] },
        ],
    })
}

fn sha256(content: &str) -> Value {
    json!({ "alg": "SHA-256", "content": content })
}

/// A UUID of version 8 (RFC 9562) from the file's hash: equal files have equal numbers.
fn serial_number(hash: &str) -> String {
    let (a, b, c, d, e) = (&hash[..8], &hash[8..12], &hash[13..16], &hash[17..20], &hash[20..32]);
    format!("urn:uuid:{a}-{b}-8{c}-8{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_a_uuid_of_version_8() {
        let hash = "0123456789abcdef0123456789abcdef".repeat(2);
        assert_eq!(serial_number(&hash), "urn:uuid:01234567-89ab-8def-8123-456789abcdef");
    }
}
