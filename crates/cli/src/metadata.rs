//! What an exported file says of itself: the entries of ONNX's `metadata_props`.
//!
//! Nothing in them changes from run to run, and their length does not depend on what is measured, so that the size of a
//! file is known before it is written.

use std::collections::BTreeMap;

use elastic_data::Source;
use elastic_exporter::precision::{PRECISION_KEY, Precision};
use elastic_exporter::{Batch, CLASSES_KEY, GraphOptions, Sequence};
use elastic_space::subnet::METADATA_KEY as SUBNET_KEY;
use elastic_space::{Budget, Subnet, file};
use elastic_trainer::Model;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::fewer_bits::ACCURACY_KEY;
use crate::model_file::{BatchSize, Writing};
use crate::runs::Run;

/// The version of what is written here.
const SCHEMA: &str = "elastic.metadata/v1";
const SCHEMA_KEY: &str = "elastic.schema";
const FAMILY_KEY: &str = "elastic.family";
const SUBNET_TEXT_KEY: &str = "elastic.subnet-text";
const COST_KEY: &str = "elastic.cost";
const RUN_KEY: &str = "elastic.run";
const CONFIG_KEY: &str = "elastic.config";
const DATA_KEY: &str = "elastic.data";
const SEED_KEY: &str = "elastic.seed";
const TARGET_KEY: &str = "elastic.target";
const LICENCE_KEY: &str = "elastic.licence";
const PREPROCESSING_KEY: &str = "elastic.preprocessing";
const OPSET_KEY: &str = "elastic.opset";
/// The key of what training the subnet alone came to, as JSON: a [`Finetuned`].
pub(crate) const FINETUNED_KEY: &str = "elastic.finetuned";
/// The key of the validation accuracy by which the network was chosen, as JSON.
pub(crate) const VALIDATION_KEY: &str = "elastic.validation";
/// The key of the SHA-256 of the supernet that the file was cut from.
pub(crate) const CHECKPOINT_KEY: &str = "elastic.checkpoint";
/// The key of the batch: a number or `dynamic`.
pub(crate) const BATCH_KEY: &str = "elastic.batch";
/// The key of what a text's length is where it is not fixed: `dynamic`.
pub(crate) const SEQUENCE_KEY: &str = "elastic.sequence";
/// The key of the form: the name of a [`Form`](elastic_exporter::Form).
pub(crate) const FORM_KEY: &str = "elastic.form";

/// In the place of the measured accuracies, which are no longer than this.
const LONGEST_ACCURACIES: &str =
    "{\"images\":1000000000,\"accuracy-fp32\":0.123456789012345678901,\"accuracy\":0.123456789012345678901}";

/// Every key in the order in which a person reads them.
pub(crate) const KEYS: [&str; 22] = [
    SCHEMA_KEY,
    FAMILY_KEY,
    SUBNET_TEXT_KEY,
    SUBNET_KEY,
    COST_KEY,
    VALIDATION_KEY,
    CLASSES_KEY,
    PREPROCESSING_KEY,
    FORM_KEY,
    OPSET_KEY,
    BATCH_KEY,
    SEQUENCE_KEY,
    PRECISION_KEY,
    ACCURACY_KEY,
    TARGET_KEY,
    RUN_KEY,
    SEED_KEY,
    CHECKPOINT_KEY,
    FINETUNED_KEY,
    CONFIG_KEY,
    DATA_KEY,
    LICENCE_KEY,
];

/// What the files of one model file or run say of themselves.
pub(crate) struct Metadata<'a> {
    model: &'a Model,
    /// What is the same for every subnet.
    common: BTreeMap<String, String>,
}

impl<'a> Metadata<'a> {
    /// Of networks that were cut from a file with the SHA-256 `weights`.
    pub(crate) fn new(model: &'a Model, weights: &str) -> Self {
        let mut metadata = Self { model, common: BTreeMap::new() };
        metadata.set(SCHEMA_KEY, SCHEMA);
        metadata.set(FAMILY_KEY, model.space.family());
        metadata.set(CHECKPOINT_KEY, weights);
        metadata.set(PREPROCESSING_KEY, &preprocessing(model));
        if let Some(licence) = &model.licence {
            metadata.set(LICENCE_KEY, licence);
        }
        metadata
    }

    /// Of subnets of a run.
    pub(crate) fn of_run(run: &'a Run) -> Self {
        let mut metadata = Self::new(&run.model, &run.loaded.sha256);
        metadata.set(RUN_KEY, &run.name());
        metadata
    }

    /// With what the run was made from: the SHA-256 of its configuration, and its data.
    pub(crate) fn made_from(mut self, config: &str, [train, validation]: [&Digest; 2]) -> Self {
        self.set(CONFIG_KEY, config);
        self.set(DATA_KEY, &json!({ "train": train, "validation": validation }));
        self
    }

    /// With what the subnet is chosen for: a search with this seed, on so many validation images.
    pub(crate) fn chosen_for(
        mut self,
        platform: Option<&str>,
        budgets: &[Budget],
        seed: u64,
        images: usize,
    ) -> Self {
        let budgets: Vec<String> = budgets.iter().map(ToString::to_string).collect();
        self.set(TARGET_KEY, &json!({ "platform": platform, "budgets": budgets }));
        self.set(SEED_KEY, &json!({ "training": self.model.seed, "search": seed }));
        self.set(VALIDATION_KEY, &validation(0.0, images));
        self
    }

