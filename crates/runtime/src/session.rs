//! One loaded model, whatever runs it.

use std::path::PathBuf;

use elastic_space::Array;
use elastic_space::platform::Runtime;
use thiserror::Error;

use crate::element::Element;
use crate::library::LibraryError;
use crate::{onnx, tract};

/// A model that is loaded and ready to run.
pub trait Session: Send {
    /// Runs the model once; `inputs` and the result stand in the graph's order. An input of integers takes whole numbers.
    ///
    /// # Shapes
    ///
    /// Those that the graph declares; a dimension that it leaves open takes any size.
    ///
    /// # Errors
    ///
    /// [`RunError`]: inputs that do not fit the graph, or a run that failed.
    fn run(&mut self, inputs: &[Array]) -> Result<Vec<Array>, RunError>;

    /// The inputs as the graph declares them, in its order.
    fn inputs(&self) -> &[Input];
}

/// Why a model cannot be run on this machine.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is no ONNX Runtime library that can be used.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The library was built without the execution provider.
    #[error(
        "use {provider}: {} offers only {}; run this on the device itself, or set ELASTIC_ORT_LIBRARY to an \
         ONNX Runtime library that was built with {provider}",
        library.display(),
        available.join(", ")
    )]
    ProviderMissing {
        /// The execution provider's name in ONNX Runtime.
        provider: &'static str,
        /// The library that was asked.
        library: PathBuf,
        /// The execution providers that it offers.
        available: Vec<String>,
    },
    /// The library has the execution provider, but it does not start here.
    #[error(
        "start {provider} of {}: {reason}; check that the device and its driver libraries are on this machine",
        library.display()
    )]
    ProviderFailed {
        /// The execution provider's name in ONNX Runtime.
        provider: &'static str,
        /// The library that was asked.
        library: PathBuf,
        /// What ONNX Runtime says.
        reason: String,
    },
    /// The library is of another version than the platform asks for.
    #[error(
        "the platform asks for ONNX Runtime {asked}, {} is {found}: set ELASTIC_ORT_LIBRARY to one that fits, or change \
         runtime.onnx-runtime.version",
        library.display()
    )]
    Version {
        /// The range that was asked for.
        asked: String,
        /// The library.
        library: PathBuf,
        /// Its version.
        found: String,
    },
    /// The runtime refuses one of its settings.
    #[error("set {setting} of ONNX Runtime: {reason}")]
    Setting {
        /// The setting's name in a platform file.
        setting: &'static str,
        /// What ONNX Runtime says.
        reason: String,
    },
    /// The runtime cannot load the model, or cannot place all of it on the execution provider.
    #[error("load the model in {runtime}: {reason}")]
    Model {
        /// The runtime, with the execution provider where there is one.
        runtime: String,
        /// What the runtime says.
        reason: String,
    },
    /// A part of the model is nothing for the execution provider, and nothing else may run it.
    #[error(
        "{provider} does not run all of the model, and the platform forbids the CPU: name another provider, export the model in \
         another form or precision, or allow some nodes with runtime.onnx-runtime.cpu-fallback"
    )]
    Elsewhere {
        /// The execution provider's name in ONNX Runtime.
        provider: &'static str,
    },
    /// An input or output of the model holds something else than numbers that are supported.
    #[error(
        "load the model: `{name}` is {found}, only tensors of 32-bit floats and, as inputs, of 64-bit integers are supported"
    )]
    NotFloat {
        /// The input or output.
        name: String,
        /// Its type.
        found: String,
    },
    /// An input of the model holds something that no made-up values can stand for.
    #[error("load the model: input `{name}` is {found}: only tensors of numbers or booleans can be given")]
    NoTensor {
        /// The input.
        name: String,
        /// Its type.
        found: String,
    },
}

