//! Reads what a trained ONNX file holds besides its graph: the weights, and what the file says of itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use elastic_space::file::{self, ReadError};
use elastic_space::{Array, Weights};
use prost::Message;
use thiserror::Error;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{ModelProto, TensorProto};
use tract_onnx::prelude::f16;

/// The content of an ONNX file that a run can begin with.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxFile {
    /// The initialisers of 32-bit and 16-bit floats by name, widened to 32 bits. Those of other types, such
    /// as the shapes that a graph computes with, are left out.
    pub initializers: Weights,
    /// The file's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The program that wrote the file.
    pub producer: String,
}

/// Why no weights can be read from an ONNX file.
#[derive(Debug, Error)]
pub enum ReadOnnxError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no ONNX file, or it is cut short.
    #[error("read {} as ONNX: {reason}; the file is damaged or cut short: copy it anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor lies in another file.
    #[error(
        "read {} as ONNX: tensor `{tensor}` lies in another file, {location}, and that is not supported; save \
         the model as one file, in Python: onnx.save(onnx.load(path), path)",
        path.display()
    )]
    External {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file that holds its values.
        location: String,
    },
}

/// Reads the weights and the metadata of an ONNX file; the graph is not looked at.
///
/// # Errors
///
/// [`ReadOnnxError`] with the path.
pub fn read(path: &Path) -> Result<OnnxFile, ReadOnnxError> {
    let bytes = file::read(path)?;
    let damaged = |reason: String| ReadOnnxError::Damaged { path: path.to_owned(), reason };
    let model = ModelProto::decode(bytes.as_slice()).map_err(|error| damaged(error.to_string()))?;
    let graph = model.graph.ok_or_else(|| damaged("it holds no graph".to_owned()))?;
    let mut initializers = Weights::new();
    for tensor in &graph.initializer {
        if tensor.data_location == Some(DataLocation::External as i32) {
            let location = tensor.external_data.iter().find(|entry| entry.key == "location");
            return Err(ReadOnnxError::External {
                path: path.to_owned(),
                tensor: tensor.name.clone(),
                location: location
                    .map_or_else(|| "which it does not name".to_owned(), |entry| entry.value.clone()),
            });
        }
        if let Some(data) = floats(tensor) {
            let shape = shape(tensor, data.len()).map_err(damaged)?;
            initializers.insert(tensor.name.clone(), Array { shape, data });
        }
    }
    let metadata = model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    Ok(OnnxFile { initializers, metadata, producer: model.producer_name })
}

/// The values of a tensor of floats; `None` for another type. Values are raw bytes or, more rarely, words
/// of a list; 16-bit floats share theirs with small integers.
fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    let raw = &tensor.raw_data;
    let halves = |widen: fn(u16) -> f32| {
        if raw.is_empty() {
            tensor.int32_data.iter().map(|&word| widen(word as u16)).collect()
        } else {
            raw.as_chunks::<2>().0.iter().map(|bytes| widen(u16::from_le_bytes(*bytes))).collect()
        }
    };
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) if raw.is_empty() => Some(tensor.float_data.clone()),
        Ok(DataType::Float) => {
            Some(raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        }
        Ok(DataType::Float16) => Some(halves(|bits| f16::from_bits(bits).to_f32())),
        // The upper half of a 32-bit float.
        Ok(DataType::Bfloat16) => Some(halves(|bits| f32::from_bits(u32::from(bits) << 16))),
        _ => None,
    }
}

/// The shape of a tensor, which its values must fill.
fn shape(tensor: &TensorProto, values: usize) -> Result<Vec<usize>, String> {
    let name = &tensor.name;
    let wrong =
        || format!("tensor `{name}` has {values} values, which do not fill its shape {:?}", tensor.dims);
    let sizes = tensor.dims.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<_>>>();
    let sizes = sizes.ok_or_else(wrong)?;
    let product = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    if product == Some(values) { Ok(sizes) } else { Err(wrong()) }
}
