//! What an exported file says of itself, in its metadata.

use std::collections::BTreeMap;
use std::str::FromStr;

use elastic_data::{DataConfig, Source};
use elastic_exporter::precision::{Precision, UnknownPrecision};
use elastic_exporter::{Batch, Form, GraphOptions, UnknownForm};
use elastic_space::Subnet;
pub(crate) use elastic_space::subnet::METADATA_KEY as SUBNET_KEY;
use thiserror::Error;

use crate::runs::Run;

/// The key of the SHA-256 of the supernet that the file was cut from.
pub(crate) const CHECKPOINT_KEY: &str = "elastic.checkpoint";
/// The key of the batch: a number or `dynamic`.
pub(crate) const BATCH_KEY: &str = "elastic.batch";
/// The key of the form: the name of a [`Form`].
pub(crate) const FORM_KEY: &str = "elastic.form";
/// The key of the preprocessing constants, as JSON.
const PREPROCESSING_KEY: &str = "elastic.preprocessing";

/// Inputs of one run of a model, as the command line and the metadata write it; `None` is dynamic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchSize(pub(crate) Option<usize>);

/// The form of a model, as the command line writes it; `None` is the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FormChoice(pub(crate) Option<Form>);

/// The precision of a model, as the command line writes it; `None` is the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PrecisionChoice(pub(crate) Option<Precision>);

/// How a network is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Writing {
    /// Inputs of one run; `None` is dynamic.
    pub(crate) batch: Option<usize>,
    pub(crate) form: Form,
    pub(crate) opset: i64,
    pub(crate) precision: Precision,
}

impl Writing {
    /// The portable form in 32-bit floats.
    pub(crate) fn portable(batch: Option<usize>) -> Self {
        Self { batch, form: Form::Portable, opset: Form::Portable.opset(), precision: Precision::Fp32 }
    }
}

/// A text that is no batch.
#[derive(Debug, Error)]
#[error("batch `{text}` is neither `dynamic` nor a number of at least 1")]
pub(crate) struct InvalidBatch {
    text: String,
}

/// What is written besides the network; nothing that changes from run to run. Fewer bits are a second step.
pub(crate) fn options(run: &Run, subnet: &Subnet, writing: Writing) -> anyhow::Result<GraphOptions> {
    options_of(&run.model.data, &run.loaded.sha256, subnet, writing)
}

/// [`options`] of a network that was cut from a file with the SHA-256 `weights`.
pub(crate) fn options_of(
    data: &DataConfig,
    weights: &str,
    subnet: &Subnet,
    Writing { batch, form, opset, .. }: Writing,
) -> anyhow::Result<GraphOptions> {
    let preprocessing = match &data.source {
        Source::Texts(texts) => serde_json::json!({
            "tokenizer": texts.tokenizer.file_name().map(|name| name.to_string_lossy()),
            "formula": "input_ids: the tokenizer's ids, cut at the input's length and padded with 0; attention_mask: 1 for \
                        each of them, 0 for padding; token_type_ids: 0",
        }),
        _ => serde_json::json!({
            "scale": 1.0 / 255.0,
            "mean": data.mean,
            "std": data.std,
            "formula": "(pixel * scale - mean) / std, per channel",
        }),
    };
    let metadata = BTreeMap::from([
        (SUBNET_KEY.to_owned(), serde_json::to_string(subnet)?),
        (CHECKPOINT_KEY.to_owned(), weights.to_owned()),
        (PREPROCESSING_KEY.to_owned(), preprocessing.to_string()),
        (FORM_KEY.to_owned(), form.to_string()),
        (BATCH_KEY.to_owned(), batch.map_or_else(|| "dynamic".to_owned(), |batch| batch.to_string())),
    ]);
    let batch = batch.map_or(Batch::Dynamic, Batch::Fixed);
    Ok(GraphOptions { batch, form, opset, class_names: data.class_names.clone(), metadata })
}

impl FromStr for BatchSize {
    type Err = InvalidBatch;

    fn from_str(text: &str) -> Result<Self, InvalidBatch> {
        match text {
            "dynamic" => Ok(Self(None)),
            number => match number.parse() {
                Ok(0) | Err(_) => Err(InvalidBatch { text: text.to_owned() }),
                Ok(size) => Ok(Self(Some(size))),
            },
        }
    }
}

impl FromStr for FormChoice {
    type Err = UnknownForm;

    fn from_str(text: &str) -> Result<Self, UnknownForm> {
        if text == "auto" { Ok(Self(None)) } else { Ok(Self(Some(text.parse()?))) }
    }
}

impl FromStr for PrecisionChoice {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        if text == "auto" { Ok(Self(None)) } else { Ok(Self(Some(text.parse()?))) }
    }
}
