//! Tensors out of a file, by name, as the file holds them.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{bf16, f16};
use elastic_runtime::initializers;
use elastic_space::subnet::METADATA_KEY as SUBNET_KEY;
use elastic_space::{Array, SearchSpace, Subnet, file};
use pytorch_reader::{DType, PytorchError, PytorchReader};
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
    Pytorch,
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
            Some("pth" | "pt") => Ok(Self::Pytorch),
            _ => Err(InitError::Kind { path: path.to_owned() }),
        }
    }
}

/// Reads all tensors of a file.
pub(super) fn read(path: &Path) -> Result<Source, InitError> {
    match Kind::of(path)? {
        Kind::Safetensors => safetensors(path),
        Kind::Onnx => onnx(path),
        Kind::Pytorch => pytorch(path),
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
    let data = match view.dtype() {
        Dtype::F32 => floats(data),
        Dtype::F16 => halves(data, f16::from_bits),
        Dtype::BF16 => halves(data, bf16::from_bits),
        other => return Tensor::Other { kind: format!("{other:?}") },
    };
    Tensor::Floats(Array { shape: view.shape().to_vec(), data })
}

/// Floats of 16 bits, made 32 bits wide.
fn halves<T: Into<f32>>(bytes: &[u8], from_bits: fn(u16) -> T) -> Vec<f32> {
    bytes.as_chunks::<2>().0.iter().map(|bytes| from_bits(u16::from_le_bytes(*bytes)).into()).collect()
}

/// What `torch.save` has written, in any of its formats. Tensors may be views with strides of their own: they are read row
/// by row.
fn pytorch(path: &Path) -> Result<Source, InitError> {
    let damaged =
        |source: PytorchError| InitError::Pytorch { path: path.to_owned(), source: Box::new(source) };
    let mut tensors = BTreeMap::new();
    for (name, tensor) in PytorchReader::new(path).map_err(damaged)?.into_tensors() {
        let read = || tensor.read().map_err(|error| damaged(error.into()));
        let data = match tensor.dtype() {
            DType::F32 => floats(&read()?),
            DType::F16 => halves(&read()?, f16::from_bits),
            DType::BF16 => halves(&read()?, bf16::from_bits),
            other => {
                tensors.insert(name, Tensor::Other { kind: format!("{other:?}") });
                continue;
            }
        };
        tensors.insert(name, Tensor::Floats(Array { shape: tensor.shape().to_vec(), data }));
    }
    Ok(Source { tensors, exported: None, space: None })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pytorchs_files_by_hand() {
        // Made by tests/it/pytorch/make.py: views of one storage of 0 to 11, with strides and an offset of their own.
        let counted = |shape: &[usize], data: &[u8]| Array {
            shape: shape.to_vec(),
            data: data.iter().copied().map(f32::from).collect(),
        };
        for file in ["legacy.pth", "zip.pt"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pytorch").join(file);
            let mut tensors = read(&path).unwrap_or_else(|error| panic!("{error}")).tensors;
            for (name, expected) in [
                ("whole", counted(&[3, 4], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])),
                ("turned", counted(&[4, 3], &[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])),
                ("part", counted(&[2, 2], &[5, 6, 9, 10])),
                ("half", counted(&[3], &[0, 1, 2])),
                ("brain", counted(&[3], &[0, 1, 2])),
            ] {
                let Some(Tensor::Floats(found)) = tensors.remove(name) else { panic!("{file} has {name}") };
                assert_eq!(found, expected, "{file} {name}");
            }
            let Some(Tensor::Other { kind }) = tensors.remove("steps") else { panic!("{file} has steps") };
            assert_eq!((kind.as_str(), tensors.len()), ("I64", 0), "{file}");
        }
    }

    #[test]
    fn pytorchs_files_that_are_cut_short() {
        for file in ["legacy.pth", "zip.pt"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pytorch").join(file);
            let whole = std::fs::read(path).expect("a file");
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join(file);
            for length in [0, 1, whole.len() / 2, whole.len() - 30] {
                std::fs::write(&path, &whole[..length]).expect("a file");
                let error = read(&path).err().unwrap_or_else(|| panic!("{length} bytes of {file} are read"));
                let text = error.to_string();
                assert!(text.starts_with(&format!("read {}: ", path.display())), "{length}: {text}");
                assert!(text.ends_with("save the network's state_dict() by torch.save"), "{length}: {text}");
            }
        }
    }
}