    /// With room for what so many steps of training the subnet alone come to.
    pub(crate) fn fine_tuned(mut self, steps: u64) -> Self {
        if steps > 0 {
            self.set(FINETUNED_KEY, &finetuned(steps, Some(&"0".repeat(64))));
        }
        self
    }

    /// What is written besides a network. Fewer bits, and the accuracy that was measured, are a second step.
    pub(crate) fn options(&self, subnet: &Subnet, writing: Writing) -> anyhow::Result<GraphOptions> {
        let Writing { batch, sequence, form, opset, precision } = writing;
        let cost = self.model.space.cost(subnet);
        let own = [
            (SUBNET_KEY, serde_json::to_string(subnet)?),
            (SUBNET_TEXT_KEY, subnet.to_string()),
            (COST_KEY, json!({ "params": cost.params, "macs": cost.macs }).to_string()),
            (FORM_KEY, form.to_string()),
            (OPSET_KEY, opset.to_string()),
            (PRECISION_KEY, "fp32".to_owned()),
            (BATCH_KEY, BatchSize(batch).to_string()),
        ];
        let mut metadata = self.common.clone();
        metadata.extend(own.map(|(key, value)| (key.to_owned(), value)));
        if precision != Precision::Fp32 {
            metadata.insert(ACCURACY_KEY.to_owned(), LONGEST_ACCURACIES.to_owned());
        }
        if sequence != Sequence::Fixed {
            metadata.insert(SEQUENCE_KEY.to_owned(), sequence.to_string());
        }
        let batch = batch.map_or(Batch::Dynamic, Batch::Fixed);
        let class_names = self.model.data.class_names.clone();
        Ok(GraphOptions { batch, sequence, form, opset, class_names, metadata })
    }

    fn set(&mut self, key: &str, value: &(impl ToString + ?Sized)) {
        self.common.insert(key.to_owned(), value.to_string());
    }
}

/// The value of [`VALIDATION_KEY`]: as long for every accuracy.
pub(crate) fn validation(accuracy: f64, images: usize) -> String {
    format!("{{\"accuracy\":{accuracy:.6},\"images\":{images}}}")
}

/// What the metadata say of training a subnet alone.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Finetuned {
    /// Steps of the training.
    pub(crate) steps: u64,
    /// SHA-256 of the file of weights beside the model; none where the supernet's own were better.
    pub(crate) weights: Option<String>,
}

/// The value of [`FINETUNED_KEY`].
pub(crate) fn finetuned(steps: u64, weights: Option<&str>) -> String {
    json!(Finetuned { steps, weights: weights.map(str::to_owned) }).to_string()
}

/// An entry's value for a person.
pub(crate) fn readable(value: &str) -> String {
    serde_json::from_str(value).map_or_else(|_| value.to_owned(), |value| flat(&value))
}

fn flat(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(flat).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| match value {
                Value::Object(_) => format!("{name} ({})", flat(value)),
                _ => format!("{name} {}", flat(value)),
            };
            fields.iter().map(field).collect::<Vec<_>>().join("; ")
        }
    }
}

/// How an input is made from an image or a text.
fn preprocessing(model: &Model) -> Value {
    let (data, input) = (&model.data, model.space.input());
    match &data.source {
        Source::Texts(texts) => json!({
            "layout": "batch, tokens",
            "length": input[2],
            "tokenizer": texts.tokenizer.file_name().map(|name| name.to_string_lossy()),
            // The weights of others are exported without data, and so perhaps without it.
            "tokenizer-sha256": file::read(&texts.tokenizer).ok().map(|bytes| file::sha256(&bytes)),
            "formula": "input_ids: the tokenizer's ids, cut at the input's length and padded with 0; attention_mask: 1 for \
                        each of them, 0 for padding; token_type_ids: 0",
        }),
        _ => json!({
            "layout": "batch, channels, height, width",
            "size": input,
            "scale": 1.0 / 255.0,
            "mean": data.mean,
            "std": data.std,
            "formula": "(pixel * scale - mean) / std, per channel",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_does_not_depend_on_the_accuracy() {
        let length = |accuracy| validation(accuracy, 2000).len();
        for accuracy in [0.0, 1.0 / 3.0, 0.5, 0.864, 0.999_999_9, 1.0] {
            assert_eq!(length(accuracy), length(0.0), "{accuracy}");
        }
        assert_eq!(validation(0.864, 2000), "{\"accuracy\":0.864000,\"images\":2000}");
    }

    #[test]
    fn values_for_people() {
        for (value, expected) in [
            ("portable", "portable"),
            ("17", "17"),
            ("[\"T-shirt/top\",\"Bag\"]", "T-shirt/top, Bag"),
            ("{\"platform\":null,\"budgets\":[]}", "budgets none; platform none"),
            ("{\"train\":{\"images\":40,\"sha256\":\"ab\"}}", "train (images 40; sha256 ab)"),
        ] {
            assert_eq!(readable(value), expected, "{value}");
        }
    }
}
