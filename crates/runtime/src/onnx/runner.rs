//! Models of any kind of input in ONNX Runtime, for measuring.

use std::path::Path;

use elastic_space::Array;
use elastic_space::platform::{OnnxRuntime, Provider};
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor};

use super::{builder, commit, declared, name};
use crate::element::Element;
use crate::runner::Runner;
use crate::session::{Input, OpenError, RunError, check_inputs};

/// A model on one execution provider, with what is fed to it.
pub(crate) struct OnnxRunner {
    session: ort::session::Session,
    inputs: Vec<Input>,
    fed: Vec<DynValue>,
    provider: Provider,
}

impl OnnxRunner {
    /// Loads a model so that every node runs on the provider that `settings` name.
    pub(crate) fn open(settings: &OnnxRuntime, model: &[u8]) -> Result<Self, OpenError> {
        Self::commit(builder(settings)?, settings.provider, model)
    }

    /// [`Self::open`], and every run goes into a profile until [`Self::end_profile`].
    pub(crate) fn profiled(settings: &OnnxRuntime, model: &[u8], prefix: &Path) -> Result<Self, OpenError> {
        let refused = |error: ort::Error<SessionBuilder>| OpenError::Setting {
            setting: "a profile",
            reason: error.to_string(),
        };
        Self::commit(builder(settings)?.with_profiling(prefix).map_err(refused)?, settings.provider, model)
    }

    /// Writes the profile; gives its path.
    pub(crate) fn end_profile(&mut self) -> Result<String, String> {
        self.session.end_profiling().map_err(|error| error.to_string())
    }

    fn commit(builder: SessionBuilder, provider: Provider, model: &[u8]) -> Result<Self, OpenError> {
        let session = commit(builder, provider, model)?;
        let inputs = session.inputs().iter().map(|outlet| {
            declared(outlet).ok_or_else(|| OpenError::NoTensor {
                name: outlet.name().to_owned(),
                found: outlet.dtype().to_string(),
            })
        });
        let inputs = inputs.collect::<Result<_, _>>()?;
        Ok(Self { session, inputs, fed: Vec::new(), provider })
    }

    fn failed(&self, error: &ort::Error) -> RunError {
        RunError::Failed { runtime: name(self.provider), reason: error.to_string() }
    }
}

impl Runner for OnnxRunner {
    fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    fn feed(&mut self, inputs: &[Array]) -> Result<(), RunError> {
        check_inputs(&self.inputs, inputs)?;
        let values = self.inputs.iter().zip(inputs).map(|(input, array)| value(input.element, array));
        self.fed = values.collect::<ort::Result<_>>().map_err(|error| self.failed(&error))?;
        Ok(())
    }

    fn run(&mut self) -> Result<(), RunError> {
        if self.fed.len() != self.inputs.len() {
            return Err(RunError::Inputs { expected: self.inputs.len(), found: self.fed.len() });
        }
        let values: Vec<SessionInputValue> = self.fed.iter().map(SessionInputValue::from).collect();
        match self.session.run(values.as_slice()) {
            Ok(outputs) => {
                drop(outputs);
                Ok(())
            }
            Err(error) => Err(RunError::Failed { runtime: name(self.provider), reason: error.to_string() }),
        }
    }
}

/// An array as a tensor of the type that the graph declares.
pub(super) fn value(element: Element, array: &Array) -> ort::Result<DynValue> {
    match element {
        Element::Float16 => tensor(array, f16::from_f32),
        Element::Bfloat16 => tensor(array, bf16::from_f32),
        Element::Float32 => tensor(array, |value| value),
        Element::Float64 => tensor(array, f64::from),
        Element::Int8 => tensor(array, |value| value as i8),
        Element::Int16 => tensor(array, |value| value as i16),
        Element::Int32 => tensor(array, |value| value as i32),
        Element::Int64 => tensor(array, |value| value as i64),
        Element::Uint8 => tensor(array, |value| value as u8),
        Element::Uint16 => tensor(array, |value| value as u16),
        Element::Uint32 => tensor(array, |value| value as u32),
        Element::Uint64 => tensor(array, |value| value as u64),
        Element::Bool => tensor(array, |value| value != 0.0),
    }
}

fn tensor<T>(array: &Array, convert: impl Fn(f32) -> T) -> ort::Result<DynValue>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    let data: Vec<T> = array.data.iter().map(|&value| convert(value)).collect();
    Ok(Tensor::from_array((array.shape.clone(), data))?.into_dyn())
}
