//! Tensors out of a file, by name, as the file holds them.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{bf16, f16};
use elastic_runtime::initializers;
use elastic_space::subnet::METADATA_KEY as SUBNET_KEY;
use elastic_space::{Array, SearchSpace, Subnet, file};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::InitError;
use crate::checkpoint::METADATA_KEY as OWN_KEY;
use crate::parameters::floats;

/// The producer of exported ONNX files.
const PRODUCER: &str = "elastic";

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    Onnx,
}

/// What a file holds.
pub(super) struct Source {
    /// Its tensors by name.
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// The subnet in a file that was exported.
    pub(super) exported: Option<Subnet>,
    /// The search space of a supernet's file.
    pub(super) space: Option<SearchSpace>,
}

/// One tensor of a file.
pub(super) enum Tensor {
    /// Floats of 16 or 32 bits, as 32 bits.
    Floats(Array),
    /// Something else.
    Other {
        /// What the file calls the type.
        kind: String,
    },
}

impl Kind {
    /// What a file is by its name.
    pub(super) fn of(path: &Path) -> Result<Self, InitError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("onnx") => Ok(Self::Onnx),
            _ => Err(InitError::Kind { path: path.to_owned() }),
        }
    }
}

/// Reads all tensors of a file.
pub(super) fn read(path: &Path) -> Result<Source, InitError> {
    match Kind::of(path)? {
        Kind::Safetensors => safetensors(path),
        Kind::Onnx => onnx(path),
    }
}

fn safetensors(path: &Path) -> Result<Source, InitError> {
    let damaged = |source: SafeTensorError| InitError::Damaged { path: path.to_owned(), source };
    let bytes = file::read(path)?;
    let content = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let own = header.metadata().as_ref().and_then(|entries| entries.get(OWN_KEY));
    let space = own.map(|text| own_space(path, text)).transpose()?.flatten();
    let tensors = content.iter().map(|(name, view)| (name.to_owned(), tensor(&view))).collect();
    Ok(Source { tensors, exported: None, space })
}

/// The search space in the metadata of a supernet's file.
fn own_space(path: &Path, text: &str) -> Result<Option<SearchSpace>, InitError> {
    let damaged = |reason: String| InitError::Metadata { path: path.to_owned(), entry: OWN_KEY, reason };
    let mut header: serde_json::Value =
        serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let Some(space) = header.get_mut("space") else { return Ok(None) };
    let space: SearchSpace =
        serde_json::from_value(space.take()).map_err(|error| damaged(error.to_string()))?;
    space.validate().map_err(|error| damaged(error.to_string()))?;
    Ok(Some(space))
}

fn tensor(view: &TensorView<'_>) -> Tensor {
    let data = view.data();
    let halves = |widen: fn(u16) -> f32| {
        data.as_chunks::<2>().0.iter().map(|bytes| widen(u16::from_le_bytes(*bytes))).collect()
    };
    let data = match view.dtype() {
        Dtype::F32 => floats(data),
        Dtype::F16 => halves(|bits| f16::from_bits(bits).to_f32()),
        Dtype::BF16 => halves(|bits| bf16::from_bits(bits).to_f32()),
        other => return Tensor::Other { kind: format!("{other:?}") },
    };
    Tensor::Floats(Array { shape: view.shape().to_vec(), data })
}

fn onnx(path: &Path) -> Result<Source, InitError> {
    let content = initializers::read(path)?;
    let metadata = |reason| InitError::Metadata { path: path.to_owned(), entry: SUBNET_KEY, reason };
    let exported = match content.metadata.get(SUBNET_KEY) {
        Some(text) => {
            Some(serde_json::from_str(text).map_err(|error: serde_json::Error| metadata(error.to_string()))?)
        }
        // Metadata stands at the end: a file that is cut there would be taken for another program's.
        None if content.producer == PRODUCER => return Err(metadata("it is not there".to_owned())),
        None => None,
    };
    // A number without an axis is a constant of the graph, such as GELU's square root of two; so is what the exporter
    // calls a part of a formula, such as the mask of shifted windows.
    let formula = |name: &str| exported.is_some() && name.starts_with("float.");
    let learned = |(name, array): &(String, Array)| !array.shape.is_empty() && !formula(name);
    let tensors = content.initializers.into_iter().filter(learned);
    let tensors = tensors.map(|(name, array)| (name, Tensor::Floats(array))).collect();
    Ok(Source { tensors, exported, space: None })
}