/// Why a run failed.
#[derive(Debug, Error)]
pub enum RunError {
    /// There are too many or too few inputs.
    #[error("run the model: it takes {expected} inputs, {found} were given")]
    Inputs {
        /// How many the graph has.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// An input has another shape than the graph declares.
    #[error("run the model: input `{name}` has shape {found:?}, the graph takes {expected}")]
    Shape {
        /// The input.
        name: String,
        /// The graph's shape, with `?` where any size will do.
        expected: String,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// An array's values do not fill its shape.
    #[error("run the model: input `{name}` has {found} values, its shape {shape:?} needs {}", shape.iter().product::<usize>())]
    Length {
        /// The input.
        name: String,
        /// The shape that was given.
        shape: Vec<usize>,
        /// How many values were given.
        found: usize,
    },
    /// A value for an input of integers is none.
    #[error("run the model: input `{name}` is of whole numbers, value {index} is {value}")]
    NotWhole {
        /// The input.
        name: String,
        /// The position of the value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The runtime failed.
    #[error("run the model in {runtime}: {reason}")]
    Failed {
        /// The runtime, with the execution provider where there is one.
        runtime: String,
        /// What the runtime says.
        reason: String,
    },
}

/// Loads a model.
///
/// # Errors
///
/// [`OpenError`]: a missing library or execution provider, or a model that cannot be loaded.
pub fn open(runtime: &Runtime, model: &[u8]) -> Result<Box<dyn Session>, OpenError> {
    match runtime {
        Runtime::OnnxRuntime(settings) => Ok(Box::new(onnx::OnnxSession::open(settings, model)?)),
        Runtime::Tract(_) => Ok(Box::new(tract::TractSession::open(model)?)),
    }
}

/// Checks without a model that the library is there, loads, and starts the execution provider.
///
/// # Errors
///
/// [`OpenError`]: what is missing, and what to do.
pub fn check(runtime: &Runtime) -> Result<(), OpenError> {
    match runtime {
        Runtime::OnnxRuntime(settings) => onnx::check(settings),
        Runtime::Tract(_) => Ok(()),
    }
}

/// The runtime's name and version, such as `ONNX Runtime 1.24.4` or `tract 0.23.9`.
///
/// # Errors
///
/// [`OpenError::Library`] where there is no library or its version cannot be read.
pub fn runtime_version(runtime: &Runtime) -> Result<String, OpenError> {
    match runtime {
        Runtime::OnnxRuntime(_) => onnx::version(),
        Runtime::Tract(_) => Ok(tract::version()),
    }
}

/// An input as the graph declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub element: Element,
    /// `None` where the graph leaves the rank open; a `None` inside where it leaves a size open.
    pub shape: Option<Vec<Option<usize>>>,
}

impl Input {
    /// The shape, where the graph leaves nothing open.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().copied().collect()
    }

    /// The shape as a text, with `?` where any size will do.
    pub fn describe(&self) -> String {
        let Some(shape) = &self.shape else { return "any shape".to_owned() };
        let sizes: Vec<String> =
            shape.iter().map(|size| size.map_or("?".to_owned(), |size| size.to_string())).collect();
        format!("[{}]", sizes.join(", "))
    }

    /// Whether the graph takes an array of this shape.
    pub fn accepts(&self, found: &[usize]) -> bool {
        self.shape.as_ref().is_none_or(|shape| {
            shape.len() == found.len()
                && shape.iter().zip(found).all(|(size, found)| size.is_none_or(|size| size == *found))
        })
    }
}

/// A batch as the inputs of a graph: rows of a text, `[batch, inputs, 1, tokens]`, become `inputs` arrays
/// `[batch, tokens]`; anything else is the one input.
pub fn spread(batch: Array, inputs: usize) -> Vec<Array> {
    match batch.shape[..] {
        [texts, rows, 1, tokens] if inputs > 1 && rows == inputs => (0..rows)
            .map(|row| {
                let of_text = |text: usize| &batch.data[(text * rows + row) * tokens..][..tokens];
                let data = (0..texts).flat_map(of_text).copied().collect();
                Array { shape: vec![texts, tokens], data }
            })
            .collect(),
        _ => vec![batch],
    }
}

impl Element {
    /// Whether a [`Session`] takes inputs of this type.
    pub(crate) fn is_taken(self) -> bool {
        matches!(self, Self::Float32 | Self::Int64)
    }
}

/// Checks arrays against the graph's inputs, so that both runtimes refuse the same things in the same words.
pub(crate) fn check_inputs(inputs: &[Input], arrays: &[Array]) -> Result<(), RunError> {
    if inputs.len() != arrays.len() {
        return Err(RunError::Inputs { expected: inputs.len(), found: arrays.len() });
    }
    for (input, array) in inputs.iter().zip(arrays) {
        if !input.accepts(&array.shape) {
            return Err(RunError::Shape {
                name: input.name.clone(),
                expected: input.describe(),
                found: array.shape.clone(),
            });
        }
        if array.shape.iter().product::<usize>() != array.data.len() {
            return Err(RunError::Length {
                name: input.name.clone(),
                shape: array.shape.clone(),
                found: array.data.len(),
            });
        }
        if input.element == Element::Int64
            // Beyond 2^24 a float does not tell neighbours apart.
            && let Some(index) = array.data.iter().position(|v| v.fract() != 0.0 || v.abs() > 16_777_216.0 || v.is_nan())
        {
            return Err(RunError::NotWhole { name: input.name.clone(), index, value: array.data[index] });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_texts_become_inputs() {
        let array = |shape: &[usize], data: &[f32]| Array { shape: shape.to_vec(), data: data.to_vec() };
        let texts = array(&[2, 3, 1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
        let rows = [[1.0, 2.0, 7.0, 8.0], [3.0, 4.0, 9.0, 10.0], [5.0, 6.0, 11.0, 12.0]];
        assert_eq!(spread(texts.clone(), 3), rows.map(|row| array(&[2, 2], &row)));
        assert_eq!(spread(texts.clone(), 1), vec![texts], "an image of three channels");
        let image = array(&[1, 3, 2, 1], &[0.0; 6]);
        assert_eq!(spread(image.clone(), 3), [image]);
    }

    #[test]
    fn integers_are_whole() {
        let input = Input { name: "ids".to_owned(), element: Element::Int64, shape: None };
        let check = |data: &[f32]| {
            let array = Array { shape: vec![data.len()], data: data.to_vec() };
            check_inputs(std::slice::from_ref(&input), &[array]).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[0.0, 30_521.0, -1.0]), Ok(()));
        for value in [0.5, f32::NAN, f32::INFINITY, 1e10] {
            let error = format!("run the model: input `ids` is of whole numbers, value 1 is {value}");
            assert_eq!(check(&[1.0, value]), Err(error));
        }
    }

    #[test]
    fn inputs_are_held_against_the_graph() {
        let input = |shape| Input { name: "image".to_owned(), element: Element::Float32, shape };
        let fixed = input(Some(vec![Some(1), Some(3)]));
        let batch = input(Some(vec![None, Some(3)]));
        let open = input(None);
        let array = |shape: &[usize], values: usize| Array { shape: shape.to_vec(), data: vec![0.0; values] };
        let rows: [(Vec<Input>, Vec<Array>, &str); 8] = [
            (vec![fixed.clone()], vec![array(&[1, 3], 3)], ""),
            (vec![batch.clone()], vec![array(&[7, 3], 21)], ""),
            (vec![open], vec![array(&[2], 2)], ""),
            (vec![], vec![], ""),
            (vec![fixed.clone()], vec![], "takes 1 inputs, 0 were given"),
            (vec![fixed.clone()], vec![array(&[3], 3)], "has shape [3], the graph takes [1, 3]"),
            (vec![batch], vec![array(&[2, 4], 8)], "has shape [2, 4], the graph takes [?, 3]"),
            (vec![fixed], vec![array(&[1, 3], 2)], "has 2 values, its shape [1, 3] needs 3"),
        ];
        for (inputs, arrays, expected) in rows {
            let found =
                check_inputs(&inputs, &arrays).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(found.is_empty(), expected.is_empty(), "{inputs:?} {arrays:?}: {found}");
            assert!(found.contains(expected), "{inputs:?} {arrays:?}: {found}");
        }
    }
}
