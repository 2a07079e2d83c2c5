//! Makes a written file smaller and faster by computing in fewer bits: half-precision floats, or 8-bit integers.
//!
//! It works on the file, after the family's walk: nothing here knows a family. The file in 32-bit floats is proven
//! against the supernet; what fewer bits cost is measured, as accuracy before and after.

mod calibrate;
mod dynamic;
mod fp16;
mod proto;
mod quantise;
mod range;
mod static_int8;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use prost::Message;
use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

use elastic_space::{SearchSpace, Subnet};

use crate::graph::GraphOptions;
use crate::graph::read::ReadModelError;
use crate::onnx::{GraphProto, ModelProto, StringStringEntryProto};

pub use calibrate::{CalibrateError, calibrate};
pub use range::{Method, Range, UnknownMethod};

/// The key of the precision in the file's metadata.
pub const PRECISION_KEY: &str = "elastic.precision";

/// How the names of constants begin that scale integers.
pub(crate) const QUANTISATION: &str = "quantisation.";

/// What the numbers of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floats.
    Fp32,
    /// 16-bit floats, weights and all values between input and output.
    Fp16,
    /// Products with weights in 8-bit integers; the scale of each input is found while the model runs.
    Int8Dynamic,
    /// The same with one scale for each output of a layer instead of one for all its weights.
    Int8DynamicPerChannel,
    /// Products with weights, and in convolutional networks all values, in 8-bit integers, by scales that were found on
    /// training data.
    Int8Static,
}

/// A text that names no precision.
#[derive(Debug, Error, PartialEq)]
#[error("precision `{text}` is unknown: there are {}", Precision::ALL.map(Precision::name).join(", "))]
pub struct UnknownPrecision {
    text: String,
}

/// Why a file cannot be written in fewer bits.
#[derive(Debug, Error, PartialEq)]
pub enum ReduceError {
    /// The bytes are no ONNX file.
    #[error(transparent)]
    Read(#[from] ReadModelError),
    /// No node of the file has a form in that precision.
    #[error(
        "write ONNX in {precision}: no operator of the file has weights that it applies to; choose another precision or form"
    )]
    Nothing {
        /// What was asked for.
        precision: Precision,
    },
    /// A weight is too large.
    #[error(
        "write ONNX in fp16: `{tensor}` holds {value}, a 16-bit float is at most 65504; choose another precision"
    )]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
    },
    /// The range of a value is not known.
    #[error("write ONNX in int8-static: the range of `{value}` is not known; calibrate the same file")]
    NoRange {
        /// The value.
        value: String,
    },
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 5] =
        [Self::Fp32, Self::Fp16, Self::Int8Dynamic, Self::Int8DynamicPerChannel, Self::Int8Static];

    /// The name in commands and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8Dynamic => "int8-dynamic",
            Self::Int8DynamicPerChannel => "int8-dynamic-per-channel",
            Self::Int8Static => "int8-static",
        }
    }
}

/// The file in another precision. `ranges` are those that [`calibrate`] found for the same file; only
/// [`Precision::Int8Static`] needs them.
///
/// # Errors
///
/// [`ReduceError`]: no file of elastic, nothing to reduce in it, or a range that is missing.
pub fn reduce(
    model: &[u8],
    precision: Precision,
    ranges: &BTreeMap<String, Range>,
) -> Result<Vec<u8>, ReduceError> {
    let (mut model, mut graph) = decode(model)?;
    match precision {
        Precision::Fp32 => {}
        Precision::Fp16 => fp16::rewrite(&mut graph)?,
        Precision::Int8Dynamic => dynamic::rewrite(&mut graph, false)?,
        Precision::Int8DynamicPerChannel => dynamic::rewrite(&mut graph, true)?,
        Precision::Int8Static => static_int8::rewrite(&mut graph, ranges)?,
    }
    set(&mut model, PRECISION_KEY, precision.name());
    model.graph = Some(graph);
    Ok(model.encode_to_vec())
}

/// The exact length in bytes of the file that [`reduce`] makes of a subnet's; it does not depend on the values. `None` where
/// it depends on them, or where nothing can be reduced.
pub fn reduced_size(
    space: &SearchSpace,
    subnet: &Subnet,
    options: &GraphOptions,
    precision: Precision,
) -> Option<u64> {
    let zeros = crate::graph::zeros(space, subnet, options);
    let reduced = reduce(&zeros, precision, &BTreeMap::new()).ok()?;
    Some(reduced.len() as u64)
}

/// The file with an entry in its metadata.
///
/// # Errors
///
/// [`ReadModelError`] if the bytes are no ONNX file with a graph.
pub fn with_metadata(model: &[u8], key: &str, value: &str) -> Result<Vec<u8>, ReadModelError> {
    let (mut model, graph) = decode(model)?;
    set(&mut model, key, value);
    model.graph = Some(graph);
    Ok(model.encode_to_vec())
}

fn set(model: &mut ModelProto, key: &str, value: &str) {
    let new = StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    match model.metadata_props.iter_mut().find(|entry| entry.key() == key) {
        Some(entry) => *entry = new,
        None => model.metadata_props.push(new),
    }
}

fn decode(model: &[u8]) -> Result<(ModelProto, GraphProto), ReadModelError> {
    let mut model = ModelProto::decode(model)?;
    let graph = model.graph.take().ok_or(ReadModelError::NoGraph)?;
    Ok((model, graph))
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| UnknownPrecision { text: text.to_owned() })
    }
}
