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
    /// Runs the model once; `inputs` and the result stand in the graph's order.
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
    /// An input or output of the model does not hold 32-bit floats.
    #[error("load the model: `{name}` is {found}, only tensors of 32-bit floats are supported")]
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
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
