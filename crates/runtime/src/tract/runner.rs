//! Models of any kind of input in tract, for measuring.

use std::sync::Arc;

use elastic_space::Array;
use tract_onnx::prelude::*;

use super::{guarded, inputs, read, version};
use crate::runner::Runner;
use crate::session::{Input, OpenError, RunError, check_inputs};

/// A model in tract, with what is fed to it.
pub(crate) struct TractRunner {
    model: InferenceModel,
    inputs: Vec<Input>,
    /// The type of each input's values.
    types: Vec<DatumType>,
    fed: Option<Fed>,
}

/// The model made ready for its inputs.
struct Fed {
    runnable: Arc<TypedRunnableModel>,
    values: TVec<TValue>,
}

impl TractRunner {
    pub(crate) fn open(model: &[u8]) -> Result<Self, OpenError> {
        let (_, model) = read(model)?;
        let (inputs, types) = inputs(&model)?.into_iter().unzip();
        Ok(Self { model, inputs, types, fed: None })
    }
}

impl Runner for TractRunner {
    fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    fn feed(&mut self, inputs: &[Array]) -> Result<(), RunError> {
        check_inputs(&self.inputs, inputs)?;
        let made_ready = guarded(|| {
            let mut model = self.model.clone();
            let mut values = TVec::new();
            for (index, (datum_type, array)) in self.types.iter().zip(inputs).enumerate() {
                model.set_input_fact(index, datum_type.fact(&array.shape).into())?;
                values.push(value(*datum_type, array)?.into());
            }
            Ok(Fed { runnable: model.into_optimized()?.into_runnable()?, values })
        });
        self.fed = Some(made_ready.map_err(|reason| RunError::Failed { runtime: version(), reason })?);
        Ok(())
    }

    fn run(&mut self) -> Result<(), RunError> {
        // Taken out, so that a plan in which a run panicked is not used again.
        let Some(fed) = self.fed.take() else {
            return Err(RunError::Inputs { expected: self.inputs.len(), found: 0 });
        };
        guarded(|| fed.runnable.run(fed.values.clone()))
            .map_err(|reason| RunError::Failed { runtime: version(), reason })?;
        self.fed = Some(fed);
        Ok(())
    }
}

/// An array as a tensor of the type that the graph declares.
pub(super) fn value(datum_type: DatumType, array: &Array) -> TractResult<Tensor> {
    if datum_type == DatumType::Bool {
        let values: Vec<bool> = array.data.iter().map(|&value| value != 0.0).collect();
        return Tensor::from_shape(&array.shape, &values);
    }
    Ok(Tensor::from_shape(&array.shape, &array.data)?.cast_to_dt(datum_type)?.into_owned())
}
